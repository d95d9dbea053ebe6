"""A supervisor and a store that hold a few rows, an AdminServer over them, and a client for both doors."""

import asyncio
import http.client
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import anyio.to_thread
import pytest

from engine.admin.api import make_app
from engine.admin.local import SOCKET
from engine.admin.server import AdminServer
from engine.cli.client import UnixConnection
from engine.delivery import DeliveryState, MessageState
from engine.envelope import Reply
from engine.errors import Evidence, Problem, StoreError
from engine.runtime.auditor import Auditor
from engine.runtime.clock import SystemClock
from engine.runtime.disk import Space
from engine.runtime.pruning import Run
from engine.runtime.reload import Change
from engine.runtime.status import ChannelStatus, DestinationStatus
from engine.runtime.supervisor import Supervisor
from engine.sources.serving.listener import RestListener
from engine.store.audit import Audit, AuditRow, FindAudit, Who
from engine.store.base import DeliveryRow, Find, MessageRow, Store, Verified
from engine.store.process.state import ProcessNow, ProcessState

KEY = "k" * 43
NAME = "Doe^Planted"
BODY = f"MSH|^~\\&|A|B|C|D|20250101||SIU^S12|IN1|P|2.3\rPID|1||MRN1||{NAME}\r".encode()

ROUTED = MessageRow(
    1, "siu", "corr-1", "IN1", "SIU^S12", "MRN1", MessageState.ROUTED, "", 1000.0, 1000.25, "AA",
    {"source": "mllp", "peer": "10.0.0.9:4000", "query": {"mrn": "MRN1"}, "headers": {"x-name": NAME}},
)  # fmt: skip
REFUSED = replace(
    ROUTED,
    message_id=5,
    correlation_id="corr-5",
    state=MessageState.REFUSED,
    cause="malformed",
    routed_at=None,
    ack="AR",
)
PARKED = DeliveryRow(
    2, 1, "siu", "epic", "corr-1", "MRN1", DeliveryState.PARKED, "rejected AE 204 PID-3", 2, 0.0, "OUT1",
    "application/hl7-v2", 1000.25, 1003.0, 1003.5, Evidence("AE", "204", "PID-3", None, b"MSH|x", NAME), True, 1000.0,
)  # fmt: skip
QUEUED = replace(
    PARKED, delivery_id=3, destination="generic", state=DeliveryState.QUEUED, cause="", attempts=0, next_at=1060.0,
    sent_at=None, settled_at=None, evidence=None, may_be_duplicated=False,
)  # fmt: skip


@dataclass
class FakeStore:
    """Rows to read; remembers what was looked for."""

    messages: dict[int, MessageRow] = field(default_factory=lambda: {1: ROUTED, 5: REFUSED})
    deliveries: list[DeliveryRow] = field(default_factory=lambda: [PARKED, QUEUED])
    asked: list[Find] = field(default_factory=list)
    #: Entries of the audit trail, oldest first.
    audited: list[Audit] = field(default_factory=list)
    found_audit: list[FindAudit] = field(default_factory=list)
    #: The disk is full.
    full: bool = False

    def submit(self, *operations: Audit) -> asyncio.Future[None]:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.full:
            done.set_exception(StoreError("not committed: SQLITE_FULL"))
        else:
            self.audited += operations
            done.set_result(None)
        return done

    def audit_rows(self, find: FindAudit) -> list[AuditRow]:
        self.found_audit.append(find)
        return [
            AuditRow(7, 1000.0, "delivery.resent", "API key admin", "siu", 1, 2, {"destination": "epic"}, "ab" * 32)
        ]

    async def verify_audit(self, expected: str = "") -> Verified:
        return Verified(2, 0, 2, "2:" + "ab" * 32, True, f"asked for {expected}" if expected else "")

    trouble: str = ""
    writing_process: ProcessNow = field(default_factory=lambda: ProcessNow(ProcessState.RUNNING, 4131))

    def message(self, message_id: int) -> MessageRow | None:
        return self.messages.get(message_id)

    def message_body(self, message_id: int) -> bytes:
        return BODY

    def delivery(self, delivery_id: int) -> DeliveryRow | None:
        return next((row for row in self.deliveries if row.delivery_id == delivery_id), None)

    def delivery_body(self, delivery_id: int) -> bytes:
        return BODY.replace(b"|2.3", b"|2.5.1")

    def delivery_answer(self, delivery_id: int) -> bytes:
        return b"" if delivery_id == 3 else b"MSH|^~\\&|C|D|A|B|20250101||ACK|1|P|2.3\rMSA|AE|OUT1\r"

    def deliveries_of(self, message_id: int) -> list[DeliveryRow]:
        return [row for row in self.deliveries if row.message_id == message_id]

    def find(self, find: Find) -> list[MessageRow]:
        self.asked.append(find)
        return [self.messages[number] for number in sorted(self.messages, reverse=True)][: find.limit]

    def open_counts(self) -> dict[tuple[str, str, str], int]:
        return {("siu", "epic", "parked"): 1, ("siu", "", "failed"): 2}

    def trace(self, correlation_id: str) -> tuple[list[MessageRow], list[DeliveryRow]]:
        messages = [row for row in self.messages.values() if row.correlation_id == correlation_id]
        return messages, [row for row in self.deliveries if row.correlation_id == correlation_id]


