"""The public names of a package, each as a directive of autodoc."""

from __future__ import annotations

import ast
import inspect
import typing
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from sphinx.pycode import ModuleAnalyzer

__all__ = ["public_names"]


def public_names(package: str) -> str:
    """Everything in the package's `__all__`, in its order, by the name that one imports."""
    module = import_module(package)
    homes = _homes(package)
    lines = ["```{eval-rst}", f".. py:module:: {package}", ""]
    for name in module.__all__:
        entry = getattr(module, name)
        if inspect.isclass(entry):
            lines += [f".. autoclass:: {package}.{name}", "   :members:", ""]
        elif inspect.isfunction(entry):
            lines += [f".. autofunction:: {package}.{name}", ""]
        else:
            lines += [f".. py:data:: {package}.{name}", ""]
            lines += [*_data(entry, name, homes.get(name)), ""]
    return "\n".join([*lines, "```"])


def _homes(package: str) -> dict[str, str]:
    """The module that a package takes each name from."""
    path = import_module(package).__file__ or ""
    tree = ast.parse(Path(path).read_text(encoding="utf-8"))
    return {
        alias.asname or alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }


def _data(value: object, name: str, home: str | None) -> Iterator[str]:
    """What its module says below it; the choices of a `Literal`, the keys of a table."""
    if home is not None:
        said = ModuleAnalyzer.for_module(home).find_attr_docs().get(("", name), [])
        text = " ".join(" ".join(said).split()).replace("`", "``")
        if text:
            yield f"   {text}"
            yield ""
    choices = typing.get_args(value) if typing.get_origin(value) is typing.Literal else ()
    rows = list(value) if isinstance(value, dict) else [c for c in choices if isinstance(c, str)]
    if rows and all(isinstance(row, str) for row in rows):
        yield f"   {', '.join(f'``{row}``' for row in rows)}."
