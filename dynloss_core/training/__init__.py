"""Training: types at the bottom, one engine per file above them, the choice of an engine on top."""

from dynloss_core.training.choose_engine import ENGINES, EngineName, choose_engine
from dynloss_core.training.engine import Engine
from dynloss_core.training.engines.autograd import AutogradEngine
from dynloss_core.training.engines.convnet import ConvnetEngine
from dynloss_core.training.engines.fused_cpu import FusedCPUEngine
from dynloss_core.training.engines.fused_cuda import FusedCUDAEngine
from dynloss_core.training.engines.stacked_mlp import BatchedEngine
from dynloss_core.training.engines.stacked_networks import VmappedEngine
from dynloss_core.training.probes import Probes, Valleys
from dynloss_core.training.problem.augmentation import Augmentation
from dynloss_core.training.problem.ensemble import Setup, steps_per_epoch
from dynloss_core.training.problem.evaluations import (
    CurvatureSeries,
    Evaluation,
    HeldOut,
    History,
    Trace,
    ValleySeries,
)
from dynloss_core.training.problem.learning_rate_cap import CurvatureRate
from dynloss_core.training.problem.member import Member
from dynloss_core.training.problem.problem import DType, LearningRateSchedule, Problem, Training

__all__ = [
    "ENGINES",
    "Augmentation",
    "AutogradEngine",
    "BatchedEngine",
    "ConvnetEngine",
    "CurvatureRate",
    "CurvatureSeries",
    "DType",
    "Engine",
    "EngineName",
    "FusedCPUEngine",
    "FusedCUDAEngine",
    "Evaluation",
    "HeldOut",
    "History",
    "LearningRateSchedule",
    "Member",
    "Probes",
    "Problem",
    "Setup",
    "Trace",
    "Training",
    "ValleySeries",
    "Valleys",
    "VmappedEngine",
    "choose_engine",
    "steps_per_epoch",
]
