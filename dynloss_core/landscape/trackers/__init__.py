"""Leading eigenvalues followed while an ensemble trains, one tracker per kind of network."""
