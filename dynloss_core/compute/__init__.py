"""Kernels, and the SIMD lanes, threads and CUDA graphs that they run on."""
