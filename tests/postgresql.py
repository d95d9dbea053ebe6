"""A PostgreSQL server of the tests' own: in a temporary folder, on a free port, stopped with the tests.

initdb and postgres refuse to run as root, so root runs them as ``postgres`` or ``nobody``.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

#: Where Debian keeps the programs that it puts on nobody's PATH.
PLACES = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)


def program(name: str) -> str | None:
    """The path of a program of PostgreSQL's server."""
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), *map(str, PLACES)]))


def account() -> pwd.struct_passwd | None:
    """Who runs the server: None is whoever runs the tests."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise AssertionError("root has nobody to run PostgreSQL as")


@contextmanager
def server() -> Iterator[str]:
    """The address of a running server's superuser, without a database at its end: ``postgresql://test@127.0.0.1:5433``.

    Skips where PostgreSQL is not installed; with ``HL7ENGINE_REQUIRE_ALL=1`` that is a failure.
    """
    initdb, postgres = program("initdb"), program("postgres")
    if initdb is None or postgres is None:
        why = "these tests need PostgreSQL's initdb and postgres"
        if os.environ.get("HL7ENGINE_REQUIRE_ALL") == "1":
            pytest.fail(why)
        pytest.skip(why)
    user = account()
    runs_as = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user is not None else {}
    with tempfile.TemporaryDirectory(prefix="pg") as name, socket.socket() as probe:
        folder = Path(name)
        if user is not None:
            os.chown(folder, user.pw_uid, user.pw_gid)
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        data = folder / "data"
        words = ["-D", str(data), "-U", "test", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
        env = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"}
        subprocess.run([initdb, *words], check=True, capture_output=True, timeout=90, cwd=folder, env=env, **runs_as)
        settings = {"port": port, "listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off"}
        options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [postgres, "-D", str(data), *options], stdout=log, stderr=log, cwd=folder, env=env, **runs_as
            )
        try:
            address = f"postgresql://test@127.0.0.1:{port}"
            wait_until_it_answers(address, process, folder / "log")
            yield address
        finally:
            process.send_signal(signal.SIGQUIT)  # at once: nothing of it is wanted any more
            process.wait(30)


def wait_until_it_answers(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(600):
        assert process.poll() is None, log.read_text(errors="replace")
        try:
            psycopg.connect(f"{address}/postgres", connect_timeout=10).close()
        except psycopg.OperationalError:
            try:
                process.wait(0.1)
            except subprocess.TimeoutExpired:
                continue
        else:
            return
    raise AssertionError(log.read_text(errors="replace"))
