"""`multihead train`."""
