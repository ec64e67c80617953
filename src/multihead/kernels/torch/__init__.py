"""The operations in PyTorch: their definitions, and the fastest of its ways on each device."""
