"""Training objectives: sums of losses over packed or padded batches."""
