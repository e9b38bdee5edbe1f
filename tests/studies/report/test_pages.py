"""What pages say is what their pictures show, whatever the study: its sampler, its seeds, its arms,
what diverged, what lies at a bound.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.collections import QuadMesh
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from dynloss_core import keys
from studies.analysis.across_studies import ComparedStudy, across, across_table
from studies.analysis.analyses import analyse
from studies.analysis.card import Drawing
from studies.analysis.figures.across import draw_across
from studies.analysis.figures.gain_map import draw_gain_map
from studies.analysis.figures.learning_curves import draw_learning_curves
from studies.analysis.gains.gain_map import GainMap, maps_of
from studies.analysis.gains.learning_curves import curves_caption, learning_curves
from studies.analysis.gains.regimes import regimes
from studies.analysis.gains.swept_sizes import sweep_of
from studies.analysis.study_analysis import Analysis
from studies.analysis.study_tables import Tables
from studies.cli.result_lines import show_results
from studies.messages import console
from studies.report.page.document import Finding, Report
from studies.report.page.html import render
from studies.report.study_report import report_of
from studies.report.study_results import Results
from studies.storage.stored_study import StoredStudy
from studies.storage.study_folder import StudyFolder
from tests.studies.analysis.figures import texts
from tests.studies.analysis.search_tables import health
from tests.studies.analysis.width_sweep import ATTAINABLE, sweep
from tests.studies.report.made_studies import ARMS, WIDTH, analysed, question, study_tables
from tests.studies.tiny import tiny_study


def maps(**kind: object) -> dict[str, GainMap]:
    return maps_of(Tables(*study_tables(**kind), question(**kind)))  # type: ignore[arg-type]


def drawn(analysis: Analysis) -> dict[str, tuple[Drawing, Figure]]:
    drawings = (drawing for card in analysis.cards for drawing in card.drawings)
    return {drawing.name: (drawing, drawing.draw()) for drawing in drawings if drawing.draw}


KINDS: dict[str, dict[str, object]] = {
    "tpe": {"bound": True},
    "tpe on a grid": {"grid": True},
    "sobol": {"adaptive": False, "confirmed": False},
    "grid, shared rates": {"adaptive": False, "grid": True, "shared": True},
    "one static trial": {"adaptive": False, "grid": True, "trials": 1, "confirmed": False},
    "two seeds of a loss": {"seeds": 2, "objective": keys.VALIDATION_LOSS, "adaptive": False},
    "all dynamical ones diverged": {"lost": keys.DYNAMICAL, "confirmed": False},
    "one arm": {"arms": (keys.STATIC,)},
    "ten trials": {"trials": 10},
    "widths": {"widths": (20, 50), "bound": True},
    "it loses everywhere": {"gain": -0.3, "adaptive": False, "grid": True},
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_captions_speak_of_the_figures_there_are(kind: dict[str, object]) -> None:
    analysis = analysed(**kind)
    figures = drawn(analysis)
    for drawing, figure in figures.values():
        assert figure.get_suptitle() == drawing.headline
    for name, found in maps(**kind).items():
        drawing, figure = figures[name]
        agrees_with(figure, found, drawing.caption, adaptive=question(**kind).adaptive)  # type: ignore[arg-type]


def agrees_with(figure: Figure, found: GainMap, caption: str, *, adaptive: bool) -> None:
    """A map's figure, its caption, its small print and its sentences, against its numbers."""
    panels = figure.axes[:-1]  # the last is the colour bar
    small = texts(figure)
    assert caption.count("at its own best") + caption.count("at the same") == len(panels)
    assert ("(second)" in caption) == (len(panels) == 2)
    assert ("adaptive" in small) == adaptive
    apart = "the other half of the seeds" if found.n >= 12 else "the same seeds"
    assert (f"chosen on {apart}" in small) == (found.static_trials > 1)
    assert ("bins" in small) == found.binned
    hatched = any(patch.get_hatch() == "////" for axes in panels for patch in axes.patches)
    assert ("Hatched" in caption) == hatched == ("not significant" in small)
    black = any(patch.get_facecolor() == (0, 0, 0, 1) for axes in panels for patch in axes.patches)
    assert ("crosses" in caption) == black
    missing = any(np.isnan(gain.gain[~found.diverged]).any() for gain in found.gains)
    assert ("Dotted" in caption) == missing
    for axes, gain, sentence in zip(panels, found.gains, found.sentences(), strict=True):
        (largest,) = (
            float(x)
            for x in re.findall(r"accuracy is ([+-][\d.]+)|loss is ([+-][\d.]+)", sentence)[0]
            if x
        )
        assert largest == pytest.approx(np.nanmax(gain.gain), abs=5e-4)
        assert ("largest" in sentence) == (np.nanmax(gain.gain) > 0)
        stars = [line for line in axes.lines if line.get_marker() == "*"]
        assert bool(stars) == (np.nanmax(gain.gain) > 0)
        for star in stars:
            x, y = star.get_xdata()[0], star.get_ydata()[0]  # type: ignore[index]
            assert f"at {found.x.replace('_', ' ')} {x:,.4g} and {found.y} {y:,.4g}" in sentence
            row, column = gain.best() or (0, 0)
            assert found.x_edges[row] <= x <= found.x_edges[row + 1]
            assert found.y_edges[column] <= y <= found.y_edges[column + 1]


