"""The order of packages and folders: `LEVELS` of the test that enforces it."""

from __future__ import annotations

import ast
from pathlib import Path

__all__ = ["levels"]

_ROOT = Path(__file__).parents[2]
_TEST = _ROOT / "tests" / "core" / "test_layers.py"


def levels() -> str:
    """A section per package, lowest level first, each with the first line of its docstring."""
    parts = []
    for package, names in _constant("LEVELS").items():
        parts.append(f"## `{package}`\n")
        lacking = _constant("FOREIGN").get(package)
        if lacking:
            without = ", ".join(f"`{name}`" for name in sorted(lacking))
            parts.append(f"It does without {without}.\n")
        for number, name in enumerate(names, start=1):
            summary = _summary(f"{package}.{name}")
            parts.append(f"{number}. `{name}`" + (f": {summary}" if summary else ""))
        parts.append("")
    return "\n".join(parts)


def _constant(name: str) -> dict[str, list[str]]:
    """A literal of the test's module, which is read and not imported."""
    for node in ast.parse(_TEST.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            found: dict[str, list[str]] = ast.literal_eval(node.value)
            return found
    raise LookupError(f"{_TEST} has no {name}")


def _summary(module: str) -> str:
    """The first sentence of a module's docstring; nothing for a folder without code."""
    path = _ROOT.joinpath(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    if not file.exists():
        return ""
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return " ".join(text.partition("\n\n")[0].split())
