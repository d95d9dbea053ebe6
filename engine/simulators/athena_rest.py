"""athenahealth's REST API as far as appointments go: OAuth2 client credentials, slots, booking, cancelling, moving.

Names of parameters are athena's (lower case, one word), bodies are forms, dates are MM/DD/YYYY. Strict: a token that is
not known or has ended is 401, another content type 415, a missing parameter 400, a slot that is taken 409; the same
booking twice is one. What athena itself answers there is not public; see systems.md C.5.
"""

import asyncio
import re
import secrets
import time
from base64 import b64decode
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote_plus

import structlog
from aiohttp import web

from engine.simulators.http_server import HttpPartner

log = structlog.get_logger("engine.simulators")

SCOPE = "athena/service/Athenanet.MDP.*"
DATE, TIME = re.compile(r"(0[1-9]|1[0-2])/([0-2]\d|3[01])/\d{4}"), re.compile(r"([01]\d|2[0-3]):[0-5]\d")
#: Where a request keeps the fields of its form.
FIELDS = web.RequestKey("fields", dict[str, str])
NUMBER = re.compile(r"\d{1,12}")


class Refused(Exception):
    """An answer that says no."""

    def __init__(self, status: int, error: str) -> None:
        self.status, self.error = status, error
        super().__init__(error)


