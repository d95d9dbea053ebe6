"""The control port: every route, the one shape of errors, and the state behind it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from engine.simulators import Control, Emr, Ris, Webhook
from engine.simulators.wire import parse

Sample = Callable[..., bytes]
Call = Callable[..., Awaitable[tuple[int, Any]]]


@pytest.fixture
async def epic(make_emr: Callable[..., Awaitable[Emr]]) -> Emr:
    return await make_emr("epic")


@pytest.fixture
async def webhook() -> AsyncIterator[Webhook]:
    webhook = Webhook("secret")
    await webhook.start()
    yield webhook
    await webhook.stop()


@pytest.fixture
async def call(ris: Ris, epic: Emr, webhook: Webhook) -> AsyncIterator[Call]:
    control = Control(ris=ris, emrs={"epic": epic}, webhook=webhook)
    await control.start()
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as http:

        async def request(method: str, path: str, body: Any = None) -> tuple[int, Any]:
            async with http.request(method, control.url + path, json=body) as answer:
                return answer.status, await answer.json()

        yield request
    await control.stop()


async def test_the_overview_names_what_runs_and_every_route(call: Call, ris: Ris, epic: Emr) -> None:
    status, shown = await call("GET", "/")
    assert status == 200
    assert shown["running"]["ris"] == {"port": ris.port, "up": True}
    assert shown["running"]["emr"] == {"epic": {"port": epic.port, "up": True}}
    assert "silence" in shown["faults"]["mllp"]
    assert "status" in shown["faults"]["webhook"]
    assert "POST /ris/emit" in shown["routes"]


async def test_the_ris_shows_its_state(call: Call, ris: Ris, sample: Sample) -> None:
    ris.handle(sample("B1_ORM_O01_v23"))
    _, state = await call("GET", "/ris")
    assert [item["appointmentId"] for item in state["bookings"]] == ["APT556677"]
    assert state["calendar"] == {"DTI": {"booked": 1}, "NSI": {"booked": 0}, "WSI": {"booked": 0}}
    assert state["seenControlIds"] == ["RS0000000003"]
    assert len(state["orders"]) == 7
    assert "body" not in state["received"][0]
    _, with_bodies = await call("GET", "/ris?bodies=1")
    assert with_bodies["received"][0]["body"].startswith("MSH|")


async def test_the_calendar_of_a_day(call: Call, ris: Ris, sample: Sample) -> None:
    ris.handle(sample("B1_ORM_O01_v23"))
    status, shown = await call("GET", "/ris/slots?location=DTI&modality=CR&date=2025-01-16")
    states = {slot["id"][-4:]: slot["state"] for slot in shown["slots"]}
    assert status == 200
    assert (len(states), states["0900"], states["0930"], states["1200"]) == (18, "booked", "open", "blocked")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/ris/slots?location=ZZZ&date=2025-01-16", 404),
        ("/ris/slots?date=2025-01-16", 400),
        ("/ris/slots?location=DTI&date=tomorrow", 400),
        ("/emr/cerner", 404),
        ("/nowhere", 404),
    ],
)
async def test_what_is_not_there_is_told_in_one_shape(call: Call, path: str, status: int) -> None:
    got, body = await call("GET", path)
    assert got == status
    assert set(body) == {"error"}
    assert set(body["error"]) == {"code", "message"}


@pytest.mark.parametrize("partner", ["/ris", "/emr/epic", "/webhook"])
async def test_faults_are_put_up_and_cleared(call: Call, partner: str) -> None:
    status, fault = await call("POST", f"{partner}/faults", {"fault": "delay", "ms": 5, "times": 3, "only": "ORM^O01"})
    assert (status, fault["fault"], fault["times"], fault["ms"]) == (201, "delay", 3, 5)
    _, state = await call("GET", partner)
    assert [item["fault"] for item in state["faults"]] == ["delay"]
    assert (await call("DELETE", f"{partner}/faults"))[0] == 200
    _, state = await call("GET", partner)
    assert state["faults"] == []


@pytest.mark.parametrize("partner", ["/ris", "/emr/epic", "/webhook"])
async def test_an_unknown_fault_is_answered_with_the_known_ones(call: Call, partner: str) -> None:
    status, body = await call("POST", f"{partner}/faults", {"fault": "nonsense"})
    assert status == 400
    assert "known are" in body["error"]["message"]


@pytest.mark.parametrize("partner", ["/ris", "/emr/epic", "/webhook"])
async def test_down_and_up(call: Call, partner: str) -> None:
    for word, up in (("down", False), ("up", True)):
        assert await call("POST", f"{partner}/{word}") == (200, {"up": up})
        assert (await call("GET", partner))[1]["up"] is up


@pytest.mark.parametrize("partner", ["/ris", "/emr/epic", "/webhook"])
async def test_what_was_received_can_be_forgotten(
    call: Call, ris: Ris, epic: Emr, sample: Sample, partner: str
) -> None:
    ris.handle(sample("L1_QRY_Q01_v23"))
    epic.handle(sample("P_epic_S12", now="202501150832"))
    assert (await call("DELETE", f"{partner}/received"))[0] == 200
    assert (await call("GET", partner))[1]["received"] == []


async def test_an_emr_shows_what_it_received(call: Call, epic: Emr, sample: Sample) -> None:
    epic.handle(sample("P_epic_S15", now="202501150832"))
    _, state = await call("GET", "/emr/epic")
    assert [(item["kind"], item["appointmentId"]) for item in state["received"]] == [("SIU^S15", "APT556677")]
    assert [item["what"] for item in state["violations"]] == ["S15 before S12"]
    _, with_bodies = await call("GET", "/emr/epic?bodies=1")
    assert "MRN123456" in with_bodies["received"][0]["body"]
    assert "MRN123456" not in str(state)


async def test_an_emr_can_be_told_to_take_another_version(call: Call, epic: Emr) -> None:
    body = {"versions": ["2.5.1"], "facility": "SITEA"}
    assert await call("POST", "/emr/epic/settings", body) == (200, body)
    assert (epic.versions, epic.receiving_facility) == (("2.5.1",), "SITEA")
    assert (await call("POST", "/emr/epic/settings", {"versions": "2.5.1"}))[0] == 400
    assert (await call("POST", "/emr/ecw/settings", {}))[0] == 404


async def test_events_of_bookings_are_emitted(call: Call, ris: Ris, sample: Sample) -> None:
    ris.handle(sample("B1_ORM_O01_v23"))
    status, body = await call("POST", "/ris/emit", {"event": "S26", "orderId": "ORDER123", "version": "2.5.1"})
    assert (status, body["controlId"]) == (202, ris.siu.waiting[-1].control_id)
    assert b"SIU^S26^SIU_S12" in ris.siu.waiting[-1].data
    target = {"event": "S13", "orderId": "ORDER123", "slotId": "DTI-XR1-202501161100"}
    assert (await call("POST", "/ris/emit", target))[0] == 202
    assert ris.describe()["bookings"][0]["slotId"] == "DTI-XR1-202501161100"
    taken = {"event": "S13", "orderId": "ORDER123", "slotId": "DTI-XR1-202501161200"}
    assert (await call("POST", "/ris/emit", taken))[0] == 409


async def test_made_up_appointments_are_emitted(call: Call, ris: Ris) -> None:
    status, body = await call("POST", "/ris/emit", {"event": "S12", "facility": "NSI", "location": "NSI", "count": 100})
    assert (status, len(set(body["appointmentIds"])), len(ris.siu.waiting)) == (202, 100, 100)
    again = {"event": "S15", "appointmentId": body["appointmentIds"][0]}
    assert (await call("POST", "/ris/emit", again))[0] == 202
    unrouted = {"event": "S12", "facility": "NOWHERE"}
    assert (await call("POST", "/ris/emit", unrouted))[0] == 202
    assert b"NOWHERE^XR1^^NOWHERE" in ris.siu.waiting[-1].data


async def test_made_up_orders_are_known_and_announced(call: Call, ris: Ris) -> None:
    status, body = await call("POST", "/ris/orders", {"count": 12, "prefix": "P1X"})
    assert (status, body["orderIds"][0], len(body["orderIds"])) == (202, "P1X00001", 12)
    waiting = [parse(emission.data) for emission in ris.orders.waiting]
    assert [message.text("ORC-2") for message in waiting] == body["orderIds"]
    assert {message.text("OBR-24") for message in waiting} == {"CR", "DX", "US", "CT", "MR", "MG"}
    _, state = await call("GET", "/ris")
    assert len(state["orders"]) == 7 + 12
    assert (await call("POST", "/ris/orders", {"count": 1, "prefix": "P1X"}))[0] == 409
    assert (await call("POST", "/ris/orders", {"count": 0}))[0] == 400
    await call("POST", "/reset")
    assert len((await call("GET", "/ris"))[1]["orders"]) == 7


async def test_a_slot_is_booked_at_the_desk(call: Call, ris: Ris, sample: Sample) -> None:
    assert await call("POST", "/ris/take", {"slotId": "DTI-XR1-202501160900"}) == (200, {"taken": True})
    [answer] = ris.handle(sample("B1_ORM_O01_v23"))
    assert parse(answer).text("MSA-1") == "AE"
    assert b"SLOT_TAKEN" in answer or parse(answer).text("MSA-6.1") == "206"
    assert not ris.siu.waiting
    assert (await call("POST", "/ris/take", {"slotId": "DTI-XR1-202501160900"}))[0] == 409
    assert (await call("POST", "/ris/take", {"slotId": "DTI-XR1-202501160901"}))[0] == 404


async def test_a_raw_message_is_emitted(call: Call, ris: Ris, sample: Sample) -> None:
    text = sample("N3_SIU_seed_v23").decode()
    assert await call("POST", "/ris/emit", {"message": text}) == (202, {"controlId": "MSG001"})
    assert ris.siu.waiting[-1].data == sample("N3_SIU_seed_v23")
    assert (await call("POST", "/ris/emit", {"message": text, "outbox": "orders"}))[0] == 202
    assert len(ris.orders.waiting) == 1


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"event": "S12"}, 400),
        ({}, 400),
        ([], 400),
        ({"event": "S99", "facility": "NSI"}, 404),
        ({"event": "S12", "orderId": "ORDER124"}, 404),
        ({"event": "S12", "orderId": "ORDER999"}, 404),
        ({"event": "S12", "facility": "NSI", "count": 0}, 400),
        ({"event": "S12", "facility": "NSI", "count": True}, 400),
        ({"event": "S12", "facility": "NSI", "version": "9"}, 400),
        ({"event": "S15", "appointmentId": "APT1"}, 404),
        ({"message": "no message"}, 400),
        ({"message": "MSH|^~\\&|A", "outbox": "nowhere"}, 400),
    ],
)
async def test_what_cannot_be_emitted(call: Call, body: Any, status: int) -> None:
    got, answer = await call("POST", "/ris/emit", body)
    assert (got, set(answer)) == (status, {"error"})


async def test_outboxes_are_held_and_released(call: Call, ris: Ris) -> None:
    assert await call("POST", "/ris/hold", {"outbox": "siu"}) == (200, {"held": True})
    assert (await call("GET", "/ris"))[1]["outboxes"]["siu"]["held"] is True
    assert await call("POST", "/ris/release", {"outbox": "siu"}) == (200, {"held": False})
    assert ris.siu.released.is_set()
    assert (await call("POST", "/ris/hold", {"outbox": "nowhere"}))[0] == 400


async def test_reset_restores_everything(call: Call, ris: Ris, epic: Emr, webhook: Webhook, sample: Sample) -> None:
    ris.handle(sample("B1_ORM_O01_v23"))
    epic.handle(sample("P_epic_S12", now="202501150832"))
    for path in ("/ris", "/emr/epic", "/webhook"):
        await call("POST", f"{path}/down")
        await call("POST", f"{path}/faults", {"fault": "delay"})
    assert await call("POST", "/reset", {"orders": True}) == (200, {"reset": True})
    for path in ("/ris", "/emr/epic", "/webhook"):
        _, state = await call("GET", path)
        assert (state["up"], state["faults"], state["received"]) == (True, [], []), path
    assert len(ris.orders.waiting) == 7
    assert ris.describe()["bookings"] == []


async def test_a_body_that_is_no_json_is_told(call: Call, ris: Ris) -> None:
    control = Control(ris=ris)
    await control.start()
    async with aiohttp.ClientSession() as http, http.post(f"{control.url}/ris/faults", data=b"{") as answer:
        assert (answer.status, (await answer.json())["error"]["code"]) == (400, "bad_request")
    await control.stop()


async def test_simulators_that_are_not_there_are_unknown() -> None:
    control = Control()
    await control.start()
    async with asyncio.timeout(20), aiohttp.ClientSession() as http:
        for method, path in (("GET", "/ris"), ("POST", "/ris/emit"), ("GET", "/webhook")):
            async with http.request(method, control.url + path) as answer:
                assert answer.status == 404
        async with http.post(f"{control.url}/reset") as answer:
            assert answer.status == 200
    await control.stop()
