"""Training: from rows of any source to features, and from features to a better model."""
