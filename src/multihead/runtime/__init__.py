"""Fast paths of inference: fused layers, native CPU decode steps and CUDA graphs."""
