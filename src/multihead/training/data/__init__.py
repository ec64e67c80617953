"""Rows of any source, and one data reader a task that tokenizes rows into features."""
