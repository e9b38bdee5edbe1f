"""The report as text."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import studies.report.page
from studies.report.page.document import Estimate, Finding, Picture, Report, Section, TrialTable
from studies.report.page.html import render
from tests.studies.report.example import HOSTILE, PNG, SVG, report, trials

VOID = {"meta", "img", "input", "br", "line", "rect", "circle"}


class Page(HTMLParser):
    """Elements in order, as (tag, attributes); refuses tags that do not nest."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"an attribute of <{tag}> is repeated"
        self.elements.append((tag, dict(attrs)))
        self.texts.setdefault(tag, []).append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        for tag in set(self.open):
            self.texts[tag][-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def attributes(self, name: str) -> list[str]:
        return [a[name] or "" for _, a in self.elements if name in a]


def data_of(page: Page) -> dict[str, Any]:
    (script,) = (
        text
        for text, about in zip(page.texts["script"], page.all("script"), strict=True)
        if about.get("id") == "trial-data"
    )
    parsed: dict[str, Any] = json.loads(script)
    return parsed


def test_every_part_is_there() -> None:
    html = render(report())
    page = Page(html)
    assert page.texts["h1"] == ["a study"]
    titles = ["! Warnings", "Findings", "a study", "Best", "All trials"]
    assert page.texts["h2"] == [*titles, "Study file", "Run it again", "Provenance"]
    text = re.sub(r"[ \n]+", " ", " ".join(page.texts["body"]))
    for expected in (
        *("Does a study gain?", "▲ Better", "▼ Worse", "= Equivalent", "? Undecided", "0 ± 0.02"),
        *("dynloss run study.yaml", "torch2.15.0", "commitaa5002573461", "seed: 0"),
        *("The same in every trial: steps 35\u202f000.", "The first 25 of 60 rows."),
    ):
        assert expected in text
    assert "<code>dynloss status</code>" in html, "backquotes set code"


def test_an_empty_report_is_a_page_too() -> None:
    page = Page(render(Report("nothing yet")))
    assert not page.texts.get("h2")
    nothing = Finding("", "undecided", Estimate(0.1, float("nan"), 1))
    assert "<svg" not in render(Report("", findings=[nothing]))
    assert "No trial has finished" in render(Report("", trials=TrialTable(pd.DataFrame())))
    Page(render(Report("", trials=TrialTable(pd.DataFrame({"trial": [1]})))))


@pytest.mark.parametrize("name", ["a study", HOSTILE])
def test_it_is_sound_and_accessible(name: str) -> None:
    page = Page(render(report(name)))
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))
    assert {link[1:] for link in page.attributes("href") if link[0] == "#"} <= set(ids)
    assert set(page.attributes("aria-labelledby") + page.attributes("aria-describedby")) <= set(ids)
    assert page.all("html") == [{"lang": "en"}]
    for landmark in ("header", "nav", "main", "footer", "h1", "title"):
        assert len(page.all(landmark)) == 1
    assert all(image["alt"] for image in page.all("img"))
    assert all(header["scope"] for header in page.all("th"))
    assert page.all("label")[0]["for"] == "filter"


@pytest.mark.parametrize("name", ["a study", HOSTILE])
def test_it_loads_nothing(name: str) -> None:
    html = render(report(name))
    page = Page(html)
    assert not {"link", "iframe", "object", "embed", "base", "form"} & {t for t, _ in page.elements}
    assert all(source.startswith("data:image/") for source in page.attributes("src"))
    assert not page.attributes("style")
    assert not [a for _, each in page.elements for a in each if a.startswith("on")]
    style = (Path(studies.report.page.__file__).parent / "report.css").read_text()
    assert not re.search(r"url\(|@import|https?:", style)
    (policy,) = (about["content"] for about in page.all("meta") if "http-equiv" in about)
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:; ")
    assert "unsafe" not in policy


def test_names_cannot_break_out() -> None:
    table = trials().rename(columns={"gain": HOSTILE})
    table["arm"] = np.where(table["arm"] == "static", HOSTILE, "dynamical")
    html = render(report(HOSTILE, table, study_file="\ud800"))
    page = Page(html)
    kinds = [about.get("type") for about in page.all("script")]
    assert kinds == ["application/json", None]
    assert len(page.all("img")) == 2
    assert "window.hacked=1</script>" not in html
    assert not set("<>&\u2028\u2029") & set(page.texts["script"][0])
    columns = {column["name"]: column for column in data_of(page)["columns"]}
    assert HOSTILE in columns
    assert HOSTILE in columns["arm"]["levels"]
    assert page.texts["h1"] == [HOSTILE]
    html.encode("utf-8")


