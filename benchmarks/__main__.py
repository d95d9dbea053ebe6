"""Measure rows, print a table, write a JSON file.

    python -m benchmarks                              # all of them: make bench
    python -m benchmarks --rows main-32 fan-out       # some of them, printed only
    python -m benchmarks --seconds 2 --scale 0.01     # a short run that says nothing but that it works

All rows together write ``benchmarks/results/latest.json`` and, from it, the figures of the README and of
``docs/figures.md``; ``--json`` writes another file instead and leaves the documents alone. A row that fails says why,
the rest goes on, and the program ends with 1; an aim that is missed is told and is no failure.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

from benchmarks import machine, report
from benchmarks.measure import Bench
from benchmarks.processes import build
from benchmarks.rows import ROWS, Row

LATEST = Path(__file__).parent / "results" / "latest.json"


def measured(row: Row, bench: Bench) -> dict[str, Any]:
    """One row as JSON; what went wrong is in ``error``."""
    began = time.monotonic()
    signal.signal(signal.SIGALRM, too_long)
    signal.alarm(row.limit)
    told: dict[str, Any] = {"row": row.name, "title": row.title}
    try:
        bench.found[row.name] = row.run(bench)
        told |= bench.found[row.name].as_json()
    except Exception as error:  # noqa: BLE001 - a row's failure, whatever it is, must not end the others
        traceback.print_exc()
        said = f"{type(error).__name__}: {error}".replace(str(bench.folder), "…")
        told |= {"lines": [], "error": said}
    finally:
        signal.alarm(0)
    return told | {"took_s": round(time.monotonic() - began, 1)}


def too_long(*_: object) -> None:
    """The row's time is over."""
    raise TimeoutError("the row's time is over")


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    known = [row.name for row in ROWS]
    parser.add_argument("--rows", nargs="+", choices=known, default=known, metavar="ROW", help=", ".join(known))
    parser.add_argument("--seconds", type=float, help="of every run; each row knows its own")
    parser.add_argument("--repeats", type=int, default=3, help="rounds of engine and reference")
    parser.add_argument("--scale", type=float, default=1.0, help="0.01: a hundredth of the messages that wait")
    parser.add_argument("--json", type=Path, help="write there, and leave the documents alone")
    return parser.parse_args()


def main() -> int:
    """Run the rows."""
    options = arguments()
    for number in (signal.SIGTERM, signal.SIGINT):  # either ends what was started; a shell's background ignores SIGINT
        signal.signal(number, signal.default_int_handler)
    build()
    complete = options.json is None and len(set(options.rows)) == len(ROWS) and not options.seconds
    target = LATEST if complete else options.json
    began = time.monotonic()
    folder = tempfile.TemporaryDirectory(prefix="hl7engine-bench-", dir=machine.scratch_parent())
    with folder as scratch:
        bench = Bench(Path(scratch), options.repeats, options.seconds, options.scale)
        result: dict[str, Any] = {
            "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            **machine.commit(),
            "machine": machine.facts(Path(scratch)),
            "options": {name: getattr(options, name) for name in ("seconds", "repeats", "scale")},
            "rows": [],
        }
        print(report.about(result), flush=True)
        for row in ROWS:
            if row.name not in options.rows:
                continue
            print(f"\n{row.name}: {row.title}", flush=True)
            result["rows"].append(measured(row, bench))
            result["took_s"] = round(time.monotonic() - began)
            print(report.plain(result["rows"][-1]), flush=True)
            if target is not None:  # after each row: what was measured is not lost with what comes
                write(target, result)
    if complete:
        report.write(result)
    failed = [row["row"] for row in result["rows"] if "error" in row]
    missed = [row["row"] for row in result["rows"] if report.misses(row)]
    print(
        f"\n{report.markdown(result)}\n\n{report.costs(result)}\n\n{len(result['rows'])} rows in {result['took_s']} s"
        f"; missed: {', '.join(missed) or 'none'}; failed: {', '.join(failed) or 'none'}"
    )
    return 1 if failed else 0


def write(target: Path, result: dict[str, Any]) -> None:
    """Whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    half = target.with_suffix(".half")
    half.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    half.replace(target)


if __name__ == "__main__":
    sys.exit(main())
