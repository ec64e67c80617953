"""Training: data readers, objectives, optimizers, the training loop, checkpoints and reports."""
