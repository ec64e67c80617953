"""Command `multihead train`: training from options or a YAML file."""
