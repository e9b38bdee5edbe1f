"""Leading eigenvalues followed while an ensemble trains, one tracker a kind of network."""
