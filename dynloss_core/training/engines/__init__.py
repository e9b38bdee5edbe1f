"""Engines, one a file: the same trajectories, each by another way of computing."""
