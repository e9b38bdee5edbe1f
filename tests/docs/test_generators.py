"""What is made when the documentation is built: keys, commands, results, levels and public names."""

from __future__ import annotations

import json
import re
from importlib import import_module
from runpy import run_path

import pandas as pd
import pytest

from docs.generators import PARTS, fill
from docs.generators.both_sides import STUDIES, both_sides
from docs.generators.command_line import command_line, commands
from docs.generators.docstrings import as_restructured_text
from docs.generators.file_keys import keys_of_file
from docs.generators.levels import levels
from docs.generators.public_names import public_names
from docs.generators.result_pages import result_pages, results_table
from studies.definition.schemas import FileKind, schema_text
from tests.pages import PAGES, ROOT

RESULTS = ROOT / "studies" / "results"
LEVELS = run_path(str(ROOT / "tests" / "core" / "test_layers.py"))["LEVELS"]
GENERATED = re.compile(r"<!-- generated: (\S+)(?: (\S+))? -->")


@pytest.mark.parametrize("kind", ["study", "space"])
def test_every_key_is_there_with_its_description(kind: FileKind) -> None:
    text, schema = keys_of_file(kind), json.loads(schema_text(kind))
    mappings = [schema, *schema["$defs"].values()]
    assert len(re.findall(r"^## ", text, re.MULTILINE)) == len(mappings)
    for mapping in mappings:
        for key, value in mapping["properties"].items():
            assert f"\n`{key}`\n: *" in text
            said = value.get("description", "").rstrip(".")
            assert said[1:] in text
    assert ("\n`name`\n: *text, required.*" in text) == (kind == "study")
    for target in re.findall(r"\]\(#([\w-]+)\)", text):
        assert f"({target})=\n" in text


def test_every_option_is_there() -> None:
    text = command_line()
    for words, command in commands().items():
        _, _, section = text.partition(f"## `{words}`\n")
        section = section.partition("\n## ")[0]
        for option in [name for each in command.params for name in each.opts if name[0] == "-"]:
            assert option in section, (words, option)


def test_every_committed_study_has_a_page_with_its_numbers() -> None:
    pages = result_pages()
    assert set(pages) == {path.parent.name for path in RESULTS.glob("*/summary.json")}
    for name, page in pages.items():
        summary = json.loads((RESULTS / name / "summary.json").read_text())
        assert f"studies/{name}.md" in results_table()
        assert page.count("\n| ") == len(summary["verdicts"]) + bool(summary["verdicts"])
        for verdict in summary["verdicts"]:
            assert f"{verdict['test']['difference']:+.4f}" in page
        assert len(page.split()) <= 2500, name
    assert "+0.1611 [+0.1086, +0.2135] | 5 | 0.001 | better |" in pages["quickstart"]
    assert "The dynamical loss beats the static one: test accuracy 0.910" in pages["quickstart"]


def test_every_level_is_there_in_its_order() -> None:
    text = levels()
    for package, names in LEVELS.items():
        _, _, section = text.partition(f"## `{package}`\n")
        rows = re.findall(r"^\d+\. `(\w+)`", section.partition("\n## ")[0], re.MULTILINE)
        assert rows == names


@pytest.mark.parametrize(
    "package", [name for part, name in GENERATED.findall(str(PAGES)) if part == "names"]
)
def test_every_public_name_is_there(package: str) -> None:
    text = public_names(package)
    for name in import_module(package).__all__:
        assert f":: {package}.{name}\n" in text


def test_pages_ask_for_what_is_made() -> None:
    asked = {part for part, _ in GENERATED.findall(str(PAGES))}
    assert asked == set(PARTS)
    with pytest.raises(KeyError):
        fill("<!-- generated: nothing -->")


def test_docstrings_are_text_and_formulas_stay() -> None:
    lines = ["`F` of w_ and a * b, :math:`x_1`", "", ".. math:: a_ * b", "", "    c_", "d_ |"]
    as_restructured_text(None, "", "", None, None, lines)
    said = [
        r"``F`` of w\_ and a \* b, :math:`x_1`",
        "",
        ".. math:: a_ * b",
        "",
        "    c_",
        r"d\_ \|",
    ]
    assert lines == said


def test_both_sides_of_interpolation_are_counted_from_the_committed_tables() -> None:
    text = both_sides()
    for name, heading in STUDIES.items():
        assert (f"\n## {heading}\n" in f"\n{text}") == (RESULTS / name).exists()
    rows = text.partition(f"## {STUDIES['fashion_widths']}\n")[2].partition("\n## ")[0]
    members = pd.read_parquet(RESULTS / "fashion_widths" / "members.parquet")
    fresh = members[members["phase"].str.startswith("confirm") & (members["model.width"] == 32)]
    means = fresh.groupby("arm")[["train_accuracy", "test_accuracy"]].mean()
    training, test = (means.loc["classes"] - means.loc["static"]).to_numpy()
    fitting = fresh.assign(fits=fresh["train_accuracy"] == 1).groupby("arm")["fits"].mean()
    (row,) = [line for line in rows.splitlines() if line.startswith("| 32 ")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1] == f"{fitting['static']:.0%}, {fitting['classes']:.0%}"
    assert cells[2].startswith(f"{training:+.3f} [")
    assert cells[3].startswith(f"{test:+.4f} [")
