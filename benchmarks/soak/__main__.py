"""Load that must not hurt: a dead partner, a rush, a stop, upkeep, hours and a flood, each beside its base line.

    make soak                                  # everything, an hour on a busy machine
    make soak PARTS="dead stop" MINUTES=20     # some of it; MINUTES is for the part `flat`

Real engines as processes, real sockets, C senders and sinks (needs ``cc``). A ratio is the rate of settled messages
with something divided by the rate without it, pair by pair of turns; beside it stands how far equal turns differ on
this machine. A part that loses, repeats unmarked or misorders anything ends with an error.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.processes import LOAD
from benchmarks.soak import day, dead, flat, flood, stop, upkeep


def parts(given: argparse.Namespace) -> dict[str, Callable[[Path], dict[str, Any]]]:
    """What can be asked for by name; ``--scale`` makes all of it smaller."""

    def some(number: int) -> int:
        return max(1, int(number * given.scale))

    seconds = given.seconds
    return {
        "dead": lambda folder: dead.run(folder, some(100_000), given.turns, seconds),
        "day": lambda folder: day.run(folder, some(40_000), 250),
        "stop": lambda folder: stop.run(folder, some(10_000), 3),
        "pruning": lambda folder: upkeep.pruning(folder / "pruning", some(40_000), given.turns, seconds),
        "sealing": lambda folder: upkeep.resealing(folder / "sealing", some(40_000), given.turns, seconds),
        "flood": lambda folder: flood.run(folder, max(2, given.turns // 2), seconds, 300, 200),
        "flat": lambda folder: flat.run(folder, some(80_000), given.minutes * min(1.0, given.scale), 250),
    }


def told(facts: dict[str, Any], indent: str = "  ") -> None:
    """Print a result, a fact to a line."""
    for name, value in facts.items():
        if isinstance(value, dict) and any(isinstance(one, dict | float) for one in value.values()):
            print(f"{indent}{name}:")
            told(value, indent + "  ")
        else:
            shown = [round(one, 2) for one in value] if isinstance(value, list) else value
            print(f"{indent}{name.replace('_', ' '):<32} {round(shown, 3) if isinstance(shown, float) else shown}")


def main() -> None:
    """Run the parts that are wanted, print what they found, write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--parts", nargs="*", default=[])
    parser.add_argument("--minutes", type=float, default=10.0, help="of the part `flat`")
    parser.add_argument("--turns", type=int, default=12, help="pairs of turns for each ratio")
    parser.add_argument("--seconds", type=float, default=5.0, help="of a turn")
    parser.add_argument("--scale", type=float, default=1.0, help="0.1: a tenth of the messages")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    known = parts(given)
    if unknown := set(given.parts) - known.keys():
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    subprocess.run(["make", "-s", "-C", str(LOAD)], check=True)
    found: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{os.cpu_count()} CPUs, {platform.system()}, Python {platform.python_version()}, "
        f"SQLite {sqlite3.sqlite_version}, load before {os.getloadavg()[0]:.1f}",
        "scale": given.scale,
    }
    print(found["machine"], flush=True)
    failed = False
    for name, part in known.items():
        if given.parts and name not in given.parts:
            continue
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="hl7engine-soak-") as folder:
            try:
                found[name] = part(Path(folder))
            except RuntimeError as error:
                found[name], failed = {"error": str(error)}, True
        print(f"\n{name} ({time.monotonic() - began:.0f} s)")
        told(found[name])
        sys.stdout.flush()
        if given.json is not None:
            given.json.write_text(json.dumps(found, indent=1) + "\n")
    sys.exit(failed)


if __name__ == "__main__":
    main()
