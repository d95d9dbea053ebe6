"""The simulators as a child: what they say, that they end with their parent, what happens when they cannot start."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from engine.cli.partners import Partners, PartnersFailed
from engine.cli.simulate import given_words, words_of
from engine.simulators import Dialect
from engine.simulators.app import EMR_PORTS

LOCATIONS = Path(__file__).parents[2] / "tables" / "locations.csv"
PORTS = ("RIS_PORT", "SIMULATOR_CONTROL_PORT", *(f"{name.upper()}_PORT" for name in EMR_PORTS))
#: Free ports for the partners; the engine's own is one where nobody listens.
ENV = {
    **dict.fromkeys(PORTS, "0"),
    "RADSCHEDULER_WEBHOOK": "http://127.0.0.1:0/api/webhooks/orders",
    "RADSCHEDULER_TOKEN": "token",
    "ORDERS_PORT": "1",
    "SIU_PORT": "1",
    "ORU_PORT": "1",
}


@pytest.fixture
def folder(site: Path) -> Path:
    (site / "tables").mkdir()
    (site / "tables" / "locations.csv").write_bytes(LOCATIONS.read_bytes())
    return site


@asynccontextmanager
async def orders_port() -> AsyncIterator[int]:
    """An MLLP port that acknowledges everything, as the engine's would."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                body = await reader.readuntil(b"\x1c\r")
                control_id = body.split(b"|")[9]
                writer.write(b"\x0bMSH|^~\\&|E|E|R|R|20250101||ACK|A1|P|2.3\rMSA|AA|" + control_id + b"\r\x1c\r")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_it_is_ready_when_the_orders_are_acknowledged(folder: Path) -> None:
    async with orders_port() as port:
        partners = Partners(folder, folder / "data", {**ENV, "ORDERS_PORT": str(port)})
        await partners.start()
        assert partners.orders_acknowledged
        assert {"ris", "epic", "webhook", "control"} <= partners.addresses.keys()
        await partners.stop()


async def test_orders_that_nobody_takes_do_not_keep_the_engine_waiting(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.cli.partners.PATIENCE", 0.05)
    partners = Partners(folder, folder / "data", ENV)
    await partners.start()
    assert not partners.orders_acknowledged
    await partners.stop()


async def test_partners_that_cannot_start_are_told(folder: Path) -> None:
    partners = Partners(folder, folder / "data", {**ENV, "RIS_PORT": "none"})
    with pytest.raises(PartnersFailed, match="exit code 1"):
        await partners.start()
    await partners.stop()


async def test_stopping_what_never_started_is_harmless(folder: Path) -> None:
    await Partners(folder, folder / "data", ENV).stop()


async def simulate(folder: Path, *words: str) -> asyncio.subprocess.Process:
    command = ("-m", "engine.cli", "simulate", str(folder), *words)
    return await asyncio.create_subprocess_exec(
        sys.executable, *command, stdin=-1, stdout=-1, stderr=-3, env={**os.environ, **ENV}
    )


async def test_the_child_ends_with_its_parent(folder: Path) -> None:
    child = await simulate(folder, "--child")
    assert child.stdin is not None
    assert child.stdout is not None
    assert json.loads(await child.stdout.readline())["event"] == "listening"
    child.stdin.close()  # what a parent that was killed leaves behind
    async with asyncio.timeout(20):
        assert await child.wait() == 0


async def test_by_hand_it_says_where_and_ends_on_a_signal(folder: Path) -> None:
    child = await simulate(folder)
    assert child.stdin is not None
    assert child.stdout is not None
    async with asyncio.timeout(20):
        while b"control" not in await child.stdout.readline():
            assert not child.stdout.at_eof()
        child.send_signal(signal.SIGINT)
        assert await child.wait() == 0
    child.stdin.close()


async def test_the_ris_speaks_the_dialect_of_the_site_or_the_one_that_is_given(folder: Path) -> None:
    (folder / "site.yaml").write_text(
        'ris: {version: "${RIS_VERSION:-2.4}", slots: sqm, booking: srm, facility: DTI}\n'
    )
    words = words_of(folder, {}) | given_words(["slots=qry"])
    dialect = Dialect.of(words)
    assert (dialect.version, dialect.slots, dialect.booking) == (("2.4",), ("qry",), ("srm",))
    assert words_of(folder, {"RIS_VERSION": "2.5"})["version"] == "2.5"
    (folder / "site.yaml").write_text("ris: none\n")
    assert words_of(folder, {}) == {}


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("slotz=qry", "`slotz` is no word with a value"),
        ("slots=", "`slots` is no word with a value"),
        ("slots=fax", "ris.slots is none of qry"),
    ],
)
async def test_a_dialect_that_there_is_not_is_refused(folder: Path, option: str, expected: str) -> None:
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "engine.cli", "simulate", str(folder), "--ris", option),
        stdin=-3,
        stdout=-1,
        stderr=-2,
        env={**os.environ, **ENV},
    )
    said, _ = await child.communicate()
    assert child.returncode != 0
    assert expected in " ".join(said.decode().split())
