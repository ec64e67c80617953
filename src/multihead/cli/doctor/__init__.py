"""Command `multihead doctor`: properties and measured speed of this machine."""
