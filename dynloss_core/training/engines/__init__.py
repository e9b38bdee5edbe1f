"""Engines, one per file: the same trajectories, each by another way of computing."""
