"""A file of one's own: read, split, scaled, and noticed when it changes."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dynloss_core.config import ConfigError, build, config_hash, to_dict
from dynloss_core.data import DATA_SETS, Splits, TableConfig, use_data_folder
from dynloss_core.data.image_folders import DATA_FOLDER

SAMPLES, CLASSES = 120, ("ant", "bee", "cat")


def table(samples: int = SAMPLES, seed: int = 0) -> pd.DataFrame:
    """Two columns of numbers, a constant, the number of the row, and a class of unequal sizes."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "x": rng.normal(3.0, 2.0, samples),
            "row": np.arange(samples),
            "constant": 7.0,
            "kind": rng.choice(CLASSES, samples, p=[0.5, 0.3, 0.2]),
        }
    )


def config(path: Path, **changes: Any) -> TableConfig:
    return build(TableConfig, {"name": "table", "path": str(path), "target": "kind", **changes})


def rows_of(splits: Splits) -> list[set[int]]:
    """The numbers of the rows in each part."""
    parts = (splits.train, splits.validation, splits.test)
    return [set(part.inputs[:, 1].int().tolist()) for part in parts]


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    path = tmp_path / "animals.parquet"
    table().to_parquet(path)
    return path


@pytest.mark.parametrize("name", ["a.parquet", "a.csv", "a.csv.gz", "a.tsv", "a.tsv.gz"])
def test_each_kind_of_table_holds_the_same(name: str, parquet: Path, tmp_path: Path) -> None:
    path = tmp_path / name
    frame = table()
    if ".parquet" in name:
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False, sep="\t" if ".tsv" in name else ",")
    one, other = config(parquet).load(0), config(path).load(0)
    for part in ("train", "validation", "test"):
        assert torch.equal(getattr(one, part).targets, getattr(other, part).targets)
        torch.testing.assert_close(getattr(one, part).inputs, getattr(other, part).inputs)


