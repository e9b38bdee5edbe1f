"""Whatever a study or space file holds, loading it ends in a value or in a refusal of one line: no
other exception, no file written, no memory or time that grows with a number in the file."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import search_spaces
from dynloss_core.config import ConfigError
from studies.definition.study_files import load_study
from tests.studies.tiny import TINY, tiny_document

SPACES = sorted((Path(search_spaces.__file__).parent / "library").glob("*.yaml"))
SHIPPED = [path.read_text() for path in SPACES]

WHOLE = tiny_document() | {
    "space": {
        "extends": "dynloss-base",
        "name": "fuzzed",
        "parameters": {
            "period": {"low": 10, "high": 20},
            "model.width": {"type": "choice", "values": [4, 6], "role": "nuisance"},
            "momentum": {"type": "const", "value": 0.5},
        },
        "baseline": {"fix": {"amplitude": 1.0}, "drop": ["period"]},
        "points": [{"period": 10, "amplitude": 2.0, "learning_rate": 0.1, "model.width": 4}],
    },
    "training": {"loss": "cross_entropy", "learning_rate_schedule": {"warmup": 0.1}},
    "early_stopping": {"rungs": 1, "after": 0.4},
    "record": {"seeds": 1, "trace": True, "curvature_every": 20},
    "storage": {"experiment": "fuzz"},
    "equivalence_margin": 0.01,
    "profiles": {"reduced": {"budget": {"total": 40}}},
}
A_MAP = tiny_document() | {
    "mode": "map",
    "sampler": "grid",
    "grid": {"period": 2, "amplitude": 2, "learning_rate": 2},
}
A_MAP.pop("trials_per_arm")

numbers = st.one_of(
    st.integers(),
    st.sampled_from([0, -1, 2**31, 2**63, 10**12, 10**30, 10**400]),
    st.floats(),
)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    numbers,
    st.text(max_size=20),
    st.sampled_from(
        ["1e-4", "../../etc", "/", "~", "'; DROP TABLE runs; --", "<script>", "\x1b[2J"]
    ),
    st.binary(max_size=8),
    st.just(datetime.date(2026, 1, 1)),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.one_of(st.text(max_size=8), st.integers(), st.none()), inner, max_size=3
        ),
    ),
    max_leaves=6,
)


def places(document: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) of a nested document."""
    pairs = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in list(pairs):
        yield document, key
        if isinstance(value, dict | list):
            yield from places(value)


@st.composite
def damaged(draw: st.DrawFn, documents: list[dict[str, Any]]) -> str:
    """A sound document with a few entries replaced, renamed or removed, as YAML."""
    document = yaml.safe_load(yaml.safe_dump(draw(st.sampled_from(documents))))
    for _ in range(draw(st.integers(1, 3))):
        found = list(places(document))
        container, key = found[draw(st.integers(0, len(found) - 1))]
        what = draw(st.sampled_from(["replace", "replace", "replace", "remove", "rename", "add"]))
        if what == "replace" or isinstance(container, list):
            container[key] = draw(values)
        elif what == "add":
            container[draw(st.text(max_size=8))] = draw(values)
        else:
            value = container.pop(key)
            if what == "rename":
                container[draw(st.text(max_size=8))] = value
        if not document:
            break
    return yaml.safe_dump(document, allow_unicode=True)


@st.composite
def mistyped(draw: st.DrawFn, texts: list[str]) -> str:
    """A sound file in which a line is replaced, or a character left out."""
    text = draw(st.sampled_from(texts))
    start = draw(st.integers(0, len(text) - 1))
    if draw(st.booleans()):
        return text[:start] + text[start + 1 :]
    lines = text.splitlines()
    lines[start % len(lines)] = draw(st.text(max_size=30))
    return "\n".join(lines)


def is_refused_in_a_line(load: Callable[[], object]) -> bool:
    """Whether loading is refused; anything but a value or a refusal fails the test."""
    try:
        load()
    except ConfigError as error:
        line = str(error)
        assert line
        assert line.isprintable(), "a line, and nothing a terminal obeys"
        assert len(line) < 2000
        return True
    return False


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


