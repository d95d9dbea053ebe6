"""The durable steps by name, and SIGKILL at the Nth passing of one: runs inside the engine's process.

Nothing of this is in the engine. The launcher wraps stable seams (the COMMIT with the operations that it covers, the
write of an ack, the send, recovery, the start and the end of each part); a seam that is gone fails the start loudly.
How often each point was passed stands in a shared file, because the process that counts does not live to tell.
"""

import asyncio
import dataclasses
import functools
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

from engine.destinations import mllp as mllp_destination
from engine.destinations import rest as rest_destination
from engine.destinations.connections.mllp import Link
from engine.runtime import housekeeping
from engine.runtime import pruning as runtime_pruning
from engine.runtime.channel import RunningChannel
from engine.runtime.deliver import Lanes
from engine.runtime.route import Router
from engine.runtime.routing import Routing
from engine.sources.serving.listener import RestListener
from engine.sources.serving.mllp_acks import Owed
from engine.sources.serving.mllp_connection import Connection
from engine.store import backup, base, checkpoint, database, group_commit, pruning, sqlite, upkeep
from engine.store import machine as store_machine
from engine.store.group_commit import GroupCommit
from engine.store.late import IndexMessages
from engine.store.parts import KeepPart
from engine.store.process import writing
from engine.store.process.writing import WritingProcess
from engine.store.pruning import PruneWriter
from engine.store.sqlite import SqliteStore
from engine.store.transaction import Transaction

from .counters import ORDER, WRITER, Killer

#: What is not in the contract's operations: the store's own.
INTERNAL = tuple(
    sorted(
        name
        for name, found in vars(upkeep).items()
        if dataclasses.is_dataclass(found) and getattr(found, "__module__", "") == upkeep.__name__
    )
)
OPERATIONS = (
    *sorted(operation.__name__ for operation in get_args(base.Operation)),
    *INTERNAL,
    *(kind.__name__ for kind in (IndexMessages, KeepPart)),
)

#: point → (owner, its method or function)
SEAMS: dict[str, tuple[Any, str]] = {
    "start.store": (SqliteStore, "open"),
    "start.migrate": (database, "migrate"),
    "start.recover": (SqliteStore, "_recover"),
    "start.lanes": (Lanes, "recover"),
    "start.router": (Router, "recover"),
    "start.channel": (RunningChannel, "start"),
    "route": (Routing, "outcome"),
    "send": (Link, "send"),
    "send.ask": (Link, "ask"),
    "send.answer": (mllp_destination.MllpDestination, "send"),
    "send.rest": (rest_destination.RestDestination, "send"),
    "process.start": (WritingProcess, "_start"),
    "process.write": (WritingProcess, "write"),
    "process.answer": (GroupCommit, "_written"),
    "process.move": (WritingProcess, "move"),
    "stop.channel": (RunningChannel, "stop"),
    "stop.store": (SqliteStore, "close"),
    "backup": (backup, "back_up"),
    "backup.copy": (backup, "_copy"),
    "backup.manifest": (backup, "_manifest"),
}
#: Where a process of its own writes; and points inside of that process (``writer.py``).
APART = ("process.",)
#: No traffic leads to these: they happen while an engine is told to stop, or on an empty folder.
STOPPING = ("stop.", "commit.EndRun")
EMPTY = ("start.migrate",)
#: What traffic alone does not cause: how a point's name begins → the errand of a person that does (``errands.py``).
ERRANDS = {
    "commit.Readdress": "rename",
    "commit.Pause": "pause",
    "commit.Resume": "pause",
    "commit.AddKey": "rotate",
    "commit.Reseal": "rotate",
    "commit.Prune": "prune",
    "commit.RemoveBodies": "prune",
    "commit.PassBodies": "prune",
    "commit.SweepParts": "prune",
    "commit.SweepPatients": "prune",
    "commit.Shrink": "prune",
    "commit.NoteClockStep": "set_clock_back",
    "commit.PurgeAudit": "set_clock_ahead",
    "backup": "back_up",
}
#: Only where the shim turns the clock.
CLOCK = ("commit.NoteClockStep",)

_OTHERS = ("backup.step", "ack", "reply", f"{WRITER}start", f"{WRITER}commit", f"{WRITER}move")
POINTS = tuple(
    f"{name}.{moment}"
    for name in (*(f"commit.{operation}" for operation in OPERATIONS), *SEAMS, *_OTHERS)
    for moment in ("before", "after")
)
#: A run passes these once, once for each channel and destination, or seldom.
FIRST = (
    *(
        "process.start",
        "process.move",
        "writer.move",
        "writer.database",
        "start.",
        "backup",
        "commit.Audit",
        "commit.PurgeAudit",
        "commit.Readdress",
        "commit.Pause",
        "commit.Resume",
    ),
    *("commit.AddKey", "commit.NoteClockStep", "commit.Shrink", "commit.SweepParts", "commit.KeepPart"),
    "commit.IndexMessages",
    *("commit.Reopen", "commit.DropKey", "commit.CloseKey", "commit.ReserveIds", "commit.PurgeExpired"),
)

