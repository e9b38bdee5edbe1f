"""How far a study is, from its folder alone: a running driver is not disturbed."""

from __future__ import annotations

from dynloss_core import keys
from studies.early_stopping import is_stopped
from studies.folder import StudyFolder

__all__ = ["study_status"]


def study_status(folder: StudyFolder) -> str:
    """A few lines: what each arm and phase has done, the best so far, whether a driver works."""
    study = folder.study()
    members = folder.gather("members")
    running = "a driver is at work" if folder.is_locked() else "no driver is at work"
    rounds = sum(b.members for each in folder.confirmations() for b in each.blocks())
    done = len(members) / (study.members() + rounds)
    lines = [f"{study.name} ({study.mode}): {done:.0%} of its networks trained, {running}"]
    for arm in study.arms:
        line = f"  search   {arm:<10} "
        mine = (
            members[(members[keys.ARM] == arm) & (members[keys.PHASE] == keys.SEARCH)]
            if len(members)
            else members
        )
        if len(mine) == 0:
            lines.append(f"{line}0 of {study.trials(arm)} trials")
            continue
        by_trial = mine.groupby(keys.TRIAL)
        diverged = by_trial[keys.DIVERGED].any()
        stopped = is_stopped(mine).groupby(mine[keys.TRIAL]).any()
        means = by_trial[study.objective].mean()[~diverged & ~stopped]
        line += f"{len(diverged)} of {study.trials(arm)} trials"
        if diverged.any():
            line += f", {int(diverged.sum())} diverged"
        if stopped.any():
            line += f", {int(stopped.sum())} stopped early"
        if len(means):
            best = means.max() if keys.higher_is_better(study.objective) else means.min()
            line += f", best {study.objective.replace('_', ' ')} {best:.3f}"
        lines.append(line)
    if study.confirms():
        for arm in study.arms:
            count = 0
            if len(members):
                rows = (members[keys.ARM] == arm) & (members[keys.PHASE] == keys.CONFIRM)
                count = int(rows.sum())
            lines.append(f"  confirm  {arm:<10} {count} of {study.confirm_seeds} fresh seeds")
    for confirmation in folder.confirmations():
        for arm in study.arms:
            rows = (members[keys.ARM] == arm) & (members[keys.PHASE] == confirmation.phase)
            count = sum(len(b.seeds) for b in confirmation.blocks() if b.arm == arm)
            lines.append(
                f"  {confirmation.phase:<8} {arm:<10} {int(rows.sum())} of {count} networks"
            )
    if folder.summary.exists():
        lines.append(f"  summary  {folder.summary}")
    return "\n".join(lines)
