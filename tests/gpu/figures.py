"""What a step has measured so far, kept at once: a step that is stopped loses nothing."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from dynloss_core.atomic import write_atomically

__all__ = ["Figures", "options"]


class Figures:
    """Figures by name, and lines for whoever watches.

    Args:
        path: JSON, written again at each `add`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines: list[str] = []
        self._figures: dict[str, Any] = {}

    def add(self, line: str | None = None, **figures: Any) -> None:
        """Keep figures, replacing those of the same name, and say a line about them."""
        self._figures |= figures
        if line is not None:
            self._lines.append(line)
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()
        content = {"lines": self._lines, "figures": self._figures}
        write_atomically(self._path, json.dumps(content, indent=1) + "\n")


def options(description: str | None) -> argparse.ArgumentParser:
    """The arguments of every step that measures."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--figures", type=Path, required=True, help="where to keep them, JSON")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--tiny", action="store_true", help="sizes for a test of this program")
    return parser
