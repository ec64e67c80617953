"""`multihead attention`."""
