"""The engine from outside: real processes, real sockets, real signals, on a copy of this repository's own site.

``site`` is one running site per test file, its simulators reset before every test; a file that wants other channel
files says so in ``EDITS``. ``new_site`` makes further ones, not started, for tests that kill or misconfigure.
Whatever a site's engine wrote is searched for patient data when it is stopped.
"""

import http.client
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import pytest

from engine.simulators.app import EMR_PORTS
from tests.crash.shim import Disk, is_possible

REPOSITORY = Path(__file__).parents[2]
PROGRAM = str(Path(sys.executable).with_name("hl7engine"))
PATIENCE = 30.0
#: Simulated patients and those of systems.md's examples: nothing the engine writes for people may hold one of these.
PATIENTS = re.compile(
    r"MRN12345|MRN12346|\b(Doe|Roe|Poe|Moe|Müller|M.ller|Loe|Noe)\b|\b(Edgar|Mary|Eva)\b|555.?01[0-9]{2}|19800101|19710930"
)
#: Digests and correlation ids: among so many digits a telephone number stands by chance.
NUMBERS = re.compile(r"\b[0-9a-f]{64}\b|\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")
PORTS = [
    f"{name}_PORT"
    for name in (
        "REST",
        "ADMIN",
        "SIU",
        "ORDERS",
        "ORU",
        "RIS",
        "WEBHOOK",
        "ATHENA_API",
        "SIMULATOR_CONTROL",
        *map(str.upper, EMR_PORTS),
    )
]

#: (file below the site, text that stands in it, text that replaces it)
Edits = Sequence[tuple[str, str, str]]
Result = TypeVar("Result")


