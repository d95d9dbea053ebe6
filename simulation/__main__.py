"""Run seeds: ``python -m simulation --seeds 1000 --from 1``; ``--seed 17 --story`` tells what happens in one."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

from simulation.run import simulate


def main() -> int:
    """The exit code: 0 when every seed ended well."""
    parser = argparse.ArgumentParser(prog="python -m simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many")
    parser.add_argument("--from", type=int, default=1, dest="first", help="the first of them")
    parser.add_argument("--seed", type=int, help="one seed alone")
    parser.add_argument("--story", action="store_true", help="tell everything that happens")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at the first seed that fails")
    options = parser.parse_args()
    seeds = [options.seed] if options.seed is not None else range(options.first, options.first + options.seeds)
    began, failed, ends = time.perf_counter(), 0, Counter[str]()
    total, counts = Counter[str](), Counter[str]()
    for seed in seeds:
        outcome = simulate(seed, story=options.story)
        ends.update(outcome.ends)
        total.update(messages=outcome.messages, taken=outcome.taken, seconds=int(outcome.seconds))
        counts.update(outcome.counts)
        if options.story:
            print("\n".join(outcome.story))
        if options.seed is not None:
            print(f"seed {seed}: trace {outcome.trace}")
        if outcome.violations:
            failed += 1
            print(
                f"seed {seed} fails; again with: python -m simulation --seed {seed} --story",
                *outcome.violations[:8],
                sep="\n  ",
            )
            if not options.keep_going:
                break
    took = time.perf_counter() - began
    print(
        f"{len(seeds)} seeds from {seeds[0]}, {failed} failed: {total['messages']} messages, {total['taken']} taken, "
        f"{ends['power']} power losses, {ends['kill']} kills, {ends['stop']} stops, "
        f"{total['seconds']} simulated seconds in {took:.1f} s"
    )
    print(", ".join(f"{what} {number}" for what, number in sorted(counts.items())))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
