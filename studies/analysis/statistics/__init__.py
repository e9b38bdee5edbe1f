"""Pairs, intervals, equivalence, and the verdict based on them."""