@dataclass
class FakeSupervisor:
    """Does nothing but remember, or raise what a test asks for."""

    store: FakeStore = field(default_factory=FakeStore)
    http: RestListener = field(default_factory=lambda: RestListener("127.0.0.1", 8080, {}))
    ready: bool = True
    started_at: float = 900.0
    states: dict[str, str] = field(default_factory=lambda: {"siu": "running", "slots": "stopped", "bad": "broken"})
    calls: list[tuple[Any, ...]] = field(default_factory=list)
    trouble: Exception | None = None
    paused_since: float | None = None
    reply: Reply = field(default_factory=lambda: Reply(201, {"status": "booked"}, {"X-Correlation-ID": "corr-9"}))
    plan: Any = field(
        default_factory=lambda: SimpleNamespace(folder=Path("/site"), data=Path("/site/data"), problems=())
    )

    def __post_init__(self) -> None:
        self.auditor = Auditor(cast(Store, self.store), SystemClock())
        self.pruning = SimpleNamespace(last=None)
        self.disk = SimpleNamespace(look=lambda: Space(5, 100), low=False)
        self.housekeeping = SimpleNamespace(next_pruning=4500.0)

    def channels(self) -> list[ChannelStatus]:
        to = (DestinationStatus("epic", "mllps://127.0.0.1:2602", parked=1, paused_since=self.paused_since),)
        return [
            ChannelStatus(name, "", state, "mllp://127.0.0.1:2575", "received", destinations=to)
            for name, state in self.states.items()
        ]

    async def prune(self, who: Who, dry_run: bool) -> Run:
        self.act("prune", dry_run)
        messages = Counter({("siu", "delivered"): 3})
        return Run(900.0, 901.0, messages, Counter({("siu", "failed"): 1}), size=77, given_back=8192)

    async def start_channel(self, name: str, who: Who) -> None:
        self.act("start", name)
        self.states[name] = "running"

    async def stop_channel(self, name: str, who: Who) -> None:
        self.act("stop", name)
        self.states[name] = "stopped"

    async def pause_destination(self, channel: str, destination: str, who: Who) -> None:
        self.act("pause", channel, destination)
        self.paused_since = 960.5

    async def resume_destination(self, channel: str, destination: str, who: Who) -> None:
        self.act("resume", channel, destination)
        self.paused_since = None

    async def ask(self, channel: str, request: dict[str, Any], correlation_id: str | None, who: Who) -> Reply:
        self.act("ask", channel, request, correlation_id)
        return self.reply

    async def resend_message(self, message_id: int, who: Who) -> str:
        self.act("resend message", message_id)
        return "1 delivery sent again"

    async def resend_delivery(self, delivery_id: int, who: Who) -> str:
        self.act("resend delivery", delivery_id)
        self.store.deliveries[0] = replace(PARKED, state=DeliveryState.QUEUED)
        return "sent again"

    async def discard_delivery(self, delivery_id: int, who: Who) -> str:
        self.act("discard delivery", delivery_id)
        self.store.deliveries[0] = replace(PARKED, state=DeliveryState.DISCARDED)
        return "discarded"

    async def reload(self, who: Who, *names: str) -> list[Change]:
        self.act("reload", *names)
        return [Change("siu", "kept", (Problem("channels/siu.yaml", 3, "ack", "`x` is not known here"),))]

    async def discard_waiting(self, channel: str, destination: str | None, states: list[str], who: Who) -> int:
        self.act("discard waiting", channel, destination, *states)
        return 3

    async def rename_destination(self, channel: str, old: str, new: str, who: Who) -> int:
        self.act("rename", channel, old, new)
        return 3

    def act(self, *call: Any) -> None:
        self.calls.append(call)
        if self.trouble is not None:
            raise self.trouble


@dataclass
class Answer:
    status: int
    body: Any
    text: str

    @property
    def error(self) -> dict[str, Any]:
        assert set(self.body) == {"error"}
        return cast("dict[str, Any]", self.body["error"])


#: ``await call("GET", "/health", body, key=…, headers=…)``
Call = Callable[..., Any]


@pytest.fixture
def supervisor() -> FakeSupervisor:
    return FakeSupervisor()


@pytest.fixture
def call(supervisor: FakeSupervisor) -> Call:
    """One request to the application as the local socket serves it, without a socket."""
    app = make_app(cast(Supervisor, supervisor), None)

    async def call(method: str, target: str, body: Any = None, *, headers: dict[str, str] | None = None) -> Answer:
        content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        path, _, query = target.partition("?")
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()],
        }
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": content}

        async def send(message: Any) -> None:
            sent.append(message)

        await app(scope, receive, send)
        text = b"".join(message.get("body", b"") for message in sent).decode()
        return Answer(sent[0]["status"], json.loads(text), text)

    return call


@pytest.fixture
async def server(supervisor: FakeSupervisor, tmp_path: Path) -> AsyncIterator[AdminServer]:
    server = AdminServer(cast(Supervisor, supervisor), "127.0.0.1", 0, KEY, tmp_path / "data" / SOCKET)
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
def knock(server: AdminServer) -> Call:
    """One GET over the port (with ``key``), or over the local socket."""

    def request(target: str, key: str | None, local: bool) -> Answer:
        port = http.client.HTTPConnection(server.host, server.port, timeout=10)
        connection = UnixConnection(server.socket_path, timeout=10) if local else port
        try:
            connection.request("GET", target, headers={} if key is None else {"X-API-Key": key})
            response = connection.getresponse()
            text = response.read().decode()
            return Answer(response.status, json.loads(text), text)
        finally:
            connection.close()

    async def knock(target: str, key: str | None = None, *, local: bool = False) -> Answer:
        return await anyio.to_thread.run_sync(request, target, key, local)

    return knock
