"""The report as text, and the report in a real browser."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import studies.report
from studies.report import (
    Command,
    Estimate,
    Finding,
    Picture,
    Report,
    Section,
    TrialTable,
    render,
)
from tests.studies.browser import Chromium, Tab, chromium, console_of, needs_chromium

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
)
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="72pt" height="36pt"><path d="M0 0h9"/></svg>'
HOSTILE = (
    "</script><script>window.hacked=1</script><!--<script>\u2028\u2029'\"&amp;{{7*7}}"
    "<img src=x onerror=window.hacked=1>"
)
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


def trials(n: int = 60) -> pd.DataFrame:
    draws = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "arm": np.where(np.arange(n) % 3, "dynamical", "static"),
            "trial": np.arange(n) + 12_000,
            "period": pd.array(draws.integers(1_000, 90_000, n), dtype="Int64"),
            "learning_rate": 10 ** draws.uniform(-6, 1, n),
            "steps": 35_000,
            "gain": draws.normal(0, 0.1, n),
            "diverged": draws.random(n) < 0.2,
            "train_loss": draws.exponential(1, n),
            "run_id": [draws.bytes(16).hex() for _ in range(n)],
        }
    )
    frame.loc[frame["arm"] == "static", "period"] = pd.NA
    frame.loc[4, "train_loss"] = np.inf
    frame.loc[5, "train_loss"] = np.nan
    frame.loc[3, "run_id"] = None
    return frame


def report(name: str = "a study", table: pd.DataFrame | None = None, **changes: Any) -> Report:
    parts: dict[str, Any] = {
        "title": name,
        "question": f"Does {name} gain?",
        "facts": {"trials of " + name: "60"},
        "findings": [
            Finding(f"{outcome} {name}", outcome, Estimate(0.1, -0.1, 0.3, 0.02, name), {name: "n"})
            for outcome in ("better", "worse", "equivalent", "undecided", None)
        ],
        "warnings": ["3 diverged: see `dynloss status`", name],
        "sections": [
            Section(name, [name, "more"], [Picture(PNG, f"alt {name}", name), Picture(SVG, "map")]),
            Section("Best", table=pd.DataFrame({name: [name], "n": [1]}), table_caption="Best"),
        ],
        "trials": TrialTable(trials() if table is None else table, {}, "run_id", note=name),
        "study_file": f"name: {name}\nseed: 0\n",
        "commands": [Command("dynloss run study.yaml", f"Again, {name}:")],
        "provenance": {"version.torch": "2.15.0", "hardware.cpu": name, "commit": "aa5002573461"},
    }
    return Report(**{**parts, **changes})


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
    titles = ["Findings", "! Warnings", "a study", "Best", "All trials"]
    assert page.texts["h2"] == [*titles, "Study file", "Run it again", "Provenance"]
    text = re.sub(r"[ \n]+", " ", " ".join(page.texts["body"]))
    for expected in (
        *("Does a study gain?", "▲ Better", "▼ Worse", "= Equivalent", "? Undecided", "0 ± 0.02"),
        *("dynloss run study.yaml", "torch2.15.0", "commitaa5002573461", "seed: 0"),
        *("The same in every trial: steps 35\u202f000.", "The first 25 of 60 trials."),
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
    style = (Path(studies.report.__file__).parent / "report.css").read_text()
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
    with pytest.raises(ValueError, match="moves in the figure 'map' is no GIF"):
        Picture(PNG, "map", moving=PNG)


def test_text_stands_out_from_the_paper() -> None:
    """WCAG 2.2: 4.5 to 1 for text, 3 to 1 for the edges of controls."""

    def luminance(colour: str) -> float:
        parts = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    style = (Path(studies.report.__file__).parent / "report.css").read_text()
    schemes = [dict(re.findall(r"--([\w-]+): (#\w{6});", root)) for root in style.split(":root")]
    for colours in [scheme for scheme in schemes if scheme]:
        papers = [luminance(colours["paper"]), luminance(colours["raised"])]
        for name in ("ink", "soft", "link", "better", "worse", "equivalent", "undecided", "edge"):
            ink = luminance(colours[name])
            contrast = min((max(ink, p) + 0.05) / (min(ink, p) + 0.05) for p in papers)
            assert contrast >= (3 if name == "edge" else 4.5), name


# ---- In Chromium ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    with chromium() as started:
        yield started


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "report.html"
    path.write_text(render(report()), encoding="utf-8")
    return path


READY = "!document.querySelector('.controls').hidden"


def column(tab: Tab, name: str) -> list[str]:
    """The cells of a column, as shown."""
    texts = f"""(() => {{
        const table = document.getElementById("trial-table");
        const i = [...table.tHead.rows[0].cells].findIndex(h => h.textContent === "{name}");
        return [...table.tBodies[0].rows].map(row => row.cells[i].textContent);
    }})()"""
    found: list[str] = tab.evaluate(texts)
    return found


def click_header(tab: Tab, name: str) -> str:
    """Click a header; its aria-sort afterwards."""
    header = f"[...document.querySelectorAll('th')].find(h => h.textContent === '{name}')"
    sort: str = tab.evaluate(
        f"{header}.querySelector('button').click(), {header}.getAttribute('aria-sort')"
    )
    return sort


def type_filter(tab: Tab, text: str) -> str:
    """Type into the filter as a person would; what the table says it found."""
    tab.evaluate("document.getElementById('filter').select()")
    tab.evaluate("""window.drawn = new Promise(done => new MutationObserver(done).observe(
        document.querySelector('#trial-table tbody'), {childList: true})); null""")
    tab.call("Input.insertText", text=text)
    tab.evaluate("drawn.then(() => null)")
    return str(tab.evaluate("document.getElementById('found').textContent"))


@needs_chromium
def test_the_console_stays_silent(page: Path, tmp_path: Path) -> None:
    assert console_of(page, 1280, 900, tmp_path / "picture.png") == []
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


@needs_chromium
@pytest.mark.parametrize("name", ["a study", HOSTILE, "long" * 100])
@pytest.mark.parametrize("width", [1280, 390])
def test_it_fits_and_asks_for_nothing(
    browser: Chromium, tmp_path: Path, name: str, width: int
) -> None:
    path = tmp_path / "report.html"
    table = trials().rename(columns={"gain": name, "arm": f"arm {name}"})
    path.write_text(render(report(name, table)), encoding="utf-8")
    with browser.tab(path, width, 844) as tab:
        tab.wait_for(READY)
        assert tab.evaluate("document.documentElement.scrollWidth") == width
        assert tab.evaluate("window.hacked ?? null") is None
        assert tab.evaluate("[...document.images].every(i => i.naturalWidth > 0)")
        assert tab.console == []
        assert {request.split(":")[0] for request in tab.requests} == {"file", "data"}


@needs_chromium
def test_a_script_of_somebody_else_does_not_run(browser: Chromium, page: Path) -> None:
    with browser.tab(page, 1280, 900) as tab:
        tab.evaluate("""document.body.append(Object.assign(
            document.createElement("script"), {textContent: "window.hacked = 1"}))""")
        assert tab.evaluate("window.hacked ?? null") is None
        assert "Content Security Policy" in " ".join(tab.console)


@needs_chromium
def test_with_and_without_script_the_numbers_are_the_same(browser: Chromium, page: Path) -> None:
    body = "document.querySelector('#trial-table tbody').innerText"
    with browser.tab(page, 1280, 900, scripts=False) as tab:
        static = tab.evaluate(body)
        assert tab.evaluate("document.querySelector('.controls').hidden")
    with browser.tab(page, 1280, 900) as tab:
        tab.wait_for(READY)
        assert tab.evaluate(body) == static


@needs_chromium
def test_sorting(browser: Chromium, page: Path) -> None:
    table = trials()
    with browser.tab(page, 1280, 900) as tab:
        tab.wait_for(READY)
        tab.evaluate("document.getElementById('rows').value = '100'")
        assert click_header(tab, "train loss") == "ascending"
        by_loss = table.sort_values("train_loss")["trial"].astype(str).tolist()
        assert column(tab, "trial") == by_loss
        assert column(tab, "train loss")[-2:] == ["∞", "–"]
        assert click_header(tab, "train loss") == "descending"
        assert column(tab, "trial") == [*by_loss[-2::-1], by_loss[-1]], "what is missing stays last"
        assert click_header(tab, "train loss") == "none"
        assert column(tab, "trial") == table["trial"].astype(str).tolist()
        click_header(tab, "arm")
        assert column(tab, "arm") == sorted(table["arm"])
        assert tab.evaluate("document.querySelectorAll('[aria-sort=ascending]').length") == 1


@needs_chromium
def test_sorting_with_the_keyboard(browser: Chromium, page: Path) -> None:
    focused = "document.activeElement.parentElement"
    with browser.tab(page, 1280, 900) as tab:
        tab.wait_for(READY)
        tab.evaluate("document.querySelector('#trial-table th button').focus()")
        tab.press("Tab")
        assert tab.evaluate(f"{focused}.textContent") == "trial"
        tab.press("Enter", "\r")
        tab.press(" ", " ")
        assert tab.evaluate(f"{focused}.getAttribute('aria-sort')") == "descending"
        assert column(tab, "trial")[0] == "12059"


@needs_chromium
def test_filtering(browser: Chromium, page: Path) -> None:
    table = trials()
    static, fast = table["arm"] == "static", table["learning_rate"] > 0.001
    expected = {
        "static": static.sum(),
        "STATIC learning rate > 0.001": (static & fast).sum(),
        "learning_rate>0.001  arm != static": (fast & ~static).sum(),
        "diverged=yes": table["diverged"].sum(),
        "trial <= 12004": 5,
        "1205": 10,
        "gain<-0.1": (table["gain"] < -0.1).sum(),
        "trial>": 60,
        f"{table['run_id'][7][:12]}": 1,
        '"no such words"': 0,
    }
    with browser.tab(page, 1280, 900) as tab:
        tab.wait_for(READY)
        for text, count in expected.items():
            shown = "60 trials" if count == 60 else f"{count} of 60 trials"
            assert type_filter(tab, text) == shown, text
        assert tab.evaluate("document.getElementById('range').textContent") == "No trial matches"
        assert tab.console == []


@needs_chromium
def test_turning_pages(browser: Chromium, page: Path) -> None:
    def turn(to: str) -> tuple[str, str, list[str]]:
        button = f"document.querySelector('[data-page={to}]')"
        tab.evaluate(f"{button}.click()")
        disabled = "[...document.querySelectorAll('[data-page]:disabled')].map(b => b.dataset.page)"
        where = tab.evaluate("document.getElementById('range').textContent")
        return where, column(tab, "trial")[0], tab.evaluate(disabled)

    with browser.tab(page, 1280, 900) as tab:
        tab.wait_for(READY)
        assert turn("next") == ("26–50 of 60", "12025", [])
        assert turn("last") == ("51–60 of 60", "12050", ["next", "last"])
        assert turn("previous") == ("26–50 of 60", "12025", [])
        assert turn("first") == ("1–25 of 60", "12000", ["first", "previous"])
        turn("last")
        type_filter(tab, "static")
        assert tab.evaluate("document.getElementById('range').textContent") == "1–20 of 20"


@needs_chromium
def test_copying(browser: Chromium, page: Path) -> None:
    with browser.tab(page, 1280, 900) as tab:
        tab.wait_for(READY)
        tab.evaluate("navigator.clipboard.writeText = async text => { window.copied = text }")
        tab.evaluate("document.querySelector('#study-file .copy').click()")
        assert tab.evaluate("copied") == "name: a study\nseed: 0\n"
        tab.evaluate("document.querySelector('td.run button').click()")
        assert tab.evaluate("copied") == trials()["run_id"][0]


@needs_chromium
def test_dark_and_printed(browser: Chromium, page: Path) -> None:
    def colour(selector: str) -> str:
        style = f"getComputedStyle(document.querySelector('{selector}'))"
        return str(tab.evaluate(f"{style}.backgroundColor"))

    with browser.tab(page, 1280, 900, dark=True) as tab:
        tab.wait_for(READY)
        assert (colour("body"), colour(".card")) == ("rgb(23, 24, 26)", "rgb(255, 255, 255)")
        assert tab.evaluate("getComputedStyle(document.querySelector('nav')).display") == "block"
        tab.call("Emulation.setEmulatedMedia", media="print")
        assert colour("body") == "rgb(253, 253, 252)"
        assert tab.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
