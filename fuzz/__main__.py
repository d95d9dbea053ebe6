"""Runs targets one after the other and tells what was found; ends with 1 when something was.

What libFuzzer learns is kept in ``data/fuzz/TARGET`` and used by the next run; ``--fresh`` begins with the seeds alone,
which together with ``--seed`` makes a run repeatable.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from fuzz.data import ROOT
from fuzz.run import TARGETS, run

_WORK = ROOT / "data" / "fuzz"


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"any of {', '.join(TARGETS)}; all without one")
    amount = parser.add_mutually_exclusive_group()
    amount.add_argument("--minutes", type=float, help="for all targets together")
    amount.add_argument("--runs", type=int, help="inputs for each target")
    parser.add_argument("--seed", type=int, default=0, help="of the search; 0 takes another each time")
    parser.add_argument("--fresh", action="store_true", help="forget what earlier runs have learned")
    given = parser.parse_args()
    names = given.targets or list(TARGETS)
    unknown = sorted(set(names) - set(TARGETS))
    if unknown:
        parser.error(f"no target is called {', '.join(unknown)}")
    seconds = None if given.runs else int((given.minutes or 1.0) * 60 / len(names))
    found = []
    for name in names:
        with tempfile.TemporaryDirectory() as scratch:
            corpus = Path(scratch) if given.fresh else _WORK / name
            outcome = run(name, corpus, ROOT / "data" / "fuzz-found", seconds=seconds, runs=given.runs, seed=given.seed)
        print(outcome.line(), flush=True)
        if outcome.artifact is not None:
            found.append(outcome)
            print(outcome.why, flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
