"""How MLflow shows the runs of a study to begin with: the best first, and curves before bars.

MLflow keeps a view that its users share as a tag of the experiment, and opens it by the tag's name.
A study leaves one of its own.
"""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any
from urllib.parse import quote, urlencode

from dynloss_core import keys
from search_spaces.parameters import ConstParameter, FloatParameter, IntParameter
from studies.definition.study import Study
from studies.storage.tracking.trial_content import CURVES, TAG

__all__ = [
    "KIND",
    "MODELS",
    "SHARED_VIEW",
    "condition",
    "run_page",
    "runs_page",
    "runs_view",
    "sorted_by",
]

SHARED_VIEW = "mlflow.sharedViewState."
"""Prefix of MLflow's own tags of experiments that keep views."""
KIND, MODELS = "mlflow.experimentKind", "custom_model_development"
"""MLflow's own tag of experiments that says what they are of, and what it is where models are
trained."""

_OF_MODELS = {"workflowType": "machine_learning"}
_CURVES_SHOWN = (keys.TRAIN_ACCURACY, keys.TRAIN_LOSS, keys.WEIGHTED_LOSS)
_SECTION, _OTHERS, _SYSTEM = CURVES.removesuffix("/"), "Model metrics", "System metrics"
_SEARCHED, _FRESH = "searched values", "fresh seeds"
_RUN_NAME, _CREATED = "attributes.`Run Name`", "runDateAndNestInfo"  # columns of MLflow's table


def runs_page(
    base: str, experiment: str, study: str = "", view: str | None = None, **facets: str
) -> str:
    """The address of the page of an experiment's runs, those of trained models; MLflow shows those
    of agents unless it is asked.

    Args:
        base: address of the server.
        experiment: its identifier.
        study: the study whose runs are shown; all by default.
        view: the name of a shared view, which has the study's runs; None if there is none.
        facets: what else the page is asked for: `orderByKey`, `orderByAsc`.
    """
    asked = dict(_OF_MODELS)
    if view:
        asked["viewStateShareKey"] = view
    elif study:
        asked["searchFilter"] = condition(study)
    page = f"{base.rstrip('/')}/#/experiments/{quote(experiment, safe='')}/runs"
    return f"{page}?{urlencode({**asked, **facets}, quote_via=quote)}"


def condition(study: str, **tags: str) -> str:
    """The condition on the runs of a study, and on further tags of the suite's, as MLflow's search
    takes it."""
    return " and ".join(
        f"tags.`{TAG}{key}` = '{value}'" for key, value in {keys.STUDY: study, **tags}.items()
    )


def run_page(base: str, experiment: str, run: str) -> str:
    """The address of the page of one run, as a run of models."""
    page = f"{base.rstrip('/')}/#/experiments/{quote(experiment, safe='')}/runs/"
    return f"{page}{quote(run, safe='')}?{urlencode(_OF_MODELS)}"


def runs_view(study: Study) -> str:
    """The view of a study's runs, as MLflow keeps it."""
    final, on_test = f"final_{study.objective}", _final_on_test(study)
    searched, is_searched = _numbers_searched(study), study.mode != "confirm"
    results = dict.fromkeys((sorted_by(study), final, *([on_test] if study.confirms() else [])))
    columns = [f"tags.`{TAG}{keys.ARM}`", f"tags.`{TAG}{keys.PHASE}`"]
    columns += [f"metrics.`{name}`" for name in (*results, *searched, "diverged_members")]
    sections = {_SECTION: True, **({_SEARCHED: True} if is_searched else {})}
    sections |= {**({_FRESH: True} if study.confirms() else {}), _OTHERS: False, _SYSTEM: False}
    charts = [*_curves(study), *(_of_searched(study, searched, final) if is_searched else [])]
    if study.confirms():
        fresh = (on_test, final) if study.mode == "confirm" else (on_test,)
        charts += [_bars(_FRESH, name) for name in dict.fromkeys(fresh)]
    state = {
        "searchFilter": condition(study.name),
        "orderByKey": f"metrics.`{sorted_by(study)}`",
        "orderByAsc": not keys.higher_is_better(study.objective),
        "selectedColumns": columns,
        "columnOrder": [_RUN_NAME, _CREATED, *columns],
        "columnWidths": {
            _RUN_NAME: 300,
            **dict.fromkeys(columns, 120),
            **{f"metrics.`{name}`": 190 for name in results},  # as wide as what they are called
        },
        "runsHiddenMode": "SHOWALL" if study.mode == "map" else "FIRST_20_RUNS",
        "compareRunSections": [
            {"uuid": name, "name": name, "display": shown, "isReordered": False, "deleted": False}
            for name, shown in sections.items()
        ],
        "isAccordionReordered": True,
        "compareRunCharts": charts,
    }
    packed = zlib.compress(json.dumps(state).encode())  # as MLflow does; old servers keep 5,000
    return f"deflate;{base64.b64encode(packed).decode()}"


