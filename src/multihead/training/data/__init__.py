"""Rows of any source, and one file a task that makes tokenized features of them."""
