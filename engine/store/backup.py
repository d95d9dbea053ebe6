"""Backups of a store: made beside a running engine, checked, and put back.

A backup is a folder with ``engine.db`` and ``manifest.json``, both of mode 0600; it appears under its name when all of
it is on the disk. It is one moment of the store: a read transaction is held while its pages are copied, in small steps,
so nothing that commits waits for it. Meanwhile the write-ahead log grows by what is committed: the copy hurries when
that is much, and gives up before the log fills the disk. It holds what the store holds, sealed as it stands there, and
never a key.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from engine.errors import StoreError
from engine.store import chain, database, keeping, look, ring, whole
from engine.store.audit import Act, Audit, Who
from engine.store.audit_writer import AuditWriter
from engine.store.crypto import Crypto, fingerprint
from engine.store.machine import FolderLock
from engine.store.schema import version_of
from engine.store.whole import Log

MANIFEST = "manifest.json"
#: Pages that are copied at a time, and the seconds that everybody else gets then.
_STEP, _PAUSE = 512, 0.004
#: When the log of the running engine has grown by so many bytes, nobody else gets any.
_PRESSING = 64 << 20


def back_up(
    source: sqlite3.Connection,
    to: Path,
    now: float,
    crypto: Crypto | None,
    pause: Callable[[float], None] = time.sleep,
) -> dict[str, Any]:
    """Copy the store behind ``source`` (a connection of its own) into the new folder ``to``; its manifest.

    ``crypto`` names the keys that it needs; None where they are not at hand. Made for a thread of its own. Raises
    StoreError when the folder exists or cannot be written.
    """
    draft = to.with_name(f"{to.name}.part")
    try:
        if to.exists():
            raise StoreError(f"{to} exists already")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700, parents=True)
        source.execute("BEGIN")
        source.execute("SELECT count(*) FROM sqlite_master").fetchone()  # the moment that is copied
        _copy(source, draft / database.DATABASE_FILE, pause)
        source.execute("COMMIT")
        manifest = _manifest(draft / database.DATABASE_FILE, now, crypto)
        with os.fdopen(os.open(draft / MANIFEST, os.O_WRONLY | os.O_CREAT, 0o600), "w", encoding="utf-8") as file:
            json.dump(manifest, file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        _sync(draft)
        draft.rename(to)
        _sync(to.parent)
    except (OSError, sqlite3.Error) as error:
        reason = getattr(error, "sqlite_errorname", None) or getattr(error, "strerror", None) or type(error).__name__
        raise StoreError(f"no backup was made at {to}: {reason}") from None
    finally:
        if source.in_transaction:
            source.execute("ROLLBACK")
        shutil.rmtree(draft, ignore_errors=True)
    return manifest


def _copy(source: sqlite3.Connection, path: Path, pause: Callable[[float], None]) -> None:
    folder = Path(source.execute("PRAGMA database_list").fetchone()[2]).parent
    log, most = Log(folder / database.LOG_FILE), _log_most(folder)

    def stepped(*_: int) -> None:
        grown = log.grown
        if grown > most:
            raise StoreError(
                f"no backup was made: the write-ahead log grew by {grown >> 20} MiB, half of what the disk had left,"
                " while it was copied; try again when less comes in, or make room"
            )
        pause(_PAUSE if grown < _PRESSING else 0.0)

    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    with closing(sqlite3.connect(path, isolation_level=None)) as target:
        target.execute("PRAGMA synchronous = OFF")  # synced as a whole below
        source.backup(target, pages=_STEP, progress=stepped, sleep=0)
        target.execute("PRAGMA journal_mode = DELETE").fetchall()  # one file that stands alone
    _sync(path)


def _log_most(folder: Path) -> int:
    """Bytes by which the log may grow."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return 1 << 62
    return found.f_bavail * found.f_frsize // 2


def _manifest(path: Path, now: float, crypto: Crypto | None) -> dict[str, Any]:
    with closing(database.connect_alone(path)) as reader:
        head = chain.head_of(reader)
        (messages,) = reader.execute("SELECT count(*) FROM message").fetchone()
        (deliveries,) = reader.execute("SELECT count(*) FROM delivery").fetchone()
        keys = [number for (number,) in reader.execute("SELECT number FROM store_key WHERE retired_at IS NULL")]
        fingerprints = {} if crypto is None else ring.fingerprints(reader, crypto)
        schema = version_of(reader)
    return {
        "made_at": now,
        "schema": schema,
        "messages": messages,
        "deliveries": deliveries,
        "audit_head": f"{head.last_id}:{head.last_hash.hex()}",
        "store_keys": keys,
        "key_fingerprints": {str(number): text for number, text in fingerprints.items()},
        "bytes": path.stat().st_size,
        "sha256": _digest(path),
    }


