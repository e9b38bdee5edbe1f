"""Engines, one per file: the same trajectories, computed in different ways."""
