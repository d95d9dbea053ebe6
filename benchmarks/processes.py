"""The processes of a measurement: engine, sink, load generator and references; their ports, processor and memory."""

from __future__ import annotations

import base64
import http.client
import itertools
import json
import os
import re
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

HERE = Path(__file__).parent
LOAD = HERE / "load"
HL7ENGINE = str(Path(sys.executable).with_name("hl7engine"))
#: Seconds for anything that must happen.
PATIENCE = 120.0
#: The key of the admin API, and of callers, in everything that is measured.
KEY = secrets.token_hex(24)
STORE_KEY = base64.b64encode(secrets.token_bytes(32)).decode()


def build() -> None:
    """Compile the programs of ``load/``. CalledProcessError when there is no compiler."""
    subprocess.run(["make", "-s", "-C", str(LOAD)], check=True)


# -- ports -------------------------------------------------------------------------------------------------------------


def candidates() -> Iterator[int]:
    """Ports below those that the system gives to outgoing connections: senders take none of them."""
    first = 20_000 + os.getpid() * 37 % 8_000
    while True:
        yield from range(first, 32_000)
        first = 20_000


PORTS = candidates()


def free_port() -> int:
    """A port nobody listens on, and another one each time."""
    for port in itertools.islice(PORTS, 12_000):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("no port is free")


def accepts(port: int) -> bool:
    """Whether somebody listens there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_for(port: int, deadline: float = 20.0) -> None:
    """Wait until something listens on ``port``."""
    until(lambda: accepts(port), 0.01, deadline, f"nothing listens on port {port}")


def until(condition: Callable[[], bool], every: float = 0.02, patience: float = PATIENCE, told: str = "") -> float:
    """Seconds that it took; RuntimeError when it did not come in time."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > patience:
            raise RuntimeError(told or f"not within {patience:.0f} s")
        time.sleep(every)
    return time.monotonic() - began


# -- what /proc tells --------------------------------------------------------------------------------------------------


