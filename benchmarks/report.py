"""The JSON of a run as text: what the terminal prints, the tables of README and docs, the charts.

    python -m benchmarks.report          # write the documents anew from benchmarks/results/latest.json

Between ``<!-- NAME: begin -->`` and ``<!-- NAME: end -->`` of a page stands what this file makes; a test holds it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks import charts
from benchmarks.finding import number

ROOT = Path(__file__).parents[1]
LATEST = Path(__file__).parent / "results" / "latest.json"
#: Rows of which the README says nothing.
IN_DETAIL = {"files", "curve", "interpreter"}
HEAD = ("Path", "Figure", "Median (least to most)", "Aim", "Beside it, in the same rounds", "Ratio")

Json = Mapping[str, Any]


def misses(row: Json) -> bool:
    """Whether an aim of the row was missed."""
    parts = [part for line in row["lines"] for part in (line, line.get("ratio", {}))]
    return any(part.get("met") is False for part in parts)


# -- cells -------------------------------------------------------------------------------------------------------------


def span(found: Json, unit: str = "") -> str:
    """Median, least and most: ``12,300 messages/s (11,900 to 12,600)``."""
    shown = number(found["median"]) + (f" {unit}" if unit else "")
    if len(found["samples"]) < 2:
        return shown
    return f"{shown} ({number(found['low'])} to {number(found['high'])})"


def aim(found: Json) -> str:
    """What was to be reached, and whether it was."""
    return f"{found['aim']}: {'met' if found['met'] else 'missed'}" if "aim" in found else ""


def cells(row: Json) -> Iterator[tuple[str, ...]]:
    """One tuple for each line of a row."""
    if "error" in row:
        yield row["title"], f"failed: {row['error']}", "", "", "", ""
        return
    for place, line in enumerate(row["lines"]):
        beside, ratio = line.get("against"), line.get("ratio", {})
        yield (
            row["title"] if place == 0 else "",
            line["figure"],
            span(line, line["unit"]),
            aim(line),
            f"{beside['what']}: {span(beside)}" if beside else "",
            " · ".join(filter(None, (span(ratio) if ratio else "", aim(ratio)))),
        )


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A table in Markdown."""
    lines = [head, tuple("---" for _ in head), *(tuple(cell.replace("|", "\\|") for cell in row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


# -- texts -------------------------------------------------------------------------------------------------------------


def plain(row: Json) -> str:
    """A row for the terminal."""
    lines = [f"  {'; '.join(filter(None, line[1:]))}" for line in cells(row)]
    facts = json.dumps(row.get("facts", {}), ensure_ascii=False)
    return "\n".join([*lines, f"  {facts}", f"  {row['took_s']} s"])


def about(result: Json) -> str:
    """When, what and where."""
    machine, changed = result["machine"], result["changed"]
    build = f"commit {result['commit'][:12]}" + (f" and changes in {len(changed)} files" if changed else "")
    hardware = f"{machine['cores']} cores ({machine['processor']}), {machine['memory_gb']} GB, {machine['disk']}"
    versions = f"{machine['system']}, {interpreter(machine)}, SQLite {machine['sqlite']}"
    return f"{result['made'][:10]}, {build}. {hardware}; {versions}; load before {machine['load_before']}."


def interpreter(machine: Json) -> str:
    """``Python 3.11.2 (optimised: PGO, LTO; a call takes 43 ns)``."""
    build = machine.get("python_build", "build unknown")
    speed = f"; a call takes {machine['python_call_ns']:.0f} ns" if "python_call_ns" in machine else ""
    return f"Python {machine['python']} ({build}{speed})"


def durability(result: Json) -> str:
    """What every row's engine said of its commits."""
    said = {row["facts"]["durability"] for row in result["rows"] if "durability" in row.get("facts", {})}
    return " · ".join(sorted(said)) or "not measured"


def markdown(result: Json, without: set[str] | frozenset[str] = frozenset()) -> str:
    """All rows as one table."""
    return table(HEAD, [line for row in result["rows"] if row["row"] not in without for line in cells(row)])


def costs(result: Json) -> str:
    """What explains the figures: the sender's view, commits, processor."""
    head = ("Path", "p50, p99 ms", "Messages for each fsync", "fsyncs/s", "ms each")
    head += ("Cores: engine", "its process that writes", "load generator", "sink")
    head += ("µs of both for each message", "Backlog")
    rows = []
    for row in result["rows"]:
        facts = row.get("facts", {})
        if "messages_per_fsync" in facts and "fsyncs_per_s" in facts:
            felt = [number(facts[name]) for name in ("p50_ms", "p99_ms") if name in facts]
            numbers = [facts.get(name) for name in ("messages_per_fsync", "fsyncs_per_s", "fsync_ms")]
            numbers += [facts["cpu"].get(name) for name in ("engine", "writing", "load generator", "sink")]
            numbers += [facts.get("cpu_us"), facts.get("backlog")]
            rows.append((row["title"], ", ".join(felt), *map(numbered, numbers)))
    return table(head, rows)


def numbered(found: float | list[float] | None) -> str:
    """A number, several, or none."""
    if found is None:
        return ""
    return ", ".join(map(number, found)) if isinstance(found, list) else number(found)


def rounds(result: Json) -> str:
    """How often each was measured."""
    repeats = result["options"]["repeats"]
    return "one round" if repeats == 1 else f"{repeats} rounds"


def short_run(result: Json) -> str:
    """A warning above figures of a run that was too short, or of too few messages, to say anything."""
    options = result["options"]
    if options["seconds"] is None and options["scale"] == 1:
        return ""
    length = f"{options['seconds']:g} s for each figure" if options["seconds"] else "runs of full length"
    waiting = f"{options['scale']:.0%} of the messages that wait"
    return f"**A trial of the measuring, not of the engine**: {length}, {waiting}.\n\n"


def of_readme(result: Json) -> str:
    """What the README shows."""
    took = f"{result['took_s'] / 60:.0f} minutes"
    return f"""{short_run(result)}{markdown(result, IN_DETAIL)}

{about(result)} Everything took {took};
{rounds(result)} of engine and reference in turns; `{durability(result)}`, as the running engine read it from the
connection that writes."""


def of_figures(result: Json) -> str:
    """What ``docs/figures.md`` shows."""
    return f"""{short_run(result)}{about(result)} `{durability(result)}`, as the running engine read it from
the connection that writes. Engine and reference in turns, {rounds(result)}, each run in processes and a folder of
its own; a ratio is that of a round.

{markdown(result)}

What these runs cost, medians. An fsync is counted when `fsync` or `fdatasync` of the engine, or of the process
that writes for it, has returned; cores are shares of one core that a process kept busy; µs are the processor of
both for each message that was acknowledged; the backlog is what was not yet settled after each quarter of the run.

{costs(result)}"""


# -- documents ---------------------------------------------------------------------------------------------------------


def put(page: str, name: str, text: str) -> str:
    """The page with ``text`` between the marks of that name. ValueError when it has none."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    found = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if len(found.findall(page)) != 1:
        raise ValueError(f"the page has no place for {name}")
    return found.sub(lambda _: f"{begin}\n{text}\n{end}", page)


def documents(result: Json) -> dict[str, str]:
    """Every file that is made from a result, by its name below the repository."""
    readme, figures = (ROOT / name for name in ("README.md", "docs/figures.md"))
    return {
        "README.md": put(readme.read_text(), "figures", of_readme(result)),
        "docs/figures.md": put(figures.read_text(), "bench", of_figures(result)),
        "docs/throughput.svg": charts.throughput(result),
    }


def write(result: Json) -> None:
    """Write them."""
    for name, text in documents(result).items():
        (ROOT / name).write_text(text)


if __name__ == "__main__":
    write(json.loads(LATEST.read_text()))
