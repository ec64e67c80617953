"""Damaged files of every format: the good ones, what is done to them, and how they are read."""
