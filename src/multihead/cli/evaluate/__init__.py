"""`multihead evaluate` and `multihead calibrate`."""
