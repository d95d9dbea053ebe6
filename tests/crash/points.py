"""The durable steps by name, and SIGKILL at the Nth passing of one: runs inside the engine's process.

Nothing of this is in the engine. The launcher wraps stable seams (the COMMIT with the operations that it covers, the
write of an ack, the send, recovery, the start and the end of each part); a seam that is gone fails the start loudly.
How often each point was passed stands in a shared file, because the process that counts does not live to tell.
"""

import asyncio
import dataclasses
import functools
import mmap
import os
import signal
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

from engine.destinations import mllp as mllp_destination
from engine.destinations import rest as rest_destination
from engine.destinations.connections.mllp import Link
from engine.runtime.channel import RunningChannel
from engine.runtime.deliver import Lanes
from engine.runtime.route import Router
from engine.sources.serving.listener import RestListener
from engine.sources.serving.mllp_connection import Connection
from engine.store import base, database, sqlite, upkeep
from engine.store.group_commit import GroupCommit
from engine.store.sqlite import SqliteStore

#: What is not in the contract's operations: the store's own.
INTERNAL = tuple(
    sorted(
        name
        for name, found in vars(upkeep).items()
        if dataclasses.is_dataclass(found) and getattr(found, "__module__", "") == upkeep.__name__
    )
)
OPERATIONS = (*sorted(operation.__name__ for operation in get_args(base.Operation)), *INTERNAL)

#: point → (owner, its method or function)
SEAMS: dict[str, tuple[Any, str]] = {
    "start.store": (SqliteStore, "open"),
    "start.migrate": (database, "migrate"),
    "start.recover": (SqliteStore, "_recover"),
    "start.lanes": (Lanes, "recover"),
    "start.router": (Router, "recover"),
    "start.channel": (RunningChannel, "start"),
    "route": (Router, "route"),
    "send": (Link, "send"),
    "send.answer": (mllp_destination.MllpDestination, "send"),
    "send.rest": (rest_destination.RestDestination, "send"),
    "stop.channel": (RunningChannel, "stop"),
    "stop.store": (SqliteStore, "close"),
}
#: No traffic leads to these: they happen while an engine is told to stop, or on an empty folder.
STOPPING = ("stop.", "commit.EndRun")
EMPTY = ("start.migrate",)
#: What this traffic does not cause; their own tests do: renaming and pausing a destination, a further store key, the
#: purge of the audit trail, a clock that is set back.
UNPROVOKED = tuple(
    f"commit.{name}" for name in ("Readdress", "Pause", "Resume", "AddKey", "Reseal", "PurgeAudit", "NoteClockStep")
)

POINTS = tuple(
    f"{name}.{moment}"
    for name in (*(f"commit.{operation}" for operation in OPERATIONS), *SEAMS, "ack", "reply")
    for moment in ("before", "after")
)
#: So often a process that is started may pass these: once, or once for each channel and destination.
FIRST = ("start.",)

#: So few ids at a time, that a run of a second needs more.
IDS_RESERVED = 200

_COUNT = struct.Struct("<I")


class Counters:
    """How often each point was passed, in a file that outlives the process."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(_COUNT.size * len(POINTS)))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        self._places = {point: place * _COUNT.size for place, point in enumerate(POINTS)}

    def __getitem__(self, point: str) -> int:
        return int(_COUNT.unpack_from(self._map, self._places[point])[0])

    def count(self, point: str) -> None:
        """One more."""
        _COUNT.pack_into(self._map, self._places[point], self[point] + 1)


class Killer:
    """Passes points, and dies at one."""

    def __init__(self, counters: Counters, point: str, nth: int) -> None:
        self._counters, self._point, self._left = counters, point, nth

    def passed(self, point: str) -> None:
        """This moment has come."""
        self._counters.count(point)
        if point == self._point:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
                time.sleep(60)  # another thread may have been the one to be stopped first


def install(killer: Killer) -> None:
    """Wrap every seam. AttributeError for one that is not there."""
    sqlite._IDS_RESERVED = IDS_RESERVED
    for point, (owner, name) in SEAMS.items():
        setattr(owner, name, _around(getattr(owner, name), killer, point))
    _wrap_commits(killer)
    _wrap_acks(killer)
    _wrap_replies(killer)


def _around(original: Callable[..., Any], killer: Killer, point: str) -> Callable[..., Any]:
    before, after = f"{point}.before", f"{point}.after"
    if asyncio.iscoroutinefunction(original):

        @functools.wraps(original)
        async def asynchronous(*args: Any, **kwargs: Any) -> Any:
            killer.passed(before)
            result = await original(*args, **kwargs)
            killer.passed(after)
            return result

        return asynchronous

    @functools.wraps(original)
    def synchronous(*args: Any, **kwargs: Any) -> Any:
        killer.passed(before)
        result = original(*args, **kwargs)
        killer.passed(after)
        return result

    return synchronous


def _wrap_commits(killer: Killer) -> None:
    original = GroupCommit.__init__

    @functools.wraps(original)
    def init(self: GroupCommit, connection: Any, apply: Any, commit: Any, *args: Any, **kwargs: Any) -> None:
        covered: set[str] = set()

        def counted_apply(operation: object) -> None:
            covered.add(type(operation).__name__)
            apply(operation)

        def counted_commit() -> None:
            names = sorted(covered)
            covered.clear()
            for name in names:
                killer.passed(f"commit.{name}.before")
            commit()
            for name in names:
                killer.passed(f"commit.{name}.after")

        original(self, connection, counted_apply, counted_commit, *args, **kwargs)

    GroupCommit.__init__ = init  # type: ignore[method-assign]


def _wrap_acks(killer: Killer) -> None:
    due, drain = Connection._due, Connection._drain
    written = False

    def counted_due(self: Connection) -> list[bytes]:
        nonlocal written
        found = due(self)
        written = bool(found)
        if found:
            killer.passed("ack.before")
        return found

    def counted_drain(self: Connection, _future: object = None) -> None:
        nonlocal written
        written = False
        drain(self, _future)
        if written:
            killer.passed("ack.after")

    Connection._due, Connection._drain = counted_due, counted_drain  # type: ignore[method-assign]


def _wrap_replies(killer: Killer) -> None:
    original = RestListener.__call__

    async def counted(self: RestListener, scope: Any, receive: Any, send: Any) -> None:
        killer.passed("reply.before")

        async def counted_send(part: Any) -> None:
            await send(part)
            if part["type"] == "http.response.body":
                killer.passed("reply.after")

        await original(self, scope, receive, counted_send)

    RestListener.__call__ = counted  # type: ignore[method-assign]
