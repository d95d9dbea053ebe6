"""All simulators together, made from an environment, over real sockets."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from engine import tls
from engine.simulators import Simulators, run
from engine.simulators.app import CONTROL_PORT, EMR_PORTS, RIS_PORT
from engine.simulators.profiles import PROFILES
from engine.simulators.wire import frame

SITE = Path(__file__).parents[2]
PORTS = ("RIS_PORT", "SIMULATOR_CONTROL_PORT", *(f"{name.upper()}_PORT" for name in EMR_PORTS))
WEBHOOK = {"RADSCHEDULER_TOKEN": "secret", "RADSCHEDULER_WEBHOOK": "http://127.0.0.1:0/api/webhooks/orders"}
ANY_PORT = dict.fromkeys(PORTS, "0") | WEBHOOK


async def test_all_run_until_they_are_told_to_stop(tmp_path: Path, engine: Any, sample: Callable[..., bytes]) -> None:
    host, port = engine.address
    env = ANY_PORT | {"ENGINE_HOST": host, "SIU_PORT": str(port), "ORDERS_PORT": str(port), "ORU_PORT": str(port)}
    addresses: dict[str, str] = {}
    ready, stop = asyncio.Event(), asyncio.Event()

    def note(found: dict[str, str]) -> None:
        addresses.update(found)
        ready.set()

    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(run(SITE, tmp_path, env, note, stop))
        await ready.wait()
        assert set(addresses) == {"ris", *PROFILES, "webhook", "control"}
        await engine.wait_for(7)
        async with aiohttp.ClientSession() as http, http.get(addresses["control"]) as answer:
            assert set((await answer.json())["running"]["emr"]) == set(PROFILES)
        await ask_epic(addresses["epic"], tmp_path, sample("P_epic_S12", now="202501150832"))
        stop.set()
    with pytest.raises(OSError):
        await asyncio.open_connection(*addresses["ris"].split(":"))


async def ask_epic(address: str, data: Path, message: bytes) -> None:
    host, port = address.split(":")
    context = tls.client_context(data / "tls" / "ca.pem")
    reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
    writer.write(frame(message))
    assert b"MSA|AA|EN0000000101" in await reader.readuntil(b"\x1c\r")
    writer.close()
    await writer.wait_closed()


async def test_when_one_cannot_start_none_stays(tmp_path: Path) -> None:
    busy = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    env = ANY_PORT | {"RIS_PORT": str(busy.sockets[0].getsockname()[1])}
    simulators = Simulators(SITE, tmp_path, env)
    with pytest.raises(OSError):
        await simulators.start()
    assert [emr.server.is_up for emr in simulators.emrs.values()] == [False] * len(PROFILES)
    assert simulators.webhook.runner is None
    busy.close()


def test_the_ports_are_those_of_the_reference_site(tmp_path: Path) -> None:
    simulators = Simulators(SITE, tmp_path, {"RADSCHEDULER_TOKEN": "secret"})
    assert simulators.addresses() == {
        "ris": f"127.0.0.1:{RIS_PORT}",
        "athena": "127.0.0.1:2601",
        "epic": "127.0.0.1:2602",
        "cerner": "127.0.0.1:2603",
        "allscripts": "127.0.0.1:2604",
        "nextgen": "127.0.0.1:2605",
        "ecw": "127.0.0.1:2606",
        "meditech": "127.0.0.1:2607",
        "generic": "127.0.0.1:2608",
        "webhook": "http://127.0.0.1:8070/api/webhooks/orders",
        "control": f"http://127.0.0.1:{CONTROL_PORT}",
    }
    assert (RIS_PORT, CONTROL_PORT) == (2576, 8071)
    assert (simulators.ris.siu.address, simulators.ris.orders.address) == (("127.0.0.1", 2575), ("127.0.0.1", 2577))


def test_an_emr_takes_what_the_environment_says(tmp_path: Path) -> None:
    env = {"RADSCHEDULER_TOKEN": "secret", "EPIC_VERSIONS": "2.3 2.5.1", "EPIC_FACILITY": "SITEA"}
    epic = Simulators(SITE, tmp_path, env).emrs["epic"]
    assert (epic.versions, epic.receiving_facility) == (("2.3", "2.5.1"), "SITEA")


@pytest.mark.parametrize(
    ("env", "text"),
    [
        ({}, "RADSCHEDULER_TOKEN is not set"),
        ({"RADSCHEDULER_TOKEN": "x", "RIS_PORT": "many"}, "RIS_PORT is no port"),
        ({"RADSCHEDULER_TOKEN": "x", "EPIC_PORT": "70000"}, "EPIC_PORT is no port"),
        ({"RADSCHEDULER_TOKEN": "x", "RADSCHEDULER_WEBHOOK": "https://rs.example/x"}, "RADSCHEDULER_WEBHOOK"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, env: dict[str, str], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Simulators(SITE, tmp_path, env)
