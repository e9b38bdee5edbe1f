"""A winner as a plain PyTorch script, which needs nothing of this project."""
