"""Whether a search may be believed: convergence, bounds, importances."""
