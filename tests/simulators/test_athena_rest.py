"""athena's simulated REST API: who may call, what it takes, what becomes of a slot."""

from base64 import b64encode
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from engine.simulators.athena_rest import SCOPE, AthenaRest

SLOT = {"departmentid": "21", "providerid": "71", "appointmenttypeid": "82", "appointmentdate": "01/31/2027"}
SLOT |= {"appointmenttime": "09:00", "duration": "30"}
GRANT = {"grant_type": "client_credentials", "scope": SCOPE}


class Client:
    def __init__(self, athena: AthenaRest, http: aiohttp.ClientSession) -> None:
        self.athena, self.http, self.token = athena, http, ""

    async def log_in(self, secret: str = "s3cret", fields: Any = GRANT) -> int:
        headers = {"Authorization": f"Basic {b64encode(f'hl7engine:{secret}'.encode()).decode()}"}
        async with self.http.post(f"{self.athena.url}/oauth2/v1/token", data=fields, headers=headers) as answer:
            self.token = (await answer.json()).get("access_token", "")
            return answer.status

    async def call(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {self.token}"}
        url = f"{self.athena.url}/v1/12345/appointments{path}"
        async with self.http.request(method, url, headers=headers, **options) as answer:
            return answer.status, await answer.json()


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    now = 0.0
    athena = AthenaRest("s3cret", now=lambda: now, life=10)
    await athena.start()
    async with aiohttp.ClientSession() as http:
        made = Client(athena, http)
        assert await made.log_in() == 200
        yield made
    await athena.stop()


async def test_who_has_no_token_that_serves_is_401(client: Client) -> None:
    for fields, secret, status in ((GRANT, "x", 401), ({"scope": SCOPE}, "s3cret", 400),
                                   ({**GRANT, "scope": "all"}, "s3cret", 400)):  # fmt: skip
        assert await client.log_in(secret, fields) == status
        assert (await client.call("GET", "/1"))[0] == 401
    await client.log_in()
    assert (await client.call("GET", "/1"))[0] == 404
    client.athena.now = lambda: 11.0
    assert (await client.call("GET", "/1"))[0] == 401
    await client.log_in()
    client.athena.revoke()
    assert (await client.call("GET", "/1"))[0] == 401


async def test_the_life_of_a_slot(client: Client) -> None:
    _, made = await client.call("POST", "/open", data=SLOT)
    (number,) = made["appointmentids"]
    assert (await client.call("GET", "/open?departmentid=21"))[1]["totalcount"] == 1
    mine, other = {"patientid": "P1"}, {"patientid": "P2"}
    assert [(await client.call("PUT", f"/{number}", data=who))[0] for who in (mine, mine, other)] == [200, 200, 409]
    assert (await client.call("GET", f"/{number}"))[1][0]["appointmentstatus"] == "f"
    _, made = await client.call("POST", "/open", data=SLOT)
    (new,) = made["appointmentids"]
    move = {"newappointmentid": new, **mine}
    assert [(await client.call("PUT", f"/{number}/reschedule", data=move))[0] for _ in range(2)] == [200, 200]
    assert (await client.call("PUT", f"/{new}/cancel", data=other))[0] == 400
    assert [(await client.call("PUT", f"/{new}/cancel", data=mine))[0] for _ in range(2)] == [200, 200]
    assert (await client.call("PUT", f"/{new}", data=mine))[0] == 409


async def test_what_is_missing_or_no_form_is_refused(client: Client) -> None:
    for name in ("departmentid", "providerid", "appointmenttypeid", "appointmentdate", "appointmenttime"):
        status, said = await client.call("POST", "/open", data={**SLOT, name: ""})
        assert (status, name in said["error"]) == (400, True)
    assert (await client.call("POST", "/open", json=SLOT))[0] == 415
    assert (await client.call("POST", "/open", data={**SLOT, "appointmentdate": "2027-01-31"}))[0] == 400
    await client.athena.add_fault({"fault": "status", "status": 429})
    assert (await client.call("POST", "/open", data=SLOT))[0] == 429
    shown = client.athena.describe()
    assert shown["calls"][-1]["fields"] == sorted(SLOT), "names alone unless bodies are asked for"
