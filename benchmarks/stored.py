"""The JSON of ``make bench-large`` as text and chart: the section of ``docs/figures.md`` on years of messages.

python -m benchmarks.stored          # write them anew from benchmarks/results/years.json
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import charts, report
from benchmarks.finding import number

LATEST = Path(__file__).parent / "results" / "years.json"


def section(result: Mapping[str, Any]) -> str:
    """What ``docs/figures.md`` shows."""
    found = [
        (one["name"], f"{one['found']}", number(one["cold_ms"]), number(one["warm_ms"])) for one in result["searches"]
    ]
    return f"""{report.about(result)} `{report.durability(result)}`;
{result["messages"]:,} messages, {result["disk_gb"]} GB.

{report.markdown(result)}

{report.costs(result)}

{report.table(("Search", "Found", "Cold, ms", "Warm, ms"), found)}"""


def documents(result: Mapping[str, Any]) -> dict[str, str]:
    """Every file that is made from a result, by its name below the repository."""
    figures = report.ROOT / "docs" / "figures.md"
    return {
        "docs/figures.md": report.put(figures.read_text(), "years", section(result)),
        "docs/stored.svg": charts.stored(result["costs"]),
    }


def write(result: Mapping[str, Any]) -> None:
    """Write them."""
    for name, text in documents(result).items():
        (report.ROOT / name).write_text(text)


if __name__ == "__main__":
    write(json.loads(LATEST.read_text()))
