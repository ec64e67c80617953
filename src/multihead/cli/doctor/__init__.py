"""`multihead doctor`."""
