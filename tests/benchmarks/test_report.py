"""What README and docs say was measured is what the committed results hold."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks import machine, report, stored
from benchmarks.finding import Aim, Line, at_least, at_most, medians, number
from benchmarks.rows import ROWS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def latest() -> dict[str, Any]:
    return dict(json.loads(report.LATEST.read_text()))


@pytest.mark.parametrize("name", ["README.md", "docs/figures.md", "docs/throughput.svg"])
def test_documents_show_the_committed_results(latest: dict[str, Any], name: str) -> None:
    made = report.documents(latest)[name]
    assert (ROOT / name).read_text() == made, f"{name}: run python -m benchmarks.report"


@pytest.mark.parametrize("name", ["docs/figures.md", "docs/stored.svg"])
def test_documents_show_the_committed_results_beside_years_of_messages(name: str) -> None:
    made = stored.documents(json.loads(stored.LATEST.read_text()))[name]
    assert (ROOT / name).read_text() == made, f"{name}: run python -m benchmarks.stored"


def test_the_committed_results_are_of_rows_that_exist_with_machine_commit_and_durability(
    latest: dict[str, Any],
) -> None:
    assert {row["row"] for row in latest["rows"]} <= {row.name for row in ROWS}
    assert re.fullmatch("[0-9a-f]{40}", latest["commit"])
    assert {"processor", "cores", "disk", "python", "sqlite", "load_before"} <= latest["machine"].keys()
    assert report.durability(latest) == "journal_mode=wal synchronous=FULL"


@pytest.mark.parametrize("name", ["throughput", "stored"])
def test_charts_are_whole_and_stay_inside_their_frame(name: str) -> None:
    drawing = ElementTree.parse(ROOT / "docs" / f"{name}.svg").getroot()
    _, _, width, height = map(float, drawing.attrib["viewBox"].split())
    for shape in drawing.iter():
        for x, y in (("x", "y"), ("cx", "cy"), ("x1", "y1"), ("x2", "y2")):
            if x in shape.attrib:
                assert 0 <= float(shape.attrib[x]) <= width
                assert 0 <= float(shape.attrib[y]) <= height


def test_a_run_in_which_everything_failed_still_makes_every_document(latest: dict[str, Any]) -> None:
    broken = [{**row, "lines": [], "facts": {}, "error": "RuntimeError: no"} for row in latest["rows"]]
    made = report.documents({**latest, "rows": broken})
    assert made["README.md"].count("failed: RuntimeError: no") > 10
    assert ElementTree.fromstring(made["docs/throughput.svg"]) is not None


def test_a_row_that_failed_says_so_and_a_missed_aim_is_one() -> None:
    failed = {"row": "x", "title": "X", "lines": [], "error": "RuntimeError: no", "took_s": 1}
    assert "failed: RuntimeError: no" in report.markdown({"rows": [failed]})
    slow = Line("settled", "messages/s", [10, 30, 20], at_least(25), "other", [10, 10, 10], at_least(1.5))
    row = {"row": "y", "title": "Y", "took_s": 1, "lines": [slow.as_json()]}
    assert report.misses(row)
    [cells] = report.cells(row)
    assert cells[2:] == ("20 messages/s (10 to 30)", "≥ 25: missed", "other: 10 (10 to 10)", "2 (1 to 3) · ≥ 1.5: met")
    assert not report.misses({"row": "z", "lines": [Line("p50", "ms", [0.4], at_most(0.5)).as_json()]})


def test_ratios_are_those_of_the_rounds_and_numbers_are_short() -> None:
    assert Line("a", "b", [2.0, 9.0], None, "c", [1.0, 3.0]).ratios == [2.0, 3.0]
    assert Line("a", "b", [2.0, 6.0, 4.0], None, "c", [2.0]).ratios == [2.0]
    assert Aim(at_most=3).met(3.0)
    assert [number(value) for value in (12345.6, 45.123, 4.526, 0.5234, 0.00432, 7)] == [
        "12,350",
        "45.1",
        "4.53",
        "0.52",
        "0.0043",
        "7",
    ]


@pytest.mark.parametrize(
    ("variables", "prefix", "told"),
    [
        ({"CONFIG_ARGS": "'--enable-optimizations' '--with-lto'"}, "/usr/local", "optimised: PGO, LTO"),
        ({"CONFIG_ARGS": "'--enable-optimizations' '--with-lto=no'"}, "/usr/local", "optimised: PGO"),
        ({"PY_CORE_CFLAGS": "-O3 -fprofile-use", "CONFIG_ARGS": ""}, "/opt/python", "optimised: PGO"),
        # What a build could use says nothing of what it used.
        ({"CONFIG_ARGS": "'--enable-shared'", "PGO_PROF_USE_FLAG": "-fprofile-use"}, "/some/python", "not optimised"),
        ({"CONFIG_ARGS": "'--prefix=/usr'", "CFLAGS": "-O2"}, "/usr", "built by the distribution, flags unknown"),
        ({}, "/usr", "build unknown"),
    ],
)
def test_how_the_interpreter_was_built(variables: dict[str, str], prefix: str, told: str) -> None:
    assert machine.built(variables, prefix) == told


def test_a_result_says_how_the_interpreter_was_built_and_what_a_call_takes() -> None:
    found = {"python": "3.11.2", "python_build": "optimised: PGO, LTO", "python_call_ns": 39.4}
    assert report.interpreter(found) == "Python 3.11.2 (optimised: PGO, LTO; a call takes 39 ns)"
    assert machine.call() > 0


def test_costs_show_the_backlog_quarter_by_quarter() -> None:
    assert [report.numbered(found) for found in (None, 12.0, [310.0, 1298.0])] == ["", "12", "310, 1,298"]
    assert medians([{"backlog": [1, 5]}, {"backlog": [3, 4]}, {"backlog": [2, 9]}], "backlog") == {"backlog": [2, 5]}


def test_a_page_without_its_marks_is_refused() -> None:
    assert (
        report.put("a <!-- x: begin -->old<!-- x: end --> b", "x", "new")
        == "a <!-- x: begin -->\nnew\n<!-- x: end --> b"
    )
    with pytest.raises(ValueError, match="no place for x"):
        report.put("nothing", "x", "new")


def test_an_installation_tells_of_a_python_without_optimisation_only() -> None:
    assert "compiled without optimisation" in machine.advice("not optimised")
    assert not machine.advice("optimised: PGO")
    assert not machine.advice("built by the distribution, flags unknown")
