"""Evaluation, calibration and attribution."""
