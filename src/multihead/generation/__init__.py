"""Text generation: requests, logits processors, sampling and search over any model that returns logits."""
