"""YAML as the suite reads and writes it, and where in a file a refusal is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from dynloss_core.config import ConfigError
from search_spaces import load
from search_spaces.documents import dump_document, locating, meant, parse_document
from studies.definition.study_files import load_study

# the core schema of YAML 1.2, section 10.3
SCALARS = {
    "1e-4": 1e-4, "6E1": 60.0, "+12.e03": 12e3, ".5": 0.5, "-1": -1, "010": 10, "0o10": 8, "0x1F": 31,
    "1_000": 1000, "true": True, "False": False, "~": None, "": None, "null": None, "-.inf": -float("inf"),
    "no": "no", "on": "on", "1:30": "1:30", "2001-01-01": "2001-01-01", "'1e-4'": "1e-4", "1e": "1e",
    "0.1.0": "0.1.0", "0b1": "0b1",
}  # fmt: skip


@pytest.mark.parametrize(("text", "value"), SCALARS.items())
def test_a_plain_scalar_is_what_yaml_1_2_says(text: str, value: object) -> None:
    found = parse_document(f"key: {text}")["key"]
    assert (found, type(found)) == (value, type(value))


plain = (
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=12)
    | st.sampled_from([text for text in SCALARS if "'" not in text])
)


@given(
    st.recursive(plain, lambda inner: st.lists(inner) | st.dictionaries(st.text("abc1e-."), inner))
)
def test_what_is_written_is_read_back(document: object) -> None:
    """By any other reader of YAML 1.1 too, what is text stays text."""
    text = dump_document(document)
    assert parse_document(text) == document
    assert yaml.safe_load(text) == document


STUDY = """\
name: mine
data: {name: spirals}
model:
  name: mlp
  width: 8
budget: {unit: steps, total: 400, static_tail: 100, evaluate_every: 100}
space:
  extends: spirals-mlp
  parameters:
    model.depth: {type: choice, values: [1, 2]}
trials_per_arm: 4
profiles:
  short:
    budget: {total: 200}
    trials_per_arm: 2
"""


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("width: 8", "width: x", 5, "model.width: expected an integer"),
        ("width: 8", "widht: 8", 5, "model.widht: unknown key"),
        ("total: 400", "total: -4", 6, "budget.total: -4"),
        ("evaluate_every: 100", "every: 100", 6, "budget.every: unknown key"),
        (", evaluate_every: 100", "", 6, "budget.evaluate_every: missing"),
        ("values: [1, 2]", "values: [1, -2]", 10, "model.depth: -2"),
        ("values: [1, 2]", "valeus: [1, 2]", 10, "space.parameters.model.depth"),
        ("name: mine\n", "name: a/b\n", 1, "name: 'a/b'"),
    ],
)
def test_a_refusal_names_the_line(tmp_path: Path, old: str, new: str, line: int, said: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(STUDY.replace(old, new))
    with pytest.raises(ConfigError) as error:
        load_study(path)
    assert str(error.value).startswith(f"{path}:{line}: ")
    assert said in str(error.value)


def test_a_key_that_is_nowhere_has_no_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(STUDY.replace("name: mine\n", ""))
    with pytest.raises(ConfigError) as error:
        load_study(path)
    assert str(error.value).startswith(f"{path}: name: missing")


def test_the_line_is_that_of_the_profile_if_it_says_so(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(STUDY.replace("total: 200", "total: 2.5"))
    load_study(path)
    with pytest.raises(ConfigError, match=r"mine\.yaml:14: budget\.total: expected an integer"):
        load_study(path, profile="short")
    path.write_text(STUDY.replace("width: 8", "width: x"))
    with pytest.raises(ConfigError, match=r"mine\.yaml:5: model\.width"):
        load_study(path, profile="short")


def test_what_an_option_replaced_is_the_option_s(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(STUDY)
    with pytest.raises(ConfigError, match=r"^--set: model\.width: expected an integer"):
        load_study(path, ["model.width=x"])
    with pytest.raises(ConfigError, match=r"^--set: model\.width: expected an integer"):
        load_study(path, ["model={name: mlp, width: x}"])


def test_a_space_has_lines_too(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text("extends: spirals-mlp\nparameters:\n  amplitude: {low: 0.5}\n")
    with pytest.raises(ConfigError, match=r"space\.yaml:3: parameters\.amplitude\.low: 0\.5"):
        load(path)


def test_a_refusal_of_another_file_is_left_alone(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^elsewhere: key: wrong"), locating(tmp_path / "here"):
        raise ConfigError("key", "wrong", source="elsewhere")


def test_at_most_three_names_are_meant() -> None:
    known = ["digits_a", "digits_b", "digits_c", "digits_d", "other"]
    assert meant("digits_b", ["digits_b"]) == "did you mean 'digits_b'? Or "
    three = meant("digits_x", known)
    assert three.count("'digits_") == 3
    assert re.fullmatch(r"did you mean '\w+', '\w+' or '\w+'\? Or ", three)
    assert meant("zzz", known) == ""
