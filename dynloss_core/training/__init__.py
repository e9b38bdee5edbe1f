"""Training: types at the bottom, one engine a file above them, their choice on top."""

from dynloss_core.training.augmentation import Augmentation
from dynloss_core.training.autograd import AutogradEngine
from dynloss_core.training.batched import BatchedEngine
from dynloss_core.training.choice import EngineName, choose_engine
from dynloss_core.training.convnet import ConvnetEngine
from dynloss_core.training.curvature_rate import CurvatureRate
from dynloss_core.training.engine import Engine
from dynloss_core.training.fused_cpu import FusedCPUEngine
from dynloss_core.training.fused_cuda import FusedCUDAEngine
from dynloss_core.training.members import Member
from dynloss_core.training.probing import Probes, Valleys
from dynloss_core.training.problem import DType, LearningRateSchedule, Problem
from dynloss_core.training.records import (
    CurvatureSeries,
    Evaluation,
    HeldOut,
    History,
    Trace,
    ValleySeries,
)
from dynloss_core.training.setup import Setup, steps_per_epoch
from dynloss_core.training.vmapped import VmappedEngine

__all__ = [
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
    "ValleySeries",
    "Valleys",
    "VmappedEngine",
    "choose_engine",
    "steps_per_epoch",
]
