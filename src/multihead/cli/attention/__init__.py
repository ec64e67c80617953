"""Command `multihead attention`: a map of attention weights."""