def wait_for(probe: Callable[[], Result | None], what: str, patience: float = PATIENCE) -> Result:
    """The first truthy result of ``probe``; AssertionError when none came in time."""
    deadline = time.monotonic() + patience
    while not (result := probe()):
        assert time.monotonic() < deadline, f"{what}: not within {patience} s"
        time.sleep(0.02)
    return result


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on, outside the range the system takes for outgoing connections."""
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(12000, 32000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found


@dataclass
class Answer:
    """What an HTTP server said. Header names are in lower case."""

    status: int
    headers: dict[str, str]
    text: str
    seconds: float

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def error(self) -> dict[str, Any]:
        error: dict[str, Any] = self.json["error"]
        return error


def call(
    port: int, method: str, target: str, body: Any = None, headers: Mapping[str, str] | None = None, timeout: float = 60
) -> Answer:
    """One HTTP request over a connection of its own. ``body``: bytes as they are, anything else as JSON."""
    given = dict(headers or {})
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
        given = {"Content-Type": "application/json", **given}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    begun = time.monotonic()
    try:
        connection.request(method, target, body, given)
        response = connection.getresponse()
        text = response.read().decode()
        names = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, names, text, time.monotonic() - begun)
    finally:
        connection.close()


@dataclass
class Site:
    """A copy of the reference site in a folder of its own, its engine and its simulators as processes."""

    folder: Path
    program: Sequence[str] = (PROGRAM,)
    env: dict[str, str] = field(default_factory=dict)
    engine: subprocess.Popen[bytes] | None = None
    simulators: subprocess.Popen[bytes] | None = None
    #: Further words of ``hl7engine run``, and of ``hl7engine simulate``.
    options: Sequence[str] = ()
    simulator_options: Sequence[str] = ()

    @classmethod
    def copy(cls, folder: Path, edits: Edits = (), env: Mapping[str, str] | None = None, **others: Any) -> "Site":
        """The site's files with ``edits`` in ``folder``; every port in ``env``."""
        folder.mkdir(parents=True)
        shutil.copy(REPOSITORY / "site.yaml", folder)
        for name in ("channels", "transforms", "tables"):
            shutil.copytree(REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        ports = dict(zip(PORTS, map(str, free_ports(len(PORTS))), strict=True))
        webhook = f"http://127.0.0.1:{ports.pop('WEBHOOK_PORT')}/api/webhooks/orders"
        webhooks = {
            "RADSCHEDULER_WEBHOOK": webhook,
            "RADSCHEDULER_SMS_WEBHOOK": webhook.replace("/orders", "/sms-status"),
            "ATHENA_API": f"http://127.0.0.1:{ports.pop('ATHENA_API_PORT')}",
        }
        site = cls(folder, env={**ports, **webhooks, **(env or {})}, **others)
        for edit in edits:
            site.edit(*edit)
        return site

    def edit(self, file: str, old: str, new: str) -> None:
        """Replace every ``old`` in one file; it must be there."""
        path = self.folder / file
        text = path.read_text(encoding="utf-8")
        assert old in text, f"{file} holds no {old!r}"
        path.write_text(text.replace(old, new), encoding="utf-8")

    @property
    def data(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}-data")

    @property
    def engine_log(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}-engine.log")

    def port(self, name: str) -> int:
        """``port("SIU")``"""
        return int(self.env[f"{name}_PORT"])

    def secret(self, name: str) -> str:
        """What the first run generated into ``.env``."""
        found = re.search(rf"^{name}=(.+)$", (self.folder / ".env").read_text(), re.MULTILINE)
        assert found, f"no {name} in .env"
        return found[1]

    # -- processes -------------------------------------------------------------------------------------------------

    def environment(self) -> dict[str, str]:
        """The process environment without anything of the machine's own engine, and the site's ports."""
        own = re.compile(r"HL7ENGINE_|RADSCHEDULER_|TWILIO_|RIS_CALENDAR_|ATHENA_|PHONE_SALT|.*_(PORT|HOST)$")
        return {**{name: value for name, value in os.environ.items() if not own.match(name)}, **self.env}

    def spawn(self, *words: str, log: Path) -> "subprocess.Popen[bytes]":
        """Start ``hl7engine WORDS`` with its stderr appended to ``log``, its stdout to a file beside it."""
        with log.open("ab") as stderr, log.with_suffix(".out").open("ab") as stdout:
            return subprocess.Popen(
                [*self.program, *words],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                env=self.environment(),
                cwd=self.folder.parent,
            )

    def start(self, *, simulators: bool = True, orders: bool = True) -> "Site":
        """Start the processes that do not run; return when /health says 200 and the orders are acknowledged."""
        if simulators and self.simulators is None:
            log = self.folder.with_name(f"{self.folder.name}-simulators.log")
            self.simulators = self.spawn(
                "simulate", str(self.folder), "--data", str(self.data), *self.simulator_options, log=log
            )
        if self.engine is None:
            words = ("run", str(self.folder), "--data", str(self.data), *self.options)
            self.engine = self.spawn(*words, log=self.engine_log)
        wait_for(self.is_healthy, "engine ready")
        if simulators and orders:
            wait_for(self.has_orders, "orders acknowledged")
        return self

    def is_healthy(self) -> bool:
        assert self.engine is None or self.engine.poll() is None, f"the engine ended: {self.told()}"
        try:
            return self.health().status == 200
        except OSError:
            return False

    def has_orders(self) -> bool:
        assert self.simulators is not None
        assert self.simulators.poll() is None, "the simulators ended"
        try:
            return bool(self.control("GET", "/ris")["ordersSent"])
        except OSError:
            return False

    def has_passed_orders(self) -> bool:
        found = self.admin("GET", "/api/channels/ris-orders").json["channel"]
        return not found["received"] and not any(lane["queued"] + lane["sending"] for lane in found["destinations"])

    def told(self) -> str:
        """The end of what the engine wrote to both its outputs."""
        texts = [path.read_text(errors="replace") for path in (self.engine_log.with_suffix(".out"), self.engine_log)]
        return "\n".join(text[-8000:] for text in texts)

    def kill(self) -> None:
        """SIGKILL the engine."""
        assert self.engine is not None
        self.engine.kill()
        self.engine.wait()
        self.engine = None

    def terminate(self, number: int = signal.SIGTERM) -> int:
        """Send the engine a signal and return its exit code."""
        assert self.engine is not None
        self.engine.send_signal(number)
        engine, self.engine = self.engine, None
        return engine.wait(PATIENCE)

    def restart(self) -> None:
        """Stop the engine in order and start it again on the same data."""
        assert self.terminate() == 0
        self.start(simulators=self.simulators is not None, orders=False)

    def stop(self) -> None:
        """Stop everything, whatever state it is in."""
        running = [process for process in (self.engine, self.simulators) if process is not None]
        for process in running:
            process.terminate()
        for process in running:
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.engine = self.simulators = None

    # -- doors -----------------------------------------------------------------------------------------------------

    def rest(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        key: str | None = "",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """A call of RadScheduler's. ``key`` None sends none, "" the generated one."""
        keys = {} if key is None else {"X-API-Key": key or self.secret("RADSCHEDULER_API_KEY")}
        return call(self.port("REST"), method, path, body, {**keys, **(headers or {})})

    def locations(self, query: str = "?modality=CR", **options: Any) -> Answer:
        return self.rest("GET", f"/api/ris/locations{query}", **options)

    def slots(self, query: str | None = None, **options: Any) -> Answer:
        wanted = f"?location=DTI&modality=CR&date={workday()}" if query is None else query
        return self.rest("GET", f"/api/ris/available-slots{wanted}", **options)

    def book(
        self, body: Any, idempotency_key: str = "", headers: Mapping[str, str] | None = None, **options: Any
    ) -> Answer:
        keys = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        return self.rest("POST", "/api/ris/book-appointment", body, headers={**keys, **(headers or {})}, **options)

    def control(self, method: str, path: str, body: Any = None) -> Any:
        """The simulators' control port; AssertionError for what it refuses."""
        answer = call(self.port("SIMULATOR_CONTROL"), method, path, body)
        assert answer.status < 400, answer.text
        return answer.json

    def fault(self, name: str, partner: str = "ris", **settings: Any) -> None:
        """Let the next message of a partner (``ris``, ``webhook``, ``emr/epic``) meet a fault."""
        self.control("POST", f"/{partner}/faults", {"fault": name, **settings})

    def received(self, kind: str = "", partner: str = "ris") -> list[dict[str, Any]]:
        """What a partner received, bodies included; ``kind`` such as ``ORM^O01``."""
        entries = self.control("GET", f"/{partner}?bodies=1")["received"]
        return [entry for entry in entries if not kind or entry["kind"].startswith(kind)]

    def health(self) -> Answer:
        return call(self.port("ADMIN"), "GET", "/health")

    def call(self, port: str, method: str, path: str, body: Any = None, headers: Mapping[str, str] = {}) -> Answer:
        """A request to ``port`` (``REST``, ``ADMIN``) as it is given here."""
        return call(self.port(port), method, path, body, headers)

    def is_listening(self, port: str) -> bool:
        """Whether anybody takes connections there."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port(port))) == 0

    def admin(self, method: str, path: str, body: Any = None) -> Answer:
        return call(self.port("ADMIN"), method, path, body, {"X-API-Key": self.secret("HL7ENGINE_ADMIN_KEY")})

    def cli(self, *words: str, stdin: str | None = None) -> "subprocess.CompletedProcess[str]":
        """``hl7engine WORDS``, for commands that take ``--site`` and ``--data``: told this site's."""
        return self.run(*words, "--site", str(self.folder), "--data", str(self.data), stdin=stdin)

    def run(self, *words: str, stdin: str | None = None) -> "subprocess.CompletedProcess[str]":
        """``hl7engine WORDS`` to its end."""
        return subprocess.run(
            [*self.program, *words],
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            env={**self.environment(), "COLUMNS": "250"},
            cwd=self.folder.parent,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def messages(self, **filters: str) -> list[dict[str, Any]]:
        """``hl7engine messages --json``, newest first; ``messages(correlation_id=…)``."""
        options = [word for name, value in filters.items() for word in (f"--{name.replace('_', '-')}", value)]
        done = self.cli("messages", "--json", *options)
        assert done.returncode == 0, done.stderr
        found: list[dict[str, Any]] = json.loads(done.stdout)["messages"]
        return found

    def log_lines(self, event: str = "") -> list[dict[str, Any]]:
        """The engine's log of all its runs on this site."""
        if not self.engine_log.exists():
            return []
        lines = [json.loads(line) for line in self.engine_log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if not event or line["event"] == event]

    def assert_clean_log(self) -> None:
        """No patient in anything the engine wrote, and no fault that only a programmer could understand."""
        for path in (self.engine_log, self.engine_log.with_suffix(".out")):
            if path.exists():
                for line in path.read_text(errors="replace").splitlines():
                    if line.lstrip().startswith("curl "):
                        continue  # the tour shows how to book one of the simulated patients
                    assert not PATIENTS.search(NUMBERS.sub("", line)), f"a patient in {path.name}: {line}"
                    assert "Traceback" not in line
        faults = [line for line in self.log_lines() if line["event"] in ("loop.fault", "rest.internal_error")]
        assert not faults


# -- what requests are made of -------------------------------------------------------------------------------------


def workday(number: int = 1) -> date:
    """The ``number``-th day from Monday to Friday after today, at the simulated locations."""
    day = datetime.now(ZoneInfo("America/Chicago")).date()
    while number:
        day += timedelta(days=1)
        number -= day.weekday() < 5
    return day


def local(hour: int, minute: int = 0, day: date | None = None) -> datetime:
    """A moment at the simulated locations."""
    on = day or workday()
    return datetime(on.year, on.month, on.day, hour, minute, tzinfo=ZoneInfo("America/Chicago"))


ORDERS = {
    "ORDER123": ("MRN123456", "DTI", "XR1", "CR", 30),
    "ORDER124": ("MRN123457", "NSI", "CT1", "CT", 30),
    "ORDER125": ("MRN123458", "NSI", "MR1", "MR", 30),
    "ORDER126": ("MRN123459", "DTI", "US1", "US", 30),
    "ORDER127": ("MRN123460", "WSI", "MG1", "MG", 45),
    "ORDER128": ("MRN123461", "DTI", "XR1", "DX", 30),
    "ORDER129": ("MRN123462", "WSI", "MG1", "PT", 45),
}


def booking(order: str = "ORDER123", start: datetime | None = None, **members: Any) -> dict[str, Any]:
    """The body of a booking of one of the simulated orders; ``start`` must be one of its room's slots."""
    mrn, location, room, modality, minutes = ORDERS[order]
    location, room = members.pop("location", location), members.pop("room", room)
    at = start or (local(9) if minutes == 30 else local(8, 30))
    return {
        "orderId": order,
        "slotId": f"{location}-{room}-{at:%Y%m%d%H%M}",
        "locationId": location,
        "modality": modality,
        "start": at.isoformat(),
        "durationMinutes": minutes,
        "patient": {"mrn": mrn},
        **members,
    }


# -- fixtures ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def running_site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One running site for a file, with the file's ``EDITS``, ``ENV``, ``OPTIONS`` and what its ``prepare`` adds."""
    edits, env, options = (getattr(request.module, name, ()) for name in ("EDITS", "ENV", "OPTIONS"))
    site = Site.copy(tmp_path_factory.mktemp("site") / "site", edits, dict(env), options=options)
    getattr(request.module, "prepare", lambda _site: None)(site)
    try:
        site.start()
        # Else the webhook would hear of the last of them in the middle of the first test.
        wait_for(site.has_passed_orders, "orders passed on")
        yield site
    finally:
        site.stop()
    site.assert_clean_log()


@pytest.fixture
def site(running_site: Site) -> Site:
    """The file's running site; its partners as they were at the start."""
    running_site.control("POST", "/reset")
    return running_site


@pytest.fixture
def new_site(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """``new_site(edits=…, env=…)``: another site, not started; stopped at the end of the test."""
    made: list[Site] = []

    def make(edits: Edits = (), env: Mapping[str, str] | None = None, **others: Any) -> Site:
        made.append(Site.copy(tmp_path / f"site{len(made)}", edits, env, **others))
        return made[-1]

    yield make
    for site in made:
        site.stop()
    for site in made:
        site.assert_clean_log()


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    """A disk, and a clock, for one engine, that do what the test says; it needs a C compiler."""
    if not is_possible():
        assert "HL7ENGINE_REQUIRE_ALL" not in os.environ, "cc is not here"
        pytest.skip("needs cc")
    folder = tmp_path / "disk"
    folder.mkdir()
    return Disk(folder)


@pytest.fixture(scope="session", name="booking")
def booking_fixture() -> Callable[..., dict[str, Any]]:
    """``booking(order, start, **members)``: the body of a booking."""
    return booking


@pytest.fixture(scope="session", name="local")
def local_fixture() -> Callable[..., datetime]:
    """``local(hour, minute, day)``: a moment at the simulated locations."""
    return local


@pytest.fixture(scope="session", name="workday")
def workday_fixture() -> Callable[..., date]:
    """``workday(number)``: a day on which the simulated locations are open."""
    return workday


@pytest.fixture(scope="session", name="wait_for")
def wait_for_fixture() -> Callable[..., Any]:
    """``wait_for(probe, what)``: the first truthy result of ``probe``."""
    return wait_for
