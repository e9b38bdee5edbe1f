"""What an engine is, in a few words."""

from __future__ import annotations

import pytest

from dynloss_core.training import ENGINES


@pytest.mark.parametrize("name", ENGINES)
def test_every_engine_says_what_it_is_in_three_to_six_words(name: str) -> None:
    for engine in ENGINES[name]:
        assert 3 <= len(engine.summary.split()) <= 6
