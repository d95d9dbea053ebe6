"""RadScheduler's webhook: who may call, what it takes, how it fails."""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from engine.simulators import Webhook
from engine.simulators.faults import FaultError

ORDER: dict[str, Any] = {
    "orderId": "ORDER123",
    "accession": "ACC778899",
    "mrn": "MRN123456",
    "facility": "DTI",
    "modality": "CR",
    "procedure": {"code": "XRCHEST2", "description": "Chest X-ray 2 views"},
    "phone": "+12175550111",
    "receivedAt": "2025-01-15T08:00:00-06:00",
    "correlationId": "c1",
}
BEARER = {"Authorization": "Bearer secret"}


@pytest.fixture
async def webhook() -> AsyncIterator[Webhook]:
    webhook = Webhook("secret")
    await webhook.start()
    yield webhook
    await webhook.stop()


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
        yield session


async def post(http: aiohttp.ClientSession, webhook: Webhook, body: Any = ORDER, headers: Any = BEARER) -> int:
    async with http.post(webhook.url, json=body, headers=headers) as answer:
        return answer.status


async def test_an_order_is_kept(webhook: Webhook, http: aiohttp.ClientSession) -> None:
    assert await post(http, webhook) == 200
    await webhook.wait_for(1)
    state = webhook.describe()
    assert [entry["orderId"] for entry in state["received"]] == ["ORDER123"]
    assert "+12175550111" not in str(state)
    assert webhook.describe(bodies=True)["received"][0]["body"] == ORDER


@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic secret"}, {"Authorization": "secret"}]
)
async def test_without_the_token_nothing_is_taken(
    webhook: Webhook, http: aiohttp.ClientSession, headers: dict[str, str]
) -> None:
    assert await post(http, webhook, headers=headers) == 401
    assert (webhook.describe()["count"], webhook.describe()["calls"]) == (0, 1)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ([], "not_an_object"),
        ({**ORDER, "orderId": ""}, "missing:orderId"),
        ({**ORDER, "mrn": 5}, "missing:mrn"),
        ({**ORDER, "procedure": "XR"}, "missing:procedure.code"),
        ({**ORDER, "procedure": {}}, "missing:procedure.code"),
        ({**ORDER, "phone": "(217)555-0111"}, "phone_not_e164"),
    ],
)
async def test_a_wrong_body_is_refused(webhook: Webhook, http: aiohttp.ClientSession, body: Any, reason: str) -> None:
    assert await post(http, webhook, body) == 400
    assert webhook.describe()["refused"][0]["reason"] == reason


async def test_a_phone_may_be_missing(webhook: Webhook, http: aiohttp.ClientSession) -> None:
    assert await post(http, webhook, {key: value for key, value in ORDER.items() if key != "phone"}) == 200


async def test_what_is_no_json_is_refused(webhook: Webhook, http: aiohttp.ClientSession) -> None:
    for content, kind in (("{", "application/json"), ("{}", "text/plain")):
        async with http.post(webhook.url, data=content, headers=BEARER | {"Content-Type": kind}) as answer:
            assert answer.status == 400


async def test_a_status_on_demand(webhook: Webhook, http: aiohttp.ClientSession) -> None:
    await webhook.add_fault({"fault": "status", "status": 503, "times": 2})
    assert [await post(http, webhook) for _ in range(3)] == [503, 503, 200]
    assert webhook.describe()["count"] == 1


async def test_a_delay_and_a_lost_answer(webhook: Webhook, http: aiohttp.ClientSession) -> None:
    await webhook.add_fault({"fault": "delay", "ms": 5})
    await webhook.add_fault({"fault": "drop"})
    assert await post(http, webhook) == 200
    with pytest.raises(aiohttp.ClientError):
        await post(http, webhook)
    assert webhook.describe()["count"] == 2


async def test_faults_of_mllp_are_not_known_here(webhook: Webhook) -> None:
    with pytest.raises(FaultError, match="known are delay, drop, status"):
        await webhook.add_fault({"fault": "silence"})


async def test_down_and_up_on_the_same_port(webhook: Webhook, http: aiohttp.ClientSession) -> None:
    await webhook.down()
    with pytest.raises(aiohttp.ClientConnectionError):
        await post(http, webhook)
    await webhook.up()
    assert await post(http, webhook) == 200


async def test_reset_forgets_and_comes_up(webhook: Webhook, http: aiohttp.ClientSession) -> None:
    await post(http, webhook)
    await webhook.add_fault({"fault": "status"})
    await webhook.down()
    await webhook.reset()
    assert await post(http, webhook) == 200
    assert webhook.describe()["count"] == 1


def test_a_webhook_without_a_token_does_not_start() -> None:
    with pytest.raises(ValueError, match="token"):
        Webhook("")
