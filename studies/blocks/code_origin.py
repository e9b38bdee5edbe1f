"""What decides a network's numbers beside its configuration: the code that trains it, and the
versions of what that code rests on.

The code is known by its syntax trees, less docstrings: a comment, a docstring or a line break
changes nothing, anything else does. Every row of the members table carries the digest of its
origin, so that a network is only ever taken for another of the same origin, and whoever mixes two
is told.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import dynloss_core
from studies.blocks.provenance import version_of

__all__ = ["Origin", "here", "syntax_digest"]

_PACKAGES = ("torch", "numpy", "numba", "scikit-learn", "optuna")
_DIGITS = 12
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Origin:
    """Where networks come from.

    Args:
        files: digest of each source file, by its path from the package on.
        versions: the versions of the packages that decide numbers, by name.
    """

    files: Mapping[str, str]
    versions: Mapping[str, str]

    @property
    def digest(self) -> str:
        """Names the origin: twelve hexadecimal digits."""
        text = json.dumps([dict(self.files), dict(self.versions)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]

    def differences(self, now: Origin) -> list[str]:
        """What is not the same any more, a few words each."""
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
def here() -> Origin:
    """The origin of what this process trains, as its sources are when it is first asked for."""
    root = Path(dynloss_core.__file__).parent
    files = {
        path.relative_to(root.parent).as_posix(): syntax_digest(path.read_bytes())
        for path in sorted(root.rglob("*.py"))
    }
    return Origin(files, {name: version_of(name) for name in _PACKAGES})


def syntax_digest(source: bytes) -> str:
    """Names what a module does: twelve hexadecimal digits of its syntax tree, docstrings left out.

    Raises:
        SyntaxError: if it is not Python.
    """
    digest = hashlib.sha256()
    for word in _words(ast.parse(source)):
        digest.update(word.encode(errors="surrogatepass") + b"\0")
    return digest.hexdigest()[:_DIGITS]


def _words(value: Any) -> Iterator[str]:
    """A syntax tree in words. Empty fields are left out: each version of Python adds some."""
    if isinstance(value, ast.AST):
        yield f"({type(value).__name__}"
        body = isinstance(value, _DOCUMENTED) and ast.get_docstring(value, clean=False) is not None
        for name, field in ast.iter_fields(value):
            if field is not None and field != []:
                yield name
                yield from _words(field[1:] if body and name == "body" else field)
        yield ")"
    elif isinstance(value, list):
        for item in value:
            yield from _words(item)
        yield "]"
    else:
        yield f"{type(value).__name__} {value!r}"
