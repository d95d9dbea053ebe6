"""The harness of `make bench` itself, on short runs that say nothing but that it works: no figure is asserted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import report
from benchmarks.processes import LOAD, build, children, memory, memory_together, of_children

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", autouse=True)
def programs() -> None:
    build()


def run(tmp_path: Path, *words: str) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    found = tmp_path / "found.json"
    command = [sys.executable, "-m", "benchmarks", "--json", str(found), *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return done, json.loads(found.read_text())


def test_two_rows_give_a_table_and_a_file(tmp_path: Path) -> None:
    before = {name: (ROOT / name).read_bytes() for name in report.documents(json.loads(report.LATEST.read_text()))}
    words = ("--rows", "files", "main-1", "--seconds", "0.5", "--repeats", "1")
    done, found = run(tmp_path, *words)
    assert done.returncode == 0, done.stderr
    assert [row["row"] for row in found["rows"]] == ["files", "main-1"]
    main = found["rows"][1]
    settled, p50, p99 = main["lines"]
    assert settled["samples"] == [main["lines"][0]["median"]]
    assert settled["against"]["median"] > 0
    assert settled["ratio"]["median"] == pytest.approx(settled["median"] / settled["against"]["median"], rel=0.01)
    assert (p50["aim"], p99["unit"]) == ("≤ 0.5", "ms")
    facts = main["facts"]
    assert facts["durability"] == "journal_mode=wal synchronous=FULL"
    assert 0 < facts["messages_per_fsync"] < 3  # one sender: every commit has one message, or its outcome
    assert set(facts["cpu"]) == {"engine", "writing", "load generator", "sink"}
    assert [run["what"] for run in main["runs"]] == ["engine", "hl7.mllp", "append"]
    assert report.markdown(found) in done.stdout
    assert {name: (ROOT / name).read_bytes() for name in before} == before, "a short run changed the documents"


def test_two_engines_run_at_the_same_time_beside_one(tmp_path: Path) -> None:
    done, found = run(tmp_path, "--rows", "two-processes", "--seconds", "0.6", "--repeats", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    [row] = found["rows"]
    [line] = row["lines"]
    both = next(one for one in row["runs"] if one["what"] == "two")
    assert line["samples"] == [pytest.approx(sum(one["settled_per_s"] for one in both["each"]), rel=0.01)]
    assert line["ratio"]["samples"] == [pytest.approx(line["median"] / line["against"]["median"], rel=0.01)]
    assert [len(one["backlog"]) for one in both["each"]] == [4, 4]


def test_an_engine_is_measured_with_and_without_the_process_that_writes(tmp_path: Path) -> None:
    done, found = run(tmp_path, "--rows", "writing-process", "--seconds", "0.6", "--repeats", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    [row] = found["rows"]
    assert [line["figure"] for line in row["lines"]] == ["settled", "processor for each message, of both"]
    apart, alone = row["runs"]
    assert (apart["what"], alone["what"], alone["cpu"]["writing"]) == ("true", "false", 0.0)


#: What an engine's child does: uses memory and processor, syncs, and ends when it is told.
CHILD = """
import os, sys, time
held = bytearray(b"x" * 30_000_000)
while time.process_time() < 0.3: pass
with open(sys.argv[1], "wb") as file:
    for _ in range(5): os.fdatasync(file.fileno())
print("done", flush=True)
sys.stdin.read()
"""
#: Has that child, syncs once itself, and lets the child end when it is told.
PARENT = """
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", *sys.argv[1:]], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
child.stdout.readline()
with open(sys.argv[2], "wb") as file:
    os.fsync(file.fileno())
print("done", flush=True)
sys.stdin.readline()
child.communicate()
print("done", flush=True)
sys.stdin.readline()
"""


def test_a_process_that_an_engine_has_started_is_counted_also_when_it_has_ended(tmp_path: Path) -> None:
    counts = tmp_path / "counts"
    environment = os.environ | {"LD_PRELOAD": str(LOAD / "syncs.so"), "LD_SYNCS_FILE": str(counts)}
    command = [sys.executable, "-c", PARENT, CHILD, str(tmp_path / "file")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, env=environment, text=True, **pipes) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline()
        assert int.from_bytes(counts.read_bytes()[:8], sys.byteorder) == 6
        assert len(children(process.pid)) == 1
        assert memory_together(process.pid) > memory(process.pid) + 30
        during = of_children(process.pid)
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline()
        assert children(process.pid) == []
        assert memory_together(process.pid, "VmHWM") == memory(process.pid, "VmHWM")
        assert of_children(process.pid) >= during - 0.01 >= 0.25  # ticks of a hundredth


def test_requests_of_the_reference_site_are_answered_while_they_are_measured(tmp_path: Path) -> None:
    done, found = run(tmp_path, "--rows", "slots-1", "booking", "--seconds", "0.3", "--repeats", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    slots, booking = found["rows"]
    assert [line["figure"] for line in slots["lines"]] == ["exchanges", "caller's view, p50"]
    assert slots["facts"]["messages_per_fsync"] < 1.5  # one caller: an outcome is committed before each answer
    assert booking["facts"]["fsyncs_per_s"] > 0


def test_a_row_that_fails_is_told_and_the_rest_goes_on(tmp_path: Path) -> None:
    code = """
import sys
from benchmarks import rows, __main__ as main
def broken(bench): raise RuntimeError("as planned")
main.ROWS = (rows.Row("files", "Broken", broken), *(row for row in rows.ROWS if row.name == "generator"))
import benchmarks.rows.ceilings as ceilings
ceilings.median_of = lambda bench, row, figure: 1000.0
sys.exit(main.main())
"""
    found = tmp_path / "found.json"
    words = ["--rows", "files", "generator", "--seconds", "0.2", "--repeats", "1", "--json", str(found)]
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    first, second = json.loads(found.read_text())["rows"]
    assert first["error"] == "RuntimeError: as planned"
    assert [line["figure"] for line in second["lines"]] == ["MLLP, 32 connections", "HTTP, 8 connections"]
    assert "failed: files" in done.stdout


def test_fsyncs_are_counted_as_the_kernel_is_asked_for_them(tmp_path: Path) -> None:
    code = """
import os, sqlite3, sys
with open(sys.argv[1] + "/file", "wb") as file:
    for _ in range(7):
        os.fdatasync(file.fileno())
    os.fsync(file.fileno())
    try:
        os.fsync(file.fileno() + 90)  # fails: not counted
    except OSError:
        pass
"""
    counts = tmp_path / "counts"
    environment = os.environ | {"LD_PRELOAD": str(LOAD / "syncs.so"), "LD_SYNCS_FILE": str(counts)}
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=environment, check=True)
    assert int.from_bytes(counts.read_bytes()[:8], sys.byteorder) == 8
    assert int.from_bytes(counts.read_bytes()[8:16], sys.byteorder) > 0
