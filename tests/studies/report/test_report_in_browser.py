"""The report in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

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
        assert tab.evaluate("document.getElementById('range').textContent") == "No trial matches"
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
def test_a_dark_scheme_is_followed_and_paper_is_light(browser: Chromium, page: Path) -> None:
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
