"""`block_size: auto` and `gpu: auto`: measured once, kept, and of no effect on any network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from dynloss_core import keys
from dynloss_core.config import ConfigError
from studies.blocks import block_probe
from studies.blocks.block_probe import Probe, ProbeResult, probed_on
from studies.blocks.block_size import Measured
from studies.cluster.backends import BACKENDS
from studies.cluster.capacity import parallel_blocks, shortages
from studies.definition.options import Resources
from studies.definition.study import Study
from studies.definition.study_files import load_study
from studies.runner.block_layout import Layout, laid_out, lay_out
from studies.runner.dry_run import cost_of
from studies.runner.run_study import RunResult, confirm_study, run_study
from studies.storage.study_folder import StudyFolder
from tests.studies.sessions import begun
from tests.studies.stopped import stopped_once_it_trains
from tests.studies.tiny import CONFIRM, MAP, tiny_study

GIB = 2**30
MEASURED: dict[str, Any] = {
    **MAP,
    "sampler": "sobol",
    "trials_per_arm": 16,
    "seeds_per_point": 2,
    "block_size": "auto",
    "backend": "inline",
    "storage": {"tracker": "none"},
}


@pytest.fixture(autouse=True)
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studies.report.study_results.draw_figures", lambda *_: ([], {}))


def auto(**changes: Any) -> Study:
    return tiny_study(**{**MEASURED, **changes})


def simulated(
    seconds: Callable[[int], float],
    memory: Callable[[int], int],
    available: float,
    *,
    networks: int = 10**6,
) -> Callable[[Study, Callable[[], Any]], list[ProbeResult]]:
    """A machine that measures nothing: a step takes so many seconds, and networks so many bytes."""

    def call(_: Study, task: Any) -> list[ProbeResult]:
        _, probes, _ = task.args
        results = []
        for probe in probes:
            counts = sorted({len(probe.seeds), len(probe.seeds) * probe.most})
            sizes = tuple(Measured(n, seconds(n), memory(n)) for n in counts if n <= networks)
            results.append(ProbeResult(sizes, available / probe.at_once, available, GIB))
        return results

    return call


def members_of(outcome: RunResult) -> pd.DataFrame:
    table = pd.read_parquet(outcome.folder.tables / "members.parquet")
    drop = [name for name in (*keys.MACHINE_COLUMNS, keys.BLOCK) if name in table]
    by = [keys.PHASE, keys.ARM, keys.TRIAL, keys.SEED]
    return table.drop(columns=drop).sort_values(by, ignore_index=True)


def sized(sizes: Mapping[str, int]) -> Callable[..., Layout]:
    """Lays out what was not measured."""
    return lambda study, *_: Layout(replace(study, block_sizes=dict(sizes)))


def test_a_run_measures_keeps_and_says_the_size(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = run_study(auto(), tmp_path)
    assert outcome.finished
    assert not outcome.failures
    folder = outcome.folder
    sizes = load_study(folder.definition).block_sizes
    assert set(sizes) == {"dynamical", "static"}
    assert all(1 <= size <= 8 for size in sizes.values()), "four blocks for one worker"
    blocks = [path.name for path in folder.parts.files("members")]
    assert len(blocks) == sum(-(-16 // size) for size in sizes.values())
    state = folder.state()
    assert state["layout"]["block_sizes"] == sizes
    assert state["layout"]["measured"]["static"]["sizes"][0]["networks"] == 2
    assert state["provenance"]["block_size.static"] == str(sizes["static"])
    said = capsys.readouterr().err
    assert "per block: per step and network, 2 networks" in said


def test_no_network_depends_on_its_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = []
    for size in (1, 5):
        chosen = sized({"dynamical": size, "static": size + 1})
        monkeypatch.setattr("studies.runner.block_layout.lay_out", chosen)
        tables.append(members_of(run_study(auto(), tmp_path / str(size), reuse=False)))
    pd.testing.assert_frame_equal(*tables, rtol=1e-6)


def test_a_study_that_was_interrupted_has_the_same_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = auto(budget={"total": 40_000, "static_tail": 0, "evaluate_every": 100})
    monkeypatch.setattr("studies.runner.block_layout.lay_out", sized({"dynamical": 7, "static": 5}))
    outcome = stopped_once_it_trains(study, tmp_path)
    assert not outcome.finished

    def measured_again(*_: Any) -> Layout:
        raise AssertionError("it was measured before")

    monkeypatch.setattr("studies.runner.block_layout.lay_out", measured_again)
    for source in (study, load_study(outcome.folder.definition)):
        other = replace(source, resources=Resources(cpu=1.5), backend="processes")
        assert StudyFolder.of(other, tmp_path).exists()
        stored = begun_again(other, tmp_path)
        assert stored.study.block_sizes == {"dynamical": 7, "static": 5}
        assert [len(block) for block in stored.study.trials_of("static").blocks] == [5, 5, 5, 1]


def begun_again(study: Study, out: Path) -> Any:
    from studies.storage.stored_study import StoredStudy

    stored = StoredStudy.begin(StudyFolder.of(study, out), study, resume=True)
    return stored.updated_from(study)


@pytest.mark.slow
def test_a_resumed_study_ends_as_one_that_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = auto(budget={"total": 2000, "static_tail": 0, "evaluate_every": 50})
    monkeypatch.setattr("studies.runner.block_layout.lay_out", sized({"dynamical": 8, "static": 8}))
    whole = run_study(study, tmp_path / "whole")
    stopped_once_it_trains(study, tmp_path / "parts")
    monkeypatch.setattr("studies.runner.block_layout.lay_out", sized({"dynamical": 1, "static": 1}))
    resumed = run_study(study, tmp_path / "parts", resume=True)
    assert resumed.finished
    pd.testing.assert_frame_equal(members_of(whole), members_of(resumed))


def test_one_killed_between_its_two_files_has_the_size(tmp_path: Path) -> None:
    """The sealed definition is written first."""
    stored = begun(auto(), tmp_path)
    before = stored.folder.definition.read_text()
    stored.with_definition(replace(stored.study, block_sizes={"dynamical": 3, "static": 3}))
    stored.folder.definition.write_text(before)
    assert begun_again(auto(), tmp_path).study.block_sizes == {"dynamical": 3, "static": 3}


def test_sizes_that_were_edited_are_refused(tmp_path: Path) -> None:
    stored = begun(auto(), tmp_path)
    stored.with_definition(replace(stored.study, block_sizes={"dynamical": 3, "static": 3}))
    file = stored.folder.definition
    file.write_text(file.read_text().replace("static: 3", "static: 4"))
    with pytest.raises(ConfigError, match=r"block_sizes\.static"):
        begun_again(auto(), tmp_path)


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"block_size": 2, "block_sizes": {"dynamical": 1, "static": 1}}, "given with block_size"),
        ({"block_sizes": {"dynamical": 1}}, "not each arm"),
        ({"block_sizes": {"dynamical": 1, "static": 0}}, "is below 1"),
        ({"block_size": "big"}, "expected an integer"),
        ({"resources": {"gpu": "all"}}, "expected a number"),
    ],
)
def test_what_is_refused(changes: dict[str, Any], refusal: str) -> None:
    with pytest.raises(ConfigError, match=refusal):
        auto(**changes)


def test_proposals_leave_rounds_to_learn_from() -> None:
    fast = simulated(lambda n: 1 / n, lambda n: n, GIB)
    study = auto(mode="optimize", sampler="tpe", trials_per_arm=60, parallel_blocks=2)
    assert lay_out(study, {"CPU": 1}, fast).study.block_sizes == {"dynamical": 3, "static": 3}
    few = auto(mode="optimize", sampler="tpe", trials_per_arm=6)
    assert lay_out(few, {"CPU": 1}, None).study.block_sizes == {"dynamical": 1, "static": 1}  # type: ignore[arg-type]


def test_a_block_that_cannot_be_measured_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> Any:
        raise RuntimeError("no such kernel")

    monkeypatch.setitem(BACKENDS, "inline", replace(BACKENDS["inline"], call=fails))
    with pytest.raises(ConfigError, match=r"auto cannot be measured: RuntimeError.*give a number"):
        run_study(auto(), tmp_path)
    assert not (tmp_path / "tiny").exists(), "nothing was begun"


class Scales:
    """A memory that reads what it is told."""

    def __init__(self, available: float) -> None:
        self._available, self.weighed = available, 0

    def begin(self) -> None:
        self.weighed += 1

    def peak(self) -> int:
        return 100 * self.weighed

    def available(self) -> float:
        return self._available

    def of_process(self) -> int:
        return 50


def test_a_probe_trains_the_problem_and_shares_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_probe, "_SECONDS", 0.01)
    scales = Scales(1000.0)
    result = probed_on(auto(), Probe("dynamical", (0, 1), 9, 2), scales)
    assert result.memory == (1000 - 50) / 2, "the other process takes its own"
    assert [size.networks for size in result.sizes] == [2, 6, 16]
    assert [size.memory for size in result.sizes] == [100, 200, 300]
    assert all(0 < size.seconds < 1 for size in result.sizes)


def test_a_probe_ends_where_memory_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_probe, "_SECONDS", 0.01)
    built = block_probe.Setup.build

    def build(problem: Any, members: Any) -> Any:
        if len(members) > 6:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return built(problem, members)

    monkeypatch.setattr(block_probe.Setup, "build", build)
    result = probed_on(auto(), Probe("dynamical", (0, 1), 9, 1), Scales(1e9))
    assert [size.networks for size in result.sizes] == [2, 6]


ON_GPU: dict[str, Any] = {"resources": {"cpu": 1, "gpu": "auto"}, "backend": "ray"}
CLUSTER = {"CPU": 64.0, "GPU": 4.0, "node:CPU": 32.0, "node:GPU": 2.0}


def test_as_many_blocks_share_a_gpu_as_it_holds() -> None:
    study = auto(**ON_GPU, trials_per_arm=128)
    assert study.device == "cuda"
    assert not list(shortages(study, CLUSTER)), "a whole GPU, until it is measured"
    call = simulated(lambda n: 1e-3 / n, lambda n: n * GIB // 8, 20 * GIB)
    layout = lay_out(study, CLUSTER, call)
    assert layout.study.block_sizes == {"dynamical": 16, "static": 16}, "16 blocks on 4 GPUs"
    assert layout.study.resources.gpu == pytest.approx(1 / 4), "5 GiB each, its context included"
    assert parallel_blocks(layout.study, CLUSTER) == 16
    assert "4 blocks share a GPU" in list(layout.lines())


@pytest.mark.parametrize(
    ("available", "cpus", "trials", "blocks"),
    [(1000.0, 64.0, 128, 4), (1000.0, 12.0, 128, 3), (1000.0, 64.0, 2, 1), (2.5, 64.0, 128, 2)],
)
def test_what_limits_the_blocks_of_a_gpu(
    available: float, cpus: float, trials: int, blocks: int
) -> None:
    """Blocks, CPUs, blocks again, memory."""
    study = auto(**ON_GPU, trials_per_arm=trials)
    capacity = {"CPU": cpus, "GPU": 4.0}
    call = simulated(lambda n: 1e-3 / n, lambda n: GIB // 8, available * GIB)
    assert 1 / lay_out(study, capacity, call).study.resources.gpus == blocks


def test_fresh_seeds_fit_too() -> None:
    study = tiny_study(
        **CONFIRM,
        winners={
            "dynamical": {"period": 500, "amplitude": 2.0, "learning_rate": 0.1},
            "static": {"learning_rate": 0.1},
        },
        confirm_seeds=40,
        resources={"gpu": "auto"},
    )
    call = simulated(lambda n: 1e-3, lambda n: n * GIB // 10, 18 * GIB)
    layout = lay_out(study, {"CPU": 64.0, "GPU": 1.0}, call)
    assert layout.study.block_sizes == {}
    assert layout.study.resources.gpus == pytest.approx(1 / 2), "two arms"
    tight = lay_out(replace(study, confirm_seeds=100), {"CPU": 64.0, "GPU": 1.0}, call)
    assert tight.study.resources.gpus == 1.0


def test_how_many_share_a_gpu_is_kept_and_changes_no_definition(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = auto(**ON_GPU, block_size=2)
    call = simulated(lambda n: 1e-3, lambda n: GIB, 100 * GIB)
    monkeypatch.setitem(BACKENDS, "ray", replace(BACKENDS["ray"], call=call))
    stored = begun(study, tmp_path)
    first = laid_out(stored, CLUSTER)
    assert first.study.resources.gpu == 1 / 4
    assert first.study.hash == study.hash
    again = begun_again(study, tmp_path)
    assert again.study.resources.gpu == "auto"
    monkeypatch.setitem(BACKENDS, "ray", replace(BACKENDS["ray"], call=None))  # type: ignore[arg-type]
    assert laid_out(again, CLUSTER).study.resources.gpu == 1 / 4


@pytest.mark.parametrize(
    ("gpu", "gpus", "blocks"),
    [(0.4, 2, 4), (1 / 3, 2, 6), (0.5, 3, 6), (1, 3, 3), (2, 5, 2), (0.1, 1, 10)],
)
def test_a_block_lies_on_one_gpu(gpu: float, gpus: int, blocks: int) -> None:
    study = tiny_study(resources={"cpu": 0, "gpu": gpu})
    assert parallel_blocks(study, {"GPU": float(gpus)}) == blocks


def test_an_estimate_measures_the_size_of_blocks() -> None:
    cost = cost_of(auto(), {"CPU": 1.0})
    assert 4 <= cost.blocks <= 32
    assert "per block: per step and network" in cost.layout[0]
    assert cost_of(auto(block_size=2), {"CPU": 1.0}).layout == ()


def test_an_estimate_without_the_gpu_says_that_nothing_was_measured() -> None:
    cost = cost_of(auto(**ON_GPU, trials_per_arm=64), {"CPU": 64.0, "GPU": 4.0})
    assert cost.blocks == 16, "as few as keep four GPUs at work"
    assert cost.layout[0].startswith("measured where the study starts")


def test_an_estimate_knows_what_blocks_on_one_gpu_cost_each_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A device that is full with one block trains four no faster."""
    own = {**MAP, "sampler": "sobol", "trials_per_arm": 64, "block_size": 1}
    study = tiny_study(**own, resources={"cpu": 1, "gpu": 0.25})
    capacity = {"CPU": 64.0, "GPU": 2.0}

    def estimate(per_block: Callable[[int], float], gpu: float) -> float:
        monkeypatch.setattr("studies.runner.dry_run._device", lambda _: "cuda")
        monkeypatch.setattr("studies.runner.dry_run._engine", lambda *_: SimulatedEngine)
        monkeypatch.setattr(
            "studies.runner.dry_run._calibrate",
            lambda study, arm, point, blocks=1: per_block(blocks),
        )
        shared = replace(study, resources=Resources(cpu=1, gpu=gpu))
        cost = cost_of(shared, capacity)
        assert cost.seconds is not None
        trained = cost.members * cost.steps * per_block(1) / 1e6
        start = BACKENDS["ray"].seconds_to_start
        return (cost.seconds - start - cost.blocks / cost.parallel) / trained

    full, idle = (lambda _: 1e6), (lambda blocks: 1e6 / blocks)
    assert estimate(full, 1) == pytest.approx(1 / 2)
    assert estimate(full, 0.25) == pytest.approx(1 / 2), "two GPUs, however they are shared"
    assert estimate(idle, 0.25) == pytest.approx(1 / 8)


class SimulatedEngine:
    name = "simulated"


def test_a_confirmation_of_a_measured_study_goes_on(tmp_path: Path) -> None:
    folder = run_study(auto(trials_per_arm=8), tmp_path).folder
    outcome = confirm_study(folder, seeds=2)
    assert outcome.finished