def cells(values: list[Any]) -> list[str]:
    """How a column of these values is shown."""
    section = Section("numbers", table=pd.DataFrame({"column": values}))
    return Page(render(Report("", sections=[section]))).texts["td"]


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([0.5, 0.91234567], ["0.5000", "0.9123"]),
        ([1.5, 35.0, 140.0], ["1.5", "35.0", "140.0"]),
        ([0.1, 0.13, 10.0], ["0.10", "0.13", "10.00"]),
        ([1.0394, 22.929364, 140.0], ["1.04", "22.93", "140.00"]),
        ([1e-5, 0.0123456, 3.0], ["1e−5", "0.01235", "3"]),
        ([1234567, -20, None], ["1\u202f234\u202f567", "−20", "–"]),
        ([0.25, np.nan, -np.inf], ["0.25", "–", "−∞"]),
        ([0.0, 0.0], ["0", "0"]),
        ([2**60 + 1, 1], [str(2**60 + 1), "1"]),
        ([True, False, None], ["yes", "no", "–"]),
        (["relu", None], ["relu", "–"]),
        ([pd.Timestamp("2025-11-24 21:57"), pd.NaT], ["2025-11-24 21:57:00", "–"]),
        ([[1, 2], {"a": 1}], ["[1, 2]", "{'a': 1}"]),
    ],
)
def test_values_as_people_write_them(values: list[Any], shown: list[str]) -> None:
    assert cells(values) == shown


def test_the_table_is_embedded_compactly() -> None:
    table = pd.DataFrame(
        {
            "period": pd.array([10, 500, None, 10] * 4, dtype="Int64"),
            "loss": [1 / 3, np.nan, np.inf, 2.0] + [0.1234567891 + i for i in range(12)],
        }
    )
    period, loss = data_of(Page(render(report(table=table))))["columns"]
    assert (period["levels"], period["codes"][:4]) == ([10, 500], [0, 1, -1, 0])
    assert loss["values"][:5] == [0.3333333, None, np.inf, 2, 0.1234568]


def test_a_hundred_thousand_trials_fit() -> None:
    draws = np.random.default_rng(0)
    table = trials(100_000)
    for i in range(8):
        table[f"metric_{i}"] = draws.random(len(table))
    html = render(report(table=table))
    assert len(html.encode()) < 25e6
    assert html.count("<tr>") < 100


@pytest.mark.parametrize(
    ("uri", "experiment", "prefix"),
    [
        ("http://u:secret@mlflow.example:5000/", "7", "http://mlflow.example:5000/#/experiments/7"),
        ("https://mlflow.example/team", None, "https://mlflow.example/team/#"),
        ("sqlite:///mlflow.db", "7", None),
        ("javascript:alert(1)//", "7", None),
        ("http://[bad", "7", None),
        (None, "7", None),
    ],
)
def test_runs_are_links_only_to_a_server(
    uri: str | None, experiment: str | None, prefix: str | None
) -> None:
    table = TrialTable(trials(), {}, "run_id", uri, experiment)
    html = render(report(trials=table))
    run = trials()["run_id"][0]
    links = [link for link in Page(html).attributes("href") if link[0] != "#"]
    if prefix is None:
        assert not links
        assert f"<code>{run}</code>" in html
    else:
        assert links[0] == f"{prefix}/runs/{run}"
        assert len(links) == 24, "one of the first 25 has no run"
    assert "secret" not in html


def test_figures_have_their_size_and_must_be_images() -> None:
    assert Picture(SVG, "").size == (96, 48)
    assert Picture(b"<svg></svg>", "").size is None
    assert Picture(PNG, "").size == (1, 1)
    with pytest.raises(ValueError, match="'a map' is neither a PNG nor an SVG"):
        Picture(b"GIF89a", "a map")


def test_a_figure_of_150_dots_an_inch_is_as_wide_as_it_says(tmp_path: Path) -> None:
    Figure(figsize=(4, 2), dpi=150).savefig(tmp_path / "figure.png")
    assert Picture((tmp_path / "figure.png").read_bytes(), "").size == (384, 192)


def test_nothing_moves_until_it_is_asked_to() -> None:
    moving = Picture(PNG, "a valley", moving=b"GIF89a")
    html = render(Report("", sections=[Section("moving", pictures=[moving, Picture(PNG, "map")])]))
    page = Page(html)
    (details,) = page.all("details")
    assert "open" not in details
    inside = html[html.index("<details") : html.index("</details>")]
    assert [inside.count("data:image/gif"), html.count("data:image/gif")] == [1, 1]
    assert html.count("data:image/png") == 2, "its still, and the map"
    assert "Play the animation" in inside
    assert all(image["alt"] for image in page.all("img"))
    with pytest.raises(ValueError, match="animation of the figure 'map' is not a GIF"):
        Picture(PNG, "map", moving=PNG)


def test_text_stands_out_from_the_paper() -> None:
    """WCAG 2.2: 4.5 to 1 for text, 3 to 1 for the edges of controls."""

    def luminance(colour: str) -> float:
        parts = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    style = (Path(studies.report.page.__file__).parent / "report.css").read_text()
    schemes = [dict(re.findall(r"--([\w-]+): (#\w{6});", root)) for root in style.split(":root")]
    for colours in [scheme for scheme in schemes if scheme]:
        papers = [luminance(colours["paper"]), luminance(colours["raised"])]
        for name in ("ink", "soft", "link", "better", "worse", "equivalent", "undecided", "edge"):
            ink = luminance(colours[name])
            contrast = min((max(ink, p) + 0.05) / (min(ink, p) + 0.05) for p in papers)
            assert contrast >= (3 if name == "edge" else 4.5), name
