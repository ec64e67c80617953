"""Measurements of speed, size and quality."""
