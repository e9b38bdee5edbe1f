"""The samples of a split as an engine stores them: bytes stay bytes until a network sees them.

Symbols
    N      samples of a split
    B      samples of a batch
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dynloss_core.compute.batch_threads import PartThreads
from dynloss_core.data import Labelled
from dynloss_core.training.problem.ensemble import Setup

__all__ = ["PIXELS_TOGETHER", "Samples", "samples_of", "together"]

PIXELS_TOGETHER = 2**18  # 256 images of 32 x 32: 67 MB per layer of 64 channels in float32


@dataclass(frozen=True, eq=False)
class Samples:
    """A split on the device.

    Args:
        inputs: (N, ...), as a network sees them, in its dtype; or bytes (N, channels, H, W).
        targets: (N,) class indices.
        dtype: the dtype of a network's inputs.
        scale: factor and offset (1, channels, H, W) that turn bytes into pixels; None if the inputs
            are not bytes.
        groups: (N,) the group of each sample, where groups have the weights; None where classes do.
    """

    inputs: Tensor
    targets: Tensor
    dtype: torch.dtype
    scale: tuple[Tensor, Tensor] | None
    groups: Tensor | None = None

    @classmethod
    def of(
        cls,
        data: Labelled,
        dtype: torch.dtype,
        device: torch.device,
        *,
        channels_last: bool = False,
    ) -> Samples:
        """`data` on a device; images are stored channels last if asked.

        The scale is made once: copying it to a GPU for each batch would stall its queue. It has the
        size and layout of an image, because a CPU broadcasts three channels ten times slower.
        """
        images = data.inputs.ndim == 4 and channels_last
        layout = torch.channels_last if images else torch.contiguous_format
        inputs = data.inputs.to(device).contiguous(memory_format=layout)
        targets = data.targets.to(device)
        groups = None if data.groups is None else data.groups.to(device)
        if data.scale is None:
            return cls(inputs.to(dtype), targets, dtype, None, groups)
        mean = torch.tensor(data.scale.mean, dtype=torch.float64).view(1, -1, 1, 1)
        deviation = torch.tensor(data.scale.deviation, dtype=torch.float64).view(1, -1, 1, 1)
        factor, offset = 1 / (255 * deviation), -mean / deviation
        scale = tuple(
            tensor.expand(1, *inputs.shape[1:]).to(device, dtype).contiguous(memory_format=layout)
            for tensor in (factor, offset)
        )
        return cls(inputs, targets, dtype, (scale[0], scale[1]), groups)

    def seen(self, inputs: Tensor) -> Tensor:
        """Inputs as a network sees them."""
        if self.scale is None:
            return inputs
        factor, offset = self.scale
        return torch.addcmul(offset, inputs.to(self.dtype), factor)

    def outputs(
        self, network: Callable[[Tensor], Tensor], pixels: int, threads: PartThreads | None = None
    ) -> Tensor:
        """Outputs (N, C) of a network that sees `pixels` pixels at once (see `together`), computed
        on `threads`."""
        parts = torch.split(self.inputs, together(self.inputs, pixels))

        def outputs_of(part: Tensor) -> Tensor:
            return network(self.seen(part))

        return torch.cat(
            [outputs_of(part) for part in parts]
            if threads is None
            else threads.map(outputs_of, parts)
        )


def samples_of(
    setup: Setup, split: str, device: torch.device, *, channels_last: bool = False
) -> tuple[Samples, ...]:
    """A split of every member; members with the same data share one object, and members that differ
    only in the groups share the samples."""
    kept: dict[int, Samples] = {}
    alike: dict[int, Samples] = {}
    for splits in setup.splits:
        data, dtype = getattr(splits, split), setup.problem.torch_dtype
        if id(data) in kept:
            continue
        same = alike.get(id(data.inputs))
        if same is not None and data.groups is not None:
            kept[id(data)] = replace(same, groups=data.groups.to(device))
        else:
            kept[id(data)] = Samples.of(data, dtype, device, channels_last=channels_last)
            alike[id(data.inputs)] = kept[id(data)]
    return tuple(kept[id(getattr(splits, split))] for splits in setup.splits)


def together(inputs: Tensor, pixels: int) -> int:
    """How many samples a network sees at once: images up to `pixels` pixels, other samples all.

    The activations of one convolution with 64 channels on 50,000 images would fill 13 GB.
    """
    if inputs.ndim != 4:
        return len(inputs)
    return max(1, pixels // math.prod(inputs.shape[2:]))
