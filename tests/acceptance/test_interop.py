"""Senders and receivers of other authors, unchanged: python-hl7, hl7apy, and three packages from npm."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hl7
import hl7.mllp
import pytest
from hl7.client import MLLPClient
from hl7apy.mllp import AbstractHandler, MLLPServer
from hl7apy.parser import parse_message

from .peers import Sender, ack, arrived, as_expected, expected, is_idle, message_of, sample, siu, told, value

Site = Any
WaitFor = Callable[..., Any]

ROUTER = "channels/ris-siu-router.yaml"
#: Every client sends the same notifications: they are meant to arrive each time.
EDITS = (
    (ROUTER, '"${ATHENA_PORT:-2601}"}', '"${ATHENA_PORT:-2601}"}\n    retry: {backoff: [100ms]}'),
    (ROUTER, "on_error: park", "duplicates: none\non_error: park"),
)
PACKAGES = Path(__file__).with_name("npm")
APPOINTMENTS = [f"I{number}" for number in range(1, 6)]


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Notifications for athena, a file each."""
    made = [tmp_path / f"{appointment}.hl7" for appointment in APPOINTMENTS]
    for path in made:
        path.write_bytes(siu(path.stem, "DTI"))
    return made


@pytest.fixture
def athena(site: Site) -> Iterator[int]:
    """The port where the simulated athena has made room for somebody else."""
    site.control("POST", "/emr/athena/down")
    yield site.port("ATHENA")
    site.control("POST", "/emr/athena/up")


@pytest.fixture
def announce(site: Site, wait_for: WaitFor) -> Callable[[], None]:
    """Send the notifications for athena and wait until they are delivered."""

    def announce() -> None:
        with Sender(site.port("SIU")) as sender:
            for appointment in APPOINTMENTS:
                assert told(sender.ask(siu(appointment, "DTI"))) == ("AA", f"C{appointment}S12")
        wait_for(lambda: is_idle(site), "everything delivered")

    return announce


def at_athena(site: Site, wait_for: WaitFor) -> list[str]:
    """What the simulated athena received and accepted, when everything is delivered."""
    wait_for(lambda: is_idle(site), "everything delivered")
    assert all(entry["answers"] == ["AA"] for entry in arrived(site, "athena"))
    return [entry["appointmentId"].partition("^")[0] for entry in arrived(site, "athena")]


def by_number(messages: list[str]) -> list[str]:
    """SCH-2.1 of messages; each once, at its first arrival."""
    return list(dict.fromkeys(value(message, "SCH-2").partition("^")[0] for message in messages))


# -- python-hl7 ----------------------------------------------------------------------------------------------------


def test_mllp_send_sends_a_file(site: Site, wait_for: WaitFor, tmp_path: Path) -> None:
    file = tmp_path / "seed.hl7"
    file.write_bytes(sample("N3_SIU_seed_v23").replace(b"\r", b"\n"))
    command = Path(sys.executable).with_name("mllp_send")
    done = subprocess.run(
        [command, "--loose", "--file", file, "--port", str(site.port("SIU")), "127.0.0.1"],
        capture_output=True,
        timeout=20,
        check=True,
    )
    answer = hl7.parse(done.stdout.strip(b"\x0b\x1c\r\n").decode())
    assert (str(answer["MSA"][0][1]), str(answer["MSA"][0][2])) == ("AA", "MSG001")
    at_athena(site, wait_for)
    assert as_expected(arrived(site, "athena")[0]["body"]) == expected("N3_SIU_seed_athena_v231")


def test_its_blocking_client_sends(site: Site, wait_for: WaitFor) -> None:
    with MLLPClient("127.0.0.1", site.port("SIU")) as client:
        for appointment in APPOINTMENTS:
            answer = client.send_message(hl7.parse(siu(appointment, "DTI").decode()))
            assert told(answer.strip(b"\x0b\x1c\r").decode()) == ("AA", f"C{appointment}S12")
    assert at_athena(site, wait_for) == APPOINTMENTS


async def test_its_asynchronous_client_sends(site: Site, wait_for: WaitFor) -> None:
    reader, writer = await hl7.mllp.open_hl7_connection("127.0.0.1", site.port("SIU"))
    for appointment in APPOINTMENTS:
        writer.writemessage(hl7.parse(siu(appointment, "DTI").decode()))
    await writer.drain()
    answers = [await asyncio.wait_for(reader.readmessage(), 20) for _ in APPOINTMENTS]
    writer.close()
    await writer.wait_closed()
    assert [str(answer["MSA"][0][2]) for answer in answers] == [f"C{appointment}S12" for appointment in APPOINTMENTS]
    assert {str(answer["MSA"][0][1]) for answer in answers} == {"AA"}
    assert at_athena(site, wait_for) == APPOINTMENTS


