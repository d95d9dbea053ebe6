"""A look into a data folder whose engine does not run: what waits there. Writes nothing and takes no lock."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from engine.errors import StoreError
from engine.store import database, queries


def open_counts(folder: Path) -> Mapping[tuple[str, str, str], int]:
    """As ``Store.open_counts``; empty where nothing was ever stored. Raises StoreError when it cannot be read."""
    if not (folder / database.DATABASE_FILE).is_file():
        return {}
    try:
        with closing(database.connect_reader(folder)) as reader:
            return queries.open_counts(lambda query, *parameters: reader.execute(query, parameters).fetchall())
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", type(error).__name__)
        raise StoreError(f"the data folder {folder} cannot be read: {name}") from None
