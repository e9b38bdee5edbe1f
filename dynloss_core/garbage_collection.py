"""Python's garbage collection, which is made for programs smaller than a study."""

from __future__ import annotations

import gc

__all__ = ["collect_rarely"]

_OBJECTS = 10_000


def collect_rarely() -> None:
    """Let Python search for garbage each time 10,000 objects more are alive, not 700, which is for
    small programs: the imports and figures of a study make a million objects that stay, and
    searching them so often takes a sixth of the time of `dynloss analyse`."""
    gc.set_threshold(_OBJECTS)