def test_the_point_that_a_binned_map_names_was_tried() -> None:
    members, _ = study_tables(adaptive=False)
    (found, _) = maps(adaptive=False).values()
    tried = members[[found.x, found.y]].drop_duplicates().to_numpy(dtype=float)
    for gain in found.gains:
        for x, y in zip(gain.best_x.ravel(), gain.best_y.ravel(), strict=True):
            assert np.isnan(x) or (tried == [x, y]).all(axis=1).any()


def test_the_legend_of_a_map_leaves_its_small_print_free() -> None:
    figure = draw_gain_map(maps(adaptive=True)["gain_map"])
    figure.draw_without_rendering()
    (legend,) = figure.legends
    print_ = next(text for text in figure.texts if text.get_text().endswith("\n"))
    written, drawn = print_.get_text(), print_.get_window_extent()
    blank = len(written) - len(written.rstrip("\n"))
    lowest = drawn.y0 + drawn.height * blank / (written.count("\n") + 1)
    assert legend.get_window_extent().y1 <= lowest


def test_a_cell_without_a_trial_is_no_cell_without_a_gain() -> None:
    found = maps(adaptive=False)["gain_map"]
    gain = replace(found.gains[0], gain=np.where(np.isnan(found.gains[0].gain), np.nan, 0.0))
    figure = draw_gain_map(replace(found, gains=(gain,)))
    axes = figure.axes[0]
    (mesh,) = (each for each in axes.collections if isinstance(each, QuadMesh))
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba()) / 255  # type: ignore[attr-defined]
    middles = (
        np.sqrt(found.x_edges[1:] * found.x_edges[:-1]),
        np.sqrt(found.y_edges[1:] * found.y_edges[:-1]),
    )
    row, column = np.argwhere(np.isnan(gain.gain))[0]
    x, y = axes.transData.transform((middles[0][row], middles[1][column]))
    top, left = pixels.shape[0] - round(y), round(x)
    around = pixels[top - 8 : top + 9, left - 8 : left + 9, :3].reshape(-1, 3)
    seen = np.median(around, axis=0)  # of the cell: a single pixel may lie on a dot
    nothing = np.array(mesh.cmap(mesh.norm(0.0)))[:3]
    assert np.abs(seen - nothing).max() > 0.15
    assert np.allclose(seen, to_rgba(axes.get_facecolor())[:3], atol=0.01)


