"""A site that any machine can run (free ports everywhere), the command as a subprocess, an engine on that site."""

import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import UnixStreamServer
from typing import Any

import pytest
from typer.testing import CliRunner

from engine.cli import app

SAMPLES = Path(__file__).parents[2] / "samples" / "hl7"
PATIENCE = 30.0

SITE_YAML = "rest: {port: 0}\nadmin: {port: 0}\n"
INBOX = """\
name: inbox
description: Notifications, each into a file.
source:
  mllp: {port: 0}
transform:
  - keep: {MSH-9.1: SIU}
destinations:
  - name: folder
    to:
      file: {path: "out/{control_id}.hl7"}
"""

Result = subprocess.CompletedProcess[str]
Command = Callable[..., Result]


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = tmp_path / "site"
    (folder / "channels").mkdir(parents=True)
    (folder / "site.yaml").write_text(SITE_YAML)
    (folder / "channels" / "inbox.yaml").write_text(INBOX)
    return folder


@pytest.fixture
def hl7engine(site: Path) -> Command:
    """Run the command to its end in the site's folder."""

    def run(*words: str, stdin: bytes | str = "", cwd: Path = site, env: dict[str, str] | None = None) -> Result:
        text = stdin if isinstance(stdin, str) else stdin.decode("latin-1")
        return subprocess.run(
            [sys.executable, "-m", "engine.cli", *words],
            input=text,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            capture_output=True,
            encoding="utf-8" if isinstance(stdin, str) else "latin-1",
            timeout=PATIENCE,
            check=False,
        )

    return run


@dataclass
class Engine:
    """``hl7engine run`` as a process of its own."""

    process: subprocess.Popen[bytes]
    #: Its log, as far as it was read.
    log: list[dict[str, Any]] = field(default_factory=list)
    _rest: bytes = b""

    def until(self, event: str) -> dict[str, Any]:
        """Read the log until a line with this event comes."""
        deadline = time.monotonic() + PATIENCE
        while not (found := [line for line in self.log if line["event"] == event]):
            if not self._read(deadline):
                raise AssertionError(f"no {event} in {self.log}; exit code {self.process.poll()}")
        return found[-1]

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, read the log to its end, return the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        deadline = time.monotonic() + PATIENCE
        while self._read(deadline):
            pass
        return self.process.wait(PATIENCE)

    def _read(self, deadline: float) -> bool:
        stream = self.process.stderr
        assert stream is not None
        with selectors.DefaultSelector() as selector:
            selector.register(stream, selectors.EVENT_READ)
            if not selector.select(max(0.0, deadline - time.monotonic())):
                return False
        data = os.read(stream.fileno(), 65536)
        *lines, self._rest = (self._rest + data).split(b"\n")
        self.log += [json.loads(line) for line in lines if line.startswith(b"{")]
        return bool(data)

    @property
    def mllp_port(self) -> str:
        """Where the channel ``inbox`` listens."""
        return str(self.until("mllp.listening")["address"].rpartition(":")[2])


Start = Callable[..., Engine]


@pytest.fixture
def start(site: Path, tmp_path: Path) -> Iterator[Start]:
    """Start engines; what still runs at the end of the test is stopped."""
    engines: list[Engine] = []

    def start(*words: str, env: dict[str, str] | None = None, ready: bool = True) -> Engine:
        output = tmp_path / f"stdout-{len(engines)}"
        with output.open("wb") as stdout:
            process = subprocess.Popen(
                [sys.executable, "-m", "engine.cli", "run", str(site), *words],
                stdout=stdout,
                stderr=subprocess.PIPE,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **(env or {})},
            )
        engines.append(Engine(process))
        if ready:
            engines[-1].until("engine.started")
        return engines[-1]

    yield start
    for engine in engines:  # none is read any more: a thread of a test that failed may be at it
        engine.process.kill()
    for engine in engines:
        engine.process.wait(PATIENCE)
        assert engine.process.stderr is not None
        engine.process.stderr.close()


@pytest.fixture
def engine(start: Start) -> Engine:
    """A running engine."""
    return start()


@dataclass
class Api:
    """The local socket of an engine that answers as it is told and remembers what it was asked."""

    data: Path
    answers: dict[tuple[str, str], tuple[int, Any]] = field(default_factory=dict)
    asked: list[tuple[str, str, Any, dict[str, str]]] = field(default_factory=list)

    def answer(self, method: str, target: str, body: Any, status: int = 200) -> None:
        self.answers[method, target] = (status, body)


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    """See ``Api``; commands reach it with ``--data``."""
    api = Api(tmp_path / "data")
    api.data.mkdir()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            target = self.path.partition("?")[0]
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            api.asked.append((self.command, self.path, json.loads(content) if content else None, dict(self.headers)))
            status, body = api.answers.get((self.command, target), (404, {"error": {"code": "not_found"}}))
            text = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_POST = do_GET

        def address_string(self) -> str:
            return "local"

        def log_message(self, *_: Any) -> None:
            return

    with UnixStreamServer(str(api.data / "engine.sock"), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield api
        server.shutdown()
        thread.join()


@pytest.fixture
def invoke(api: Api) -> Command:
    """Run a command in this process against the ``api``."""

    def invoke(*words: str, stdin: str = "") -> Any:
        return CliRunner().invoke(app, [*words, "--data", str(api.data)], input=stdin)

    return invoke
