"""Kernels in C++ for CPUs: their sources, and what builds them. `kernels.native` loads what was built."""
