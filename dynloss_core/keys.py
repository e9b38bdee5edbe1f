"""Every metric, column and tag name of the suite, once.

The same word names a quantity in a record, a table's column, an MLflow metric and a study's
objective. Metrics are *static*: unweighted, with the loss averaged over samples. Only
`WEIGHTED_LOSS` carries the class weights of its step.
"""

from __future__ import annotations

from typing import Literal

Objective = Literal["validation_accuracy", "validation_loss"]

STEP = "step"

WEIGHTED_LOSS = "weighted_loss"
LOSS = "loss"
ACCURACY = "accuracy"
CLASS_WEIGHT = "class_weight"

HESSIAN_LAMBDA_MAX = "hessian_lambda_max"
NTK_LAMBDA_MAX = "ntk_lambda_max"
CURVATURE_METRICS = (
    HESSIAN_LAMBDA_MAX,
    "hessian_residual",
    "hessian_converged",
    NTK_LAMBDA_MAX,
)
HESSIAN_TRACE = "hessian_trace"
HESSIAN_TRACE_ERROR = "hessian_trace_error"
TRACE_METRICS = (HESSIAN_TRACE, HESSIAN_TRACE_ERROR)
CURVE_CURVATURE_METRICS = (HESSIAN_LAMBDA_MAX, NTK_LAMBDA_MAX, *TRACE_METRICS)
FINAL_HESSIAN_LAMBDA_MAX = "final_hessian_lambda_max"
FINAL_HESSIAN_TRACE = "final_hessian_trace"
FINAL_HESSIAN_TRACE_ERROR = "final_hessian_trace_error"
FINAL_CURVATURE_METRICS = (
    FINAL_HESSIAN_LAMBDA_MAX,
    FINAL_HESSIAN_TRACE,
    FINAL_HESSIAN_TRACE_ERROR,
)
OFFSET = "offset"
VALLEY_METRICS = (
    HESSIAN_LAMBDA_MAX,
    "hessian_residual",
    "hessian_converged",
    "slope",
    "overlap",
)
TRAIN_LOSS = "train_loss"
TRAIN_ACCURACY = "train_accuracy"
VALIDATION_LOSS = "validation_loss"
VALIDATION_ACCURACY = "validation_accuracy"
TEST_LOSS = "test_loss"
TEST_ACCURACY = "test_accuracy"

EVALUATION_METRICS = (
    WEIGHTED_LOSS,
    TRAIN_LOSS,
    TRAIN_ACCURACY,
    VALIDATION_LOSS,
    VALIDATION_ACCURACY,
)
TEST_METRICS = (TEST_LOSS, TEST_ACCURACY)


def on_test_set(objective: str) -> str:
    """The metric on the test set that corresponds to an objective on the validation set."""
    return objective.replace("validation", "test")


PERIOD = "period"
AMPLITUDE = "amplitude"
LEARNING_RATE = "learning_rate"
MOMENTUM = "momentum"
WEIGHT_DECAY = "weight_decay"
OPTIONAL_CURVE_METRICS = (*CURVE_CURVATURE_METRICS, LEARNING_RATE)
"""Metrics of a curve only where they are measured, or where the learning rate follows the
curvature."""
MEMBER_PARAMETERS = (PERIOD, AMPLITUDE, LEARNING_RATE, MOMENTUM, WEIGHT_DECAY)

STEPS = "steps"
PARAMETERS = "parameters"
TRAIN_SAMPLES = "train_samples"

SEED = "seed"
RECORDED = "recorded"
DIVERGED = "diverged"
DIVERGED_STEP = "diverged_step"
STOPPED = "stopped"
STOPPED_STEP = "stopped_step"
RUNG = "rung"
ENGINE = "engine"
SECONDS = "seconds"
CPU_PERCENT = "cpu_percent"
MEMORY = "memory_mib"
GPU_MEMORY = "gpu_memory_mib"
NODE = "node"
CONFIG_HASH = "config_hash"
ORIGIN = "origin"
"""Digest of the code and the versions that trained a network (see `studies.blocks.code_origin`)."""
DEVICE = "device"
REUSED_FROM = "reused_from"

STUDY = "study"
PHASE = "phase"
ARM = "arm"
TRIAL = "trial"
BLOCK = "block"

MACHINE_COLUMNS = (SECONDS, CPU_PERCENT, MEMORY, GPU_MEMORY, NODE)
"""Columns that differ when a run is repeated."""

MEMBER_IDENTITY = (PHASE, ARM, TRIAL, SEED)
"""Columns that name one network of a study."""

DYNAMICAL = "dynamical"
STATIC = "static"

SEARCH = "search"
FINALS = "finals"
CONFIRM = "confirm"


def higher_is_better(metric: str) -> bool:
    """Accuracies are maximised, losses minimised."""
    return metric.endswith("accuracy")
