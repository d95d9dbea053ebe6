"""A real engine with real partners around it, for the parts of ``make soak``.

An engine is a process of its own on a site that this file writes: one channel, appointments (SIU) for the destination
``live``, admissions (ADT) for ``other``. Partners and senders are the C programs of ``benchmarks/load``. Two engines
are compared in turns, and the one whose turn it is not is stopped (SIGSTOP): a busy machine is as busy for both.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import random
import secrets
import shutil
import signal
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.processes import HL7ENGINE, LOAD, free_port, memory_together, of_children, processor, wait_for

SITE = """\
rest: {port: 0}
admin: {port: "${ADMIN_PORT}"}
store: {key_file: store.keys}
"""
CHANNEL = """\
name: router
source:
  mllp: {port: "${IN_PORT}", max_connections: 1000, max_connections_per_address: 600}
ack: received
order: {key: PID-3.1}
transform:
  - set: {MSH-5: ARCHIVE, MSH-6: SITE}
  - convert: {version: "2.3.1"}
destinations:
  - name: live
    where: {MSH-9.1: SIU}
    to: {mllp: {host: 127.0.0.1, port: "${LIVE_PORT}"}}
    connections: 8
  - name: other
    where: {MSH-9.1: ADT}
    to: {mllp: {host: 127.0.0.1, port: "${OTHER_PORT}"}}
    connections: 8
    retry: {backoff: [1s, 5s]}
