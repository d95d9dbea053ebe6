"""``GET /metrics`` of an engine that runs, read as Prometheus reads it."""

from __future__ import annotations

import asyncio
import http.client
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families

from engine.admin import metrics
from engine.admin.local import SOCKET
from engine.admin.server import AdminServer
from engine.delivery import DeliveryState, MessageState
from engine.errors import StoreError
from engine.hl7.ack import AckCode
from engine.runtime.metrics import CLASSES, FAMILIES, OTHER, OUTCOMES, REST, Waits
from engine.runtime.orphans import OPEN
from engine.runtime.supervisor import Supervisor
from engine.spread import BOUNDS, Spread
from engine.store import checkpoint
from engine.store.numbers import Numbers, Waiting
from engine.store.process import writing
from engine.store.process.state import ProcessState
from engine.store.sqlite import SqliteStore
from engine.testing import load_for_tests

ADMIN, WATCH = "a" * 40, "w" * 40
OPENMETRICS = "application/openmetrics-text;version=1.0.0"
NAME = "DOE^PLANTED"

#: Two destinations that answer as they are told to, and one that nobody listens at.
CHANNEL = """
name: feed
source: {{mllp: {{port: 0}}}}
ack: routed
transform:
  - keep: {{MSH-9.1: ADT}}
  - lookup: {{table: names, key: PID-5.1, into: known, missing: error}}
destinations:
  - {{name: good, to: {{mllp: {{host: 127.0.0.1, port: {good}}}}}}}
  - {{name: bad, to: {{mllp: {{host: 127.0.0.1, port: {bad}}}}}}}
  - {{name: away, to: {{mllp: {{host: 127.0.0.1, port: 1}}}}}}
"""
ANSWERED = """
name: asked
source: {rest: {method: POST, path: /asked, auth: none, body: {}}}
transform: [{answer: {said: $body.what}}]
destinations: [{name: nobody, to: {mllp: {host: 127.0.0.1, port: 1}}}]
reply: {from: nobody, status: 201}
"""


def adt(number: int, kind: str = "ADT^A01", name: str = NAME) -> bytes:
    return f"\x0bMSH|^~\\&|A|B|C|D|20260105101500||{kind}|M{number}|P|2.5.1\rPID|1||{number}||{name}\r\x1c\r".encode()


def partner(code: str) -> Any:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not reader.at_eof():
            try:
                control_id = (await reader.readuntil(b"\x1c\r")).split(b"|", 10)[9].decode()
            except asyncio.IncompleteReadError:
                break
            writer.write(f"\x0bMSH|^~\\&|E|F|||2026||ACK|1|P|2.5.1\rMSA|{code}|{control_id}\r\x1c\r".encode())
        writer.close()

    return answer


