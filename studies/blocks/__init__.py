"""Blocks: trials trained together, what they record, and what code trained them."""
