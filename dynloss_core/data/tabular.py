"""A user's own file as a data set: a table (Parquet, CSV, TSV) or arrays (NumPy's .npz).

What all user files have in common, such as the checksum, is in `user_files`.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from dynloss_core.config import ConfigError, reason_of
from dynloss_core.data.splits import Labelled, Splits
from dynloss_core.data.user_files import PARTS, Contents, UserFiles

__all__ = ["TableConfig"]

_READABLE = ".parquet, .csv, .tsv (or .csv.gz, .tsv.gz) or .npz"


@dataclass(frozen=True)
class TableConfig(UserFiles):
    """A table with a column of classes, or arrays of inputs and classes.

    Args:
        path: the file: .parquet, .csv or .tsv (also gzipped), with one row per sample and a header,
            or .npz with one array per column; relative to the study's file. A machine that does not
            have it there looks for its name in the folder of `--data-dir`.
        validation_seed: the seed that draws the validation set from the samples outside the test
            set; None uses `split_seed`, or keeps the validation set that the `split` column names.
        contents: what the file held when the study was made; by default what it holds now.
        target: the column, or array, of classes: numbers or text, sorted into class indices.
        features: the numeric columns to learn from; by default all other columns. In an .npz, one
            array of shape (N, ...); by default the only other one.
        scaling: `standardised` gives each column mean 0 and standard deviation 1 on the training
            set (for arrays with more axes, all entries together); `none` leaves them unchanged.
        split: the column that says `train`, `validation` or `test` for each sample; None draws the
            parts, with the classes in equal shares.
    """

    name: Literal["table"] = "table"
    target: str = "target"
    features: tuple[str, ...] = ()
    scaling: Literal["standardised", "none"] = "standardised"
    split: str | None = None

    KIND: ClassVar[Literal["file", "folder"]] = "file"
    FORM: ClassVar[str] = _READABLE

    def __post_init__(self) -> None:
        own = {self.target, self.split}
        if taken := [name for name in self.features if name in own]:
            problem = f"{taken[0]!r} cannot be a feature: it is the target, or the split"
            raise ConfigError("features", problem, "leave it out")
        super().__post_init__()

    def _read_contents(self) -> Contents:
        return _contents(self, _columns(self))

    def load(self, seed: int) -> Splits:
        """The split of this configuration; `seed` is not used.

        Raises:
            ConfigError: if the file is not found, cannot be read, or has changed.
        """
        return _load(self)


@dataclass(frozen=True, eq=False)
class _Columns:
    """A file as read: inputs (N, ...), the target's values and the parts (N,)."""

    sha256: str
    inputs: np.ndarray
    target: np.ndarray
    parts: np.ndarray | None


@lru_cache(maxsize=2)
def _load(config: TableConfig) -> Splits:
    columns = _columns(config)
    config.refuse_change(_contents(config, columns))
    inputs = torch.from_numpy(columns.inputs.copy())  # pandas may return a read-only view
    targets = torch.from_numpy(np.unique(columns.target, return_inverse=True)[1])
    given = None
    if columns.parts is not None:
        given = torch.tensor([PARTS.index(part) for part in columns.parts])
    train, validation, test = config.split_indices(targets, given)
    if config.scaling == "standardised":
        inputs = _standardised(inputs.double(), inputs[train].double())
    learned, chosen, reported = (
        Labelled(inputs[indices], targets[indices]) for indices in (train, validation, test)
    )
    return Splits(learned, chosen, reported, config.num_classes)


def _standardised(inputs: Tensor, learned: Tensor) -> Tensor:
    """Inputs scaled to mean 0 and standard deviation 1 on the training set; constants become 0."""
    axes = (0,) if inputs.dim() == 2 else tuple(range(inputs.dim()))
    mean = learned.mean(axes, keepdim=True)
    deviation = learned.std(axes, keepdim=True, correction=0)
    return (inputs - mean) / torch.where(deviation > 0, deviation, 1.0)


def _contents(config: TableConfig, columns: _Columns) -> Contents:
    """What the columns of a file hold.

    Raises:
        ConfigError: if they are not classes and numbers.
    """
    classes = np.unique(columns.target)
    if classes.dtype.kind == "f" and not (classes == np.round(classes)).all():
        problem = f"{config.target!r} holds {classes[classes != np.round(classes)][0]}, not a class"
        raise ConfigError("target", problem, "name a column of classes: whole numbers or text")
    if len(classes) < 2:
        problem = f"{config.target!r} has one value, {classes[0]}"
        raise ConfigError("target", problem, "name a column of two classes or more")
    samples: tuple[int, ...] = (len(columns.target),)
    if columns.parts is not None:
        unknown = set(np.unique(columns.parts)) - set(PARTS)
        if unknown:
            problem = f"{config.split!r} holds {str(min(unknown))!r}"
            raise ConfigError("split", problem, f"write {', '.join(PARTS)} there")
        samples = tuple(int((columns.parts == part).sum()) for part in PARTS)
    shape = tuple(columns.inputs.shape[1:])
    return Contents(columns.sha256, tuple(map(str, classes)), shape, samples)


