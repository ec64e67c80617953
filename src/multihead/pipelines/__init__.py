"""One file a pipeline: text in, answer out."""
