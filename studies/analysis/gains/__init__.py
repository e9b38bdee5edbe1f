"""Where the dynamical loss gains: maps, regimes of size, learning curves."""
