"""Evaluation of pipelines on labeled rows: metrics with intervals, errors, slices, comparisons, calibration."""
