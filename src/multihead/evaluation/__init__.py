"""Evaluation of pipelines on labelled rows: metrics with intervals, errors, slices, comparisons, calibration."""
