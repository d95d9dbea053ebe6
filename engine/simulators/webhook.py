"""RadScheduler's webhooks with a bearer token, strict about the body: `POST /api/webhooks/orders` and `…/sms-status`.

The body of an order is that of systems.md D.7; a status of a text message has the salted hash of the number, and must
hold no number. What was accepted is kept in order. Faults and outages as the other simulators have
them; the body's phone number is kept in memory only and shown only when bodies are asked for.
"""

import asyncio
import hmac
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import structlog
from aiohttp import web

from engine.simulators.http_server import HttpPartner

log = structlog.get_logger("engine.simulators")

PATH = "/api/webhooks/orders"
STATUS_PATH = "/api/webhooks/sms-status"
#: Members that must be there as text, and be filled.
REQUIRED = ("orderId", "accession", "mrn", "facility", "modality", "receivedAt", "correlationId")
STATUS_REQUIRED = ("messageSid", "status", "receivedAt", "correlationId")
HASH = re.compile(r"[0-9a-f]{64}")
ANY_PHONE = re.compile(r"\+?\d{10,15}")
PHONE = re.compile(r"\+[1-9]\d{7,14}")


class Webhook(HttpPartner):
    """RadScheduler's side on one HTTP port. `token` is the bearer token that every call must bring."""

    def __init__(
        self,
        token: str,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        path: str = PATH,
        status_path: str = STATUS_PATH,
        now: Callable[[], datetime] | None = None,
    ) -> None:
        if not token:
            raise ValueError("the webhook needs a bearer token")
        self.token, self.path, self.status_path = token, path, status_path
        self.now = now or (lambda: datetime.now(ZoneInfo("America/Chicago")))
        self.changed = asyncio.Event()
        super().__init__(host, port)

    @property
    def name(self) -> str:
        return "webhook"

    @property
    def url(self) -> str:
        return f"{super().url}{self.path}"

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post(self.path, self.receive)
        app.router.add_post(self.status_path, self.receive_status)
        return app

    def forget(self) -> None:
        self.received: list[dict[str, Any]] = []
        self.statuses: list[dict[str, Any]] = []
        self.calls = 0
        self.refused: list[dict[str, Any]] = []

    async def wait_for(self, count: int) -> None:
        """Return as soon as `count` orders were accepted."""
        while len(self.received) < count:
            self.changed.clear()
            await self.changed.wait()

    async def receive(self, request: web.Request) -> web.Response:
        """An order."""
        return await self.take(request, order_problem, self.received, "orderId")

    async def receive_status(self, request: web.Request) -> web.Response:
        """The status of a text message."""
        return await self.take(request, status_problem, self.statuses, "messageSid")

    async def take(
        self, request: web.Request, problem_of: Callable[[dict[str, Any]], str], kept: list[dict[str, Any]], key: str
    ) -> web.Response:
        self.calls += 1
        if not self.is_authorized(request):
            return self.refuse(401, "unauthorized")
        fault = self.faults.take("webhook", await request.read())
        if fault is not None and fault.name == "status":
            return self.refuse(fault.settings["status"], "fault")
        if fault is not None and fault.name == "delay":
            await asyncio.sleep(fault.settings["ms"] / 1000)
        problem, body = await read_object(request)
        problem = problem or problem_of(body)
        if problem:
            return self.refuse(400, problem)
        kept.append({"at": self.now().isoformat(), "body": body})
        self.changed.set()
        log.info("webhook.received", kind=key, id=body[key], correlation_id=body["correlationId"])
        if fault is not None and fault.name == "drop" and request.transport is not None:
            request.transport.abort()
        return web.json_response({"status": "accepted", key: body[key]})

    def is_authorized(self, request: web.Request) -> bool:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(token.encode(), self.token.encode())

    def refuse(self, status: int, reason: str) -> web.Response:
        self.refused.append({"at": self.now().isoformat(), "status": status, "reason": reason})
        log.info("webhook.refused", status=status, reason=reason)
        return web.json_response({"error": {"code": reason}}, status=status)

    def describe(self, *, bodies: bool = False) -> dict[str, Any]:
        """What was accepted, by order id; the bodies only when asked for."""
        received = [
            {"at": entry["at"], "orderId": entry["body"]["orderId"], "correlationId": entry["body"]["correlationId"]}
            | ({"body": entry["body"]} if bodies else {})
            for entry in self.received
        ]
        return {
            "up": self.is_up,
            "faults": self.faults.describe(),
            "calls": self.calls,
            "count": len(self.received),
            "refused": self.refused,
            "received": received,
            "statuses": [{"at": entry["at"], **entry["body"]} for entry in self.statuses],
        }


async def read_object(request: web.Request) -> tuple[str, dict[str, Any]]:
    """What is wrong with the body (empty: nothing) and the body. Reasons name members, never values."""
    if request.content_type != "application/json":
        return "content_type", {}
    try:
        body = await request.json()
    except ValueError:
        return "not_json", {}
    if not isinstance(body, dict):
        return "not_an_object", {}
    return "", body


def missing(body: dict[str, Any], names: tuple[str, ...]) -> str:
    return next((f"missing:{name}" for name in names if not isinstance(body.get(name), str) or not body[name]), "")


def order_problem(body: dict[str, Any]) -> str:
    """What is wrong with an order; empty for nothing."""
    if problem := missing(body, REQUIRED):
        return problem
    procedure = body.get("procedure")
    if not isinstance(procedure, dict) or not isinstance(procedure.get("code"), str) or not procedure["code"]:
        return "missing:procedure.code"
    if body.get("phone") and (not isinstance(body["phone"], str) or not PHONE.fullmatch(body["phone"])):
        return "phone_not_e164"
    return ""


def status_problem(body: dict[str, Any]) -> str:
    """What is wrong with a status: a number in it above all."""
    if problem := missing(body, STATUS_REQUIRED):
        return problem
    digest = body.get("phoneHash")
    if digest is not None and (not isinstance(digest, str) or not HASH.fullmatch(digest)):
        return "phoneHash_is_no_hash"
    told = [value for name, value in body.items() if name not in ("phoneHash", "messageSid", "correlationId")]
    return "a_phone_in_clear" if any(ANY_PHONE.fullmatch(str(value)) for value in told) else ""
