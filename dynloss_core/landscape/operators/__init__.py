"""Curvature as linear operators: the Hessian, the tangent kernel, and ensembles of them."""
