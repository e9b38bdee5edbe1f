"""Figures of what is recorded along training."""
