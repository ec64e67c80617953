"""`multihead explain`."""
