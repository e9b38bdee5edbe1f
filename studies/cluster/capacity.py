"""What machines have, and what a study's blocks ask of them."""

from __future__ import annotations

import os
from collections.abc import Iterator

from dynloss_core.config import ConfigError
from studies.definition.study import Study

__all__ = [
    "Capacity",
    "available_cpus",
    "blocks_on_gpu",
    "check_resources",
    "local_resources",
    "node_of",
    "parallel_blocks",
    "shortages",
]

Capacity = dict[str, float]
"""CPUs and GPUs under `CPU` and `GPU`; of a cluster also those of its largest nodes, under
`node:CPU` and `node:GPU`, as a block is placed on one node."""

_ROUNDING = 1e-9  # a third goes three times into one


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
    wants = (("cpu", "CPU", study.resources.cpu), ("gpu", "GPU", study.resources.gpus))
    for key, name, wanted in wants:
        available = node_of(capacity)[name]
        if wanted > available:
            remedy = f"set resources.{key} to {available:g} or less, or join a larger cluster"
            problem = f"a block needs {wanted:g} {name}, the largest machine has {available:g}"
            yield ConfigError(f"resources.{key}", problem, remedy)


def parallel_blocks(study: Study, capacity: Capacity) -> int:
    """Number of blocks that the cluster can train at once."""
    cpu, gpu = study.resources.cpu, study.resources.gpus
    fits = [int(capacity.get("CPU", 0.0) / cpu + _ROUNDING)] if cpu > 0 else []
    if 0 < gpu <= 1:  # a block is placed on one GPU
        fits.append(int(capacity.get("GPU", 0.0)) * blocks_on_gpu(study))
    elif gpu > 1:
        fits.append(int(capacity.get("GPU", 0.0) / gpu))
    return max(1, min(fits))


def blocks_on_gpu(study: Study) -> int:
    """Number of blocks that share a GPU; 1 where a block has one or several."""
    return int(1 / study.resources.gpus + _ROUNDING) if 0 < study.resources.gpus < 1 else 1


def node_of(capacity: Capacity) -> Capacity:
    """The CPUs and GPUs of the largest machine."""
    return {name: capacity.get(f"node:{name}", capacity.get(name, 0.0)) for name in ("CPU", "GPU")}
