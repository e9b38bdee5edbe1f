"""The size of blocks, chosen from what a simulated device measures."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from studies.blocks.block_size import (
    Measured,
    blocks_per_gpu,
    evened,
    largest_fast,
    measure_sizes,
    memory_of,
    most_points,
    seconds_beside_others,
)

counts = st.integers(1, 500)
seconds = st.floats(1e-7, 1.0)
tables = st.lists(
    st.builds(Measured, networks=counts, seconds=seconds, memory=st.integers(0, 10**6)),
    min_size=1,
    max_size=4,
    unique_by=lambda size: size.networks,
)


def device(
    base: int, per_network: int, overhead: float, each: float, tried: list[int], limit: float
) -> Callable[[int], Measured | None]:
    """A device with a memory of its own, whose step takes the same time however many networks it
    trains, and a little for each."""

    def cost_of(networks: int) -> Measured | None:
        tried.append(networks)
        memory = base + per_network * networks
        if memory > limit:
            return None
        return Measured(networks, overhead / networks + each, memory)

    return cost_of


@given(measured=tables, memory=st.integers(0, 10**6))
def test_the_largest_that_fits_and_is_about_as_fast_as_any(
    measured: list[Measured], memory: int
) -> None:
    chosen = largest_fast(measured, memory)
    fitting = [size for size in measured if size.memory <= memory]
    assert (chosen is None) == (not fitting)
    if chosen is None:
        return
    limit = 1.1 * min(size.seconds for size in fitting)
    assert chosen in fitting
    assert chosen.seconds <= limit
    larger = [size for size in fitting if size.networks > chosen.networks]
    assert all(size.seconds > limit for size in larger)


@given(
    base=st.integers(0, 10**6),
    per_network=st.integers(0, 10**5),
    seeds=st.integers(1, 8),
    most=counts,
    memory=st.integers(0, 10**7),
)
def test_no_size_is_tried_that_is_known_not_to_fit(
    base: int, per_network: int, seeds: int, most: int, memory: int
) -> None:
    tried: list[int] = []
    cost_of = device(base, per_network, 1e-3, 1e-6, tried, limit=float("inf"))
    measured = measure_sizes(cost_of, seeds, most, memory)
    assert tried[0] == seeds, "one point, whatever it takes"
    assert tried == sorted(set(tried))
    assert len(tried) <= 3
    assert all(size % seeds == 0 and size <= most * seeds for size in tried)
    assert all(base + per_network * size <= memory for size in tried[1:])
    chosen = largest_fast(measured, memory)
    if chosen is None:
        assert base + per_network * seeds > memory
    elif base + per_network * seeds * most <= memory / 3:
        assert tried[-1] == most * seeds, "the largest that may be"


def test_memory_that_ends_too_early_ends_the_probe() -> None:
    tried: list[int] = []
    cost_of = device(0, 1, 1e-3, 0.0, tried, limit=50)
    assert [size.networks for size in measure_sizes(cost_of, 1, 400, 10**9)] == [1, 20]
    assert tried == [1, 20, 400]


@given(
    trials=counts,
    others=st.integers(0, 500),
    workers=st.integers(1, 64),
    waves=st.integers(1, 8),
    waits=st.booleans(),
)
def test_blocks_are_left_for_all(
    trials: int, others: int, workers: int, waves: int, waits: bool
) -> None:
    in_all = trials + others
    most = most_points(trials, in_all, workers, waves, waits=waits)
    assert 1 <= most <= trials
    if most > 1:
        assert in_all / most >= 4 * workers
        assert not waits or trials / most >= 10 * waves
    size = evened(most, trials)
    assert 1 <= size <= most
    assert -(-trials // size) == -(-trials // most), "as many blocks"


@given(measured=tables, networks=counts, more=counts)
def test_memory_grows_with_networks_and_is_what_was_measured(
    measured: list[Measured], networks: int, more: int
) -> None:
    rising = [
        Measured(size.networks, size.seconds, 1000 + 7 * size.networks)
        for size in sorted(measured, key=lambda size: size.networks)
    ]
    for size in rising:
        assert memory_of(rising, size.networks) == size.memory
    assert memory_of(rising, networks) <= memory_of(rising, networks + more)
    if len(rising) > 1:
        assert abs(memory_of(rising, networks) - (1000 + 7 * networks)) < 1e-6


@given(memory=st.floats(0, 1e12), available=st.floats(0, 1e12), most=st.integers(0, 100))
def test_blocks_that_share_a_gpu_fit_into_it(memory: float, available: float, most: int) -> None:
    blocks = blocks_per_gpu(memory, available, most)
    assert 1 <= blocks <= 8
    if blocks > 1:
        assert blocks <= most
        assert blocks * memory <= available * (1 + 1e-9)


@given(alone=seconds, together=seconds, blocks=st.integers(1, 8))
def test_blocks_on_one_gpu_are_no_faster_than_alone_nor_slower_than_in_turn(
    alone: float, together: float, blocks: int
) -> None:
    beside = seconds_beside_others(alone, together, blocks)
    assert alone <= beside <= blocks * alone * (1 + 1e-9)


def test_a_gpu_that_one_block_fills_is_no_faster_with_four() -> None:
    assert seconds_beside_others(1.0, 1.0, 4) == 4.0
    assert seconds_beside_others(1.0, 0.25, 4) == 1.0
