from __future__ import annotations

from pathlib import Path

import pytest

from dynloss_core.config import ConfigError, build, to_dict
from dynloss_core.training import Augmentation, ConvnetEngine, choose_engine
from search_spaces.documents import read_document
from studies.definition.study import Study
from studies.definition.study_files import LIBRARY, load_study
from tests.studies.tiny import TINY


@pytest.mark.parametrize("path", sorted(LIBRARY.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_study_and_profile_loads_under_its_own_name(path: Path) -> None:
    profiles = read_document(path).get("profiles", {})
    for profile in (None, *profiles):
        study = load_study(path.stem, profile=profile)
        assert study.name == (path.stem if profile is None else f"{path.stem}_{profile}")
        assert study.description
        assert study.members() > 0
        assert build(Study, to_dict(study)).hash == study.hash
    if "reduced" in profiles:
        assert profiles["reduced"]["description"].startswith("Reduced:")


def test_overrides_reach_into_files_and_spaces(tiny: Path) -> None:
    study = load_study(
        tiny,
        ["budget.total=90", "space.parameters.period.high=5000", "storage.experiment=mine",
         "training.learning_rate_schedule.warmup=0.1"],
    )  # fmt: skip
    assert study.problem("dynamical").steps == 90
    assert study.space.parameters["period"].bounds == (200, 5000)  # type: ignore[union-attr]
    assert study.storage.experiment == "mine"
    assert study.training.learning_rate_schedule.warmup == 0.1


def test_hash_ignores_what_cannot_change_a_result(tiny: Path) -> None:
    study = load_study(tiny)
    for same in (
        "description=x",
        "storage.experiment=x",
        "resources.cpu=2",
        "space.description=x",
        "space.name=x",
        "space.parameters.period.description=x",
    ):
        changed = load_study(tiny, [same])
        assert changed.hash == study.hash
        assert changed != study
    for other in (
        "seed=1",
        "budget.total=61",
        "parallel_blocks=3",
        "space.parameters.period.low=300",
        "space.points=[]",
    ):
        assert load_study(tiny, [other]).hash != study.hash


def test_both_arms_share_seeds_and_fresh_ones_are_fresh(tiny: Path) -> None:
    study, other = load_study(tiny), load_study(tiny, ["seed=1"])
    seeds = [
        *study.seeds.search,
        *study.seeds.fresh,
        *other.seeds.search,
        *other.seeds.fresh,
    ]
    assert len(set(seeds)) == len(seeds)


def test_epochs_become_steps(tiny: Path) -> None:
    study = load_study(
        tiny,
        ["budget.unit=epochs", "budget.total=12", "budget.static_tail=2", "budget.evaluate_every=3",
         "training.batch_size=7", "space.parameters.period.unit=epochs",
         "space.parameters.period.low=2"],
    )  # fmt: skip
    problem = study.problem("dynamical")
    assert (problem.steps, problem.static_tail, problem.evaluate_every) == (48, 8, 12)
    point = {"period": 5, "amplitude": 2.0, "learning_rate": 0.1}
    assert study.member(point, 0, problem).period == 20


def test_dotted_parameters_change_the_problem(tiny: Path) -> None:
    width = "space.parameters={model.width: {type: int, low: 3, high: 9}}"
    study = load_study(tiny, ["space.extends=spirals-mlp", width])
    assert study.problem("dynamical", {"model.width": 4}).model.width == 4
    assert "model.width" in study.arm_space("static").parameters


IMAGES = ["data=digits", "model={name: wide_resnet, depth: 10, widening: 1}"]


def test_augmentation_and_precision_reach_the_problem(tiny: Path) -> None:
    flip = "space.parameters={training.augmentation.flip: {type: choice, values: [true, false]}}"
    study = load_study(
        tiny,
        [*IMAGES, "space.extends=spirals-mlp", flip, "training.augmentation.crop=2",
         "training.dtype=bfloat16", "training.batch_size=64"],
    )  # fmt: skip
    problem = study.problem("dynamical", {"training.augmentation.flip": True})
    assert problem.augmentation == Augmentation(crop=2, flip=True)
    assert problem.dtype == "bfloat16"
    assert choose_engine(problem, study.engine) is ConvnetEngine


def test_refuses_images_that_are_too_small_and_curvature_of_nothing(tiny: Path) -> None:
    with pytest.raises(ConfigError, match=r"training.augmentation.crop: 8 pixels for images of 8"):
        load_study(tiny, [*IMAGES, "training.augmentation.crop=8"])
    for wrong, message in (
        ("{curvature_every: 20, curvature_samples: 1}", "record.curvature_samples: 1 is below 2"),
        ("{curvature_every: 20, trace_probes: 1}", "record.trace_probes: 1 is below 2"),
        ("{trace_probes: 4}", "record.trace_probes: .* curvature_every is off"),
    ):
        with pytest.raises(ConfigError, match=message):
            load_study(tiny, [*IMAGES, f"record={wrong}"])
    recorded = load_study(tiny, [*IMAGES, "record={curvature_every: 20, curvature_samples: 64}"])
    assert recorded.record is not None


def test_a_map_is_a_grid_or_a_sobol_design_in_each_arm(tiny: Path) -> None:
    grid = "grid={period: 3, amplitude: 2, learning_rate: 2}"
    study = load_study(tiny, ["mode=map", "trials_per_arm=null", grid])
    assert study.trials_of("dynamical").count == 12
    assert study.trials_of("static").count == 2, "the static arm has no period and no amplitude"
    dynamical = {point["learning_rate"] for point in study.trials_of("dynamical").design or []}
    assert dynamical == {point["learning_rate"] for point in study.trials_of("static").design or []}
    assert not study.confirms()
    sobol = load_study(tiny, ["mode=map", "sampler=sobol"])
    assert [len(sobol.trials_of(arm).design or []) for arm in sobol.arms] == [6, 6]


BAD = [
    ("trials_per_arm: 6", "trials_per_arn: 6", "trials_per_arn: unknown key; did you mean"),
    ("name: tiny", "name: tiny\nname: tiny", "name: duplicate key on line 3"),
    ("name: tiny", "name: ../tiny", "name: '../tiny' cannot name a folder"),
    ("name: tiny", "name: 7", "name: expected text, got 7"),
    ("total: 60", "total: sixty", "budget.total: expected an integer, got 'sixty'"),
    ("total: 60", "total: '60'", "budget.total: '60' is text, not a number; write 60 without quotes"),
    ("total: 60", "total: 0", "budget.total: 0 is below 1"),
    ("static_tail: 20", "static_tail: 61", "budget.static_tail: 61 is not within the run"),
    ("evaluate_every: 20", "evaluate_every: 0", "budget.evaluate_every: 0 is below 1"),
    ("width: 6", "width: 0", "model.width: 0 is below 1"),
    ("name: mlp", "name: cnn", "model.name: 'cnn' is not one of the choices"),
    ("name: spirals,", "name: spiral,", "data.name: 'spiral' is not one of the choices"),
    ("mode: optimize", "mode: optimise", "mode: 'optimise' is not one of the choices; did you mean 'optimize'"),
    ("mode: optimize", "mode: map", "grid: missing"),
    ("mode: optimize", "mode: confirm", "winners: missing"),
    ("mode: optimize", "mode: optimize\nsampler: grid", "sampler: 'grid' in mode optimize; use tpe"),
    ("mode: optimize", "mode: optimize\ngrid: {period: 2}", "grid: given with sampler tpe"),
    ("trials_per_arm: 6\n", "", "trials_per_arm: missing"),
    ("trials_per_arm: 6", "trials_per_arm: 0", "trials_per_arm: 0 < 1"),
    ("block_size: 2", "block_size: 0", "block_size: 0 is below 1"),
    ("confirm_seeds: 3", "confirm_seeds: 1", "confirm_seeds: 1 is below 2"),
    ("space: spirals-mlp", "space: spiral-mlp", "space: no space 'spiral-mlp'"),
    ("space: spirals-mlp", "space: {extends: spirals-mlp, parameters: {amplitude: {low: 0.5}}}",
     "space.parameters.amplitude.low: 0.5 is below 1"),
    ("space: spirals-mlp", "space: {extends: spirals-mlp, parameters: {learning_rate: null}}",
     "space.parameters.learning_rate: missing"),
    ("space: spirals-mlp",
     "space: {extends: spirals-mlp, parameters: {model.widht: {type: const, value: 3}}}",
     "model.widht: unknown key; did you mean 'width'?"),
    ("space: spirals-mlp",
     "space: {extends: spirals-mlp, parameters: {foo.bar: {type: const, value: 3}}}",
     "foo.bar: names nothing"),
    ("resources: {cpu: 1}", "resources: {cpu: -1}", "resources.cpu: -1.0 is negative"),
    ("resources: {cpu: 1}", "arms: []", "arms: []"),
    ("resources: {cpu: 1}", "arms: [static, static]", "list dynamical, static, or both, once"),
    ("resources: {cpu: 1}", "engine: fast", "engine: 'fast' is not one of the choices"),
    ("resources: {cpu: 1}", "training: {batch_size: -2}", "training.batch_size: -2 is below 1"),
    ("resources: {cpu: 1}", "training: {augmentation: {flip: true}}",
     "training.augmentation: spirals are not images"),
    ("resources: {cpu: 1}", "training: {dtype: bfloat}", "did you mean 'bfloat16'"),
    ("resources: {cpu: 1}", "training: {batch_size: 99}", "training.batch_size: 99 exceeds the 30"),
    ("space: spirals-mlp",
     "space: {extends: spirals-mlp, parameters: {model.width: {type: choice, values: [5, 0, 9]}}}",
     "model.width: 0 is below 1"),
    ("space: spirals-mlp",
     "space: {extends: spirals-mlp, parameters: {model.width: {type: float, low: 2, high: 9}}}",
     "model.width: expected an integer, got"),
    ("space: spirals-mlp", "space: {extends: spirals-mlp, baseline: {fix: {amplitude: 20.0}}}",
     "space.baseline: does not make 'static' a static arm"),
    ("space: spirals-mlp", "space: {extends: spirals-mlp, parameters: {amplitude: null}}",
     "space.parameters.amplitude: missing"),
    ("space: spirals-mlp",
     "space: {extends: spirals-mlp, parameters: {period: {type: float, unit: epochs, low: 0.1, high: 1}}}",
     "period: 0 is below 2"),
    ("space: spirals-mlp",
     "space: {extends: spirals-mlp, parameters: {model.width: {type: int, low: 2, high: 9, role: scientific}}}",
     "space.parameters.model.width.role: 'scientific'"),
    ("name: spirals, points_per_class: 10", "name: digits, test: 0.001", "data.test: fractions 0.2 and 0.001 leave too small a split"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "message"), BAD, ids=[bad[2][:50] for bad in BAD])
def test_a_bad_study_is_refused_in_one_line(
    old: str, new: str, message: str, tmp_path: Path
) -> None:
    assert old in TINY
    file = tmp_path / "bad.yaml"
    file.write_text(TINY.replace(old, new))
    with pytest.raises(ConfigError) as refusal:
        load_study(file)
    text = str(refusal.value)
    assert message in text
    assert text.startswith(str(file))
    assert "\n" not in text


@pytest.mark.parametrize("override", ["x", "=3", "name.x=3", "budget.total='1e4'", "a: b"])
def test_an_override_that_is_not_key_and_value_is_refused(tiny: Path, override: str) -> None:
    with pytest.raises(ConfigError):
        load_study(tiny, [override])
