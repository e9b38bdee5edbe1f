"""What machines have, and what a study's blocks ask of them."""

from __future__ import annotations

import os
from collections.abc import Iterator

from dynloss_core.config import ConfigError
from studies.definition.study import Study

__all__ = [
    "Capacity",
    "available_cpus",
    "check_resources",
    "local_resources",
    "parallel_blocks",
    "shortages",
]

Capacity = dict[str, float]
"""CPUs and GPUs under `CPU` and `GPU`; of a cluster also those of its largest nodes, under
`node:CPU` and `node:GPU`, as a block is placed on one node."""


def local_resources() -> Capacity:
    """The CPUs and GPUs of this machine."""
    import torch

    return {"CPU": float(available_cpus()), "GPU": float(torch.cuda.device_count())}


def available_cpus() -> int:
    """Number of CPUs that this process may use, which a container or `taskset` may limit."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_resources(study: Study, capacity: Capacity) -> None:
    """Refuse a study whose blocks could never be placed.

    Raises:
        ConfigError: naming the resource, what a block asks for and what the machines have.
    """
    for shortage in shortages(study, capacity):
        raise shortage


def shortages(study: Study, capacity: Capacity) -> Iterator[ConfigError]:
    """A refusal for each resource of which a block asks more than the largest machine has."""
    for key, name in (("cpu", "CPU"), ("gpu", "GPU")):
        wanted = getattr(study.resources, key)
        available = capacity.get(f"node:{name}", capacity.get(name, 0.0))
        if wanted > available:
            remedy = f"set resources.{key} to {available:g} or less, or join a larger cluster"
            problem = f"a block needs {wanted:g} {name}, the largest machine has {available:g}"
            yield ConfigError(f"resources.{key}", problem, remedy)


def parallel_blocks(study: Study, capacity: Capacity) -> int:
    """Number of blocks that the cluster can train at once."""
    fits = [
        capacity.get(name, 0.0) / wanted
        for name, wanted in (("CPU", study.resources.cpu), ("GPU", study.resources.gpu))
        if wanted > 0
    ]
    return max(1, int(min(fits)))
