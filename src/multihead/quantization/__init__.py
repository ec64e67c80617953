"""Quantizes models to the formats of the field: rounding, calibration, files, and a report of what it costs."""
