"""Krylov methods on any symmetric operator: Lanczos, traces, spectral densities."""
