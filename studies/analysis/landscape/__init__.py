"""Results from recorded runs: instabilities and their threshold, minima, valleys."""
