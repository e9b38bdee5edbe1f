"""Whether a search can be trusted: convergence, bounds, importances."""
