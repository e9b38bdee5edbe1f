"""Machine code cached on disk: compiled once on a machine, and loaded from then on.

Numba caches the code of a function beside its source, but finds it again only if everything the
function refers to has a lasting name. Our kernels are closures over pieces that are made anew in
every process. So the key is ours: the sources of this folder, and what the kernel was made for.

Pieces are inlined by force. A kernel holds its own copies of the pieces that it calls, but where
it is compiled it is linked to them as they were compiled before, by themselves. A process that
loads it has the copies alone, and sums in whatever order (`fastmath`) then end in other bits.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import FunctionCache

__all__ = ["cached_kernel", "piece"]

piece = partial(numba.njit, nogil=True, error_model="numpy", forceinline=True)
"""The decorator of a function that a cached kernel calls; it takes further options of numba's."""


class _KeyedCache(FunctionCache):
    """Numba's cache files under our own key, which it takes from `_index_key`; none of it is
    public."""

    def __init__(self, function: Callable[..., Any], key: str) -> None:
        super().__init__(function)  # type: ignore[no-untyped-call]
        self._key = key

    def _index_key(self, sig: Any, codegen: Any) -> tuple[Any, ...]:
        return (sig, codegen.magic_tuple(), self._key)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)  # type: ignore[no-untyped-call]
        except Exception:  # a damaged file, of whatever kind: compile
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        with suppress(OSError):  # a full disk: the next process compiles too
            super().save_overload(sig, data)  # type: ignore[no-untyped-call]


def cached_kernel(kernel: Any, *made_for: object) -> Any:
    """The kernel, compiled only if no earlier process has compiled the same one.

    Args:
        kernel: what `numba.njit` made.
        made_for: everything that decides its code, other than the sources of this folder and the
            types it is called with; each with a `repr` that tells it apart.
    """
    try:
        kept = _KeyedCache(kernel.py_func, f"{_sources()} {made_for!r}")
    except RuntimeError:  # there is no folder to write to
        return kernel
    kernel._cache = kept  # what `cache=True` sets
    return kernel


@cache
def _sources() -> str:
    """Digest of this folder's sources."""
    digest = sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()