class AthenaRest(HttpPartner):
    """The API of one practice. `life`: seconds that a token lives."""

    def __init__(
        self,
        client_secret: str,
        *,
        client_id: str = "hl7engine",
        practice: str = "12345",
        host: str = "127.0.0.1",
        port: int = 0,
        life: float = 3600.0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.client_id, self.client_secret, self.practice = client_id, client_secret, practice
        self.life, self.now = life, now
        super().__init__(host, port)

    @property
    def name(self) -> str:
        return "athena-rest"

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self.checked])
        app.router.add_post("/oauth2/v1/token", self.token)
        base = f"/v1/{self.practice}/appointments"
        app.router.add_post(f"{base}/open", self.make_slot)
        app.router.add_get(f"{base}/open", self.open_slots)
        app.router.add_get(base + r"/{id:\d+}", self.show)
        app.router.add_put(base + r"/{id:\d+}", self.book)
        app.router.add_put(base + r"/{id:\d+}/cancel", self.cancel)
        app.router.add_put(base + r"/{id:\d+}/reschedule", self.reschedule)
        return app

    def forget(self) -> None:
        self.appointments: dict[str, dict[str, Any]] = {}
        self.tokens: dict[str, float] = {}
        self.tokens_given = 0
        self.calls: list[dict[str, Any]] = []

    def revoke(self) -> None:
        """Every token is one too old from now on."""
        self.tokens.clear()

    def describe(self, *, bodies: bool = False) -> dict[str, Any]:
        shown = self.calls if bodies else [{**call, "fields": sorted(call["fields"])} for call in self.calls]
        return {
            "up": self.is_up,
            "faults": self.faults.describe(),
            "tokens": self.tokens_given,
            "appointments": list(self.appointments.values()) if bodies else sorted(self.appointments),
            "calls": shown,
        }

    # -- who may ---------------------------------------------------------------------------------------------------

    @web.middleware
    async def checked(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """Faults, tokens, forms; refusals as athena's `{"error": …}`."""
        fields: dict[str, str] = {}
        try:
            if request.path == "/oauth2/v1/token":
                return await handler(request)  # type: ignore[no-any-return]
            self.check_token(request)
            fields = await form_of(request)
            self.calls.append({"method": request.method, "path": request.path_qs, "fields": fields})
            request[FIELDS] = fields
            fault = self.faults.take("webhook", await request.read())
            if fault is not None and fault.name == "status":
                headers = {"Retry-After": "1"} if fault.settings["status"] in (429, 503) else {}
                return web.json_response({"error": "fault"}, status=fault.settings["status"], headers=headers)
            if fault is not None and fault.name == "delay":
                await asyncio.sleep(fault.settings["ms"] / 1000)
            answer = await handler(request)
        except Refused as error:
            log.info("athena_rest.refused", status=error.status, reason=error.error)
            return web.json_response({"error": error.error}, status=error.status)
        if fault is not None and fault.name == "drop" and request.transport is not None:
            request.transport.abort()
        return answer  # type: ignore[no-any-return]

    async def token(self, request: web.Request) -> web.Response:
        """RFC 6749, 4.4."""
        fields = await form_of(request)
        kind, _, pair = request.headers.get("Authorization", "").partition(" ")
        try:
            client, _, secret = b64decode(pair).decode().partition(":")
        except ValueError:
            client = secret = ""
        if kind.lower() != "basic" or (unquote_plus(client), unquote_plus(secret)) != (
            self.client_id,
            self.client_secret,
        ):
            raise Refused(401, "invalid_client")
        if fields.get("grant_type") != "client_credentials":
            raise Refused(400, "unsupported_grant_type")
        if fields.get("scope") != SCOPE:
            raise Refused(400, "invalid_scope")
        made = secrets.token_urlsafe(32)
        self.tokens[made] = self.now() + self.life
        self.tokens_given += 1
        return web.json_response({"access_token": made, "token_type": "Bearer", "expires_in": str(int(self.life))})

    def check_token(self, request: web.Request) -> None:
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        if kind != "Bearer" or self.tokens.get(token, 0.0) <= self.now():
            raise Refused(401, "Unauthorized")

    # -- appointments ----------------------------------------------------------------------------------------------

    async def make_slot(self, request: web.Request) -> web.Response:
        fields = request[FIELDS]
        wanted = {"departmentid": NUMBER, "providerid": NUMBER, "appointmenttypeid": NUMBER}
        wanted |= {"appointmentdate": DATE, "appointmenttime": TIME}
        need(fields, wanted)
        number = str(700001 + len(self.appointments))
        self.appointments[number] = {
            "appointmentid": number,
            "date": fields["appointmentdate"],
            "starttime": fields["appointmenttime"],
            "duration": int(fields.get("duration", "15")),
            "departmentid": fields["departmentid"],
            "providerid": fields["providerid"],
            "appointmenttypeid": fields["appointmenttypeid"],
            "patientid": None,
            "appointmentstatus": "o",
        }
        return web.json_response({"appointmentids": {number: fields["appointmenttime"]}})

    async def open_slots(self, request: web.Request) -> web.Response:
        if not request.query.get("departmentid"):
            raise Refused(400, "departmentid is required")
        found = [
            slot
            for slot in self.appointments.values()
            if slot["appointmentstatus"] == "o" and slot["departmentid"] == request.query["departmentid"]
        ]
        return web.json_response({"totalcount": len(found), "appointments": found})

    async def show(self, request: web.Request) -> web.Response:
        return web.json_response([self.find(request.match_info["id"])])

    async def book(self, request: web.Request) -> web.Response:
        fields, slot = request[FIELDS], self.find(request.match_info["id"])
        need(fields, {"patientid": re.compile(r"\S{1,20}")})
        mine = slot["appointmentstatus"] == "f" and slot["patientid"] == fields["patientid"]
        if slot["appointmentstatus"] != "o" and not mine:
            raise Refused(409, "This appointment is not open.")
        slot |= {"patientid": fields["patientid"], "appointmentstatus": "f"}
        return web.json_response([slot])

    async def cancel(self, request: web.Request) -> web.Response:
        fields, slot = request[FIELDS], self.find(request.match_info["id"])
        self.check_patient(slot, fields)
        if slot["appointmentstatus"] not in ("f", "x"):
            raise Refused(409, "This appointment is not booked.")
        slot["appointmentstatus"] = "x"
        return web.json_response({"status": "x"})

    async def reschedule(self, request: web.Request) -> web.Response:
        fields, slot = request[FIELDS], self.find(request.match_info["id"])
        need(fields, {"newappointmentid": NUMBER})
        self.check_patient(slot, fields)
        other = self.find(fields["newappointmentid"])
        mine = other["appointmentstatus"] == "f" and other["patientid"] == slot["patientid"]
        if other["appointmentstatus"] != "o" and not mine:
            raise Refused(409, "The new appointment is not open.")
        other |= {"patientid": slot["patientid"], "appointmentstatus": "f"}
        slot["appointmentstatus"] = "x"
        return web.json_response([other])

    def find(self, number: str) -> dict[str, Any]:
        found = self.appointments.get(number)
        if found is None:
            raise Refused(404, "The appointment does not exist.")
        return found

    def check_patient(self, slot: Mapping[str, Any], fields: Mapping[str, str]) -> None:
        need(fields, {"patientid": re.compile(r"\S{1,20}")})
        if slot["patientid"] != fields["patientid"]:
            raise Refused(400, "patientid is another one")


async def form_of(request: web.Request) -> dict[str, str]:
    """The fields of the form. Raises Refused with 415 for what is none."""
    if request.method == "GET" or not request.can_read_body:
        return {}
    if request.content_type != "application/x-www-form-urlencoded":
        raise Refused(415, "a form is required")
    return {name: str(value) for name, value in (await request.post()).items()}


def need(fields: Mapping[str, str], wanted: Mapping[str, re.Pattern[str]]) -> None:
    for name, form in wanted.items():
        if not form.fullmatch(fields.get(name, "")):
            raise Refused(400, f"{name} is missing or not valid")
