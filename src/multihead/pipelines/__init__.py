"""Pipelines, one file each: preprocess texts, run the model, postprocess its outputs into answers."""
