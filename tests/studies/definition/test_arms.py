"""Arms by name: what they change, what they are compared with, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dynloss_core.config import ConfigError, build, to_dict
from studies.definition.arms import Pair
from studies.definition.study import Study
from tests.studies.tiny import MAP, tiny_study

ARMS: dict[str, Any] = {
    "static": {"baseline": True},
    "cosine": {"baseline": True, "training": {"learning_rate_schedule": {"decay": "cosine"}}},
    "random": {"training": {"oscillation": {"groups": "random"}}},
    "classes": {},
}


def test_the_short_form_is_two_arms() -> None:
    short = tiny_study()
    named = tiny_study(arms={"dynamical": {}, "static": {"baseline": True}})
    assert short.named_arms == named.named_arms
    assert short.pairs == named.pairs == (Pair("dynamical", "static"),)
    for arm in short.arms:
        assert short.arm_space(arm) == named.arm_space(arm)
        assert short.problem(arm) == named.problem(arm) == short.problem("dynamical")


def test_an_arm_changes_what_it_names_and_nothing_else() -> None:
    study = tiny_study(arms=ARMS, training={"learning_rate_schedule": {"warmup": 0.25}})
    plain = study.problem("classes")
    assert plain.learning_rate_schedule.warmup == 0.25
    assert study.problem("static") == plain
    assert study.problem("random").oscillation.groups == "random"
    cosine = study.problem("cosine").learning_rate_schedule
    assert (cosine.decay, cosine.warmup) == ("cosine", 0.25), "nested entries are laid over others"
    assert study.arm_space("cosine") == study.arm_space("static")
    assert study.arm_space("random") == study.space


def test_a_space_of_its_own() -> None:
    momentum = {"type": "float", "low": 0.5, "high": 0.99}
    study = tiny_study(
        arms={
            "static": {"baseline": True},
            "momentum": {"baseline": True, "search": {"momentum": momentum}},
            "slow": {"fix": {"learning_rate": 0.5}},
        }
    )
    assert set(study.arm_space("momentum").searched()) == {"learning_rate", "momentum"}
    assert study.arm_space("slow").constants() == {"learning_rate": 0.5}
    assert study.pairs == (Pair("momentum", "static"), Pair("slow", "static"))


def test_all_arms_have_the_same_budget_and_seeds() -> None:
    study = tiny_study(arms=ARMS)
    assert {study.trials_of(arm).count for arm in study.arms} == {6}
    assert study.members() == 4 * 6 * 2 + 7 * 3, "and the static loss at the settings of the others"
    sobol = tiny_study(arms=ARMS, **{**MAP, "trials_per_arm": 8, "sampler": "sobol"})
    rates = [
        [point["learning_rate"] for point in sobol.trials_of(arm).design or []]
        for arm in sobol.arms
    ]
    assert np.array_equal(rates[0], rates[1]), "one design where the space is one"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, [("cosine", "static"), ("random", "static"), ("classes", "static")]),
        (
            {"comparisons": [["classes", "random"]]},
            [("cosine", "static"), ("random", "static"), ("classes", "static"),
             ("classes", "random")],
        ),
        (
            {"ladder": ["static", "random", "classes"]},
            [("cosine", "static"), ("random", "static"), ("classes", "static"),
             ("classes", "random")],
        ),
        (
            {"reference": "cosine", "comparisons": [["classes", "cosine"], ["classes", "static"]]},
            [("static", "cosine"), ("random", "cosine"), ("classes", "cosine"),
             ("classes", "static")],
        ),
    ],
)  # fmt: skip
def test_each_comparison_is_made_once(
    changes: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    assert [tuple(pair) for pair in tiny_study(arms=ARMS, **changes).pairs] == expected


def test_without_a_static_arm_nothing_is_compared_unless_asked() -> None:
    arms = {"random": ARMS["random"], "classes": {}}
    assert tiny_study(arms=arms).pairs == ()
    assert tiny_study(arms=arms, reference="random").pairs == (Pair("classes", "random"),)
    assert tiny_study(arms=["static"]).pairs == ()


def test_arms_are_part_of_the_identity_and_the_default_of_later_entries_is_not() -> None:
    study = tiny_study(arms=ARMS)
    assert build(Study, to_dict(study)).hash == study.hash
    others = [
        tiny_study(arms={**ARMS, "classes": {"training": {"nesterov": True}}}),
        tiny_study(arms=ARMS, reference="cosine"),
        tiny_study(arms=ARMS, ladder=["static", "classes"]),
        tiny_study(arms=ARMS, comparisons=[["classes", "random"]]),
    ]
    assert len({each.hash for each in (study, *others)}) == 5
    before = to_dict(tiny_study())
    for name in ("reference", "comparisons", "ladder"):
        del before[name]
    assert build(Study, before).hash == tiny_study().hash


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arms": []}, r"arms: \[\]; list dynamical, static, or both"),
        ({"arms": ["static", "static"]}, "list dynamical, static, or both"),
        (
            {"arms": ["static", "random"]},
            r"arms: 'random' is neither dynamical nor static; say what it changes: arms: \{static",
        ),
        ({"arms": {}}, "arms: empty"),
        ({"arms": {"No-Name": {}}}, "'No-Name' cannot name an arm"),
        ({"arms": {"static": {}}}, r"arms.static: not a baseline; write static: \{baseline"),
        ({"arms": {"a": {"baselin": True}}}, "arms.a.baselin: unknown key; did you mean"),
        ({"arms": {"a": {"training": {"los": "mse"}}}}, "arms.a.training.los: unknown key"),
        (
            {"arms": {"a": {"training": {"oscillation": {"groups": "sets"}}}}},
            "arms.a.training.oscillation.groups: 'sets' is not one of the choices",
        ),
        ({"arms": {"a": {"drop": ["period"]}}}, "space.parameters.period: missing"),
        ({"arms": {"a": {"fix": {"perod": 5}}}}, "perod"),
        (
            {"arms": {"a": {"search": {"period": {"type": "int", "low": 2, "high": 5,
                                                  "unit": "epochs"}}}}},
            "arms.a.search.period.unit: epochs, but the space has its period in steps",
        ),
        (
            {"arms": {"static": {"baseline": True}, "focal": {"training": {"loss": "focal"}}},
             "objective": "validation_loss"},
            "objective: 'validation_loss' of arms with different losses: cross_entropy, focal",
        ),
        ({"reference": "none"}, "reference: 'none' is not an arm; use dynamical, static"),
        ({"comparisons": [["static"]]}, r"comparisons\[0\]: \['static'\] is not a pair"),
        ({"comparisons": [["static", "static"]]}, "names an arm twice"),
        ({"ladder": ["static"]}, "has one rung"),
        ({"ladder": ["static", "classes"]}, "ladder: 'classes' is not an arm"),
    ],
)  # fmt: skip
def test_refused_in_a_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as refusal:
        tiny_study(**changes)
    assert "\n" not in str(refusal.value)
