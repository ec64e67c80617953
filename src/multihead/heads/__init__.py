"""Model heads, their losses and their output classes."""
