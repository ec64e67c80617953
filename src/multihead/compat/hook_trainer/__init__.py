"""The Trainer of programs that override its inner hooks: data loaders, training_step, prediction_step, optimizers."""
