"""Destinations from a table: one for each row, ``$row.COLUMN`` filled in; and tables that lead to no destination.

The rest of the loader sees the destinations as if they had been written out: their line is that of the item that says
``for_each``, and what is wrong with one names its row.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from engine.config.files import SiteFiles
from engine.config.loading import Findings, Place
from engine.config.plan import DestinationPlan
from engine.config.problems import nearest, of_spec, one_of
from engine.config.yaml import Document, KeyPath, Mark
from engine.errors import SpecError
from engine.transforms.base import Chain, Table
from engine.transforms.lookup import Lookup

WORD = "for_each"

_COLUMN = re.compile(r"\$row\.([A-Za-z0-9_]+)")

#: What is left out because its cell is empty.
_NOTHING = object()


def expand(document: Document, files: SiteFiles, findings: Findings) -> Document:
    """The channel file with its ``for_each`` written out; itself when it has none. Faults go to ``findings``."""
    items = document.value.get("destinations") if isinstance(document.value, dict) else None
    if not isinstance(items, list) or not any(isinstance(item, dict) and WORD in item for item in items):
        return document
    written = document.written(("destinations",))
    places = document.mark.items.get("destinations", Mark(1, 1))
    values: list[Any] = []
    raws: list[Any] = []
    marks: dict[str | int, Mark] = {}
    unresolved = {path for path in document.unresolved if path[:1] != ("destinations",)}
    told: dict[int, str] = {}
    for index, item in enumerate(items):
        for row, where in _rows(document, index, item, files, findings):
            number = len(values)
            marks[number] = places.find((index,))
            unresolved |= {
                ("destinations", number, *path[2:])
                for path in document.unresolved
                if path[:2] == ("destinations", index)
            }
            if row is None:
                values.append(item)
                raws.append(written[index])
                continue
            told[number] = where
            values.append(_filled(item, row))
            raws.append(_filled(written[index], row))
    mark = Mark(places.line, places.column, marks)
    return replace(
        document,
        value={**document.value, "destinations": values},
        raw={**document.raw, "destinations": raws},
        mark=Mark(document.mark.line, document.mark.column, {**document.mark.items, "destinations": mark}),
        unresolved=unresolved,
        rows=told,
    )


def _rows(
    document: Document, index: int, item: Any, files: SiteFiles, findings: Findings
) -> Iterator[tuple[Mapping[str, str] | None, str]]:
    """The rows of an item and what they are called; one None for an item without ``for_each``."""
    if not isinstance(item, dict) or WORD not in item:
        yield None, ""
        return

    def report(path: KeyPath, message: str, **more: str) -> None:
        findings.problems.add(document.problem(("destinations", index, *path), message, **more))

    name = item[WORD]
    if not isinstance(name, str):
        report((WORD,), "this is no table", expected="the name of a file in tables/, without ending")
        return
    findings.used.add(f"tables/{name}.csv")
    try:
        table, problems = files.table(name)
    except SpecError as error:
        findings.problems.add(of_spec(error, document, ("destinations", index, WORD)))
        return
    findings.problems.extend(problems)
    if table is None or not _columns_known(item, table, report):
        return
    for row in table.every():
        yield row, f"row `{row[table.columns[0]]}` of tables/{name}.csv"


def _columns_known(item: Any, table: Table, report: Callable[..., None]) -> bool:
    known = True
    for path, text in _texts(item, ()):
        for column in _COLUMN.findall(text):
            if column not in table.columns:
                near = nearest(column, table.columns)
                message = f"the table {table.name} has no column `{column}`"
                report(path, message, expected=one_of(list(table.columns)), nearest=near)
                known = False
    return known


def _texts(value: Any, path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    if isinstance(value, str):
        yield path, value
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        yield from _texts(inner, (*path, key))


def _filled(item: dict[str, Any], row: Mapping[str, str]) -> dict[str, Any]:
    return {key: value for key, inner in item.items() if key != WORD and (value := _fill(inner, row)) is not _NOTHING}


def _fill(value: Any, row: Mapping[str, str]) -> Any:
    """``value`` with the row's cells. What is nothing but an empty cell is left out, and so is what holds only such."""
    if isinstance(value, str):
        whole = _COLUMN.fullmatch(value)
        if whole and not row[whole[1]]:
            return _NOTHING
        return _COLUMN.sub(lambda found: row[found[1]], value)
    if isinstance(value, dict):
        kept = {key: filled for key, inner in value.items() if (filled := _fill(inner, row)) is not _NOTHING}
        return kept if kept or not value else _NOTHING
    if isinstance(value, list):
        items = [filled for inner in value if (filled := _fill(inner, row)) is not _NOTHING]
        return items if items or not value else _NOTHING
    return value


def note_unclaimed(place: Place, transform: Chain, destinations: Sequence[DestinationPlan]) -> None:
    """Note rows of looked-up tables whose value no destination asks for: their messages would fail as unroutable."""
    for step in transform.steps:
        if not isinstance(step, Lookup) or step.column is None:
            continue
        asked = [plan.where.variables[step.into] for plan in destinations
                 if plan.where is not None and step.into in plan.where.variables]  # fmt: skip
        wanted = frozenset().union(*asked)
        if not wanted:
            continue
        key = step.table.columns[0]
        for row in step.table.every():
            value = row[step.column]
            if value not in wanted:
                message = f"tables/{step.table.name}.csv leads `{row[key]}` to `{value}`, and no destination takes that"
                near = nearest(value, sorted(wanted))
                place.report(("destinations",), message, expected=one_of(sorted(wanted)), nearest=near, level="note")
