"""What a study found, as the terminal shows it, and what can be done next.

A few verdicts stand with all that they rest on, and with their warnings. Many are a table, below
which each warning stands once: the report has them all in full.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from studies.definition.network_counts import counted
from studies.messages import console, paragraph, point_in_words, repeat_command
from studies.out_folder import shown

if TYPE_CHECKING:
    from studies.analysis.setting_verdicts import SettingVerdict
    from studies.analysis.study_analysis import Analysis
    from studies.definition.study import Study
    from studies.report.study_results import Results
    from studies.storage.study_folder import StudyFolder

__all__ = ["show_results"]

_LONGER = re.compile(r"extend the search|give it \d+ or more")  # of `search_warnings`
_ENOUGH = 15  # trials, to say whether a search converged
_PARAGRAPHS = 4  # most verdicts in full
_WIDE = 90  # columns that the table needs to name the arms in every row


def show_results(
    study: Study, folder: StudyFolder, results: Results, kept_in: StudyFolder | None = None
) -> None:
    """Print what a study found, where it is, and what can be done next.

    Args:
        study: the study.
        folder: where the results were written.
        results: the results.
        kept_in: the folder of the study, if that is another.
    """
    analysis, kept_in = results.analysis, kept_in or folder
    if not analysis.trials:
        console.print("nothing to analyse yet: no block of this study has finished")
        return
    for arm, (tried, diverged) in analysis.trials.items():
        if study.trials_of(arm).count == 0:
            continue  # its point was given
        lost = f", a network diverged in {diverged} of them" if diverged else ""
        stopped = analysis.stopped.get(arm, 0)
        given_up = f", {stopped} stopped early" if stopped else ""
        paragraph(f"searched   {arm:<10} {counted(tried, 'trial')}{lost}{given_up}")
    paragraph(f"networks   {results.counts.of_networks()}")
    for name, networks in results.reused.items():
        console.print(f"reused     {counted(networks, 'network')} of {name}")
    verdicts = analysis.verdicts
    if len(verdicts) == 1 and verdicts[0].test.luck is not None:
        console.print(f"winners    of each search: {shown(folder.tables / 'searches.csv')}")
    elif len(verdicts) <= 1:
        winners = verdicts[0].points if verdicts else analysis.winners
        for arm, point in winners.items():
            paragraph(f"winner     {arm:<10} {point_in_words(point)}")
    if len(verdicts) > _PARAGRAPHS:
        _show_many(analysis)
    else:
        _show_few(study, analysis)
    console.print(f"\nfigures    {shown(folder.figures)}")
    console.print(f"tables     {shown(folder.tables)}")
    console.print(f"report     {shown(folder.report)}")
    if study.storage.tracker == "mlflow":
        console.print(f"browse     {repeat_command(['ui'], kept_in.path.parent)}")
    for index, (command, why) in enumerate(_next_commands(study, kept_in, verdicts)):
        label, comment = "next" if index == 0 else "", f"# {why}"
        line = f"{label:<10} {command}  {comment}"
        if not console.is_terminal or len(line) <= console.width:
            console.print(line)
        else:  # so that neither is broken in a word, and the command can be pasted
            console.print(f"{label:<10} {comment}")
            console.print(f"{'':<10} {command}")


def _show_few(study: Study, analysis: Analysis) -> None:
    """Each verdict in full, with its warnings, and each finding."""
    verdicts, arms = analysis.verdicts, list(analysis.trials)
    for verdict in verdicts:
        console.print()
        claim, *details = verdict.lines()
        paragraph(claim, style="bold")
        for detail in details:
            paragraph(detail, indent=2)
        for warning in _with_arms_together(verdict.warnings, arms):
            paragraph(f"warning: {warning}")
        if len(verdicts) == 1:
            test, validation = verdict.test, verdict.validation
            paragraph(
                f"Wilcoxon signed-rank p = {test.p_wilcoxon:.2g}. "
                f"{study.objective.replace('_', ' ').capitalize()} on the same seeds: "
                f"{validation.arm.mean:.4g} against {validation.reference.mean:.4g}."
            )
    for finding in analysis.findings()[len(verdicts) :]:
        console.print()
        paragraph(finding, style="bold")
    for warning in _with_arms_together(analysis.other_warnings(), arms):
        console.print()
        paragraph(f"warning: {warning}")


def _show_many(analysis: Analysis) -> None:
    """A row per verdict, each warning once, and the findings that concern several settings."""
    from studies.analysis.verdict_warnings import counted_warnings

    verdicts = analysis.verdicts
    console.print()
    for table in _tables(verdicts):
        console.print(table, soft_wrap=False)
    first = verdicts[0].test
    paragraph(
        f"{first.metric.replace('_', ' ').capitalize()}: the difference of the two arms, with its "
        f"{first.level * 100:.4g}% interval; p over {verdicts[0].counted}"
        + ("; * of networks that train" if any(v.test.of_trained for v in verdicts) else "")
        + "."
    )
    arms = list(analysis.trials)
    counted = counted_warnings([_with_arms_together(v.warnings, arms) for v in verdicts])
    if counted:
        console.print()
    for count, warning in counted:
        every = (
            "every verdict" if count == len(verdicts) else f"{count} of {len(verdicts)} verdicts"
        )
        paragraph(f"warning ({every}): {warning}")
    labels = tuple(f"At {v.label}{after}" for v in verdicts if v.label for after in ":,")
    others = analysis.findings()[len(verdicts) :]
    general = [finding for finding in others if not finding.startswith(labels)]
    for finding in general:
        console.print()
        paragraph(finding, style="bold")
    for warning in _with_arms_together(analysis.other_warnings(), arms):
        console.print()
        paragraph(f"warning: {warning}")
    left_out = len(others) - len(general)
    rest = f", and {left_out} findings at single settings," if left_out else ""
    console.print()
    paragraph(f"Each verdict in full{rest} and all warnings: in the report.")


def _with_arms_together(warnings: Sequence[str], arms: Sequence[str]) -> list[str]:
    """Warnings, with those that are equal but for the arm they begin with as one that names all of
    these arms."""
    of_arms: dict[tuple[str, bool], list[str]] = {}  # in the order of their first
    for warning in warnings:
        arm, colon, rest = warning.partition(": ")
        is_of_arm = bool(colon) and arm in arms
        named = of_arms.setdefault((rest if is_of_arm else warning, is_of_arm), [])
        if is_of_arm and arm not in named:
            named.append(arm)
    return [
        f"{', '.join(named)}: {rest}" if named else rest for (rest, _), named in of_arms.items()
    ]


def _tables(verdicts: Sequence[SettingVerdict]) -> Iterator[Table]:
    """A row per verdict; where there is little room, a table per pair of arms."""
    pairs = list(dict.fromkeys(verdict.pair_in_words for verdict in verdicts))
    if len(pairs) == 1 or console.width >= _WIDE:
        yield _table(verdicts, names_arms=len(pairs) > 1)
        return
    for pair in pairs:
        of_pair = [verdict for verdict in verdicts if verdict.pair_in_words == pair]
        yield _table(of_pair, names_arms=False, title=pair)


def _table(verdicts: Sequence[SettingVerdict], *, names_arms: bool, title: str = "") -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), title=title or None, title_justify="left")
    table.add_column("setting")
    if names_arms:
        table.add_column("arms", no_wrap=True)
    table.add_column("difference", no_wrap=True)
    table.add_column("outcome")
    table.add_column("p", no_wrap=True)
    for verdict in verdicts:
        test, p = verdict.test, f"{verdict.p_adjusted:.2g}"
        outcome = test.outcome.replace("_", " ") + "*" * test.of_trained
        arms = [verdict.pair_in_words] if names_arms else []
        style = "" if test.outcome == "undecided" else "bold"
        table.add_row(verdict.label or "-", *arms, test.interval(), outcome, p, style=style)
    return table


def _next_commands(
    study: Study, folder: StudyFolder, verdicts: Sequence[SettingVerdict]
) -> Iterator[tuple[str, str]]:
    """Commands that lead on from here, each with what it does."""
    out, name = folder.path.parent, study.name
    undecided = [verdict for verdict in verdicts if verdict.test.outcome == "undecided"]
    if not verdicts:
        if study.mode == "map" and study.pairs:
            yield repeat_command(["confirm", name], out), "the best points, on fresh seeds"
        return
    if undecided and verdicts[0].test.luck is None:
        words = ["confirm", name, "--until-decided"]
        yield repeat_command(words, out), "more fresh seeds"
    elif undecided:
        words = ["run", str(folder.definition), "--extend-searches", str(verdicts[0].test.n)]
        yield repeat_command(words, out), "as many searches again"
    asked = any(_LONGER.search(warning) for verdict in verdicts for warning in verdict.warnings)
    if asked and study.mode == "optimize":
        trials = max(study.trials_of(arm).count for arm in study.arms)
        more = max(_ENOUGH - trials, math.ceil(trials / 2))
        words = ["run", str(folder.definition), "--extend", str(more)]
        yield repeat_command(words, out), "longer searches, as the warnings ask"
    setting = [f"{key}={value}" for key, value in verdicts[0].setting.items()]
    words = ["train", "--from", name, *(w for pair in setting for w in ("--setting", pair))]
    yield repeat_command(words, out), "a winner by itself, step by step"
