"""Texts to vectors, and pairs of texts to scores: folders in the format of sentence-transformers."""
