"""Studies of dynamical losses: definition, search, distribution, tracking and analysis."""
