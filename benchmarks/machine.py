"""The machine and the build that figures come from."""

from __future__ import annotations

import os
import platform
import re
import sqlite3
import subprocess
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def facts(scratch: Path) -> dict[str, Any]:
    """Hardware, system and versions; ``scratch`` is the folder whose disk is measured."""
    return {
        "processor": found("/proc/cpuinfo", r"model name\s*:\s*(.+)") or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(int(found("/proc/meminfo", r"MemTotal:\s*(\d+)") or 0) / 2**20, 1),
        "disk": filesystem(scratch),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "load_before": round(os.getloadavg()[0], 2),
        "engine": "one process; load generator, sink and references share the cores with it",
    }


def found(file: str, pattern: str) -> str:
    """The first group of what a file holds."""
    match = re.search(pattern, Path(file).read_text()) if Path(file).exists() else None
    return match[1].strip() if match else ""


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
