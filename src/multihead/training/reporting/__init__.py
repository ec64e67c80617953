"""Reports of a training run: loggers, progress bar, model card."""
