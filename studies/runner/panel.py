"""The panel of a running study in a terminal: what it asks, where it is, how far it has got.

It stands from the command's first second to its last, whatever the command does meanwhile, and
leaves nothing behind. Where there is no terminal, there is no panel.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from dynloss_core import keys
from dynloss_core.config import printable
from studies.definition.phases import Phase
from studies.definition.study import Study
from studies.messages import duration, notes, point_in_words, question_in, repeat_command
from studies.search.confirmation import Winner
from studies.storage.status_file import PhaseStatus, StudyStatus

__all__ = ["StudyPanel", "phase_in_words"]

_BLOCKS_SHOWN = 4  # of those in training
_LINES_BESIDE_ARMS = 12
_UNITS = {keys.SEARCH: "trials", keys.FINALS: "in finals", keys.CONFIRM: "on fresh seeds"}
_NAME_WIDTH = 14  # of an arm; longer names take several lines


@dataclass(frozen=True)
class _Training:
    """What is shown once blocks train.

    Args:
        status: how far the study is.
        phase: the phase in words.
        best: the best point of each arm so far.
    """

    status: StudyStatus
    phase: str
    best: Mapping[str, Winner] = field(default_factory=dict)


class StudyPanel:
    """The panel of one study.

    Args:
        study: the study.
        folder: its folder.
        console: where to show it; standard error by default.
        quiet: whether to show nothing.
    """

    def __init__(
        self, study: Study, folder: Path, console: Console | None = None, *, quiet: bool = False
    ) -> None:
        self.console, self._quiet = console or notes, quiet
        self._name, self._objective = study.name, study.objective.replace("_", " ")
        self._question = question_in(" ".join(study.description.split()))
        self._where = {
            "folder": str(folder),
            "watch": repeat_command(["status", study.name, "--watch"], folder.parent),
        }
        if study.storage.tracker == "mlflow":
            self._where["browse"] = repeat_command(["ui"], folder.parent)
        self._began = time.monotonic()
        self._step = "starting"
        self._training: _Training | None = None
        self._is_begun = False
        self._live: Live | None = None
        if self.console.is_interactive and not quiet:
            self._live = Live(self, console=self.console, transient=True, refresh_per_second=4)

    def __enter__(self) -> StudyPanel:
        if self._live is not None:
            self._live.start(refresh=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    @property
    def is_shown(self) -> bool:
        """Whether there is a terminal to show it in."""
        return self._live is not None

    @property
    def has_lines(self) -> bool:
        """Whether plain lines stand for it."""
        return self._live is None and not self._quiet

    def begin_lines(self) -> None:
        """Say once what it says of the study itself, where there is no terminal."""
        if self.has_lines and not self._is_begun:
            line = f"{self._name}: {self._question}" if self._question else self._name
            self.console.print(line, markup=False, soft_wrap=True)
            for label, value in self._where.items():
                self.console.print(f"{label:<10} {value}", markup=False, soft_wrap=True)
        self._is_begun = True

    def at(self, step: str) -> None:
        """Show what is done before and after the training."""
        self._step = step

    def show(self, status: StudyStatus, phase: str, best: Mapping[str, Winner]) -> None:
        """Show how far the training is.

        Args:
            status: with the blocks in training.
            phase: the name of their phase.
            best: the best point of each arm so far.
        """
        self._step = ""
        self._training = _Training(status, phase_in_words(phase, status), dict(best))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        # the console leaves long lines to the terminal, and a panel must not
        options = options.update(no_wrap=False, overflow="fold")
        head = Table.grid(padding=(0, 2))
        for label, value in self._where.items():
            head.add_row(Text(label, style="dim"), Text(printable(value)))
        parts = [Text(printable(self._question)), Text()] if self._question else []
        body: list[Text | Table] = [*parts, head, Text()]
        if self._training is None:
            body.append(self._bar(0.0, self._step))
        else:
            body += self._of_training(self._training, console.size.height)
        title = Text(printable(self._name), style="bold")
        yield from console.render(
            Panel(Group(*body), title=title, title_align="left", box=box.HORIZONTALS), options
        )

    def _bar(self, share: float, phase: str, left: str = "") -> Table:
        """One line: the phase, a bar as long as there is room for, and the times."""
        elapsed = duration(time.monotonic() - self._began)
        bar = Table.grid(padding=(0, 2), expand=True)
        for ratio in (None, 1, None, None, None):
            bar.add_column(ratio=ratio, no_wrap=True)
        shown = ProgressBar(total=1.0, completed=share, complete_style="cyan")
        bar.add_row(Text(phase), shown, Text(f"{share:.0%}"), Text(elapsed), Text(left))
        return bar

    def _of_training(self, training: _Training, height: int) -> Iterator[Text | Table]:
        status = training.status
        left = status.seconds_left
        yield self._bar(
            status.trained / status.networks if status.networks else 1.0,
            self._step or training.phase,
            f"{duration(left)} left" if left else "",
        )
        yield Text()
        arms = list(dict.fromkeys(phase.arm for phase in status.phases))
        is_roomy = 2 * len(arms) + _LINES_BESIDE_ARMS <= height
        table = Table.grid(padding=(0, 2))
        table.add_column(max_width=_NAME_WIDTH)
        for arm in arms:
            text = Text(_counted([phase for phase in status.phases if phase.arm == arm]))
            if (winner := training.best.get(arm)) is not None:
                text.append("\n" if is_roomy else ", ")
                text.append_text(self._best(winner, with_point=is_roomy))
            table.add_row(Text(printable(arm).replace("_", " "), style="bold"), text)
        yield table
        below = Table.grid(padding=(0, 2))
        if status.blocks:
            below.add_row(
                Text("running", style="dim"),
                Text(_running(status, _BLOCKS_SHOWN if is_roomy else 1)),
            )
        if status.failures:
            count = len(status.failures)
            failed = f"{count} block{'s' * (count > 1)}"
            below.add_row(Text("failed", style="dim"), Text(failed, style="red"))
        if below.row_count:
            yield Text()
            yield below

    def _best(self, winner: Winner, *, with_point: bool) -> Text:
        text = Text("best")
        if winner.objective is not None:
            text.append(f" {self._objective} " if with_point else " ")
            text.append(f"{winner.objective:.3f}", style="bold")
        if with_point:
            text.append(f" at {printable(point_in_words(winner.point))}", style="dim")
        return text


def phase_in_words(name: str, status: StudyStatus) -> str:
    """`search 2 of 5`, `confirmation`."""
    phase = Phase.parse(name)
    searches = max((Phase.parse(known.phase).search for known in status.phases), default=1)
    kind = "confirmation" if phase.is_fresh else phase.kind
    return f"{kind} {phase.search} of {searches}" if searches > 1 else kind


def _counted(phases: list[PhaseStatus]) -> str:
    """`53 of 120 trials, 0 of 60 fresh seeds`: an arm's phases, those of all searches together."""
    kinds: dict[str, list[PhaseStatus]] = {}
    for phase in phases:
        kinds.setdefault(Phase.parse(phase.phase).kind, []).append(phase)
    counts = []
    for kind, own in kinds.items():
        done, wanted = sum(phase.done for phase in own), sum(phase.wanted for phase in own)
        counts.append(f"{done:,} of {wanted:,} {_UNITS[kind]}")
    diverged = sum(phase.diverged for phase in phases)
    return ", ".join(counts) + (f", {diverged} diverged" if diverged else "")


def _running(status: StudyStatus, at_most: int) -> str:
    """`search-static-00003 on node1, search-static-00004 on node2 and 8 more`."""
    blocks = [
        printable(f"{name} on {block['node']}" if block["node"] else name)
        for name, block in status.blocks.items()
    ]
    shown, more = blocks[:at_most], len(blocks) - at_most
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")
