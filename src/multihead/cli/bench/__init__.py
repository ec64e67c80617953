"""`multihead bench`."""
