"""Models of a server: names, loading, memory, batches."""
