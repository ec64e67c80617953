"""The evaluation loop and metrics."""