#: So few ids at a time, that a run of a second needs more.
IDS_RESERVED = 200
#: Seconds between two removals of what is old, and two looks at the clock.
HOUR, LOOK = 1.0, 0.25
#: What one unit of pruning took, so many times as long is left to others: an engine here lives for a second or two.
PRUNING_SHARE = 0.5
#: Where a process writes, it does so from the first batch on, and moves so many pages of the log together.
APART_MANY, APART_PAGES, NEVER = 1, 200, 1_000_000_000
#: Free pages that stay, pages of one step of a backup: few, since the store is small.
RESERVE_PAGES, RESERVE_SHARE, STEP = 4, 0.0, 32


def install(killer: Killer, witness: Path, *, apart: bool) -> None:
    """Wrap every seam. AttributeError for one that is not there. ``witness``: what is removed is written down there.
    ``apart``: a process of its own writes whatever it can.
    """
    _write_apart(apart)
    constants: tuple[tuple[Any, str, float], ...] = (
        (sqlite, "_IDS_RESERVED", IDS_RESERVED),
        (housekeeping, "HOUR", HOUR),
        (housekeeping, "LOOK", LOOK),
        (runtime_pruning, "SHARE", PRUNING_SHARE),
        (pruning, "_RESERVE_PAGES", RESERVE_PAGES),
        (pruning, "_RESERVE_SHARE", RESERVE_SHARE),
        (backup, "_STEP", STEP),
    )
    for owner, name, number in constants:
        getattr(owner, name)
        setattr(owner, name, number)
    for point, (owner, name) in SEAMS.items():
        setattr(owner, name, _around(getattr(owner, name), killer, point))
    _wrap_commits(killer)
    _wrap_acks(killer)
    _wrap_replies(killer)
    _wrap_steps(killer)
    _wrap_removal(witness)


def _write_apart(apart: bool) -> None:
    few = (group_commit._INLINE_UNITS, group_commit._INLINE_UNITS_APART)
    constants: tuple[tuple[Any, str, Any], ...] = (
        (writing, "_MODULE", "tests.crash.writer"),
        (store_machine, "_NEEDED", re.compile(f"{store_machine._NEEDED.pattern}|{ORDER}")),
        (writing, "_MANY", APART_MANY if apart else NEVER),
        (writing, "_AFTER_DEATH", 0.1),
        (group_commit, "_INLINE_UNITS", 0 if apart else few[0]),
        (group_commit, "_INLINE_UNITS_APART", 0 if apart else few[1]),
        (checkpoint, "PAGES", APART_PAGES if apart else checkpoint.PAGES),
    )
    for owner, name, number in constants:
        getattr(owner, name)
        setattr(owner, name, number)


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
    original = Transaction.__init__

    @functools.wraps(original)
    def init(self: Transaction, connection: Any, writer: Any, commit: Any) -> None:
        covered: set[str] = set()

        def counted(kind: type, handler: Any) -> Any:
            def execute(operation: object) -> None:
                covered.add(kind.__name__)
                handler(operation)

            return execute

        def counted_commit() -> None:
            names = sorted(covered)
            covered.clear()
            for name in names:
                killer.passed(f"commit.{name}.before")
            commit()
            for name in names:
                killer.passed(f"commit.{name}.after")

        writer.handlers = {kind: counted(kind, handler) for kind, handler in writer.handlers.items()}
        original(self, connection, writer, counted_commit)

    Transaction.__init__ = init  # type: ignore[method-assign]


def _wrap_acks(killer: Killer) -> None:
    due, drain = Owed.due, Connection._drain
    written = False

    def counted_due(self: Owed) -> list[bytes]:
        nonlocal written
        found = due(self)
        written = bool(found)
        if found:
            killer.passed("ack.before")
        return found

    def counted_drain(self: Connection) -> None:
        nonlocal written
        written = False
        drain(self)
        if written:
            killer.passed("ack.after")

    Owed.due, Connection._drain = counted_due, counted_drain  # type: ignore[method-assign]


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


def _wrap_steps(killer: Killer) -> None:
    """The steps of a backup: between two of them others get their turn."""
    original = backup._copy

    def counted(source: Any, path: Path, pause: Callable[[float], None]) -> None:
        def counted_pause(seconds: float) -> None:
            killer.passed("backup.step.before")
            pause(seconds)
            killer.passed("backup.step.after")

        original(source, path, counted_pause)

    backup._copy = counted


#: id, channel, MSH-10, state, ack and cause of a message; the same of its deliveries.
_MESSAGE = "SELECT id, channel, coalesce(late_control_id, control_id), state, ack, cause FROM message WHERE id = ?"
_DELIVERIES = "SELECT id, destination, state, may_be_duplicated FROM delivery WHERE message_id = ?"


def _wrap_removal(witness: Path) -> None:
    """Write down what a message was when it was removed; the commit that does so may still not come."""
    original = PruneWriter._remove
    file = os.open(witness, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def told(self: PruneWriter, message_id: int) -> None:
        names = ("id", "channel", "control_id", "state", "ack", "cause")
        (row,) = self._execute(_MESSAGE, (message_id,)).fetchall()
        deliveries = self._execute(_DELIVERIES, (message_id,)).fetchall()
        columns = ("id", "destination", "state", "may_be_duplicated")
        found = dict(zip(names, row, strict=True))
        found["deliveries"] = [dict(zip(columns, delivery, strict=True)) for delivery in deliveries]
        os.write(file, json.dumps(found).encode() + b"\n")
        original(self, message_id)

    PruneWriter._remove = told  # type: ignore[method-assign]
