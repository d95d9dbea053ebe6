"""The admin API's two doors: a TCP port and the local socket, served in the engine's own loop.

The port demands the admin key (``api.py``). The socket is for the people who may read the data folder: it is created
with mode 0600 in a folder of mode 0700, so there is no moment at which others can connect. Two engines never share a
folder (the store's lock); a socket that nobody answers on is what a crash left behind.
"""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress
from pathlib import Path

import structlog
from starlette.types import ASGIApp

from engine.admin.api import make_app
from engine.admin.local import address_of
from engine.errors import DataFolderInUse
from engine.runtime.supervisor import Supervisor
from engine.sources.serving.accepting import ServerContexts
from engine.sources.serving.http_head import Limits
from engine.sources.serving.ports import listen
from engine.sources.serving.server import Server, make_server
from engine.sources.serving.telling import Telling

log = structlog.get_logger("engine.admin")

#: Seconds that requests under way get when the engine stops.
GRACE = 3
BACKLOG = 128


class AdminServer:
    """Serves the admin API from ``start`` to ``stop``."""

    def __init__(
        self,
        supervisor: Supervisor,
        host: str,
        port: int,
        admin_key: str,
        socket_path: Path,
        contexts: ServerContexts | None = None,
        metrics_key: str = "",
    ) -> None:
        """``port`` 0 takes a free one; an empty ``admin_key`` leaves the port with ``/health``, and with ``/metrics``
        where that has a key of its own.
        """
        self.supervisor, self.admin_key, self._metrics_key = supervisor, admin_key, metrics_key
        self.host, self.port, self.socket_path = host, port, socket_path
        self._contexts = contexts
        self._servers: list[Server] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._inode: int | None = None

    @property
    def address(self) -> str:
        """Where the port is: ``http://127.0.0.1:8090``."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self._contexts else 'http'}://{host}:{self.port}"

    async def start(self) -> None:
        """Open both doors. OSError when the port is taken, DataFolderInUse when an engine answers on the socket."""
        if self._contexts is not None:
            self._contexts.get()
        local = bind_local(self.socket_path)
        self._inode = self.socket_path.stat().st_ino
        try:
            port = await listen(self.host, self.port)
        except OSError:
            local.close()
            self._unlink()
            raise
        self.port = port.getsockname()[1]
        self._serve(
            make_app(self.supervisor, self.admin_key or "", self._metrics_key), port, "admin port", self._contexts
        )
        self._serve(make_app(self.supervisor, None), local, "admin socket")

    async def stop(self) -> None:
        """Finish the requests under way, then close both doors."""
        for server in self._servers:
            server.should_exit = True
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=GRACE)
            if late:
                self._abort()
                await asyncio.wait(late)
        self._servers, self._tasks = [], []
        self._unlink()

    def _serve(self, app: ASGIApp, listener: socket.socket, name: str, contexts: ServerContexts | None = None) -> None:
        server = make_server(app, contexts, Limits(), Telling(log, "admin", {"door": name}))
        task = asyncio.create_task(server.serve(sockets=[listener]), name=name)
        task.add_done_callback(ended)
        self._servers.append(server)
        self._tasks.append(task)

    def _abort(self) -> None:
        for server in self._servers:
            server.force_exit = True
            for connection in list(server.server_state.connections):
                connection.transport.abort()

    def _unlink(self) -> None:
        # Only the socket this server made: the folder may have been taken over by another engine meanwhile.
        with suppress(FileNotFoundError):
            if self._inode == self.socket_path.stat().st_ino:
                self.socket_path.unlink()
        self._inode = None


def ended(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("admin.server_failed", door=task.get_name(), error=type(error).__name__)


def bind_local(path: Path) -> socket.socket:
    """Listen on a socket of mode 0600. Raises DataFolderInUse when somebody answers there already."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with address_of(path) as address:
        remove_stale(path, address)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # The mode is there from the first moment: a chmod afterwards would leave a gap.
        mask = os.umask(0o177)
        try:
            listener.bind(address)
        except OSError:
            listener.close()
            raise
        finally:
            os.umask(mask)
    listener.listen(BACKLOG)
    return listener


def remove_stale(path: Path, address: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(address)
        except FileNotFoundError:
            return
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
    raise DataFolderInUse(f"an engine already answers on {path}")
