"""Kernels and what they run on: SIMD lanes, threads, CUDA graphs. Nothing here knows of studies."""