@contextmanager
def hl7_server(port: int, received: list[str]) -> Iterator[None]:
    """python-hl7's server in a thread; answers with the ack that python-hl7 makes."""

    serving: list[asyncio.Task[Any]] = []

    async def serve(reader: Any, writer: Any) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.append(task)
        try:
            while True:
                message = await reader.readmessage()
                received.append(str(message))
                writer.writemessage(message.create_ack("AA"))
                await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.CancelledError):
            writer.close()
            await writer.wait_closed()

    async def run() -> None:
        async with await hl7.mllp.start_hl7_server(serve, "127.0.0.1", port):
            listening.set()
            await asyncio.get_running_loop().run_in_executor(None, over.wait)
            for task in serving:
                task.cancel()
            await asyncio.gather(*serving)

    listening, over = threading.Event(), threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(run()), daemon=True)
    thread.start()
    assert listening.wait(10)
    try:
        yield
    finally:
        over.set()
        thread.join(10)


# Its acks take the time from a function that Python 3.12 warns about.
@pytest.mark.filterwarnings("ignore:.*utcnow:DeprecationWarning")
def test_its_server_takes_what_the_engine_sends(site: Site, athena: int, announce: Callable[[], None]) -> None:
    received: list[str] = []
    with hl7_server(athena, received):
        announce()
    assert [value(message, "SCH-2").partition("^")[0] for message in received] == APPOINTMENTS, "in order, once"
    (delivery,) = message_of(site, f"C{APPOINTMENTS[-1]}S12")["deliveries"]
    assert (delivery["state"], delivery["codes"]) == ("delivered", {"ack": "AA"})


# -- hl7apy --------------------------------------------------------------------------------------------------------


class Answerer(AbstractHandler):
    """hl7apy's handler: reads the message with hl7apy's parser, answers AA."""

    def __init__(self, message: str, received: list[str]) -> None:
        super().__init__(message)
        self.received = received

    def reply(self) -> str:
        message = parse_message(self.incoming_message)
        self.received.append(self.incoming_message)
        answer = ack(self.incoming_message.encode(), "AA", message.msh.msh_10.to_er7())
        return f"\x0b{answer.decode()}\x1c\r"


def test_hl7apys_server_takes_what_the_engine_sends(athena: int, announce: Callable[[], None]) -> None:
    """It closes the connection after every message."""
    received: list[str] = []
    server = MLLPServer("127.0.0.1", athena, {"SIU^S12^SIU_S12": (Answerer, received)})
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        announce()
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert [value(message, "SCH-2").partition("^")[0] for message in received] == APPOINTMENTS, "in order, once"


# -- npm -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def npm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the packages of ``npm/`` and the script that drives them."""
    node, install = shutil.which("node"), shutil.which("npm")
    if node is None or install is None:
        why = "the npm peers need node and npm, which are not on PATH"
        if os.environ.get("HL7ENGINE_REQUIRE_ALL") == "1":
            pytest.fail(why)
        pytest.skip(why)
    folder = tmp_path_factory.mktemp("npm")
    for name in ("package.json", "package-lock.json", "peer.cjs"):
        shutil.copy(PACKAGES / name, folder)
    words = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"]
    done = subprocess.run([install, *words], cwd=folder, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def test_the_npm_lock_names_no_registry() -> None:
    lock = json.loads((PACKAGES / "package-lock.json").read_text())
    installed = {name: entry for name, entry in lock["packages"].items() if name}
    assert installed
    assert all("integrity" in entry and "resolved" not in entry for entry in installed.values())


@pytest.mark.parametrize("peer", ["medplum", "node-hl7"])
def test_clients_from_npm_send(site: Site, wait_for: WaitFor, npm: Path, files: list[Path], peer: str) -> None:
    command = ["node", "peer.cjs", "client", peer, str(site.port("SIU")), *map(str, files)]
    done = subprocess.run(command, cwd=npm, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line)["ack"] for line in done.stdout.splitlines()]
    assert [told(answer) for answer in answers] == [("AA", f"C{appointment}S12") for appointment in APPOINTMENTS]
    assert at_athena(site, wait_for) == APPOINTMENTS


@contextmanager
def npm_server(folder: Path, peer: str, port: int, received: list[str]) -> Iterator[None]:
    """A server from npm as a process; it ends with its stdin."""
    process = subprocess.Popen(
        ["node", "peer.cjs", "server", peer, str(port)],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        assert process.stdout.readline() == '{"listening":true}\n'
        yield
        process.stdin.close()
        received += [json.loads(line)["message"] for line in process.stdout]
        assert process.wait(10) == 0


def test_medplums_server_takes_what_the_engine_sends(npm: Path, athena: int, announce: Callable[[], None]) -> None:
    received: list[str] = []
    with npm_server(npm, "medplum", athena, received):
        announce()
    assert [value(message, "SCH-2").partition("^")[0] for message in received] == APPOINTMENTS, "in order, once"


def test_node_hl7_server_takes_what_the_engine_sends(
    site: Site, npm: Path, athena: int, announce: Callable[[], None]
) -> None:
    """On a kept connection it answers everything before again. No such answer counts: the engine connects anew."""
    received: list[str] = []
    with npm_server(npm, "node-hl7", athena, received):
        announce()
    assert by_number(received) == APPOINTMENTS
    for appointment in APPOINTMENTS:
        (delivery,) = message_of(site, f"C{appointment}S12")["deliveries"]
        assert (delivery["state"], delivery["codes"]) == ("delivered", {"ack": "AA"})
