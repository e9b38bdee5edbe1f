"""What a network's numbers depend on beside its configuration: the code that trains it, and the
versions of the packages underneath.

Code is identified by its syntax trees without docstrings: editing a comment, a docstring or a line
break changes nothing, anything else does. Every row of the members table carries the digest of its
origin, so that a network only ever stands in for one of the same origin, and whoever mixes origins
is told.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import dynloss_core
from studies.blocks.provenance import version_of

__all__ = ["Origin", "current_origin", "syntax_digest"]

_PACKAGES = ("torch", "numpy", "numba", "scikit-learn", "optuna")
_DIGITS = 12


@dataclass(frozen=True)
class Origin:
    """The code and the versions that networks are trained with.

    Args:
        files: digest of each source file, by its path from the package on.
        versions: versions of the packages that the numbers depend on, by name.
    """

    files: Mapping[str, str]
    versions: Mapping[str, str]

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits that identify the origin."""
        text = json.dumps([dict(self.files), dict(self.versions)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]

    def differences(self, now: Origin) -> list[str]:
        """What has changed since, in a few words each."""
        changed = [
            f"{name} {self.versions.get(name, 'unknown')} then, {now.versions[name]} now"
            for name in now.versions
            if self.versions.get(name) != now.versions[name]
        ]
        for path in sorted({*self.files, *now.files}):
            if path not in now.files:
                changed.append(f"{path} is gone")
            elif path not in self.files:
                changed.append(f"{path} is new")
            elif self.files[path] != now.files[path]:
                changed.append(f"{path} differs")
        return changed


@cache
def current_origin() -> Origin:
    """The origin of what this process trains, from its sources when first called."""
    root = Path(dynloss_core.__file__).parent
    files = {
        path.relative_to(root.parent).as_posix(): syntax_digest(path.read_bytes())
        for path in sorted(root.rglob("*.py"))
    }
    return Origin(files, {name: version_of(name) for name in _PACKAGES})


def syntax_digest(source: bytes) -> str:
    """Twelve hexadecimal digits that identify a module's syntax tree, docstrings left out.

    Raises:
        SyntaxError: if it is not Python.
    """
    words: list[str] = []
    _add_words(ast.parse(source), words)
    text = "".join(f"{word}\0" for word in words)
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:_DIGITS]


def _add_words(value: Any, words: list[str]) -> None:
    """Add a syntax tree as words. Empty fields are left out: new versions of Python add some."""
    if isinstance(value, ast.AST):
        words.append(f"({type(value).__name__}")
        for name in value._fields:
            field = getattr(value, name, None)
            if field is not None and field != []:
                words.append(name)
                _add_words(field, words)
        words.append(")")
    elif isinstance(value, list):
        for item in value:
            if not _is_documentation(item):
                _add_words(item, words)
        words.append("]")
    else:
        words.append(f"{type(value).__name__} {value!r}")


def _is_documentation(item: Any) -> bool:
    """Whether a statement is a text alone: of a module, class or function, or of a name."""
    is_constant = isinstance(item, ast.Expr) and isinstance(item.value, ast.Constant)
    return is_constant and isinstance(item.value.value, str)
