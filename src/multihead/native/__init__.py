"""Kernels in C++ for CPUs: their sources, and what builds them. `kernels.cpu.native` loads what was built."""
