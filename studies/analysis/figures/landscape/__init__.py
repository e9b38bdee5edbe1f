"""Figures of what is recorded during training."""
