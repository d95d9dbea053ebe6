"""The schema of the embedded store and its versions.

``schema.sql`` is version 1. File ``migrations/NNNN_what.sql`` makes version NNNN out of the one before; a file that has
been released never changes. A new database runs all of them as well, so there is one way to a schema and no second
description of it. Migrations go forward only, each in one transaction with its number.
"""

from __future__ import annotations

import sqlite3
from functools import cache
from importlib import resources

from engine.errors import StoreError


@cache
def scripts() -> tuple[str, ...]:
    """The script that makes each version, version 1 first."""
    folder = resources.files("engine.store")
    migrations = sorted(
        (file for file in folder.joinpath("migrations").iterdir() if file.name.endswith(".sql")),
        key=lambda file: file.name,
    )
    numbers = [file.name.partition("_")[0] for file in migrations]
    if numbers != [f"{number:04}" for number in range(2, len(migrations) + 2)]:
        raise StoreError(f"the engine is not whole: its migrations are {', '.join(numbers)}")
    return tuple(file.read_text(encoding="utf-8") for file in (folder.joinpath("schema.sql"), *migrations))


def version_of(connection: sqlite3.Connection) -> int:
    """Which version a database has; 0 for an empty file."""
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone() is None:
        return 0
    (version,) = connection.execute("SELECT value FROM meta WHERE name = 'schema_version'").fetchone()
    return int(version)


def migrate(connection: sqlite3.Connection, known: tuple[str, ...] | None = None) -> None:
    """Bring a database to the last of the ``known`` versions (default: all). Raises StoreError for a newer one."""
    known = scripts() if known is None else known
    version = version_of(connection)
    if version > len(known):
        raise StoreError(
            f"the data folder was written by a newer engine (schema {version}, this one knows {len(known)})"
        )
    for number, script in enumerate(known[version:], version + 1):
        record = f"INSERT OR REPLACE INTO meta (name, value) VALUES ('schema_version', {number});"  # noqa: S608  # an int
        try:
            connection.executescript(f"BEGIN IMMEDIATE; {script} {record} COMMIT;")
        except sqlite3.Error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
