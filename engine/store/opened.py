"""What there is of the embedded store between open and close."""

from __future__ import annotations

import sqlite3
from contextlib import ExitStack
from dataclasses import dataclass, replace

from engine.store.checkpoint import Checkpoints
from engine.store.group_commit import GroupCommit
from engine.store.known_keys import KnownKeys
from engine.store.numbers import Numbers
from engine.store.process.writing import WritingProcess


@dataclass(frozen=True, slots=True)
class Opened:
    """Its connections and what writes."""

    reader: sqlite3.Connection
    group: GroupCommit
    checkpoints: Checkpoints
    known_keys: KnownKeys
    #: None where the engine always writes by itself.
    process: WritingProcess | None
    #: Releases the connections, then the folder.
    files: ExitStack

    @property
    def trouble(self) -> str:
        """Why the disk took nothing the last time, or cannot be read; empty while it does and can."""
        return self.group.trouble or (self.process.trouble if self.process is not None else "")

    @property
    def numbers(self) -> Numbers:
        """What it has done since then."""
        deaths = self.process.deaths if self.process is not None else 0
        return replace(self.group.numbers, pages_moved=self.checkpoints.pages_moved, deaths=deaths)