@given(samples=st.integers(60, 300), test=st.floats(0.15, 0.4), validation=st.floats(0.15, 0.4))
def test_parts_are_disjoint_and_have_the_classes_in_equal_shares(
    samples: int, test: float, validation: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    frame = table(samples)
    path = tmp_path_factory.mktemp("table") / "a.parquet"
    frame.to_parquet(path)
    made = config(path, test=test, validation=validation, scaling="none")
    splits = made.load(0)
    parts = rows_of(splits)
    assert sum(map(len, parts)) == samples == len(set.union(*parts))
    assert made.training_samples == len(splits.train)
    for rows, labelled in zip(parts, (splits.train, splits.validation, splits.test), strict=True):
        for index, name in enumerate(CLASSES):
            share = len(rows) * (frame["kind"] == name).sum() / samples
            assert abs(int((labelled.targets == index).sum()) - share) < 3


def test_inputs_are_scaled_by_the_training_set_alone(parquet: Path) -> None:
    raw, scaled = config(parquet, scaling="none").load(0), config(parquet).load(0)
    learned = raw.train.inputs
    mean, deviation = learned.mean(0), learned.std(0, correction=0)
    assert deviation[2] == 0
    for part in ("train", "validation", "test"):
        expected = (getattr(raw, part).inputs - mean) / deviation.where(deviation > 0, 1.0)
        torch.testing.assert_close(getattr(scaled, part).inputs, expected)
    assert abs(float(scaled.test.inputs[:, 0].mean())) > 1e-3, "not by the test set's own"


def test_another_search_has_another_validation_set_and_the_same_test_set(parquet: Path) -> None:
    first, other = (
        config(parquet, scaling="none"),
        config(parquet, scaling="none", validation_seed=7),
    )
    (t0, v0, test0), (t1, v1, test1) = rows_of(first.load(0)), rows_of(other.load(0))
    assert (len(t0), len(v0)) == (len(t1), len(v1))
    assert v0 != v1
    assert test0 == test1
    assert rows_of(config(parquet, scaling="none", split_seed=1).load(0))[2] != test0


def test_a_column_may_say_which_part_a_sample_is_of(tmp_path: Path) -> None:
    frame = table().assign(part=["train", "train", "train", "validation", "test"] * 24)
    path = tmp_path / "a.parquet"
    frame.to_parquet(path)
    made = config(path, split="part", scaling="none")
    rows = rows_of(made.load(0))
    expected = [set(np.flatnonzero(frame["part"] == p)) for p in ("train", "validation", "test")]
    assert rows == expected
    again = rows_of(replace(made, validation_seed=3).load(0))
    assert again[2] == rows[2]
    assert again[0] | again[1] == rows[0] | rows[1]
    assert again[1] != rows[1]
    assert len(again[1]) == len(rows[1])


def test_arrays_keep_their_shape_and_whole_numbers(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 9, (SAMPLES, 3, 4))
    path = tmp_path / "a.npz"
    np.savez(path, tokens=tokens, kind=tokens[:, 0, 0] % 2)
    made = config(path, scaling="none")
    splits = made.load(0)
    assert made.input_shape == splits.input_shape == (3, 4)
    assert made.num_classes == 2
    assert splits.train.inputs.dtype == torch.int64
    assert torch.equal(splits.train.inputs[:, 0, 0] % 2, splits.train.targets)
    scaled = config(path).load(0).train.inputs
    assert abs(float(scaled.mean())) < 1e-12
    assert float(scaled.std(correction=0)) == pytest.approx(1)


@pytest.mark.parametrize("kind", [">f4", "<f2", ">i2", "<u2", "u8", "?"])
@pytest.mark.parametrize("shape", [(SAMPLES,), (SAMPLES, 2)])
def test_arrays_may_be_of_any_numbers_and_classes_bytes(
    kind: str, shape: tuple[int, ...], tmp_path: Path
) -> None:
    inputs = (np.arange(np.prod(shape)).reshape(shape) % 7).astype(kind)
    names = np.array([b"no", "ja é".encode()])[np.arange(SAMPLES) % 2]
    np.savez(tmp_path / "a.npz", inputs=inputs, kind=names)
    made = config(tmp_path / "a.npz", scaling="none")
    assert made.contents is not None
    assert made.contents.classes == ("ja é", "no")
    assert made.input_shape == (shape[1:] or (1,))
    splits = made.load(0)
    found = torch.cat([splits.train.inputs, splits.validation.inputs, splits.test.inputs])
    assert int(found.sum()) == int(inputs.astype(int).sum())


def test_numbers_as_classes_are_in_the_order_of_numbers(tmp_path: Path) -> None:
    frame = table().assign(kind=[2, 10, 9] * 40)
    path = tmp_path / "a.csv"
    frame.to_csv(path, index=False)
    made = config(path, scaling="none")
    assert made.contents is not None
    assert made.contents.classes == ("2", "9", "10")
    splits = made.load(0)
    rows = splits.train.inputs[:, 1].int()
    expected = torch.tensor([0, 2, 1])[rows % 3]
    assert torch.equal(splits.train.targets, expected)


def test_where_the_file_lies_changes_no_hash_and_what_it_holds_does(
    parquet: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "elsewhere.parquet"
    moved.write_bytes(parquet.read_bytes())
    assert config_hash(config(parquet)) == config_hash(config(moved))
    table(seed=1).to_parquet(moved)
    assert config_hash(config(parquet)) != config_hash(config(moved))


def test_a_file_that_changed_since_is_refused(parquet: Path) -> None:
    made = config(parquet)
    same = build(TableConfig, json.loads(json.dumps(to_dict(made))))
    assert same == made
    table(seed=1).to_parquet(parquet)
    with pytest.raises(
        ConfigError, match="has changed since the study was made; put the file back"
    ):
        same.load(0)


def test_a_recorded_one_is_known_without_its_file(parquet: Path) -> None:
    made = config(parquet)
    plain = to_dict(made)
    parquet.unlink()
    same = build(TableConfig, plain)
    assert (same.num_classes, same.input_shape, same.training_samples) == (3, (3,), 72)
    with pytest.raises(ConfigError, match="there is no file"):
        replace(same, split_seed=3).load(0)


def test_another_machine_finds_it_in_the_chosen_folder(
    parquet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DATA_FOLDER, "")
    elsewhere = tmp_path / "there"
    elsewhere.mkdir()
    here = config(parquet)
    parquet.rename(elsewhere / parquet.name)
    use_data_folder(elsewhere)
    assert replace(here, split_seed=5).load(0).num_classes == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"path": ""}, "path: is missing; name a file"),
        ({"path": "nowhere.csv"}, "path: there is no file"),
        ({"target": "sort"}, "target: there is no 'sort' in the file; it has: x, row, constant"),
        ({"target": "constant", "features": ["x"]}, "target: 'constant' has one value, 7.0"),
        ({"features": ["x", "y"]}, "features: there is no 'y' in the file"),
        ({"target": "x", "features": ["kind"]}, "features: 'kind' is not a column of numbers"),
        ({"target": "x", "features": ["row"]}, "not a class; name a column of classes"),
        ({"split": "kind"}, "split: 'kind' holds 'ant'; write train, validation, test there"),
        ({"test": 1.0}, "test: 1.0 is not a fraction"),
        ({"test": 0.5, "validation": 0.49}, "test: 1 training, 59 validation and 60 test samples"),
        ({"split_seed": -1}, "split_seed: -1 is negative"),
        ({"scaling": "logs"}, "scaling"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], message: str, parquet: Path) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        build(TableConfig, {"name": "table", "path": str(parquet), "target": "kind", **changes})


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.parquet", b"no table", "cannot be read"),
        ("a.npz", b"no arrays", "cannot be read"),
        ("a.csv", b"", "cannot be read"),
        ("a.csv.gz", b"x", "cannot be read"),
        ("a.xlsx", b"x", "has an unknown format; give .parquet"),
        ("a.csv", b"x,kind\n1,a\n,b\n", "features: 'x' lacks a value in row 1, counted from 0"),
        ("a.csv", b"x,kind\n1,a\n2,\n", "target: 'kind' lacks a value in row 1"),
        ("a.csv", b"x,kind\n1,a\ninf,b\n", "some values are not finite"),
        ("a.csv", b"x,kind\n1,a\n2,b\n", "each part needs 5"),
    ],
)
def test_what_cannot_be_read_is_refused(
    name: str, content: bytes, message: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=re.escape(message)):
        config(path)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.ones((9, 2))}, "target: there is no 'kind' in the file; it has: x"),
        ({"x": np.ones(9), "z": np.ones(9), "kind": np.ones(9)}, "2 arrays to learn from: x, z"),
        ({"x": np.ones(8), "kind": np.arange(9)}, "its arrays differ in length"),
        ({"x": np.ones((9, 2)), "kind": np.eye(9)}, "'kind' has the shape (9, 9), not one value"),
        ({"x": np.array(3.0), "kind": np.arange(9)}, "its arrays differ in length"),
        ({"x": np.full(9, np.nan), "kind": np.arange(9)}, "'x' has values that are not finite"),
        ({"x": np.array([{}] * 9), "kind": np.arange(9)}, "cannot be read"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    arrays: dict[str, np.ndarray], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, **arrays)
    with pytest.raises(ConfigError, match=re.escape(message)):
        config(path)


def test_it_is_one_of_the_data_sets() -> None:
    assert DATA_SETS["table"] is TableConfig
