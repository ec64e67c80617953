"""The operations in Triton programs for GPUs."""
