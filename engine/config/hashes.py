"""Which files a site consists of, each with its SHA-256: what the audit trail says was loaded.

The engine reads ``site.yaml`` and what lies under ``channels``, ``transforms`` and ``tables``. ``.env`` holds secrets
and is left out, as is whatever begins with a dot.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

_FOLDERS = ("channels", "transforms", "tables")


def hash_files(folder: Path) -> dict[str, str]:
    """File, relative to the site → SHA-256 in hex, in order of name. What cannot be read is left out."""
    found: dict[str, str] = {}
    paths = [folder / "site.yaml", *(path for name in _FOLDERS for path in sorted((folder / name).rglob("*")))]
    for path in paths:
        name = path.relative_to(folder)
        if any(part.startswith(".") or part == "__pycache__" for part in name.parts):
            continue
        try:
            with path.open("rb") as file:
                found[name.as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            continue  # a folder, or a file that went away meanwhile
    return found