def os_times(pid: int) -> tuple[float, float]:
    """User and system seconds of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    ticks = os.sysconf("SC_CLK_TCK")
    return int(fields[11]) / ticks, int(fields[12]) / ticks


def processor(pid: int) -> float:
    """Seconds of processor since the start."""
    return sum(os_times(pid))


def children(pid: int) -> list[int]:
    """Processes that its main thread has started and that have not ended: of an engine the one that writes, or none."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def of_children(pid: int) -> float:
    """Seconds of processor of all processes that it has started since the start, ended ones too."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    used = (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")
    for child in children(pid):
        with suppress(OSError):  # it has ended meanwhile
            used += processor(child)
    return used


def memory(pid: int, name: str = "VmRSS") -> float:
    """Megabytes (10^6 bytes) that are resident now, or with ``VmHWM`` that ever were; 0 of a process that has ended."""
    found = None
    with suppress(OSError):
        found = re.search(rf"{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) * 1024 / 1e6 if found else 0.0


def memory_together(pid: int, name: str = "VmRSS") -> float:
    """The same of a process and those that it has started, added up: what they share, such as the interpreter's own
    code, is in it twice; of several ``VmHWM`` it is the most that they can have had at the same moment.
    """
    return sum(memory(one, name) for one in (pid, *children(pid)))


# -- processes ---------------------------------------------------------------------------------------------------------


class Process:
    """A child that is ended with the block, however the block ends."""

    name = "process"
    process: subprocess.Popen[Any] | None = None

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self.process is not None
        return self.process.pid

    def stop(self) -> None:
        """SIGTERM, and SIGKILL for who does not hear it."""
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.process = None

    def ready(self, condition: Callable[[], bool], every: float, told: Callable[[], str]) -> None:
        """Wait until it is so; a process of which it never becomes so is ended. RuntimeError then."""
        try:
            until(condition, every, PATIENCE)
        except RuntimeError as error:
            said = told()
            self.stop()
            raise RuntimeError(said) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class Reference(Process):
    """A server of ``references/``, in this Python."""

    def __init__(self, name: str) -> None:
        self.port = free_port()
        command = [sys.executable, str(HERE / "references" / f"{name}.py"), str(self.port)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.ready(lambda: accepts(self.port), 0.01, lambda: f"the reference {name} does not listen")


class Sink(Process):
    """A partner that takes everything: ``load/mllpsink``."""

    def __init__(self, port: int, **options: Any) -> None:
        self.port = port
        words = [str(LOAD / "mllpsink"), "--port", str(port), *words_of(options)]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        self.ready(lambda: accepts(port), 0.01, lambda: f"the sink does not listen on {port}")

    def counts(self) -> dict[str, Any]:
        """Frames, distinct ids, out of order, duplicates, so far."""
        assert self.process is not None
        assert self.process.stdout is not None
        self.process.send_signal(signal.SIGUSR1)
        return dict(json.loads(self.process.stdout.readline()))


def inherited() -> dict[str, str]:
    """What an engine has of our environment: not the word that keeps Python from keeping what it has compiled.

    An installed engine is compiled (pip does that); without it each start would compile two hundred modules anew.
    """
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


class Engine(Process):
    """An engine on a site in ``folder``: a copy of a folder, or files by name; ``ports`` become its environment.

    Those that end in ``IN_PORT``, ``REST_PORT`` or ``ADMIN_PORT`` are its listeners: it has started when all accept.
    """

    name = "engine"

    def __init__(
        self, folder: Path, site: Path | Mapping[str, str], ports: Sequence[str], more: str = "", **environment: str
    ) -> None:
        """``more``: lines for the end of site.yaml."""
        self.folder, self.site = folder, folder / "site"
        self.data, self.log, self.syncs_file = folder / "data", folder / "log", folder / "syncs"
        self.ports = {name: free_port() for name in ports}
        self.environment = environment | {name: str(port) for name, port in self.ports.items()}
        self.environment |= {"HL7ENGINE_ADMIN_KEY": KEY, "HL7ENGINE_STORE_KEY": STORE_KEY}
        self.environment |= {"LD_PRELOAD": str(LOAD / "syncs.so"), "LD_SYNCS_FILE": str(self.syncs_file)}
        if isinstance(site, Path):
            self.site.mkdir(parents=True)
            shutil.copy(site / "site.yaml", self.site)
            for name in ("channels", "transforms", "tables"):
                if (site / name).is_dir():
                    shutil.copytree(site / name, self.site / name)
        else:
            for name, text in site.items():
                file = self.site / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text)
        with (self.site / "site.yaml").open("a") as file:
            file.write(more)

    @property
    def listeners(self) -> list[int]:
        """Ports of its own."""
        return [port for name, port in self.ports.items() if name.endswith(("IN_PORT", "REST_PORT", "ADMIN_PORT"))]

    def start(self) -> Engine:
        """Start it; ``started_after`` is seconds from the launch of the process until every listener accepts."""
        began, waiting = time.monotonic(), self.listeners
        with self.log.open("wb") as log:
            command = [HL7ENGINE, "run", str(self.site), "--data", str(self.data)]
            self.process = subprocess.Popen(command, env=inherited() | self.environment, stdout=log, stderr=log)

        def accepting() -> bool:
            waiting[:] = [port for port in waiting if not accepts(port)]
            gone = self.process is None or self.process.poll() is not None
            # What does not accept ten seconds after the start has been told of never will.
            if waiting and (gone or (time.monotonic() - began > 10 and b"engine.started" in self.log.read_bytes())):
                raise RuntimeError
            return not waiting

        self.ready(accepting, 0.002, lambda: f"the engine does not start everything: {self.problems()}")
        self.started_after = time.monotonic() - began
        return self

    def problems(self) -> str:
        """What it says of its files, or else the end of what it wrote."""
        lines = [line.strip() for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        told = [line for line in lines if line.startswith(("channels/", "site.yaml"))]
        return " / ".join(told or lines[-4:])[-400:]

    def kill(self) -> None:
        """SIGKILL."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.process = None

    @property
    def durability(self) -> str:
        """How the connection that writes commits, as the running engine read it from the connection."""
        found = re.search(rb'"durability": ?"([^"]+)"', self.log.read_bytes())
        if found is None:
            raise RuntimeError(f"the engine does not say how it commits: {self.problems()}")
        return found[1].decode()

    def processor(self) -> tuple[float, float]:
        """Seconds of processor since the start: of the engine itself, and of the processes that wrote for it."""
        return processor(self.pid), of_children(self.pid)

    def memory(self, name: str = "VmRSS") -> float:
        """Megabytes of it and of the process that writes for it, where there is one: see ``memory_together``."""
        return memory_together(self.pid, name)

    def syncs(self) -> tuple[int, float]:
        """Calls of fsync and fdatasync so far, and the seconds spent in them; the process that writes counts along."""
        calls, nanoseconds = struct.unpack("QQ", self.syncs_file.read_bytes()[:16])
        return int(calls), nanoseconds / 1e9

    def api(self, path: str) -> Any:
        """GET of the admin API."""
        return json.loads(self.text(path))

    def text(self, path: str) -> str:
        """The same, as it comes."""
        port = next(port for name, port in self.ports.items() if name.endswith("ADMIN_PORT"))
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        try:
            connection.request("GET", path, headers={"X-API-Key": KEY})
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        if answer.status != 200:
            raise RuntimeError(f"GET {path}: {answer.status} {text}")
        return text

    def channel(self, name: str) -> dict[str, Any]:
        """The status of one channel. RuntimeError when it does not run."""
        found = dict(self.api(f"/api/channels/{name}")["channel"])
        if found["state"] != "running":
            raise RuntimeError(f"channel {name} is {found['state']}: {' '.join(found['problems'])} {found['error']}")
        return found


