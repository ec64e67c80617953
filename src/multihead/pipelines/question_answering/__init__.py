"""Answers to questions about contexts and documents: spans, prompts, passages, retrieval."""
