"""Plans with real Optuna and a stand-in for training that answers from a formula."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import optuna
import pandas as pd

from dynloss_core import keys
from studies.blocks.block import Block
from studies.definition.study import Study
from studies.search.plan import Plan

optuna.logging.set_verbosity(optuna.logging.ERROR)


def answers(block: Block, *, diverged: set[int] = frozenset()) -> pd.DataFrame:  # type: ignore[assignment]
    """Members whose accuracy peaks at learning rate 1 and grows with the amplitude."""
    rows = []
    for trial in block.trials:
        rate, amplitude = trial.point["learning_rate"], trial.point["amplitude"]
        accuracy = math.exp(-(math.log(rate) ** 2)) + 0.1 * math.log(amplitude)  # type: ignore[arg-type]
        rows += [
            {
                keys.TRIAL: trial.number,
                keys.SEED: seed,
                keys.VALIDATION_ACCURACY: accuracy + 1e-3 * (seed % 7),
                keys.DIVERGED: trial.number in diverged,
            }
            for seed in block.seeds
        ]
    return pd.DataFrame(rows)


def drive(
    plan: Plan,
    *,
    at_once: int = 1,
    order: int = 0,
    train: Callable[[Block], pd.DataFrame] = answers,
) -> dict[str, Block]:
    """Run a plan with blocks that finish in a shuffled order; the blocks handed out, by id."""
    chance = random.Random(order)
    running: list[Block] = []
    seen: dict[str, Block] = {}
    while not plan.finished:
        while len(running) < at_once and (block := plan.next_block()) is not None:
            running.append(block)
            seen[block.id] = block
        if not running:
            break
        block = running.pop(chance.randrange(len(running)))
        plan.receive(block, train(block))
    return seen


def fresh(study: Study, storage: object = None, recorded: object = None) -> Plan:
    storage = storage or optuna.storages.InMemoryStorage()
    return Plan(study, storage, recorded or (lambda block: None))  # type: ignore[arg-type]
