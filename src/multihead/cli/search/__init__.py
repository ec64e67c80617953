"""`multihead search`: ranked documents of a file or an index."""
