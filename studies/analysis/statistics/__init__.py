"""Pairs, intervals, equivalence, and the verdict that follows from them."""
