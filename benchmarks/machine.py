"""The machine and the build that figures come from.

python -m benchmarks.machine         # says so when this Python was compiled without optimisation: make install
"""

from __future__ import annotations

import os
import platform
import re
import sqlite3
import statistics
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

ROOT = Path(__file__).parents[1]
#: Where a build says which flags it was made with.
FLAGS = ("CONFIG_ARGS", "CFLAGS", "CFLAGS_NODIST", "PY_CFLAGS", "PY_CORE_CFLAGS", "LDFLAGS_NODIST", "PY_CORE_LDFLAGS")
#: What in them makes an interpreter fast, and its name.
OPTIMISED = {"PGO": r"--enable-optimizations|-fprofile(-instr)?-use", "LTO": r"--with-lto(?!=no)|-flto"}


def facts(scratch: Path) -> dict[str, Any]:
    """Hardware, system and versions; ``scratch`` is the folder whose disk is measured."""
    return {
        "processor": found("/proc/cpuinfo", r"model name\s*:\s*(.+)") or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(int(found("/proc/meminfo", r"MemTotal:\s*(\d+)") or 0) / 2**20, 1),
        "disk": filesystem(scratch),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "python_build": built(sysconfig.get_config_vars(), sys.base_prefix),
        "python_call_ns": call(),
        "sqlite": sqlite3.sqlite_version,
        "load_before": round(os.getloadavg()[0], 2),
        "engine": "one process, and one that writes under load; load generator, sink and references share the cores",
    }


def found(file: str, pattern: str) -> str:
    """The first group of what a file holds."""
    match = re.search(pattern, Path(file).read_text()) if Path(file).exists() else None
    return match[1].strip() if match else ""


def built(variables: Mapping[str, Any], prefix: str) -> str:
    """How the interpreter was compiled: it is worth a few percent of the processor.

    A distribution's package tells the flags of its library and not those of its program, so what it does not name is
    unknown; who compiles Python without naming a flag has none.
    """
    told = " ".join(str(variables.get(name) or "") for name in FLAGS)
    found = [name for name, pattern in OPTIMISED.items() if re.search(pattern, told)]
    if found:
        return "optimised: " + ", ".join(found)
    if os.name != "posix" or not told.strip():
        return "build unknown"
    return "built by the distribution, flags unknown" if prefix == "/usr" else "not optimised"


def call() -> float:
    """Nanoseconds of one call of a small function in a loop, at best: what the build above is worth, on any machine."""

    def small(value: int) -> int:
        return value + 1

    times = []
    for _ in range(20):
        began, value = perf_counter(), 0
        for _ in range(20_000):
            value = small(value)
        times.append(perf_counter() - began)
    return round(statistics.fmean(sorted(times)[:5]) / 20_000 * 1e9, 1)


def filesystem(folder: Path) -> str:
    """Type and device of what ``folder`` lies on: ``ext4 on /dev/vda``."""
    best, told = "", "unknown"
    for line in Path("/proc/mounts").read_text().splitlines():
        device, where, kind = line.split()[:3]
        inside = folder.resolve().is_relative_to(where)
        if inside and len(where) >= len(best):
            best, told = where, f"{kind} on {device}"
    return told


def scratch_parent() -> Path:
    """Where temporary folders go: not into memory, where an fsync costs nothing."""
    folder = Path(tempfile.gettempdir())
    return folder if not filesystem(folder).startswith(("tmpfs", "ramfs")) else ROOT / "data"


def commit() -> dict[str, Any]:
    """The commit that is measured, and whether files differ from it."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True)
        return done.stdout.rstrip() if done.returncode == 0 else ""

    changed = [line[3:] for line in git("status", "--porcelain").splitlines()]
    measured = [name for name in changed if not name.startswith(("benchmarks/results/", "docs/", "README.md"))]
    return {"commit": git("rev-parse", "HEAD") or "unknown", "changed": measured}


def advice(build: str) -> str:
    """What to tell who installs into such a Python; empty when there is nothing to tell."""
    if build != "not optimised":
        return ""
    return (
        f"{sys.base_prefix}: this Python was compiled without optimisation; with an optimised one a message takes"
        " a few percent less processor: rm -r .venv; make install PYTHON=/path/to/it (docs/figures.md)\n"
    )


if __name__ == "__main__":
    sys.stdout.write(advice(built(sysconfig.get_config_vars(), sys.base_prefix)))
