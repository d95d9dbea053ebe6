"""Secrets of a site: made at first run into ``.env`` (mode 0600), never shipped, never replaced.

The engine's own are always there: the key that encrypts what the store seals, and the key of the admin API. A site
names further ones (``secrets:`` in ``site.yaml``). A variable of the real environment wins over ``.env``, and is not
written there.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import os
import re
import secrets
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from engine.errors import ConfigError, Problem

#: 32 bytes in base64: AES-256-GCM of the store.
STORE_KEY = "HL7ENGINE_STORE_KEY"
#: ``X-API-Key`` of the admin port.
ADMIN_KEY = "HL7ENGINE_ADMIN_KEY"
#: A key that opens ``GET /metrics`` there and nothing else; none is made by itself.
METRICS_KEY = "HL7ENGINE_METRICS_KEY"

_LINE = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*?)\s*")
_HEAD = "# Generated at first run. Keep it: what the store encrypted cannot be read without its key.\n"


def ensure_env(site: Path, names: Sequence[str], environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment over ``.env``, after generating what is in neither. ``environ`` defaults to the process's own.

    Raises ConfigError when ``.env`` cannot be read or written.
    """
    real = os.environ if environ is None else environ
    wanted = [STORE_KEY, ADMIN_KEY, *names]
    path = site / ".env"
    try:
        with _alone_in(site):
            text = path.read_text(encoding="utf-8") if path.exists() else ""
            known = read_env(text)
            missing = [name for name in dict.fromkeys(wanted) if not known.get(name) and not real.get(name)]
            made = {name: _generate(name) for name in missing}
            if made:
                head = (text if text.endswith("\n") or not text else text + "\n") or _HEAD
                replace_file(path, head + "".join(f"{name}={value}\n" for name, value in made.items()))
            elif path.exists() and path.stat().st_mode & 0o077:
                path.chmod(0o600)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "not a text file"
        problem = Problem(
            ".env", 0, "", f"cannot be used: {reason}", "a file that the engine's user may read and write"
        )
        raise ConfigError([problem]) from None
    kept = {**known, **made}
    return {**kept, **{name: value for name, value in real.items() if value or name not in kept}}


def read_env(text: str) -> dict[str, str]:
    """``NAME=value`` lines, quotes around a value taken off; everything else is ignored. The last of a name counts."""
    values: dict[str, str] = {}
    for line in text.splitlines():
        found = _LINE.fullmatch(line)
        if found is None:
            continue
        value = found[2]
        if len(value) >= 2 and value[0] == value[-1] and value[0] in "'\"":
            value = value[1:-1]
        values[found[1]] = value
    return values


def _generate(name: str) -> str:
    if name == STORE_KEY:
        return base64.b64encode(secrets.token_bytes(32)).decode()
    return secrets.token_urlsafe(32)


@contextlib.contextmanager
def _alone_in(site: Path) -> Iterator[None]:
    """Engine and simulators may start together for the first time: only one of them generates."""
    folder = os.open(site, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def set_variable(site: Path, name: str, value: str) -> None:
    """Give a variable of ``.env`` another value, where it stands. Raises OSError, ``.env`` unharmed."""
    path = site / ".env"
    with _alone_in(site):
        lines = path.read_text(encoding="utf-8").splitlines()
        places = [at for at, line in enumerate(lines) if (found := _LINE.fullmatch(line)) and found[1] == name]
        if places:
            lines[places[-1]] = f"{name}={value}"
        else:
            lines.append(f"{name}={value}")
        replace_file(path, "\n".join(lines) + "\n")


def replace_file(path: Path, text: str) -> None:
    """Replace a file of secrets as a whole (mode 0600): a crash leaves the old one. Raises OSError."""
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.")  # made with mode 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(draft).replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # the name too: what is sealed with a new key needs it
        finally:
            os.close(folder)
    except BaseException:  # whatever ends it: a half-written secret does not stay
        Path(draft).unlink(missing_ok=True)
        raise
