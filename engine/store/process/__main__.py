"""The process that writes: it takes batches from the engine that started it, and commits each before it answers.

It has a connection of its own to the same database, and never writes at the same time as the engine: the engine waits
for its answer. It ends when the engine does, whatever that ended of: nobody is left at the other end of the socket
(``bond.py``: and where it is stopped).
What it cannot commit it rolls back, and says so; the engine then does it itself, and finds out whose fault it is. What
it cannot roll back it ends over: nothing else would let the engine write again.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

from engine.store import database
from engine.store.checkpoint import Moved, move
from engine.store.crypto import Crypto
from engine.store.faults import may_be_kept
from engine.store.machine import MACHINE
from engine.store.process.bond import end_with
from engine.store.process.carried import brought
from engine.store.process.files import files
from engine.store.process.wire import BATCH, IN_DOUBT, LENGTH, NOT_KEPT, NOTE, Beginning, Written, heard, told
from engine.store.writer import Writer


class Process:
    """What the engine has it do, on one connection."""

    def __init__(
        self,
        beginning: Beginning,
        connect: database.Connect = MACHINE.connect,
        seconds: Callable[[], float] = perf_counter,
    ) -> None:
        """``seconds``: a clock that only runs forward. Raises sqlite3.Error when the database does not open."""
        self._connection = database.connect_further_writer(Path(beginning.folder), connect)
        self._seconds = seconds
        self._crypto = Crypto(dict(beginning.keys), encrypt=beginning.encrypt)
        self._crypto.use(beginning.current)
        self._crypto.use_hash_key(beginning.hash_key)
        # The engine notes for itself which control ids and keys there are.
        self._writer = Writer(self._connection, self._crypto, lambda: 0.0, lambda *_: None, lambda _: None)
        self._execute = self._connection.cursor().execute
        self._rows = self._connection.total_changes
        #: The last batch that is not kept.
        self._failed = 0

    def write(self, number: int, known: int, written: bytes) -> Written:
        """Commit a batch. Raises sqlite3.Error when it can be neither committed nor rolled back."""
        if self._failed > known:
            self._failed = number
            return NOT_KEPT
        committing = False
        try:
            self._execute("BEGIN IMMEDIATE")
            self._writer.begin_anew()
            for operation in brought(written):
                self._writer.handlers[type(operation)](operation)
            self._writer.gathered.write()
            self._execute(NOTE, (number,))
            began = self._seconds()
            self._crypto.forget_drawn()
            committing = True
            self._execute("COMMIT")
            took = self._seconds() - began
        except Exception as error:  # noqa: BLE001  # whatever it is: the engine tries again, and tells it
            self._roll_back()
            self._failed = number
            return IN_DOUBT if committing and may_be_kept(error) else NOT_KEPT
        before, self._rows = self._rows, self._connection.total_changes
        return self._rows - before, took

    def move(self) -> Moved:
        """Move the log into the database: see ``checkpoint.py``."""
        return move(self._connection)

    def _roll_back(self) -> None:
        self._writer.gathered.forget()
        if self._connection.in_transaction:
            self._execute("ROLLBACK")
        self._rows = self._connection.total_changes


def serve(engine: socket.socket) -> None:
    """Do what one engine asks. Raises EOFError when it asks nothing any more, OSError when it is gone."""
    asked = engine.makefile("rb", buffering=1 << 20)

    def read() -> Any:
        length = exactly(LENGTH.size)
        return heard(length + exactly(*LENGTH.unpack(length)))

    def exactly(length: int) -> bytes:
        taken: bytes = asked.read(length)
        if len(taken) < length:
            raise EOFError
        return taken

    process = Process(Beginning(*read()))
    engine.sendall(told(files()))
    while True:
        kind, *of = read()
        engine.sendall(told(process.write(*of) if kind == BATCH else process.move()))


def main(descriptor: int) -> None:
    """Serve one engine over a socket it has given."""
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # the engine ends this process, nobody else
        signal.signal(name, signal.SIG_IGN)
    # It ends here and now: closed in order, the last connection would empty the log into the database, and a new engine
    # waits for this process. Nothing is written of why: the log's lines are the engine's, which tells of the status.
    try:
        other_end = socket.socket(fileno=descriptor)
        end_with(other_end)
        serve(other_end)
    except (EOFError, OSError):
        os._exit(0)
    except BaseException:  # noqa: BLE001
        os._exit(1)


if __name__ == "__main__":
    main(int(sys.argv[1]))