def _columns(config: TableConfig) -> _Columns:
    """Read the file of a configuration.

    Raises:
        ConfigError: if it is not found, cannot be read, or lacks something.
    """
    path = config.found()
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    read = _read_arrays if path.suffix == ".npz" else _read_table
    try:
        inputs, target, parts = read(config, path)
    except ConfigError:
        raise
    except Exception as error:  # readers may raise anything
        problem = f"{config.path} cannot be read: {reason_of(error)}"
        raise ConfigError("path", problem, f"give a file that is {_READABLE}") from None
    return _Columns(digest, inputs, target, parts)


def _read_arrays(
    config: TableConfig, path: Path
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """The arrays of an .npz file."""
    with np.load(path, allow_pickle=False) as arrays:
        held = {name: arrays[name] for name in arrays.files}
    own = {config.target, config.split}
    names = list(config.features) or [name for name in held if name not in own]
    for key, name in (("target", config.target), ("split", config.split)):
        if name is not None and name not in held:
            raise _missing(key, name, list(held))
    if len(names) != 1 or names[0] not in held:
        problem = f"{len(names)} arrays to learn from: {', '.join(names) or 'none'}"
        raise ConfigError("features", problem, "name the one array that holds the inputs")
    inputs, target = held[names[0]], _values(held[config.target])
    parts = None if config.split is None else _values(held[config.split]).astype(str)
    for key, name, array in (("target", config.target, target), ("split", config.split, parts)):
        if array is not None and array.ndim != 1:
            problem = f"{name!r} has the shape {array.shape}, not one value per sample"
            raise ConfigError(key, problem, "give an array of one axis, class indices or text")
    if inputs.dtype.kind not in "biuf" or not np.isfinite(inputs).all():
        raise ConfigError("features", f"{names[0]!r} has values that are not finite", "correct it")
    lengths = {np.shape(values)[:1] for values in (inputs, target, parts) if values is not None}
    if lengths != {target.shape}:
        raise ConfigError("path", "its arrays differ in length", "give one entry per sample")
    wide = inputs.astype(np.float64 if inputs.dtype.kind == "f" else np.int64)  # of any byte order
    return wide.reshape(len(wide), -1) if wide.ndim == 1 else wide, target, parts


def _read_table(
    config: TableConfig, path: Path
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """The columns of a table."""
    import pandas as pd

    name = path.name.removesuffix(".gz")
    if name.endswith(".parquet"):
        table = pd.read_parquet(path)
    elif name.endswith((".csv", ".tsv")):
        table = pd.read_csv(path, sep="\t" if name.endswith(".tsv") else ",")
    else:
        raise ConfigError("path", f"{config.path} has an unknown format", f"give {_READABLE}")
    own = [column for column in (config.target, config.split) if column is not None]
    names = list(config.features) or [column for column in table.columns if column not in own]
    for key, wanted in (("target", own[:1]), ("split", own[1:]), ("features", names)):
        for label in wanted:
            if label not in table:
                raise _missing(key, label, [str(column) for column in table.columns])
            if table[label].isna().any():
                row = int(np.flatnonzero(table[label].isna())[0])
                problem = f"{label!r} lacks a value in row {row}, counted from 0"
                raise ConfigError(key, problem, "fill it, or drop the row")
    for label in names:
        if not pd.api.types.is_numeric_dtype(table[label]):
            problem = f"{label!r} is not a column of numbers"
            raise ConfigError("features", problem, "encode it, or leave it out of `features`")
    inputs = table[names].to_numpy(dtype=np.float64)
    if not np.isfinite(inputs).all():
        raise ConfigError("features", "some values are not finite", "correct them")
    parts = table[config.split].to_numpy().astype(str) if config.split is not None else None
    return inputs, _values(table[config.target].to_numpy()), parts


def _values(values: np.ndarray) -> np.ndarray:
    """The values of a target, as numbers or text."""
    if values.dtype.kind in "biuf":
        return values
    return np.char.decode(values, "utf-8") if values.dtype.kind == "S" else values.astype(str)


def _missing(key: str, name: str, known: Sequence[str]) -> ConfigError:
    few = list(known) if len(known) <= 8 else [*known[:4], "...", *known[-3:]]
    close = difflib.get_close_matches(name, known, n=1)
    remedy = f"did you mean {close[0]!r}?" if close else f"it has: {', '.join(few)}"
    return ConfigError(key, f"there is no {name!r} in the file", remedy)