"""
PORTS = ("IN_PORT", "ADMIN_PORT", "LIVE_PORT", "OTHER_PORT")
#: Seconds for anything that must happen.
PATIENCE = 600.0


class Sink:
    """A partner that takes everything; ``silent`` never answers."""

    def __init__(self, port: int, *, silent: bool = False, ids: Path | None = None) -> None:
        words = [str(LOAD / "mllpsink"), "--port", str(port)]
        words += ["--delay-ms", "100000000"] if silent else []
        words += ["--ids", str(ids)] if ids is not None else []
        self._process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        wait_for(port)

    def counts(self) -> dict[str, Any]:
        """Frames, distinct ids, out of order, duplicates, so far."""
        self._process.send_signal(signal.SIGUSR1)
        assert self._process.stdout is not None
        return dict(json.loads(self._process.stdout.readline()))

    def stop(self) -> dict[str, Any]:
        """End it; its last counts."""
        self._process.terminate()
        return dict(json.loads(self._process.communicate(timeout=20)[0].splitlines()[-1]))


@dataclass
class Rig:
    """One engine and its sinks in ``folder``."""

    folder: Path
    #: Lines for the end of the channel file, such as ``retention: {delivered: 1s}``.
    more: str = ""
    ports: dict[str, int] = field(default_factory=lambda: {name: free_port() for name in PORTS})
    engine: subprocess.Popen[bytes] | None = None
    sinks: dict[str, Sink] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.admin_key = secrets.token_hex(16)
        if not self.folder.exists():
            (self.folder / "channels").mkdir(parents=True)
            (self.folder / "site.yaml").write_text(SITE)
            key = base64.b64encode(secrets.token_bytes(32)).decode()
            (self.folder / "store.keys").write_text(f"1:{key}\n")
            (self.folder / "store.keys").chmod(0o600)
        (self.folder / "channels" / "router.yaml").write_text(CHANNEL + self.more)

    def copy(self, folder: Path, more: str = "") -> Rig:
        """Another one on a copy of what this one has stored; it must not run."""
        assert self.engine is None
        shutil.copytree(self.folder, folder)
        return Rig(folder, more)

    # -- the process -----------------------------------------------------------------------------------------------

    def start(self) -> float:
        """Start the engine; seconds until it listens."""
        environment = {**os.environ, **{name: str(port) for name, port in self.ports.items()}}
        environment["HL7ENGINE_ADMIN_KEY"] = self.admin_key
        began = time.monotonic()
        with (self.folder / "log").open("ab") as log:
            command = [HL7ENGINE, "run", str(self.folder), "--data", str(self.folder / "data")]
            self.engine = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        wait_for(self.ports["IN_PORT"], PATIENCE)
        return time.monotonic() - began

    @property
    def pid(self) -> int:
        """Of the engine."""
        assert self.engine is not None
        return self.engine.pid

    def stop(self) -> float:
        """SIGTERM; seconds until it has ended. RuntimeError when it did not end in order."""
        if self.engine is None:
            return 0.0
        began = time.monotonic()
        self.engine.send_signal(signal.SIGCONT)
        self.engine.send_signal(signal.SIGTERM)
        code = self.engine.wait(60)
        self.engine = None
        if code:
            raise RuntimeError(f"the engine ended with {code}")
        return time.monotonic() - began

    def freeze(self) -> None:
        """It gets no processor until ``thaw``."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Go on."""
        os.kill(self.pid, signal.SIGCONT)

    def sink(self, name: str, **options: Any) -> Sink:
        """Start the partner of a destination."""
        self.sinks[name] = Sink(self.ports[f"{name.upper()}_PORT"], **options)
        return self.sinks[name]

    def end(self) -> None:
        """Stop everything and remove what was written."""
        try:
            self.stop()
        finally:
            for sink in self.sinks.values():
                with suppress(Exception):
                    sink.stop()
            shutil.rmtree(self.folder, ignore_errors=True)

    # -- what it tells ---------------------------------------------------------------------------------------------

    def api(self, method: str, path: str, body: Any = None) -> Any:
        """A call of the admin API. RuntimeError for what it refuses."""
        connection = http.client.HTTPConnection("127.0.0.1", self.ports["ADMIN_PORT"], timeout=PATIENCE)
        headers = {"X-API-Key": self.admin_key, "Content-Type": "application/json"}
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        if answer.status >= 400:
            raise RuntimeError(f"{method} {path}: {answer.status} {text}")
        return json.loads(text)

    def destination(self, name: str) -> dict[str, Any]:
        """Its status."""
        destinations = self.api("GET", "/api/channels/router")["channel"]["destinations"]
        return next(dict(one) for one in destinations if one["name"] == name)

    def waiting(self) -> int:
        """Messages and deliveries that are not finished."""
        channel = self.api("GET", "/api/channels/router")["channel"]
        return int(channel["received"]) + sum(one["queued"] + one["sending"] for one in channel["destinations"])

    def memory(self) -> float:
        """MiB that are resident, those of the process that writes included where there is one."""
        return memory_together(self.pid) * 1e6 / 2**20

    def files(self) -> int:
        """Open file descriptors."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    def processor(self) -> float:
        """Seconds of processor since the start, of the engine and of the processes that wrote for it."""
        return processor(self.pid) + of_children(self.pid)


class Load:
    """A sender under way; ``result`` waits for its end."""

    def __init__(self, rig: Rig, kind: str, **options: Any) -> None:
        words = [str(LOAD / "mllpload"), "--target", f"127.0.0.1:{rig.ports['IN_PORT']}", "--type", kind]
        words += ["--prefix", secrets.token_hex(3)]
        for name, value in options.items():
            words += [f"--{name.replace('_', '-')}", str(value)]
        self._process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)

    def result(self) -> dict[str, Any]:
        """What it tells at its end."""
        return dict(json.loads(self._process.communicate()[0].splitlines()[-1]))

    @property
    def ended(self) -> bool:
        """Whether it has sent and heard everything, or given up."""
        return self._process.poll() is not None


def until(condition: Callable[[], bool], every: float = 0.1, patience: float = PATIENCE) -> float:
    """Seconds that it took; RuntimeError when it did not come in time."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > patience:
            raise RuntimeError(f"not within {patience} s")
        time.sleep(every)
    return time.monotonic() - began


