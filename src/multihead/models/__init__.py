"""Model families, one file each: config, layers, checkpoint names, heads."""
