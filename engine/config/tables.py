"""``tables/NAME.csv``: lookup tables. The first row names the columns, the first column is the key.

Several rows of one key are kept in file order. Values are data and stay as they are written; nothing is stripped or
converted. A table that is wrong anywhere is not used at all.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from engine.errors import Problem

#: A table is read into memory as a whole.
MAX_BYTES = 64 * 1024 * 1024


class CsvTable:
    """Rows by key. Implements ``Table`` of ``engine/transforms/base.py``."""

    __slots__ = ("_rows", "columns", "name")

    def __init__(self, name: str, columns: tuple[str, ...], rows: Sequence[Sequence[str]]) -> None:
        self.name, self.columns = name, columns
        by_key: dict[str, list[Mapping[str, str]]] = {}
        for row in rows:
            by_key.setdefault(row[0], []).append(MappingProxyType(dict(zip(columns, row, strict=True))))
        self._rows = {key: tuple(found) for key, found in by_key.items()}

    def rows(self, key: str) -> Sequence[Mapping[str, str]]:
        """All rows of ``key``, in file order; empty when it has none."""
        return self._rows.get(key, ())

    def every(self) -> Iterator[Mapping[str, str]]:
        """All rows; those of one key stand together."""
        for rows in self._rows.values():
            yield from rows


def read_table(name: str, file: str, data: bytes) -> tuple[CsvTable | None, list[Problem]]:
    """The table, or what is wrong with it: the problem's key is a column name or empty."""
    if len(data) > MAX_BYTES:
        return None, [Problem(file, 0, "", "the table is too large", f"at most {MAX_BYTES >> 20} MiB")]
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        return None, [Problem(file, line, "", "a character is not UTF-8", "a CSV saved as UTF-8")]
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    lines: list[tuple[int, list[str]]] = []
    start = 1
    try:
        for row in reader:
            if row:
                lines.append((start, row))
            start = reader.line_num + 1
    except csv.Error:
        return None, [Problem(file, start, "", "a quote is not closed, or stands inside a value", 'quotes written ""')]
    if not lines:
        return None, [Problem(file, 0, "", "the table is empty", "a first row with the names of the columns")]
    columns = tuple(column.strip() for column in lines[0][1])
    problems = [*_header_faults(file, lines[0][0], columns), *_row_faults(file, columns, lines[1:])]
    if problems:
        return None, problems
    return CsvTable(name, columns, [row for _, row in lines[1:]]), []


def _header_faults(file: str, line: int, columns: tuple[str, ...]) -> Iterator[Problem]:
    if len(columns) == 1 and any(mark in columns[0] for mark in ";\t"):
        yield Problem(file, line, "", "the columns are not separated by commas", "id,name,…")
        return
    for index, column in enumerate(columns):
        if not column:
            yield Problem(file, line, "", f"column {index + 1} has no name", "a name for every column")
        elif column in columns[:index]:
            yield Problem(file, line, column, f"two columns are called `{column}`", "every name once")


def _row_faults(file: str, columns: tuple[str, ...], lines: list[tuple[int, list[str]]]) -> Iterator[Problem]:
    for line, row in lines:
        if len(row) != len(columns):
            message = f"values: {len(row)}, columns of the table: {len(columns)}"
            yield Problem(file, line, "", message, "as many; a value with a comma in quotes")
        elif not row[0]:
            yield Problem(file, line, columns[0], "the key is empty", "a value in the first column")
