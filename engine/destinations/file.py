"""`file: {path: "out/{control_id}.hl7"}`: writes each message into the data folder, whole or not at all.

A new file appears under its name only when its bytes are on the disk; `append: true` adds to one file and takes a
half-written addition back. Names are made from ids only. It neither rotates nor deletes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import string
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import structlog
from pydantic import BaseModel, ConfigDict, Field

from engine.destinations.base import Building, Destination, Outgoing, Response
from engine.errors import Evidence, SpecError, Unavailable

log = structlog.get_logger("engine.file")

PLACEHOLDERS = ("channel", "control_id", "correlation_id", "date", "delivery_id", "destination", "message_id")
#: Each of these alone makes a name that no other delivery has.
UNIQUE = frozenset({"control_id", "delivery_id", "message_id"})
#: Folders of the data folder that are the engine's own.
RESERVED = frozenset({"tls"})

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")
#: The usual limit of one name is 255 bytes; this leaves room for what stands around a placeholder.
MAX_VALUE = 100
#: Bytes of a large message that go to the disk at once: the store's commits wait behind what it has been given.
_AT_ONCE = 1 << 20


class FileConfig(BaseModel):
    """Where messages are written."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str = Field(description=f"File in the data folder; may contain {{{'}, {'.join(PLACEHOLDERS)}}}.")
    append: bool = Field(False, description="Add to the file instead of writing one file per message.")
    separator: str = Field("\n", description="Written after each message that is appended.")


class FileDestination(Destination):
    """Writes files."""

    Config = FileConfig
    takes_pieces: ClassVar[bool] = True

    def __init__(self, config: FileConfig, building: Building) -> None:
        self.config = config
        self._root = building.data
        self._appending = asyncio.Lock()
        _check(config)

    @property
    def address(self) -> str:
        """``file:out/{control_id}.hl7``."""
        return f"file:{self.config.path}"

    async def send(self, outgoing: Outgoing) -> Response:
        """Write one message; Unavailable when the disk does not take it, and then nothing of it is left."""
        path = self._root / self.config.path.format_map(_values(outgoing))
        try:
            if self.config.append:
                async with self._appending:
                    await asyncio.to_thread(self._append, path, outgoing)
            else:
                await asyncio.to_thread(self._write, path, outgoing)
        except OSError as error:
            log.warning(
                "file.not_written", channel=outgoing.channel, destination=outgoing.destination, errno=error.errno
            )
            raise Unavailable("disk") from None
        return Response(evidence=Evidence("AA"))

    def _write(self, path: Path, outgoing: Outgoing) -> None:
        self._make_folder(path.parent)
        draft = path.with_name(f".{outgoing.delivery_id}.draft")
        try:
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
            try:
                _write_all(descriptor, _views(outgoing))
            finally:
                os.close(descriptor)
            draft.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)

    def _append(self, path: Path, outgoing: Outgoing) -> None:
        self._make_folder(path.parent)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            before = os.lseek(descriptor, 0, os.SEEK_END)
            try:
                separator = memoryview(self.config.separator.encode())
                _write_all(descriptor, [*_views(outgoing), separator])
            except OSError:
                os.ftruncate(descriptor, before)
                raise
        finally:
            os.close(descriptor)
        if before == 0:
            _sync_folder(path.parent)

    def _make_folder(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # A link somebody put there must not lead messages out of the data folder.
        if not folder.resolve().is_relative_to(self._root.resolve()):
            raise PermissionError("the folder leads out of the data folder")


def _check(config: FileConfig) -> None:
    """Raises SpecError for a path that could overwrite, or leave its folder."""
    expected = f"{{{'}, {'.join(PLACEHOLDERS)}}}"
    try:
        fields = [field for field in string.Formatter().parse(config.path) if field[1] is not None]
    except ValueError:
        raise SpecError("the braces of the path do not match", at=("path",), expected=expected) from None
    names = {str(name) for _, name, _, _ in fields}
    if not names <= set(PLACEHOLDERS) or any(spec or conversion for _, _, spec, conversion in fields):
        raise SpecError("the path has a placeholder that does not exist", at=("path",), expected=expected)
    plain = config.path.format_map(dict.fromkeys(PLACEHOLDERS, "x"))
    parts = Path(plain).parts
    if Path(plain).is_absolute() or ".." in parts or plain.endswith("/") or "\0" in plain:
        raise SpecError("the path must stay in the data folder", at=("path",), expected="such as out/{control_id}.hl7")
    if len(parts) < 2 or parts[0] in RESERVED or config.path.startswith("{"):
        raise SpecError("the path needs a folder of its own", at=("path",), expected="such as out/{control_id}.hl7")
    if not config.append and not names & UNIQUE:
        raise SpecError(
            "every message would overwrite the one before",
            at=("path",),
            expected="one of {control_id}, {message_id}, {delivery_id} in it, or append: true",
        )


def _values(outgoing: Outgoing) -> dict[str, Any]:
    day = datetime.fromtimestamp(outgoing.received_at, UTC).strftime("%Y%m%d")
    values = {name: _safe(str(getattr(outgoing, name))) for name in PLACEHOLDERS if name != "date"}
    return values | {"date": day}


def _safe(value: str) -> str:
    return _UNSAFE.sub("_", value).lstrip(".")[:MAX_VALUE] or "_"


def _views(outgoing: Outgoing) -> list[memoryview]:
    """What is to be written, without a copy."""
    return [memoryview(outgoing.body)] if outgoing.pieces is None else list(outgoing.pieces.views())


def _write_all(descriptor: int, views: Iterable[memoryview]) -> None:
    for view in views:
        for start in range(0, len(view), _AT_ONCE):
            left = view[start : start + _AT_ONCE]
            while left:
                left = left[os.write(descriptor, left) :]
            if len(view) > _AT_ONCE:
                os.fdatasync(descriptor)
    os.fsync(descriptor)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
