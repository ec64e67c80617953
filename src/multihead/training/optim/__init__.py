"""Optimizers, schedules and the optimizer step."""
