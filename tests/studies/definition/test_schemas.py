"""The JSON Schemas that ship, and the loader: they agree on the form of a file."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

import search_spaces
from dynloss_core.config import ConfigError
from search_spaces.documents import dump_document, read_document
from studies.definition.schemas import schema_text
from studies.definition.study_files import LIBRARY, load_study, study_from_mapping

SHIPPED = {
    "study": LIBRARY / "study.schema.json",
    "space": search_spaces.catalogue.LIBRARY / "space.schema.json",
}
VALIDATORS = {
    kind: Draft202012Validator(json.loads(path.read_text())) for kind, path in SHIPPED.items()
}
FILES = [
    (kind, path)
    for kind, shipped in SHIPPED.items()
    for path in sorted(shipped.parent.glob("*.yaml"))
]


@pytest.mark.parametrize("kind", SHIPPED)
def test_what_ships_is_fresh(kind: str) -> None:
    assert SHIPPED[kind].read_text() == schema_text(kind), "write it again: dynloss schema KIND"  # type: ignore[arg-type]
    Draft202012Validator.check_schema(json.loads(schema_text(kind)))  # type: ignore[arg-type]


@pytest.mark.parametrize(("kind", "path"), FILES, ids=[path.stem for _, path in FILES])
def test_every_file_of_the_library_fits_and_names_its_schema(kind: str, path: Path) -> None:
    VALIDATORS[kind].validate(read_document(path))
    assert path.read_text().startswith(f"# yaml-language-server: $schema={kind}.schema.json\n")


@pytest.mark.parametrize(
    "path", [path for kind, path in FILES if kind == "study"], ids=lambda p: p.stem
)
def test_a_resolved_study_fits_too(path: Path) -> None:
    from dynloss_core.config import to_dict

    study = load_study(path)
    VALIDATORS["study"].validate(to_dict(study))
    assert study_from_mapping(to_dict(study)).hash == study.hash


def fits(document: dict[str, Any]) -> bool:
    return bool(VALIDATORS["study"].is_valid(document))


def is_loaded(document: dict[str, Any]) -> bool:
    document = {key: value for key, value in copy.deepcopy(document).items() if key != "profiles"}
    try:
        study_from_mapping(document, folder=LIBRARY)
    except ConfigError:
        return False
    return True


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where a document holds something."""
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


def changed(document: dict[str, Any], path: tuple[Any, ...], value: object) -> dict[str, Any]:
    document = copy.deepcopy(document)
    inside: Any = document
    for key in path[:-1]:
        inside = inside[key]
    inside[path[-1]] = value
    return document


STUDIES = {p.stem: read_document(p) for kind, p in FILES if kind == "study"}
FREE = {"profiles", "grid", "winners", "points", "fix", "values", "training"}
"""Below these keys a schema takes anything: the loader knows what they may hold."""


def test_an_unknown_key_is_unknown_to_both() -> None:
    for document in STUDIES.values():
        for path in places(document):
            if (
                FREE & set(path)
                or not isinstance(path[-1], str)
                or path[-1] in ("parameters", "arms", "search")
            ):
                continue
            if any(key in ("parameters", "search", "arms") for key in path[:-1][-1:]):
                continue  # there it is a name
            wrong = changed(document, (*path[:-1], "colour"), 1)
            assert not fits(wrong), path
            assert not is_loaded(wrong), path


def test_a_wrong_type_is_wrong_to_both() -> None:
    document = STUDIES["quickstart"]
    for path in places(document):
        if FREE & set(path):
            continue
        for value in ([[]], {"a": {"b": 1}}):
            wrong = changed(document, path, value)
            assert not fits(wrong), (path, value)
            assert not is_loaded(wrong), (path, value)


values = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 400), st.floats(-1, 5), st.sampled_from(["mlp", "digits", "sobol", "x", ""]),
    st.just({"name": "digits"}), st.just([]), st.just(["static"]),
)  # fmt: skip


@given(st.data())
def test_what_is_loaded_fits(data: st.DataObject) -> None:
    document = STUDIES[data.draw(st.sampled_from(sorted(STUDIES)))]
    document = {key: value for key, value in document.items() if key != "profiles"}
    path = data.draw(st.sampled_from(list(places(document))))
    tried = changed(document, path, data.draw(values))
    if is_loaded(tried):
        assert fits(tried), dump_document(tried)
