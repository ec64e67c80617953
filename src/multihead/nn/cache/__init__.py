"""The KV cache: block allocation, per-layer storage and the sequences of a batch."""
