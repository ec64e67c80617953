"""Command `multihead bench`: speed of models on this machine."""
