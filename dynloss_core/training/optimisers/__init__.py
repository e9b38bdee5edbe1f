"""Stochastic gradient descent on stacked and on listed parameters."""