# -- load --------------------------------------------------------------------------------------------------------------


def words_of(options: Mapping[str, Any]) -> list[str]:
    """Options as words: ``timeout_ms=5`` → ``--timeout-ms 5``; a list repeats the option."""
    words = []
    for name, value in options.items():
        for one in value if isinstance(value, list) else [value]:
            words += [f"--{name.replace('_', '-')}", str(one)]
    return words


class Load:
    """A load generator under way (``load/mllpload``)."""

    def __init__(self, port: int, connections: int, **options: Any) -> None:
        options = {"prefix": secrets.token_hex(3)} | options
        words = [str(LOAD / "mllpload"), "--target", f"127.0.0.1:{port}", "--connections", str(connections)]
        self._process = subprocess.Popen([*words, *words_of(options)], stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def result(self, patience: float = 300.0) -> dict[str, Any]:
        """What it tells at its end. RuntimeError when anything was refused, lost or mismatched."""
        with self:
            text = self._process.communicate(timeout=patience)[0]
        found = dict(json.loads(text.splitlines()[-1])) if text.strip() else {}
        good = {"AA", "CA"} | {code for code in found.get("codes", {}) if code.startswith("2")}
        if self._process.returncode != 0 or not found or not set(found["codes"]) <= good:
            raise RuntimeError(f"not everything was answered positively: {found}")
        return found


def load(port: int, connections: int, **options: Any) -> dict[str, Any]:
    """Run a load generator to its end."""
    return Load(port, connections, **options).result()


def send(port: int, message: str) -> str:
    """Send one message over MLLP; its acknowledgement. RuntimeError when that is not positive."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
        connection.sendall(b"\x0b" + message.encode() + b"\x1c\r")
        answer = b""
        while not answer.endswith(b"\x1c\r"):
            data = connection.recv(65536)
            if not data:
                raise RuntimeError("the connection was closed before the acknowledgement")
            answer += data
    if not re.search(rb"\rMSA\|[AC]A\|", answer):
        raise RuntimeError(f"not acknowledged: {answer!r}")
    return answer.decode()
