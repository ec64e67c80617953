"""Search, deduplication and clustering of texts by their embeddings."""