@contextmanager
def watching(rig: Rig, every: float = 0.1) -> Iterator[list[tuple[float, float]]]:
    """Samples (seconds, MiB) of the engine's memory while the block runs."""
    samples: list[tuple[float, float]] = [(0.0, rig.memory())]
    over, began = threading.Event(), time.monotonic()

    def sample() -> None:
        while not over.wait(every):
            with suppress(OSError):
                samples.append((time.monotonic() - began, rig.memory()))

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield samples
    finally:
        over.set()
        thread.join()


# -- two engines in turns ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Turn:
    """What one engine did in its turn."""

    acknowledged: float
    settled: float
    p50: float
    p99: float
    #: Microseconds of processor for each message.
    processor: float


def turn(rig: Rig, seconds: float, connections: int, beside: Callable[[Rig], None] | None = None) -> Turn:
    """Load on ``live`` for so long; ``beside`` starts what else is to happen meanwhile."""
    live = rig.sinks["live"]
    before, began, cpu = live.counts()["frames"], time.monotonic(), rig.processor()
    load = Load(rig, "siu", connections=connections, seconds=seconds)
    if beside is not None:
        beside(rig)
    result = load.result()
    settled = (live.counts()["frames"] - before) / (time.monotonic() - began)
    if result["answered"] != result["sent"] or set(result["codes"]) != {"CA"}:
        raise RuntimeError(f"not everything was acknowledged: {result}")
    until(lambda: live.counts()["frames"] - before >= result["sent"])
    took = (rig.processor() - cpu) / result["sent"] * 1e6
    return Turn(result["per_s"], settled, result["p50_ms"], result["p99_ms"], took)


def in_turns(
    rigs: dict[str, Rig],
    turns: int,
    seconds: float,
    connections: int = 16,
    beside: dict[str, Callable[[Rig], None]] | None = None,
) -> dict[str, Any]:
    """Turns of two engines, ``with`` and ``without``; a pair of turns that is warming up is left out."""
    found: dict[str, list[Turn]] = {name: [] for name in rigs}
    for rig in rigs.values():
        rig.freeze()
    for number in range(turns + 1):
        for name in sorted(rigs, reverse=bool(number % 2)):
            rigs[name].thaw()
            time.sleep(0.5)
            found[name].append(turn(rigs[name], seconds, connections, (beside or {}).get(name)))
            rigs[name].freeze()
    for rig in rigs.values():
        rig.thaw()
    return compared(found["with"][1:], found["without"][1:])


def compared(ours: Sequence[Turn], base: Sequence[Turn]) -> dict[str, Any]:
    """The ratio of rates pair by pair, and what the machine's noise makes of equal turns."""

    def median(turns: Sequence[Turn], name: str) -> float:
        return round(statistics.median(getattr(one, name) for one in turns), 2)

    ratios = [one.settled / other.settled for one, other in zip(ours, base, strict=True)]
    rates = sorted(one.settled for one in base)
    middle = statistics.median(rates)
    facts = {
        f"{name}_{word}": median(turns, name)
        for word, turns in (("with", ours), ("without", base))
        for name in ("acknowledged", "settled", "p50", "p99", "processor")
    }
    cost = statistics.median(one.processor for one in base) / statistics.median(one.processor for one in ours)
    return {
        "ratio": round(statistics.median(ratios), 3),
        "ratio_95_percent": between(ratios),
        "pairs": len(ratios),
        "ratio_of_processor": round(cost, 3),
        "noise": f"{rates[0] / middle - 1:+.0%} to {rates[-1] / middle - 1:+.0%}",
        **facts,
    }


def between(ratios: Sequence[float]) -> str:
    """Where the median lies with 95% certainty, by drawing the pairs anew a thousand times."""
    chance = random.Random(1)
    drawn = sorted(statistics.median(chance.choices(ratios, k=len(ratios))) for _ in range(1000))
    return f"{drawn[25]:.2f} to {drawn[975]:.2f}"
