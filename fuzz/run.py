"""One target in a process of its own, for a time or a number of inputs, and what came of it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from fuzz.data import ROOT

TARGETS = tuple(sorted(path.stem for path in (Path(__file__).parent / "targets").glob("[a-z]*.py")))
FINDINGS = Path(__file__).parent / "findings"

#: Seconds that one input may take, and MiB that the process may hold: what passes either is a finding.
TIMEOUT, MEMORY = 25, 1024
_COVERED = re.compile(r"\bcov: (\d+) ft: (\d+)")
_EXECUTED = re.compile(r"stat::number_of_executed_units:\s*(\d+)")
_ARTIFACT = re.compile(r"Test unit written to (.+)")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run of a target did."""

    target: str
    executed: int
    #: Edges of the engine's code that were reached, and combinations of them.
    covered: int
    features: int
    #: The input that broke a property; None when none did.
    artifact: Path | None
    #: Why it broke, as Python tells it.
    why: str

    def line(self) -> str:
        """For people."""
        word = f"FOUND {self.artifact}" if self.artifact is not None else "nothing found"
        return f"{self.target:<10} {self.executed:>10} inputs  {self.covered:>5} edges  {self.features:>6} features  {word}"


def inputs(target: str) -> list[bytes]:
    """Where the search begins: the target's seeds and everything found before."""
    module = import_module(f"fuzz.targets.{target}")
    kept = sorted(path for path in (FINDINGS / target).glob("*") if path.is_file())
    return [*module.seeds(), *(path.read_bytes() for path in kept)]


def run(
    target: str, corpus: Path, found: Path, *, seconds: int | None = None, runs: int | None = None, seed: int = 0
) -> Outcome:
    """Fuzz ``target``; what it learns goes to ``corpus``, an input that breaks a property to ``found``."""
    corpus.mkdir(parents=True, exist_ok=True)
    found.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        for number, content in enumerate(inputs(target)):
            (Path(scratch) / f"{number:04}").write_bytes(content)
        arguments = [
            f"-seed={seed}",
            f"-timeout={TIMEOUT}",
            f"-rss_limit_mb={MEMORY}",
            "-max_len=16384",
            "-print_final_stats=1",
            f"-artifact_prefix={found}/{target}-",
        ]
        if seconds is not None:
            arguments.append(f"-max_total_time={seconds}")
        if runs is not None:
            arguments.append(f"-runs={runs}")
        done = subprocess.run(
            [sys.executable, "-m", "fuzz.one", target, *arguments, str(corpus), scratch],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": "0"},
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    return _outcome(target, done.stdout + done.stderr, done.returncode)


def _outcome(target: str, said: str, status: int) -> Outcome:
    covered = _COVERED.findall(said)
    executed = _EXECUTED.search(said)
    artifact = _ARTIFACT.search(said)
    if status and artifact is None:
        raise RuntimeError(f"the fuzzer of {target} ended with {status}:\n{said[-3000:]}")
    edges, features = covered[-1] if covered else ("0", "0")
    return Outcome(
        target,
        int(executed[1]) if executed else 0,
        int(edges),
        int(features),
        Path(artifact[1].strip()) if artifact else None,
        _why(said) if artifact else "",
    )


def _why(said: str) -> str:
    """The traceback, without what libFuzzer says around it."""
    at = said.find("Traceback (most recent call last)")
    return said[at:].partition("\n\n")[0] if at >= 0 else said[-2000:]
