"""Logits processors and warpers: functions from token histories and logits to logits."""
