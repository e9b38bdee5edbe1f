"""Data sets of torch and torchvision as `Splits`, for the `load` of a plug-in.

Symbols
    N      samples of a part
    K      channels: 1 (grey) or 3 (red, green, blue)
    H, W   pixels
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor

from dynloss_core.config import ConfigError, reason_of, show
from dynloss_core.data.pixels import bytes_of, scale_of
from dynloss_core.data.splits import Labelled, Splits, disjoint

__all__ = ["MapStyle", "splits_of"]


class MapStyle(Protocol):
    """A data set indexed by numbers: any `torch.utils.data.Dataset` with a length."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


def splits_of(
    train: MapStyle,
    test: MapStyle,
    *,
    validation: float | MapStyle = 0.2,
    num_classes: int | None = None,
    seed: int = 0,
) -> Splits:
    """The splits of map-style data sets of (image or tensor, label).

    Pillow images, and bytes (uint8) of shape (K, H, W), are kept as bytes, with a scale that gives
    each channel mean 0 and standard deviation 1 on the training set. Tensors of floats are not
    changed. All samples must have the same type and shape. Each is read once, so a random transform
    would give the same result at every visit; use `training.augmentation` instead.

    Args:
        train: the training set.
        test: the test set; its samples must not be in `train`.
        validation: the share of `train` kept for validation, with the classes in equal shares; or a
            data set.
        num_classes: C; labels are 0 to C - 1. By default the largest label of `train`, plus 1.
        seed: the seed that draws the validation set, >= 0.

    Raises:
        ConfigError: for a sample that does not fit, naming it.
    """
    if seed < 0:
        raise ConfigError("seed", f"{seed} is negative", "use >= 0")
    with torch.random.fork_rng(devices=[]):  # transforms may draw
        torch.manual_seed(seed)
        learned = _read("train", train)
        chosen = None if isinstance(validation, (int, float)) else _read("validation", validation)
        reported = _read("test", test)
    classes = int(learned.targets.max()) + 1 if num_classes is None else num_classes
    named = {"train": learned, "validation": chosen, "test": reported}
    for name, part in named.items():
        if part is not None:
            _refuse_other_form(name, part, learned.inputs)
            _refuse_other_labels(name, part.targets, classes)
    if chosen is None:
        learned, chosen = _drawn(learned, float(validation), seed)  # type: ignore[arg-type]  # a number
    scale = scale_of(learned.inputs) if learned.inputs.dtype == torch.uint8 else None
    train_part, validation_part, test_part = (
        replace(part, scale=scale) for part in (learned, chosen, reported)
    )
    return Splits(train_part, validation_part, test_part, classes)


def _drawn(data: Labelled, share: float, seed: int) -> tuple[Labelled, Labelled]:
    """Draw a share for validation; return the rest, for training, and that share."""
    if not 0 < share < 1:
        remedy = "use a number between 0 and 1, or a data set"
        raise ConfigError("validation", f"{share:g} is not a fraction", remedy)
    size = round(share * len(data))
    if not 0 < size < len(data):
        problem = f"{share:g} of {len(data)} samples leaves {size} for validation"
        raise ConfigError("validation", problem, "give more samples, or another share")
    kept, left = disjoint(data.targets, [size, len(data) - size], seed, part=0)
    return data.at(left), data.at(kept)


def _read(name: str, data: MapStyle) -> Labelled:
    """All samples of a data set, without a scale."""
    if not hasattr(data, "__len__") or not hasattr(data, "__getitem__"):
        problem = f"{type(data).__name__} has no length, or cannot be indexed"
        raise ConfigError(name, problem, "give a map-style data set")
    if len(data) == 0:
        raise ConfigError(name, "it has no samples", "give a data set with samples")
    inputs: list[Tensor] = []
    labels: list[int] = []
    for sample, label in _samples(name, data):
        if inputs and (sample.shape, sample.dtype) != (inputs[0].shape, inputs[0].dtype):
            problem = f"sample {len(inputs)} is {_form(sample)}, sample 0 {_form(inputs[0])}"
            raise ConfigError(name, problem, "let a transform resize and convert them")
        inputs.append(sample)
        labels.append(label)
    return Labelled(torch.stack(inputs), torch.tensor(labels))


def _samples(name: str, data: MapStyle) -> Iterator[tuple[Tensor, int]]:
    for number in range(len(data)):
        pair = data[number]
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            size = f" of {len(pair)}" if isinstance(pair, (tuple, list, dict)) else ""
            problem = f"sample {number} is a {type(pair).__name__}{size}"
            raise ConfigError(name, problem, "give pairs: (image or tensor, label)")
        yield _tensor(name, number, pair[0]), _label(name, number, pair[1])


def _tensor(name: str, number: int, sample: Any) -> Tensor:
    """A sample as a tensor: bytes (K, H, W), or floats of any shape."""
    if hasattr(sample, "getbands"):  # a Pillow image, recognised without importing Pillow
        try:
            return bytes_of(sample)
        except ValueError as error:
            problem = f"sample {number} cannot be converted to bytes: {reason_of(error)}"
            raise ConfigError(name, problem, "let a transform convert it") from None
    if not isinstance(sample, Tensor):
        problem = f"sample {number} holds a {type(sample).__name__}"
        raise ConfigError(name, problem, "give Pillow images, or tensors")
    if sample.dtype == torch.uint8:
        if sample.dim() != 3 or sample.shape[0] not in (1, 3):
            problem = f"sample {number} is {_form(sample)}"
            raise ConfigError(name, problem, "give bytes as (1 or 3 channels, height, width)")
    elif not sample.is_floating_point():
        problem = f"sample {number} is {_form(sample)}"
        raise ConfigError(name, problem, "give floats, or bytes (uint8)")
    elif not bool(sample.isfinite().all()):
        raise ConfigError(name, f"sample {number} has values that are not finite", "correct it")
    return sample.detach().cpu()


def _label(name: str, number: int, label: Any) -> int:
    """A label as a Python integer, also from NumPy and torch."""
    is_tensor = isinstance(label, Tensor)
    kind = f"{label.dtype} of shape {tuple(label.shape)}" if is_tensor else type(label).__name__
    try:
        if isinstance(label, bool) or (is_tensor and (label.dim() or label.dtype == torch.bool)):
            raise TypeError
        return operator.index(label)
    except TypeError:
        problem = f"the label of sample {number} is {show(label)} ({kind})"
        raise ConfigError(name, problem, "give class indices: 0, 1, 2, ...") from None


def _refuse_other_form(name: str, part: Labelled, learned: Tensor) -> None:
    one, other = part.inputs[0], learned[0]
    if (one.shape, one.dtype) != (other.shape, other.dtype):
        problem = f"its samples are {_form(one)}, those of train {_form(other)}"
        raise ConfigError(name, problem, "give all parts the same transform")


def _refuse_other_labels(name: str, targets: Tensor, classes: int) -> None:
    others = ((targets < 0) | (targets >= classes)).nonzero()
    if len(others):
        number = int(others[0])
        problem = f"the label of sample {number} is {int(targets[number])}"
        remedy = f"give class indices from 0 to {classes - 1}, or correct num_classes"
        raise ConfigError(name, problem, remedy)


def _form(sample: Tensor) -> str:
    return f"{str(sample.dtype).removeprefix('torch.')} of shape {tuple(sample.shape)}"