def test_unfinished_is_not_diverged() -> None:
    members, curves = study_tables(adaptive=False, grid=True, confirmed=False)
    late = (members[keys.ARM] == keys.DYNAMICAL) & (members[keys.TRIAL] == 0)
    unfinished = members[~late | (members[keys.SEED] == 0)]
    found = maps_of(Tables(unfinished, curves, question(adaptive=False)))["gain_map"]
    assert not found.diverged.any()
    assert found.missing(found.gains[0]).sum() == 1


@given(st.lists(st.floats(0.3, 0.9) | st.floats(0.5, 0.51), min_size=3, max_size=40))
def test_what_is_said_of_the_last_third_is_true(values: list[float]) -> None:
    found = health(values)
    (curve,) = found.convergence.values()
    tolerance = curve.tolerance
    best = np.maximum.accumulate(np.array(values) + 0.0)
    before = best[max(2 * len(values) // 3 - 1, 0)]
    risen = best[-1] - before
    if "no gain beyond the tolerance" in found.convergence_headline():
        assert risen <= tolerance + 1e-9
    late = [warning for warning in found.warnings() if "in the last third" in warning]
    if late:
        assert risen > tolerance - 1e-9
        assert "Not converged: static" in found.convergence_headline()
    few = [warning for warning in found.warnings() if "too few trials" in warning]
    assert (
        bool(few)
        == (curve.convergence_status == "too few")
        == ("too few to say: static" in found.convergence_headline())
    )


@given(st.lists(st.booleans(), min_size=4, max_size=4), st.booleans())
def test_where_the_static_arm_interpolates_is_said_rightly(flags: list[bool], up: bool) -> None:
    table = sweep()
    for width, reaches in zip((10, 20, 50, 100), flags, strict=True):
        mine = (table[WIDTH] == width) & (table[keys.ARM] == keys.STATIC)
        table.loc[mine, keys.TRAIN_ACCURACY] = 1.0 if reaches else 0.9
    objective = keys.VALIDATION_ACCURACY if up else keys.VALIDATION_LOSS
    table[keys.VALIDATION_LOSS] = -table[keys.TRAIN_ACCURACY]
    asked = sweep_of(table, table[:0], WIDTH, objective)
    assert asked is not None
    (found,) = regimes([asked])
    first = found.sentences()[0].partition(". ")[0]
    first = first.partition(": ")[0]
    named = {int(number) for number in re.findall(r"\b(10|20|50|100)\b", first)}
    reached = {w for w, flag in zip((10, 20, 50, 100), flags, strict=True) if flag}
    if "interpolates from" in first:
        (start,) = named
        assert {w for w in (10, 20, 50, 100) if w >= start} <= reached
    elif "but not at 100" in first:
        assert named - {100} == reached
    else:
        assert first.startswith("The static arm interpolates at no width up to 100")
        assert not reached
    assert ("dashed" in found.caption()) == (found.threshold is not None)


def test_the_gain_of_a_loss_is_its_fall() -> None:
    table = sweep().assign(**{keys.VALIDATION_LOSS: lambda t: 2 - t[keys.TRAIN_ACCURACY]})
    asked = sweep_of(table, table[:0], WIDTH, keys.VALIDATION_LOSS, attainable=ATTAINABLE)
    assert asked is not None
    (found,) = regimes([asked])
    rows = found.table().set_index([WIDTH, "metric"])
    for width in (10, 20):
        train, loss = (rows.loc[(width, m)] for m in (keys.TRAIN_ACCURACY, keys.VALIDATION_LOSS))
        assert loss["gain"] == pytest.approx(train["gain"])
        assert loss["low"] <= loss["gain"] <= loss["high"]
        assert loss["outcome"] == "better"
    assert "fall of validation loss" in found.sentences()[2]


def test_curves_of_fewer_networks_say_so() -> None:
    _, curves = study_tables()
    mine = (curves[keys.ARM] == keys.STATIC) & (curves[keys.STEP] == 1000)
    lost = curves[~(mine & (curves[keys.SEED] < 50_003))]
    whole, fewer = (learning_curves(c, keys.TRAIN_ACCURACY) for c in (curves, lost))
    words = texts(draw_learning_curves([fewer]))
    assert "static (n = 8, at times 5)" in words
    assert "dynamical (n = 8)" in words
    assert "left out" in curves_caption(fewer, None)
    assert "left out" not in curves_caption(whole, None)
    alone = [curve for curve in whole if curve.arm == keys.STATIC]
    assert "both" not in curves_caption(alone, 800)
    assert draw_learning_curves([alone]).get_suptitle().startswith("Winner of the static arm")


AGAINST: dict[str, dict[str, object]] = {
    "best at a bound": {"bound": True},
    "at a bound of one width": {"bound": True, "widths": (20, 50)},
    "too few trials": {"trials": 12},
    "one split": {"one_split": True, "adaptive": False},
    "few pairs": {"adaptive": False, "fresh": 8},
    "nothing": {"adaptive": False},
}
UNSEEN = "with unseen failures"


def places(analysis: Analysis, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Wherever a verdict is shown, all of what is shown right beside it."""
    stored = StoredStudy(StudyFolder(tmp_path / "study"), tiny_study(), "", {})
    html = render(report_of(stored, analysis, study_tables()[0], ()))
    cards_ = re.findall(
        r"<article class=\"finding (?:better|worse|undecided).*?</article>", html, re.S
    )
    for card in cards_:
        yield "report", card.partition("<dl")[0]  # before the numbers
    results = Results(analysis, (), (), {})
    with console.capture() as said:
        show_results(stored.study, stored.folder, results)
    for verdict in analysis.verdicts:
        after = said.get().partition(verdict.lines()[-1])[2].partition("Wilcoxon")[0]
        yield "terminal", after
    for name, (_, figure) in drawn(analysis).items():
        if name.startswith("verdict"):
            yield "figure", texts(figure)
    for _ in analysis.verdicts:
        yield "mlflow", results.tags()["verdict_warnings"]


@pytest.mark.parametrize("kind", AGAINST.values(), ids=AGAINST)
def test_a_warning_stands_beside_its_verdict(kind: dict[str, object], tmp_path: Path) -> None:
    analysis = analysed(**{"fresh": 30, **kind})
    assert analysis.verdicts
    few = kind is AGAINST["few pairs"]
    for verdict in analysis.verdicts:
        assert verdict.test.outcome == ("undecided" if few else "better")
        assert verdict.test.withheld == ("better" if few else None)
        assert verdict.test.of_trained != few
    expected = [verdict.warnings for verdict in analysis.verdicts]
    others = [own for warnings in expected for own in warnings if UNSEEN not in own]
    assert bool(others) == (kind is not AGAINST["nothing"])
    assert len(others) < sum(map(len, expected)), "so few pairs leave room for unseen failures"
    shown: dict[str, list[str]] = {}
    for where, beside in places(analysis, tmp_path):
        shown.setdefault(where, []).append(beside)
    assert set(shown) == {"report", "terminal", "figure", "mlflow"}
    for where, each in shown.items():
        for beside, warnings in zip(each, expected, strict=True):
            for warning in warnings:
                text = re.sub("</?code>", "`", " ".join(beside.split()))
                arm, _, rest = warning.partition(": ")
                if where == "terminal" and arm in analysis.trials:  # equal ones name all their arms
                    named = rf"warning: (\w+, )*{arm}(, \w+)*: {re.escape(rest)}"
                    assert re.search(named, text), where
                else:
                    assert warning in text, where
    assert not set(analysis.other_warnings()) & {w for each in expected for w in each}


def test_arms_that_guess_and_turns_that_do_not_end_are_warned_of() -> None:
    members, curves = study_tables()
    asked = replace(question(), chance=0.9)
    (verdict,) = analyse(members, curves, asked).verdicts
    assert "neither arm does better than guessing, 0.900" in verdict.warnings
    assert not any("no turn" in warning for warning in verdict.warnings)
    fresh = (members[keys.PHASE] == keys.CONFIRM) & (members[keys.ARM] == keys.DYNAMICAL)
    members.loc[fresh, keys.PERIOD] = 5613
    (verdict,) = analyse(members, curves, question()).verdicts
    (warning,) = (each for each in verdict.warnings if "no turn" in each)
    assert warning.startswith(
        "a winner of dynamical has a period of 5,613 steps, and oscillates for "
    )
    assert not any("guessing" in each for each in verdict.warnings)


def test_a_bound_is_asked_of_the_verdicts_own_setting() -> None:
    members, curves = study_tables(widths=(20, 50), adaptive=False)
    lifted = (members[WIDTH] == 50) & (members[keys.ARM] == keys.STATIC)
    lifted &= members[keys.PHASE] == keys.SEARCH
    last = members[keys.TRIAL] == members.loc[lifted, keys.TRIAL].max()
    members.loc[lifted & last, keys.VALIDATION_ACCURACY] = 0.99
    members.loc[lifted & last, keys.LEARNING_RATE] = 10.0
    small, large = analyse(members, curves, question(widths=(20, 50), adaptive=False)).verdicts
    at_bound = "static: the best learning_rate, 10"
    assert not any(at_bound in each for each in small.warnings)
    assert any(each.startswith(f"at width 50: {at_bound}") for each in large.warnings)


def test_a_difference_that_does_not_hold_over_all_settings_is_none() -> None:
    widths = tuple(range(10, 22))
    members, curves = study_tables(widths=widths, adaptive=False, gain=0.0, trials=2)
    fresh, differs = members[keys.PHASE] == keys.CONFIRM, members[WIDTH] == widths[0]
    draws = np.random.default_rng(0)
    for arm in ARMS:
        mine = fresh & (members[keys.ARM] == arm)
        members.loc[mine, keys.TEST_ACCURACY] = 0.6 + draws.normal(0, 0.02, int(mine.sum()))
    mine = fresh & differs & (members[keys.ARM] == keys.DYNAMICAL)
    theirs = members.loc[fresh & differs & (members[keys.ARM] == keys.STATIC), keys.TEST_ACCURACY]
    noise = np.array([1, -1, 2, -2, 3, -3, 1, -1]) * 0.01
    members.loc[mine, keys.TEST_ACCURACY] = theirs.to_numpy() + 0.019 + noise
    first, *_ = analyse(members, curves, question(widths=widths, adaptive=False)).verdicts
    assert first.test.p_t < 0.05 < first.p_adjusted
    assert first.test.outcome == "undecided"
    assert f"p = {first.p_adjusted:.2g} over 12 settings" in first.sentence()


@pytest.mark.parametrize("confirmed", [True, False])
def test_studies_side_by_side_keep_their_warnings(confirmed: bool) -> None:
    kind = {"bound": True, "confirmed": confirmed}
    members, curves = study_tables(**kind)  # type: ignore[arg-type]
    asked = question(one_split=True)
    tables = ComparedStudy("a", "d", "m", members, asked, analyse(members, curves, asked))
    (row,) = across([tables])
    assert any("at the upper bound" in warning for warning in row.warnings)
    assert any("share one split" in warning for warning in row.warnings)
    assert f"{row.verdict}" in texts(draw_across([row]))
    assert ("fresh seeds" in texts(draw_across([row]))) == confirmed
    assert "at the upper bound" in across_table([row])["warnings"][0]


def test_warnings_of_no_verdict_come_before_the_findings() -> None:
    html = render(Report("t", findings=[Finding("It gains.")], warnings=["Beware."]))
    assert html.index("Beware.") < html.index("It gains.")
    analysis = analysed(trials=10, confirmed=False)
    assert analysis.other_warnings() == analysis.warnings() != []
