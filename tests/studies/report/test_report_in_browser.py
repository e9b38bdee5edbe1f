"""The report in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure

from studies.analysis.figures.files import page_image
from studies.analysis.figures.style import headline, hover, panel_figure
from studies.report.page.document import Finding, Glance, Picture, Report, Section, TrialTable
from studies.report.page.html import render
from tests.studies.report.browser import Chromium, Tab, chromium, console_of, needs_chromium
from tests.studies.report.example import HOSTILE, report, trials


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

QUALIFIED = "better by these pairs alone, which is withheld"
CURVES = {"metric": "gain", "steps": [0, 5, 9], "values": [[0.1, 0.2, n / 60] for n in range(60)]}


def figure_with_spots() -> Figure:
    with panel_figure(2, 3.0) as (figure, panels):
        hover(panels[0], (0.0, 0.5, 0.0, 1.0), "first cell")
        hover(panels[1], (0.0, 0.5, 0.0, 1.0), "second cell")
        headline(figure, "A map")
    return figure


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
def test_a_header_sorts_up_then_down_then_not_at_all(browser: Chromium, page: Path) -> None:
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
def test_a_header_sorts_by_keyboard(browser: Chromium, page: Path) -> None:
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
def test_the_filter_takes_words_and_comparisons(browser: Chromium, page: Path) -> None:
    table = trials()
    static, fast = table["arm"] == "static", table["learning_rate"] > 0.001
    expected = {
        "static": static.sum(),
        "STATIC learning rate > 0.001": (static & fast).sum(),
        "learning_rate>0.001  arm != static": (fast & ~static).sum(),
        "diverged=yes": table["diverged"].sum(),
        "trial <= 12004": 5,
        "trial <= 12 004": 5,
        "trial = 12\u202f004": 1,
        "12 004": 1,
        "learning_rate > 0.001 and arm != static": (fast & ~static).sum(),
        "arm == static": static.sum(),
        "trial == 12004": 1,
        "arm = static or trial <= 12004": (static | (table["trial"] <= 12004)).sum(),
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
        assert tab.evaluate("document.getElementById('range').textContent") == "No row matches"
        reasons = {
            "nosuch > 3": "there is no column “nosuch” to compare",
            "trial > abc": "“abc” is not a number",
            "learning rate > 1,5": "“1,5” is not a number",
            "20 < trial": "there is no column “20” to compare",
            "> 3": "a comparison begins with a column",
        }
        for text, reason in reasons.items():
            type_filter(tab, "arm = static")  # so that rows go
            assert type_filter(tab, text) == "0 of 60 trials", text
            said = tab.evaluate("document.getElementById('range').textContent")
            assert said == f"No row matches: {reason}"
        assert tab.console == []


@needs_chromium
def test_buttons_turn_pages_of_what_is_filtered(browser: Chromium, page: Path) -> None:
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
def test_buttons_copy_the_study_file_and_a_run(browser: Chromium, page: Path) -> None:
    with browser.tab(page, 1280, 900) as tab:
        tab.wait_for(READY)
        tab.evaluate("navigator.clipboard.writeText = async text => { window.copied = text }")
        tab.evaluate("document.querySelector('#study-file .copy').click()")
        assert tab.evaluate("copied") == "name: a study\nseed: 0\n"
        tab.evaluate("document.querySelector('td.run button').click()")
        assert tab.evaluate("copied") == trials()["run_id"][0]


@needs_chromium
def test_a_dark_scheme_is_followed_without_white_slabs(browser: Chromium, page: Path) -> None:
    def colour(selector: str) -> str:
        style = f"getComputedStyle(document.querySelector('{selector}'))"
        return str(tab.evaluate(f"{style}.backgroundColor"))

    with browser.tab(page, 1280, 900, dark=True) as tab:
        tab.wait_for(READY)
        assert (colour("body"), colour(".card")) == ("rgb(23, 24, 26)", "rgba(0, 0, 0, 0)")
        turned = "getComputedStyle(document.querySelector('.card img')).filter"
        assert tab.evaluate(turned) == "invert(0.909) hue-rotate(180deg)"
        assert tab.evaluate("getComputedStyle(document.querySelector('nav')).display") == "block"
        tab.call("Emulation.setEmulatedMedia", media="print")
        assert colour("body") == "rgb(253, 253, 252)"
        assert tab.evaluate(turned) == "none"
        assert tab.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"


@needs_chromium
def test_the_verdict_its_warnings_and_looks_are_on_the_first_screen(
    browser: Chromium, tmp_path: Path
) -> None:
    row = Glance("dynamical, static", "+0.1 [-0.1, +0.3]", "97.5%", "8 seeds", 2, "0.4", QUALIFIED)
    finding = Finding("Undecided", "undecided", warnings=("few seeds",), glance=row)
    path = tmp_path / "report.html"
    path.write_text(render(report(findings=[finding])), encoding="utf-8")
    for width in (1400, 390):
        with browser.tab(path, width, 844) as tab:
            tab.wait_for(READY)
            shown = tab.evaluate("document.getElementById('verdict').innerText")
            for words in ("Undecided", QUALIFIED, "few seeds", "97.5%"):
                assert words in shown
            end = "document.getElementById('verdict').getBoundingClientRect().bottom"
            assert tab.evaluate(end) < 844
            look = "document.querySelector('.glance td:nth-child(6)').textContent"
            assert tab.evaluate(look) == "2"


@needs_chromium
def test_charts_show_what_the_table_shows_and_tell_of_a_trial(
    browser: Chromium, tmp_path: Path
) -> None:
    table = TrialTable(trials(), axes=["learning_rate", "gain"], curves=CURVES)
    path = tmp_path / "report.html"
    path.write_text(render(report(trials=table)), encoding="utf-8")
    with browser.tab(path, 1280, 900) as tab:
        tab.wait_for(READY)
        for row, chart in enumerate(("parallel", "curves")):  # the second goes on from the first
            canvas = f"document.querySelector('#{chart} [role=img]')"
            tab.evaluate(f"{canvas}.focus()")
            tab.press("ArrowRight")
            told = tab.evaluate(f"document.querySelector('#{chart} .told').textContent")
            assert f"trial {12_000 + row}" in told
            assert tab.evaluate("document.querySelector('tr.current').dataset.row") == str(row)
        type_filter(tab, "trial > 12 058")
        tab.evaluate("document.querySelector('#parallel [role=img]').focus()")
        tab.press("ArrowRight")
        told = tab.evaluate("document.querySelector('#parallel .told').textContent")
        assert "trial 12059" in told
        assert tab.console == []


@needs_chromium
@pytest.mark.parametrize("width", [1280, 390])
def test_a_figure_tells_what_its_parts_hold(browser: Chromium, tmp_path: Path, width: int) -> None:
    wide, narrow = (
        page_image(figure_with_spots, "sans-serif", narrow=narrow) for narrow in (False, True)
    )
    picture = Picture(
        wide.svg, "a map", "how", "A map", narrow.svg, spots=wide.spots, narrow_spots=narrow.spots
    )
    path = tmp_path / "report.html"
    path.write_text(render(report(sections=[Section("Map", pictures=[picture])])), encoding="utf-8")
    with browser.tab(path, width, 844) as tab:
        tab.wait_for(READY)
        shown = tab.evaluate("document.querySelector('.card img').currentSrc")
        assert shown == (picture.source if width > 640 else picture.narrow_source)
        tab.evaluate("document.querySelector('[data-spots]').focus()")
        for text in ("first cell", "second cell"):
            tab.press("ArrowRight")
            assert tab.evaluate("document.querySelector('.hint').textContent") == text
        box = "document.querySelector('.spot').getBoundingClientRect()"
        x, y = tab.evaluate(f"[{box}.x + {box}.width / 2, {box}.y + {box}.height / 2]")
        tab.press("Escape")
        assert tab.evaluate("document.querySelector('.hint').hidden")
        tab.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        assert tab.evaluate("document.querySelector('.hint').textContent") == "second cell"


def long_report() -> Report:
    """Of a study with many verdicts, a long table, and runs that open in `dynloss ui`."""
    row = Glance("dynamical, static", "+0.1 [-0.1, +0.3]", "95%", "8 seeds", 1, "0.4")
    verdicts = [Finding(f"Verdict {n}", "undecided", glance=row) for n in range(1, 8)]
    others = [Finding(f"Finding {n}") for n in range(1, 11)]
    rows = Section("Rows", table=pd.DataFrame({"n": range(40)}), table_caption="Many")
    few = Section("Few", table=pd.DataFrame({"n": range(4)}), table_caption="Many")
    table = TrialTable(
        trials(), run_column="run_id", tracking_uri="http://127.0.0.1:5000", moves=True, reruns=2
    )
    return report(findings=[*verdicts, *others], sections=[rows, few], trials=table)


@pytest.fixture
def long_page(tmp_path: Path) -> Path:
    path = tmp_path / "report.html"
    path.write_text(render(long_report()), encoding="utf-8")
    return path


@needs_chromium
@pytest.mark.parametrize("width", [1280, 390])
def test_long_lists_and_tables_are_folded_until_somebody_asks(
    browser: Chromium, long_page: Path, width: int
) -> None:
    is_open = "[...document.querySelectorAll('.fold')].map(fold => fold.open)"
    with browser.tab(long_page, width, 844) as tab:
        tab.wait_for(READY)
        lines = "[...document.querySelectorAll('.fold > summary')].map(line => line.textContent)"
        assert tab.evaluate(lines) == [
            "7 verdicts in full, with their intervals and warnings",
            "2 more findings",
            "The table: 40 rows",
        ]
        assert tab.evaluate(is_open) == [False] * 3
        tab.evaluate("document.querySelectorAll('.fold > summary')[1].focus()")
        tab.press("Enter", "\r")
        assert tab.evaluate(is_open) == [False, True, False]
        tab.evaluate("document.querySelector('.glance a[href=\"#finding-7\"]').click()")
        tab.wait_for("document.querySelector('.fold').open")
        seen = "document.getElementById('finding-7').getBoundingClientRect()"
        tab.wait_for(f"{seen}.top >= 0 && {seen}.bottom <= innerHeight")
        tab.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert tab.evaluate(is_open) == [True] * 3
        tab.evaluate("dispatchEvent(new Event('afterprint'))")
        assert tab.evaluate(is_open) == [True, True, False]
        assert tab.evaluate("document.documentElement.scrollWidth") == width
        assert tab.console == []


@needs_chromium
def test_runs_open_on_the_port_that_a_reader_gives(browser: Chromium, long_page: Path) -> None:
    links = "[...document.querySelectorAll('td.run a')].map(link => link.href)"
    for given in ("5611", ""):  # the second time the page knows it
        with browser.tab(long_page, 1280, 844) as tab:
            tab.wait_for(READY)
            if given:
                assert all(":5000/#/runs/" in link for link in tab.evaluate(links))
                tab.evaluate("document.getElementById('port').select()")
                tab.call("Input.insertText", text=given)
            assert all(":5611/#/runs/" in link for link in tab.evaluate(links))
            assert tab.evaluate("document.getElementById('found').textContent") == (
                "58 trials, 2 reruns"
            )
            assert type_filter(tab, "trial < 12003") == "1 of 58 trials, 2 reruns"
            assert tab.console == []