def loaded(folder: Path, content: bytes, load: Callable[[Path], object]) -> bool:
    """Load a file of this content, and see that nothing else appears or changes beside it."""
    path = folder / "fuzzed.yaml"
    path.write_bytes(content)
    refused = is_refused_in_a_line(lambda: load(path))
    assert [each.name for each in folder.iterdir()] == ["fuzzed.yaml"]
    assert path.read_bytes() == content
    return refused


same_folder = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150
)


@same_folder
@given(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)))
@example(b"")
@example(b"\xff\xfe")
@example(b"&a [*a, *a]")
@example(b"a: &a {b: *a}")
@example(b"[" * 5000)
@example(b"? {a: b}\n: c")
@example(b"!!python/object/apply:os.system ['touch owned']")
@example(b"!!timestamp 9999-99-99")
@example(b"a: " + b"9" * 5000)
@example(b"a: 0x" + b"f" * 9000)
@example(b"a: 1:" + b"59:" * 400 + b"0")
def test_any_bytes_load_or_are_refused_in_a_line(folder: Path, content: bytes) -> None:
    loaded(folder, content, load_study)
    loaded(folder, content, search_spaces.load)


@same_folder
@given(st.one_of(damaged([WHOLE, A_MAP]), mistyped([TINY])))
def test_damaged_studies_load_or_are_refused_in_a_line(folder: Path, text: str) -> None:
    loaded(folder, text.encode(), load_study)


@same_folder
@given(st.one_of(damaged([*map(yaml.safe_load, SHIPPED)]), mistyped(SHIPPED)))
def test_damaged_spaces_load_or_are_refused_in_a_line(folder: Path, text: str) -> None:
    loaded(folder, text.encode(), search_spaces.load)


@same_folder
@given(st.text(max_size=30), st.text(max_size=30))
def test_any_override_and_profile_is_taken_or_refused_in_a_line(
    folder: Path, override: str, profile: str
) -> None:
    text = yaml.safe_dump(WHOLE).encode()
    loaded(folder, text, lambda path: load_study(path, [override], profile))
    loaded(folder, text, lambda path: load_study(path, [f"{override}={profile}"]))


def test_the_undamaged_ones_load(folder: Path) -> None:
    for document in (WHOLE, A_MAP):
        assert not loaded(folder, yaml.safe_dump(document).encode(), load_study)
    for text in (TINY, *SHIPPED):
        load = load_study if text is TINY else search_spaces.load
        assert not loaded(folder, text.encode(), load), text


LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n"
    for old, new in zip("abcdefghi", "bcdefghij", strict=True)
)


MAP = TINY.replace("mode: optimize", "mode: map")


@pytest.mark.parametrize(
    "text",
    [
        "name: laughs\n" + LAUGHS,
        MAP.replace("trials_per_arm: 6", "sampler: sobol\ntrials_per_arm: 1000000000000"),
        MAP.replace("trials_per_arm: 6", "grid: {period: 1000, amplitude: 1000, learning_rate: 2}"),
        MAP.replace("trials_per_arm: 6", "grid: {period: 10000000, amplitude: 2, learning_rate: 2}"),
        TINY.replace("points_per_class: 10", "points_per_class: 1000000000000"),
        TINY.replace("width: 6", "width: 1000000000000"),
        TINY.replace("width: 6", "width: 6, depth: 1000000000"),
        TINY.replace("width: 6", "width: 10000000, depth: 1000"),
        TINY.replace("name: mlp, width: 6", "name: wide_resnet, depth: 6000000004"),
        TINY.replace("name: spirals, points_per_class: 10", "name: digits").replace(
            "name: mlp, width: 6", "name: myrtle5, channels: 100000"
        ),
        TINY.replace("block_size: 2", "block_size: 1000000000000"),
        TINY.replace("total: 60", "total: 1000000000000000000000"),
    ],
    ids=[
        "laughs", "sobol", "grid", "axis", "points", "width", "depth", "both", "layers", "channels",
        "block", "steps",
    ],
)  # fmt: skip
def test_numbers_that_could_never_be_served_cost_nothing(folder: Path, text: str) -> None:
    """Refused or kept as a number: loading neither waits nor fills the memory (a test that does is
    ended by its timeout)."""
    loaded(folder, text.encode(), load_study)
