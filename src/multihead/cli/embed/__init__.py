"""`multihead embed`: embeddings of texts as numpy, Parquet or JSON lines."""