def verify_backup(place: Path, keys: Mapping[int, bytes]) -> list[str]:
    """What is wrong with a backup; without keys nothing is opened. One without a manifest was broken off.

    Raises StoreError, before anything else is read, when the manifest names other keys than the given ones.
    """
    try:
        told = json.loads((place / MANIFEST).read_text(encoding="utf-8"))
        needed, digest = dict(told.get("key_fingerprints", {})), str(told["sha256"])
    except (OSError, ValueError, LookupError, AttributeError):
        return ["there is no manifest that can be read: it is no backup, or one that was broken off"]
    if keys:
        _check_keys(needed, keys)
    with look.looking(place):  # StoreError where there is no database at all
        if digest != _digest(place / database.DATABASE_FILE):
            return ["the database is not the one that the manifest names"]
    return verify(place, keys)


def verify(place: Path, keys: Mapping[int, bytes]) -> list[str]:
    """What is wrong with a data folder whose engine does not run, or a database; without keys nothing is opened."""
    with look.looking(place) as reader:
        return whole.check(reader, look.crypto_for(reader, keys))


def _check_keys(needed: Mapping[str, str], keys: Mapping[int, bytes]) -> None:
    given = {number: fingerprint(key) for number, key in sorted(keys.items())}
    for number, wanted in needed.items():
        found = given.get(int(number))
        if found == wanted:
            continue
        if found is not None:
            told = f"the store key {number} that is given is not the one: it has fingerprint {found}"
        else:
            told = f"given: {', '.join(f'{n} (fingerprint {text})' for n, text in given.items())}"
        raise StoreError(f"this backup needs store key {number} with fingerprint {wanted}; {told}")


def restore(
    backup: Path, data: Path, keys: Mapping[int, bytes], who: Who, *, replace: bool, hold: bool
) -> dict[str, int]:
    """Put a backup back as the store of ``data``; what is unfinished in it, by state.

    With ``hold`` a person decides about each of these: deliveries are held, unrouted messages failed. Raises
    DataFolderInUse, StoreError: the backup is not whole, or there is a store and not ``replace``; that is kept aside.
    """
    if faults := verify_backup(backup, keys):
        raise StoreError(f"the backup is not whole: {'; '.join(faults)}")
    lock = FolderLock(data)
    try:
        path = data / database.DATABASE_FILE
        if path.exists() and not replace:
            raise StoreError(f"{data} has a store already")
        draft = data / f"{database.DATABASE_FILE}.part"
        shutil.copyfile(backup / database.DATABASE_FILE, draft)
        draft.chmod(0o600)
        _sync(draft)
        aside = time.strftime(".replaced-%Y%m%d-%H%M%S")
        for name in (database.DATABASE_FILE, database.LOG_FILE):
            if (data / name).exists():
                (data / name).rename(data / f"{name}{aside}")
        (data / f"{database.DATABASE_FILE}-shm").unlink(missing_ok=True)
        draft.rename(path)
        _sync(data)
        return _settle(data, Crypto(keys), who, hold)
    finally:
        lock.release()


def _settle(data: Path, crypto: Crypto, who: Who, hold: bool) -> dict[str, int]:
    now = time.time()
    with closing(database.connect_writer(data, crypto)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        ring.unlock(writer, crypto, now)
        unfinished = dict(writer.execute(keeping.UNFINISHED).fetchall())
        unfinished |= dict(writer.execute(keeping.UNROUTED_NUMBER).fetchall())
        if hold:
            writer.execute(keeping.HOLD_RESTORED)
            writer.execute(keeping.FAIL_RESTORED, (now,))
        numbers = {str(state): number for state, number in unfinished.items()}
        AuditWriter(writer.cursor(), crypto).append(Audit(Act.BACKUP_RESTORED, who, now, numbers=numbers))
        writer.execute("COMMIT")
    return numbers


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
