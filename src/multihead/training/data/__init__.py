"""Data sources, and for each task a reader that tokenizes rows into features."""
