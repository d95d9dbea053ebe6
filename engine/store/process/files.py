"""Which files an engine runs: they may be replaced while it does, by an upgrade before its restart.

A process that is started then would be of the new files, and must not write for an engine of the old ones; nor one
that finds another installation than the engine did. So each says what it runs before it is given a batch.
"""

from __future__ import annotations

from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import engine


def files() -> str:
    """What the files of the store are now: a digest of their names, sizes and times of change."""
    folder, digest = Path(engine.__file__).parent, sha256()
    for path in sorted([*folder.glob("*.py"), *folder.glob("store/**/*.py"), *folder.glob("store/**/*.sql")]):
        with suppress(OSError):  # it is being replaced
            stat = path.stat()
            digest.update(f"{path.name} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()
