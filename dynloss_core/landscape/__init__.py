"""The curvature of the dynamical loss: its Hessian's and tangent kernel's eigenvalues."""

from dynloss_core.landscape.ensemble import TrackerName, choose_tracker, stack_parameters
from dynloss_core.landscape.hessian import HessianOperator, hessian_top
from dynloss_core.landscape.krylov import Operator
from dynloss_core.landscape.lanczos import TopEigen, top_eigen, warm_start
from dynloss_core.landscape.ntk import Kernel, NTKOperator, ntk_top
from dynloss_core.landscape.probes import start_vectors
from dynloss_core.landscape.refuse import LandscapeError
from dynloss_core.landscape.spectral_density import SpectralDensity, spectral_density
from dynloss_core.landscape.subset import balanced_subset
from dynloss_core.landscape.trace import TraceEstimate, hutchinson_trace
from dynloss_core.landscape.tracker import (
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
    "TrackerName",
    "Tracking",
    "Valley",
    "balanced_subset",
    "choose_tracker",
    "hessian_top",
    "hutchinson_trace",
    "ntk_top",
    "spectral_density",
    "stack_parameters",
    "start_vectors",
    "top_eigen",
    "valley",
    "warm_start",
]
