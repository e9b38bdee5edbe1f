"""The curvature of the dynamical loss: its Hessian's and tangent kernel's eigenvalues."""

from dynloss_core.landscape.algorithms.krylov import Operator
from dynloss_core.landscape.algorithms.lanczos import TopEigen, top_eigen, warm_start
from dynloss_core.landscape.algorithms.random_vectors import start_vectors
from dynloss_core.landscape.algorithms.spectral_density import SpectralDensity, spectral_density
from dynloss_core.landscape.algorithms.trace import TraceEstimate, hutchinson_trace
from dynloss_core.landscape.operators.hessian import HessianOperator, hessian_top
from dynloss_core.landscape.operators.ntk import Kernel, NTKOperator, ntk_top
from dynloss_core.landscape.refusals import LandscapeError
from dynloss_core.landscape.stability import stability_bound
from dynloss_core.landscape.subset import balanced_subset
from dynloss_core.landscape.trackers.choose_tracker import (
    CurvatureTrackerName,
    choose_tracker,
    stack_parameters,
)
from dynloss_core.landscape.trackers.tracker import (
    Curvature,
    CurvatureTracker,
    LargestEigenvalue,
    TrackedProblem,
    Tracking,
)
from dynloss_core.landscape.valley import Valley, valley

__all__ = [
    "Curvature",
    "CurvatureTracker",
    "HessianOperator",
    "Kernel",
    "LandscapeError",
    "LargestEigenvalue",
    "NTKOperator",
    "Operator",
    "SpectralDensity",
    "TopEigen",
    "TraceEstimate",
    "TrackedProblem",
    "CurvatureTrackerName",
    "Tracking",
    "Valley",
    "balanced_subset",
    "choose_tracker",
    "hessian_top",
    "hutchinson_trace",
    "ntk_top",
    "spectral_density",
    "stability_bound",
    "stack_parameters",
    "start_vectors",
    "top_eigen",
    "valley",
    "warm_start",
]
