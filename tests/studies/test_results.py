"""The committed results are what their members tables give."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from search_spaces.documents import read_document
from studies.analysis.analyses import ANALYSES
from studies.analysis.landscape.equal_loss import value_at_loss
from studies.analysis.study_tables import Tables
from studies.definition.study_files import study_from_mapping
from studies.report.study_question import question_of

RESULTS = Path(__file__).parents[2] / "studies" / "results"
FOLDERS = sorted(path.parent for path in RESULTS.glob("*/members.parquet"))
OF_MEMBERS = ("verdicts", "searches", "ladder", "regimes", "gain maps")
"""Analyses that rest on the members table alone."""
OF_ONE_SEARCH = {"spirals_controls_one_search"}
"""Whose plan is one search of many points and seeds: each of its sentences is of two winners."""


def files_of(folder: Path) -> Iterator[tuple[str, pd.DataFrame]]:
    document = read_document(folder / "study.yaml")
    study = study_from_mapping(document, source=folder.name, folder=folder, recorded=True)
    members = pd.read_parquet(folder / "members.parquet")
    tables = Tables.of(members, pd.DataFrame(), question_of(study, members), {})
    for name in OF_MEMBERS:
        for card in ANALYSES[name](tables):
            yield from card.files.items()


@pytest.mark.parametrize(
    "path", sorted(RESULTS.glob("*/summary.json")), ids=lambda p: p.parent.name
)
def test_a_verdict_is_of_five_searches_and_can_be_recomputed(path: Path) -> None:
    assert (path.parent / "members.parquet").exists()
    summary = json.loads(path.read_text(encoding="utf-8"))
    claims = [one for one in summary["verdicts"] if one["test"]["outcome"] != "undecided"]
    if path.parent.name in OF_ONE_SEARCH:
        said = [finding for finding in summary["findings"] if "fresh seeds of" in finding]
        assert said
        assert all("of these two winners" in finding for finding in said)
    elif claims:
        assert read_document(path.parent / "study.yaml")["searches"] >= 5


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_over_sizes_nothing_is_claimed_that_its_verdict_leaves_open(folder: Path) -> None:
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    several = {(one.get("arm"), one.get("reference")) for one in summary["verdicts"]}
    for name, rows in summary["regimes"].items():
        parameter, _, pair = name.partition(", ")
        arms = tuple(pair.split(" against ")) if len(several) > 1 else (None, None)
        outcomes = {
            one["setting"][parameter]: one["test"]["outcome"]
            for one in summary["verdicts"]
            if (one.get("arm"), one.get("reference")) == arms
        }
        for row in rows:
            if row["metric"] == "test_accuracy":
                assert row["outcome"] == outcomes[row[parameter]], (name, row[parameter])


@pytest.mark.slow
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_its_tables_are_those_of_its_members(folder: Path) -> None:
    made = dict(files_of(folder))
    for path in sorted(folder.glob("*.csv")):
        if path.name in made:
            written = io.StringIO(made[path.name].to_csv(index=False))
            pd.testing.assert_frame_equal(pd.read_csv(path), pd.read_csv(written), rtol=1e-9)


def test_the_wide_resnet_is_as_much_sharper_as_the_pages_say() -> None:
    """The ratio of eigenvalues at equal training loss, from the two studies' curves."""
    wide, myrtle5 = (
        static_runs(RESULTS / name)
        for name in ("wrn_conditioning_reduced", "wrn_conditioning_reduced_myrtle5")
    )
    table = pd.read_csv(RESULTS / "wrn_conditioning_reduced" / "equal_loss.csv")
    assert set(table["seed"]) == wide.keys() == myrtle5.keys()
    for row in table.itertuples():
        pair = wide[row.seed], myrtle5[row.seed]
        loss = max(run["train_loss"].iloc[-1] for run in pair)
        values = [value_at_loss(loss, run, "hessian_lambda_max") for run in pair]
        assert (row.train_loss, row.wide_resnet, row.myrtle5) == pytest.approx(
            (loss, *values), 1e-5
        )
    logs = np.log(table["wide_resnet"] / table["myrtle5"])
    low, high = stats.t.interval(0.95, len(logs) - 1, logs.mean(), stats.sem(logs))
    said = f"{np.exp(logs.mean()):.1f} [{np.exp(low):.1f}, {np.exp(high):.1f}] times"
    pages = RESULTS.parents[1] / "docs" / "results"
    for page in ("images.md", "claims.md"):
        assert said in " ".join((pages / page).read_text(encoding="utf-8").split())


def static_runs(folder: Path) -> dict[int, pd.DataFrame]:
    """Curvature and training loss of each static network, by its seed."""
    curvature, curves = (pd.read_parquet(folder / f"{k}.parquet") for k in ("curvature", "curves"))
    by = ["arm", "seed", "step"]
    both = curvature[[*by, "hessian_lambda_max"]].merge(curves[[*by, "train_loss"]], on=by)
    static = both[both["arm"] == "static"].sort_values("step")
    return {int(str(seed)): run for seed, run in static.groupby("seed")}