def sorted_by(study: Study) -> str:
    """The metric that the best runs are first by: that of the verdict where every run is on fresh
    seeds, else the one that points are chosen by."""
    return _final_on_test(study) if study.mode == "confirm" else f"final_{study.objective}"


def _final_on_test(study: Study) -> str:
    """The metric of the verdict, which only runs on fresh seeds have."""
    return f"final_{keys.on_test_set(study.objective)}"


def _numbers_searched(study: Study) -> list[str]:
    """The parameters that some arm searches and that are numbers, in the order of the space."""
    by_arm = [study.arm_space(arm).parameters for arm in study.arms]
    names = dict.fromkeys(name for parameters in by_arm for name in parameters)
    return [
        name
        for name in names
        if any(isinstance(p.get(name), FloatParameter | IntParameter) for p in by_arm)
        and not all(isinstance(p.get(name), ConstParameter) for p in by_arm)
    ]


def _card(kind: str, section: str, name: str, **entries: Any) -> dict[str, Any]:
    """A chart as MLflow describes it."""
    return {
        "uuid": f"{kind}-{name}",
        "type": kind,
        "metricSectionId": section,
        "deleted": False,
        "isGenerated": True,
        "runsCountToCompare": 100,
        "displayName": name,
        **entries,
    }


def _curves(study: Study) -> list[dict[str, Any]]:
    """The curves, that of the objective first."""
    of_validation = (keys.VALIDATION_ACCURACY, keys.VALIDATION_LOSS)
    shown = dict.fromkeys((study.objective, *of_validation, *_CURVES_SHOWN))
    return [
        _card(
            "LINE",
            _SECTION,
            name,
            metricKey=f"{CURVES}{name}",
            selectedMetricKeys=[f"{CURVES}{name}"],
            lineSmoothness=0,
            xAxisScaleType="linear",
            scaleType="linear",
            range={},
            xAxisKey="step",
            selectedXAxisMetricKey="",
            yAxisKey="metric",
            yAxisExpressions=[],
            ignoreOutliers=False,
            useGlobalXaxisKey=True,
            useGlobalLineSmoothing=True,
        )
        for name in shown
    ]


def _bars(section: str, name: str) -> dict[str, Any]:
    """A bar for each run that has a metric."""
    return _card("BAR", section, name, metricKey=name)


def _of_searched(study: Study, searched: list[str], final: str) -> list[dict[str, Any]]:
    """The objective over the values that were searched."""
    charts = []
    if study.mode == "map" and len(searched) > 1:
        axes = {axis: {"key": name, "type": "METRIC"} for axis, name in _axes(searched, final)}
        name = f"{study.objective} over {searched[0]} and {searched[1]}"
        charts.append(_card("CONTOUR", _SEARCHED, name, **axes))
    if len(searched) > 1:
        name = f"searched values and {study.objective}"
        metrics = [*searched, final]
        charts.append(
            _card(
                "PARALLEL",
                _SEARCHED,
                name,
                selectedParams=[],
                selectedMetrics=metrics,
                showAllRuns=True,
            )
        )
    for name in searched:
        axes = {"xaxis": {"key": name, "type": "METRIC"}, "yaxis": {"key": final, "type": "METRIC"}}
        charts.append(_card("SCATTER", _SEARCHED, f"{study.objective} over {name}", **axes))
    return charts


def _axes(searched: list[str], final: str) -> list[tuple[str, str]]:
    return [("xaxis", searched[0]), ("yaxis", searched[1]), ("zaxis", final)]
