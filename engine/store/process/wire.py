"""What the engine and the process that writes say to each other: lengths, and what ``marshal`` made."""

from __future__ import annotations

import marshal
from collections.abc import Mapping
from struct import Struct
from typing import Any, NamedTuple

#: What stands before each message, in both directions.
LENGTH = Struct("<I")
#: Kinds of what is asked: ``(BATCH, number, known, operations)``, ``(MOVE,)``. ``known`` is the number of the last
#: batch of which the engine knew what became of it: what was handed over behind one that is not kept is not kept.
BATCH, MOVE = 0, 1
#: What is answered in place of what was written: nothing of the batch is kept; its COMMIT failed, and a crash may find
#: it in the log.
NOT_KEPT, IN_DOUBT = 0, 1
#: Rows that were changed, and the seconds of the COMMIT; or one of these.
Written = tuple[int, float] | int
#: With a batch its number is committed: found there, the batch is.
NOTE = """
INSERT INTO meta (name, value) VALUES ('batch', ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"""
NOTED = "SELECT value FROM meta WHERE name = 'batch'"


class Beginning(NamedTuple):
    """What the process is told first, over the socket alone: keys stand in no argument and no environment."""

    folder: str
    keys: Mapping[int, bytes]
    #: The number of the key that seals.
    current: int
    hash_key: bytes
    encrypt: bool


def told(message: Any) -> bytes:
    """A message as it goes over the socket."""
    written = marshal.dumps(message)
    return LENGTH.pack(len(written)) + written


def heard(written: bytes) -> Any:
    """The message that ``told`` has written."""
    return marshal.loads(memoryview(written)[LENGTH.size :])  # noqa: S302 - from the process at the other end alone
