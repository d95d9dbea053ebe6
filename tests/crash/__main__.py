"""``python -m tests.crash``: kill the engine as often as wanted, and account for every message.

Ends with 0 when nothing was lost, out of order, twice without a mark or answered twice differently, and every named
point was passed; with 1 otherwise, and then the folder with the engine's data and log is kept and named.
"""

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from . import plan, report
from .harness import Harness
from .shim import Disk, is_possible


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, help="repeats the plan and the traffic of an earlier run")
    parser.add_argument("--minutes", type=float, default=60.0, help="ends earlier, after a whole round")
    parser.add_argument("--round", type=int, default=50, help="kills between two accounts")
    parser.add_argument("--folder", type=Path, help="where the site, its data and its log are; kept")
    parser.add_argument("--json", type=Path, help="write what was found there as well")
    parser.add_argument("--docs", type=Path, help="write the report as a page")
    parser.add_argument("--every-point", action="store_true", help="fail when a named point was never passed")
    options = parser.parse_args()
    seed = random.randrange(1_000_000) if options.seed is None else options.seed
    folder = options.folder or Path(tempfile.mkdtemp(prefix="hl7engine-crash-"))
    folder.mkdir(parents=True, exist_ok=True)
    disk = Disk(folder) if is_possible() else None
    print(f"seed {seed}, {options.kills} kills, in {folder}", flush=True)
    if disk is None:
        print("no cc: nothing dies inside of a write", flush=True)
    kills = list(plan.kills(seed, options.kills, disk is not None))
    harness = Harness(folder, seed, disk, lambda text: print(text, flush=True))
    outcome = asyncio.run(harness.run(kills, options.round, time.monotonic() + options.minutes * 60))
    print(report.text(outcome))
    if options.json is not None:
        options.json.write_text(report.as_json(outcome))
    if options.docs is not None:
        options.docs.write_text(report.page(outcome))
    missed = report.missed(outcome) if options.every_point else []
    if outcome.violations or missed:
        print(f"kept: {folder}")
        return 1
    if options.folder is None:
        shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
