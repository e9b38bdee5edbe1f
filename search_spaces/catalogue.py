"""Spaces by name or path: reading, inheritance, and the ones that ship with the package."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dynloss_core.config import ConfigError, build
from dynloss_core.own_command import own_command
from search_spaces.documents import find_document, locating, read_document
from search_spaces.space import Space

__all__ = ["LIBRARY", "from_mapping", "load", "names"]

LIBRARY = Path(__file__).parent / "library"
_LISTS = ("space", "list")


def names() -> list[str]:
    """Names of the spaces that ship with the package."""
    return sorted(path.stem for path in LIBRARY.glob("*.yaml"))


def load(name_or_path: str | Path) -> Space:
    """Load a space from the library by name, or from a YAML file by path.

    >>> load("spirals-mlp").searched()
    ['period', 'amplitude', 'learning_rate']

    Raises:
        ConfigError: one line with the file, the key, the value and the remedy.
    """
    path = find_document("space", name_or_path, LIBRARY, own_command(*_LISTS))
    document = read_document(path)
    with locating(path):
        return from_mapping(document, source=str(path), folder=path.parent)


def from_mapping(
    document: Mapping[str, Any], *, source: str = "", folder: Path | None = None, key: str = ""
) -> Space:
    """Build a space from a plain mapping, with its `extends` resolved.

    Args:
        document: the mapping, as in a YAML file.
        source: the name that messages give it.
        folder: the folder that a relative `extends` path starts from.
        key: the mapping's key in an enclosing document.

    Raises:
        ConfigError: one line with the file, the key, the value and the remedy.
    """
    merged = _inherit(dict(document), source, folder or Path(), key, ())
    merged.setdefault("name", Path(source).stem if source else "space")
    return build(Space, merged, source=source, key=key)


def _inherit(
    document: dict[str, Any], source: str, folder: Path, key: str, seen: tuple[Path, ...]
) -> dict[str, Any]:
    """Lay `document` over what it extends; a parameter set to null is removed."""
    if "extends" not in document:
        return document
    parent_name = document.pop("extends")
    location = f"{key}.extends" if key else "extends"
    if not isinstance(parent_name, str):
        raise ConfigError(location, f"{parent_name!r} is not a name", "name one space", source)
    try:
        lists = own_command(*_LISTS)
        path = find_document("space", parent_name, LIBRARY, lists, folder, location).resolve()
    except ConfigError as error:
        raise error.inside(source=source) from None
    if path in seen:
        raise ConfigError(location, f"{parent_name!r} extends itself", "break the cycle", source)
    parent = _inherit(read_document(path), str(path), path.parent, "", (*seen, path))
    merged = {**parent, **document}
    merged["parameters"] = _merge_parameters(parent.get("parameters"), document.get("parameters"))
    if "name" not in document:
        merged["name"] = f"{parent.get('name', path.stem)}*"
    if "points" not in document:
        merged["points"] = _points_inside(merged)
    return merged


def _merge_parameters(parent: Any, child: Any) -> Any:
    """Merge a parameter's fields where the child keeps its type; replace it where it does not."""
    if not isinstance(child, dict) or not isinstance(parent, dict):
        return parent if child is None else child
    merged = dict(parent)
    for name, fields in child.items():
        if fields is None:
            merged.pop(name, None)
        elif isinstance(fields, dict) and isinstance(parent.get(name), dict):
            same_type = fields.get("type", parent[name].get("type")) == parent[name].get("type")
            merged[name] = {**parent[name], **fields} if same_type else fields
        else:
            merged[name] = fields
    return merged


def _points_inside(document: dict[str, Any]) -> list[Any]:
    """The inherited start points that still lie inside the narrower space."""
    points = document.pop("points", None) or []
    try:
        space = build(Space, document)
    except ConfigError:
        return []  # the real build, with its source, refuses it
    return [
        point
        for point in points
        if isinstance(point, dict)
        and all(n in space.parameters and space.parameters[n].contains(v) for n, v in point.items())
    ]
