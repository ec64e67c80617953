"""Training on several devices: process groups, data parallelism, FSDP and tensor parallelism."""