class Site:
    """A running engine with its admin port."""

    def __init__(self, supervisor: Supervisor, store: SqliteStore, admin: AdminServer) -> None:
        self.supervisor, self.store, self.admin = supervisor, store, admin

    async def get(self, path: str, key: str = ADMIN, **headers: str) -> tuple[int, str, str]:
        """Status, content type and text."""
        headers = {"X-API-Key": key, **{name.replace("_", "-"): value for name, value in headers.items()}}
        return await anyio.to_thread.run_sync(_get, self.admin.port, path, headers)

    async def scrape(self) -> dict[tuple[str, ...], float]:
        """Name and label values in the order of the labels' names → value."""
        status, _, text = await self.get("/metrics")
        assert status == 200
        return {
            (sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    async def send(self, *messages: bytes) -> list[str]:
        """The codes of the acknowledgements."""
        port = int(self.supervisor.supervised["feed"].plan.source.address.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        codes = []
        for message in messages:
            writer.write(message)
            codes.append((await reader.readuntil(b"\x1c\r")).split(b"MSA|")[1][:2].decode())
        writer.close()
        return codes


def _get(port: int, path: str, headers: dict[str, str]) -> tuple[int, str, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return response.status, response.getheader("content-type", ""), response.read().decode()
    finally:
        connection.close()


def _post(port: int, path: str, body: bytes) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        return connection.getresponse().status
    finally:
        connection.close()


def _unreadable() -> Any:
    raise StoreError("cannot read: SQLITE_IOERR")


@asynccontextmanager
async def engine(folder: Path, data: Path, apart: bool = False) -> AsyncIterator[Site]:
    plan = load_for_tests(folder, {})
    store = SqliteStore(data, bytes(range(32)), apart=apart)
    await store.open()
    supervisor = Supervisor(plan, store)
    await supervisor.start()
    admin = AdminServer(supervisor, "127.0.0.1", 0, ADMIN, data / SOCKET, None, WATCH)
    await admin.start()
    try:
        yield Site(supervisor, store, admin)
    finally:
        await admin.stop()
        await supervisor.stop(5.0)
        await store.close()


@pytest.fixture
async def folder(tmp_path: Path) -> AsyncIterator[Path]:
    """A site whose partners run."""
    servers = [await asyncio.start_server(partner(code), "127.0.0.1", 0) for code in ("AA", "AE")]
    good, bad = (server.sockets[0].getsockname()[1] for server in servers)
    site = tmp_path / "site"
    (site / "channels").mkdir(parents=True)
    (site / "site.yaml").write_text("rest: {host: 127.0.0.1, port: 0}\nadmin: {host: 127.0.0.1, port: 0}\n")
    (site / "channels" / "feed.yaml").write_text(CHANNEL.format(good=good, bad=bad))
    (site / "channels" / "asked.yaml").write_text(ANSWERED)
    (site / "tables").mkdir()
    (site / "tables" / "names.csv").write_text("name,known\nDOE,yes\n")
    yield site
    for server in servers:
        server.close()


@pytest.fixture
async def site(folder: Path, tmp_path: Path) -> AsyncIterator[Site]:
    async with engine(folder, tmp_path / "data") as site:
        yield site


async def settled(site: Site, good: int, bad: int) -> None:
    lanes = site.supervisor.supervised["feed"].running.lanes  # type: ignore[union-attr]
    async with asyncio.timeout(10):
        while (  # noqa: ASYNC110 - nobody announces it
            lanes["good"].counts.delivered < good
            or lanes["bad"].counts.others[DeliveryState.PARKED] < bad
            or not lanes["away"].counts.others[DeliveryState.QUEUED]
        ):
            await asyncio.sleep(0.01)


STATE, DEATHS = "hl7engine_writing_process_state", "hl7engine_writing_process_deaths_total"
MOVED = "hl7engine_log_pages_moved_total"
SENT = (adt(1), adt(2), adt(3, "ORU^R01"), adt(4, name="ROE"), adt(1))


async def test_the_numbers_are_those_of_what_was_sent_and_those_of_the_admin_api(site: Site) -> None:
    assert await site.send(*SENT) == ["AA", "AA", "AA", "AE", "AA"]
    await settled(site, good=2, bad=2)
    found = await site.scrape()
    processed = "hl7engine_messages_processed_total", "feed"
    assert found["hl7engine_messages_received_total", "feed"] == 4
    assert [found[*processed, state] for state in ("routed", "filtered", "failed")] == [2, 1, 1]
    assert found["hl7engine_messages_repeated_total", "feed"] == 1
    acks = {code: found["hl7engine_acknowledgements_total", "feed", code] for code in AckCode}
    assert acks == {AckCode.AA: 4, AckCode.AE: 1, AckCode.AR: 0, AckCode.CA: 0, AckCode.CE: 0, AckCode.CR: 0}
    assert found["hl7engine_acknowledgement_seconds_count", "feed"] == 4, "what came again was not taken in"
    assert 0 < found["hl7engine_acknowledgement_seconds_sum", "feed"] < 60
    deliveries = "hl7engine_deliveries_total", "feed"
    assert found[*deliveries, "good", "delivered"] == found["hl7engine_delivery_seconds_count", "feed", "good"] == 2
    assert found[*deliveries, "bad", "parked"] == found["hl7engine_sends_rejected_total", "feed", "bad"] == 2
    assert found[*deliveries, "away", "retried"] >= 1
    assert found["hl7engine_destination_up", "feed", "away"] == 0
    assert found["hl7engine_destination_up", "feed", "good"] == found["hl7engine_destination_up", "feed", "bad"] == 1
    assert found["hl7engine_messages_waiting", "feed", "failed"] == 1
    assert 0 < found["hl7engine_oldest_waiting_seconds", "feed", "away"] < 60
    assert found["hl7engine_oldest_waiting_seconds", "feed", "good"] == 0
    status = {one.name: one for one in site.supervisor.channels()}["feed"]
    assert found["hl7engine_messages_received_total", "feed"] == status.received_since_start
    for to in status.destinations:
        assert found[*deliveries, to.name, "delivered"] == to.delivered_since_start
        waiting = {state: found["hl7engine_deliveries_waiting", "feed", to.name, state] for state in OPEN}
        assert waiting == {state: getattr(to, state) for state in OPEN}


async def test_the_answers_to_callers_are_counted_by_class_of_status_also_those_of_what_was_refused(site: Site) -> None:
    asked = site.supervisor.supervised["asked"].running
    assert asked is not None
    assert asked.exchange is not None
    assert (await asked.exchange.ask({"what": "this"}, None)).status == 201
    port = int(site.supervisor.http.address.rpartition(":")[2])
    assert (await anyio.to_thread.run_sync(_post, port, "/asked", b"{")) == 400
    asked.exchange.statuses[799] += 1
    found = await site.scrape()
    of = "hl7engine_exchanges_total", "asked"
    assert {name: found[*of, name] for name in (*CLASSES.values(), OTHER)} == {
        "2xx": 1, "3xx": 0, "4xx": 1, "5xx": 0, OTHER: 1
    }  # fmt: skip
    assert found["hl7engine_exchange_seconds_count", "asked"] == 1
    assert found["hl7engine_messages_refused_total", "asked"] == 1


async def test_the_store_tells_what_it_commits(site: Site) -> None:
    await site.send(*SENT)
    before, found, after = site.store.commits, await site.scrape(), site.store.commits
    assert before <= found["hl7engine_commit_seconds_count",] <= after
    assert found["hl7engine_committed_units_total",] >= len(SENT)
    assert found["hl7engine_commit_seconds_bucket", "+Inf"] == found["hl7engine_commit_seconds_count",]
    assert found["hl7engine_store_trouble",] == 0
    assert found["process_cpu_seconds_total",] > 0
    assert found["process_resident_memory_bytes",] > 1e6


async def test_an_engine_that_starts_again_begins_at_nothing_and_knows_what_waits(folder: Path, tmp_path: Path) -> None:
    async with engine(folder, tmp_path / "data") as site:
        await site.send(*SENT)
        await settled(site, good=2, bad=2)
    async with engine(folder, tmp_path / "data") as site:
        found = await site.scrape()
    assert found["hl7engine_messages_received_total", "feed"] == 0
    assert found["hl7engine_deliveries_total", "feed", "good", "delivered"] == 0
    assert found["hl7engine_delivery_seconds_sum", "feed", "good"] == 0
    assert sum(found["hl7engine_deliveries_waiting", "feed", "away", state] for state in OPEN) == 2
    assert found["hl7engine_deliveries_waiting", "feed", "bad", "parked"] == 2


async def test_the_process_that_writes_is_told_of_while_it_runs_and_when_it_has_died(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "_MANY", 1)
    monkeypatch.setattr(checkpoint, "PAGES", 1)
    numbers = iter(range(1, 10_000))

    async def seen(state: ProcessState, moved: float) -> dict[tuple[str, ...], float]:
        """What is told as soon as it is in this state, and more pages than these are moved; messages come meanwhile."""
        async with asyncio.timeout(20):
            while True:
                assert await site.send(adt(next(numbers))) == ["AA"]
                found = await site.scrape()
                states = [(name[1:], value) for name, value in found.items() if name[0] == STATE]
                if states == [((state,), 1)] and found[MOVED,] > moved:
                    return found
                assert len(states) == 1

    async with engine(folder, tmp_path / "data", apart=True) as site:
        site.store.crowded(1)
        before = await seen(ProcessState.RUNNING, 0)
        assert before[DEATHS,] == 0
        assert before["hl7engine_writing_process_resident_memory_bytes",] > 1e6
        await seen(ProcessState.RUNNING, before[MOVED,])
        pid = site.store.writing_process.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        after = await seen(ProcessState.DIED, 0)
        assert after[DEATHS,] == 1
        assert ("hl7engine_writing_process_resident_memory_bytes",) not in after, "there is none"
        assert after["hl7engine_committed_units_total",] > before["hl7engine_committed_units_total",]
        await seen(ProcessState.DIED, after[MOVED,])  # the engine moves them by itself


async def test_a_removed_channel_is_told_of_and_nothing_is_counted_in_the_loop(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with engine(folder, tmp_path / "data") as site:
        await site.send(*SENT)
        await settled(site, good=2, bad=2)
    (folder / "channels" / "feed.yaml").unlink()
    async with engine(folder, tmp_path / "data") as site:
        monkeypatch.setattr(site.store, "open_counts", _unreadable)
        found = await site.scrape()
    assert found["hl7engine_channel_state", "feed", "removed"] == 1
    assert found["hl7engine_channel_state", "asked", "running"] == 1
    assert found["hl7engine_deliveries_waiting", "feed", "bad", "parked"] == 2
    assert found["hl7engine_messages_waiting", "feed", "failed"] == 1


async def test_who_asks_for_openmetrics_gets_it_with_the_same_families(site: Site) -> None:
    await site.send(*SENT)
    _, plain, text = await site.get("/metrics")
    _, kind, lines = await site.get("/metrics", Accept=OPENMETRICS)
    assert plain.startswith("text/plain; version=0.0.4")
    assert kind.startswith("application/openmetrics-text; version=1.0.0")
    assert lines.count("# EOF") == 1
    assert lines.endswith("# EOF\n")
    assert {family.name for family in openmetrics_families(lines)} == {
        family.name for family in text_string_to_metric_families(text)
    }


async def test_labels_are_names_of_the_site_and_words_of_fixed_sets_whatever_partners_send(site: Site) -> None:
    async def series() -> dict[str, set[tuple[str, ...]]]:
        _, _, text = await site.get("/metrics")
        assert NAME.partition("^")[0] not in text
        return {
            family.name: {tuple(sorted(sample.labels.items())) for sample in family.samples}
            for family in text_string_to_metric_families(text)
        }

    before = await series()
    strange = [adt(100 + number, f"Z{number:02}^Z{number:02}", f"N{number}") for number in range(20)]
    await site.send(*SENT, *strange, b"\x0bno message\x1c\r")
    port = int(site.supervisor.http.address.rpartition(":")[2])
    for number in range(10):
        await anyio.to_thread.run_sync(_post, port, f"/asked?what={number}", b"{")
        await anyio.to_thread.run_sync(_post, port, f"/other/{number}", b"{}")
    assert await series() == before
    words = {
        "state": {
            *MessageState,
            *DeliveryState,
            *ProcessState,
            "running",
            "stopped",
            "failed",
            "broken",
            "refused",
            "removed",
        },
        "outcome": {"delivered", *OUTCOMES.values()},
        "code": set(AckCode),
        "status": {*CLASSES.values(), OTHER},
        "channel": {"feed", "asked"},
        "destination": {"good", "bad", "away", "nobody"},
        "le": {*map(str, BOUNDS), "+Inf"},
    }
    for family, labelled in before.items():
        for name, value in (pair for labels in labelled for pair in labels):
            assert family == "hl7engine_build_info" or value in words[name], (family, name, value)


async def test_a_key_of_its_own_opens_the_metrics_and_nothing_else(site: Site) -> None:
    assert (await site.get("/metrics", key=WATCH))[0] == 200
    assert (await site.get("/metrics", key="", Authorization=f"Bearer {WATCH}"))[0] == 200
    assert (await site.get("/metrics", key="", Authorization=f"bearer {ADMIN}"))[0] == 200
    assert (await site.get("/metrics", key="", Authorization=f"Basic {WATCH}"))[0] == 401
    for wrong in ("", "x" * 40):
        assert (await site.get("/metrics", key=wrong))[0] == 401
        assert (await site.get("/metrics", key="", Authorization=f"Bearer {wrong}"))[0] == 401
    assert (await site.get("/api/status", key=WATCH))[0] == 401
    assert (await site.get("/api/status", key="", Authorization=f"Bearer {WATCH}"))[0] == 401


async def test_a_site_without_such_a_key_wants_the_admin_key(site: Site) -> None:
    admin = AdminServer(site.supervisor, "127.0.0.1", 0, ADMIN, site.admin.socket_path.with_name("other.sock"))
    await admin.start()
    try:
        codes = [
            (await anyio.to_thread.run_sync(_get, admin.port, "/metrics", {"X-API-Key": key}))[0]
            for key in ("", WATCH, ADMIN)
        ]
    finally:
        await admin.stop()
    assert codes == [401, 401, 200]


async def test_a_family_in_parts_is_whole(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    await site.send(*SENT)
    await settled(site, good=2, bad=2)
    whole = await site.scrape()
    monkeypatch.setattr(metrics, "LINES", 2)
    assert (await site.scrape()).keys() == whole.keys()
    _, _, text = await site.get("/metrics", Accept=OPENMETRICS)
    assert len([*openmetrics_families(text)]) == text.count("# TYPE ")


# -- what waits ----------------------------------------------------------------------------------------------------


class Slow:
    """A store in which counting takes a while; or that cannot be read."""

    def __init__(self) -> None:
        self.now, self.looks, self.broken = 100.0, 0, False

    async def waiting(self) -> Waiting:
        self.looks += 1
        self.now += 0.5
        await asyncio.sleep(0)
        if self.broken:
            raise StoreError("cannot read: SQLITE_IOERR")
        return Waiting({("feed", "good", "queued"): self.looks}, {})


async def test_what_waits_is_counted_for_a_twentieth_of_the_time_at_most() -> None:
    store = Slow()
    waits = Waits(store, lambda: store.now)  # type: ignore[arg-type]
    assert [await waits.look() for _ in range(3)] == 3 * [Waiting({("feed", "good", "queued"): 1}, {})]
    store.now += REST * 0.5 - 0.1
    await asyncio.gather(waits.look(), waits.look())
    assert store.looks == 1
    store.now += 0.1
    await asyncio.gather(waits.look(), waits.look())
    assert store.looks == 2


async def test_a_disk_that_cannot_be_read_leaves_out_what_waits_and_tells_the_rest(site: Site) -> None:
    slow = Slow()
    slow.broken = True
    assert await Waits(slow, lambda: slow.now).look() is None  # type: ignore[arg-type]
    site.store.waiting = slow.waiting  # type: ignore[method-assign]
    site.store.open_counts = site.store.stored_channels = _unreadable  # type: ignore[method-assign]
    found = {name for name, *_ in await site.scrape()}
    assert {"hl7engine_messages_received_total", "hl7engine_channel_state"} <= found
    assert not found & {
        "hl7engine_deliveries_waiting",
        "hl7engine_oldest_waiting_seconds",
        "hl7engine_messages_waiting",
    }


# -- durations -----------------------------------------------------------------------------------------------------


def test_a_duration_is_counted_up_to_its_bound_and_one_of_less_than_nothing_adds_no_seconds() -> None:
    spread = Spread()
    for seconds in (-3.0, 0.0, BOUNDS[0], BOUNDS[0] + 1e-6, BOUNDS[-1], 1e9):
        spread.add(seconds)
    assert spread.numbers == [3, 1, *[0] * (len(BOUNDS) - 3), 1, 1]
    assert spread.number == 6
    assert spread.seconds == pytest.approx(2 * BOUNDS[0] + 1e-6 + BOUNDS[-1] + 1e9)


def test_families_have_names_as_prometheus_wants_them() -> None:
    names = [family.name for family in FAMILIES]
    assert len(set(names)) == len(names)
    for family in FAMILIES:
        assert family.name.startswith("hl7engine_")
        assert not family.name.endswith("_total"), "the format adds that to counters"
        assert (family.kind != "histogram") or family.name.endswith("_seconds")
    assert Numbers().commits == 0
