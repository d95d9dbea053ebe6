"""The properties of `fuzz/`: on all that once broke one, on the seeds, and for a while on what a search finds."""

from __future__ import annotations

import importlib.util
import os
from importlib import import_module
from pathlib import Path

import pytest

from fuzz.run import FINDINGS, TARGETS, inputs, run

FOUND = [path for path in sorted(FINDINGS.glob("*/*")) if path.is_file()]

#: Inputs for each target: two or three seconds each on a machine of the development kind.
RUNS = {
    "mllp": 600, "message": 4_000, "path": 6_000, "ack": 4_000, "escape": 8_000, "yaml": 1_500, "channel": 60,
    "template": 1_500, "rest": 8_000, "http": 400, "validate": 1_000, "batch": 3_000,
}  # fmt: skip


def test_every_target_has_its_number_of_runs() -> None:
    assert set(RUNS) == set(TARGETS)
    assert {path.parent.name for path in FOUND} <= set(TARGETS)


@pytest.mark.parametrize("path", FOUND, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_what_was_found_once_is_mended(path: Path) -> None:
    import_module(f"fuzz.targets.{path.parent.name}").check(path.read_bytes())


@pytest.mark.parametrize("target", TARGETS)
def test_every_seed_holds(target: str) -> None:
    module = import_module(f"fuzz.targets.{target}")
    for content in inputs(target):
        module.check(content)


@pytest.mark.parametrize("target", TARGETS)
def test_a_bounded_search_finds_nothing(target: str, tmp_path: Path) -> None:
    """The same inputs every time: the seed is fixed and nothing is remembered."""
    if importlib.util.find_spec("atheris") is None:
        if os.environ.get("HL7ENGINE_REQUIRE_ALL") == "1":
            pytest.fail("atheris is not installed")
        pytest.skip("atheris is not installed (x86_64 Linux only)")
    outcome = run(target, tmp_path / "corpus", tmp_path / "found", runs=RUNS[target], seed=20_261_127)
    assert outcome.artifact is None, outcome.why
    assert outcome.executed >= RUNS[target]
    assert outcome.covered > 50, "the engine's code was not watched"
