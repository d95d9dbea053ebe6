"""The simulators' control port: state, faults, outages and emissions as JSON over HTTP.

For tests and demonstrations, bound to the loopback interface, without credentials. Every error has one shape,
`{"error": {"code", "message"}}`; an unknown fault is a 400 that lists the known ones. `GET /` is the way in.
"""

from collections.abc import Awaitable, Callable, Mapping
from datetime import date
from json import JSONDecodeError
from typing import Any

from aiohttp import ClientError, web

from engine.simulators.answers import Refused
from engine.simulators.athena_rest import AthenaRest
from engine.simulators.emr import Emr
from engine.simulators.faults import MLLP_FAULTS, WEBHOOK_FAULTS, FaultError
from engine.simulators.http_server import HttpPartner, HttpServer
from engine.simulators.ris import Ris, Unknown
from engine.simulators.twilio import DELIVERED, Twilio
from engine.simulators.webhook import Webhook
from engine.simulators.wire import Unreadable

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

#: One request may ask for this many made-up appointments.
MAX_COUNT = 100_000
#: ... and for this many made-up orders, which are kept.
MAX_ORDERS = 10_000
#: Optional members of a text message → what Twilio's simulator calls them.
TEXTS = {"message_sid": "messageSid", "error_code": "errorCode", "token": "token"}


class BadRequest(ValueError):
    """The request lacks something or has something of the wrong kind; the text says what."""


class Control(HttpServer):
    """The control server over one RIS, the EMRs and the webhook; any of them may be missing."""

    def __init__(
        self,
        *,
        ris: Ris | None = None,
        emrs: Mapping[str, Emr] | None = None,
        webhook: Webhook | None = None,
        twilio: Twilio | None = None,
        athena_rest: AthenaRest | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.ris, self.emrs, self.webhook = ris, dict(emrs or {}), webhook
        self.twilio, self.athena_rest = twilio, athena_rest
        super().__init__(host, port)

    def app(self) -> web.Application:
        app = web.Application(middlewares=[errors])
        app.router.add_get("/", self.overview)
        app.router.add_post("/reset", self.reset)
        app.router.add_get("/ris/slots", self.slots)
        app.router.add_post("/ris/emit", self.emit)
        app.router.add_post("/ris/orders", self.orders)
        app.router.add_post("/ris/take", self.take)
        app.router.add_post("/ris/hold", self.hold)
        app.router.add_post("/ris/release", self.release)
        app.router.add_post("/emr/{name}/settings", self.settings)
        app.router.add_post("/twilio/emit", self.text_messages)
        app.router.add_post("/athena-rest/revoke", self.revoke)
        for path in ("/{partner:ris|webhook|athena-rest}", "/{partner:emr}/{name}"):
            app.router.add_get(path, self.state)
            app.router.add_post(f"{path}/faults", self.add_fault)
            app.router.add_delete(f"{path}/faults", self.clear_faults)
            app.router.add_post(f"{path}/down", self.down)
            app.router.add_post(f"{path}/up", self.up)
            app.router.add_delete(f"{path}/received", self.forget)
        return app

    def partner(self, request: web.Request) -> Ris | Emr | Webhook | AthenaRest:
        kind = request.match_info["partner"]
        found: Ris | Emr | Webhook | AthenaRest | None
        if kind == "emr":
            found = self.emrs.get(request.match_info["name"])
        elif kind == "athena-rest":
            found = self.athena_rest
        else:
            found = self.ris if kind == "ris" else self.webhook
        if found is None:
            raise Unknown(f"simulator {request.match_info.get('name', kind)}")
        return found

    def the_ris(self) -> Ris:
        if self.ris is None:
            raise Unknown("simulator ris")
        return self.ris

    async def overview(self, request: web.Request) -> web.Response:
        running: dict[str, Any] = {name: {"port": emr.port, "up": emr.server.is_up} for name, emr in self.emrs.items()}
        shown: dict[str, Any] = {"emr": running}
        if self.ris is not None:
            shown["ris"] = {"port": self.ris.port, "up": self.ris.server.is_up}
        if self.webhook is not None:
            shown["webhook"] = {"url": self.webhook.url, "up": self.webhook.is_up}
        if self.athena_rest is not None:
            shown["athena_rest"] = {"url": self.athena_rest.url, "up": self.athena_rest.is_up}
        routes = sorted({f"{route.method} {route.resource.canonical}" for route in request.app.router.routes()
                         if route.resource is not None and route.method != "HEAD"})  # fmt: skip
        return web.json_response(
            {"running": shown, "faults": {"mllp": MLLP_FAULTS, "webhook": WEBHOOK_FAULTS}, "routes": routes}
        )

    async def state(self, request: web.Request) -> web.Response:
        bodies = request.query.get("bodies") == "1"
        return web.json_response(self.partner(request).describe(bodies=bodies))

    async def add_fault(self, request: web.Request) -> web.Response:
        fault = await self.partner(request).add_fault(await members(request))
        return web.json_response(fault.describe(), status=201)

    async def clear_faults(self, request: web.Request) -> web.Response:
        await self.partner(request).clear_faults()
        return web.json_response({"faults": []})

    async def down(self, request: web.Request) -> web.Response:
        partner = self.partner(request)
        await (partner.down() if isinstance(partner, HttpPartner) else partner.server.down())
        return web.json_response({"up": False})

    async def up(self, request: web.Request) -> web.Response:
        partner = self.partner(request)
        await (partner.up() if isinstance(partner, HttpPartner) else partner.server.up())
        return web.json_response({"up": True})

    async def forget(self, request: web.Request) -> web.Response:
        partner = self.partner(request)
        if isinstance(partner, Ris):
            partner.received.clear()
        else:
            partner.forget()
        return web.json_response({"received": []})

    async def settings(self, request: web.Request) -> web.Response:
        """Change the versions or the MSH-6 that an EMR takes."""
        emr = self.emrs.get(request.match_info["name"])
        if emr is None:
            raise Unknown(f"simulator {request.match_info['name']}")
        body = await members(request)
        versions, facility = body.get("versions", list(emr.versions)), text(body, "facility", emr.receiving_facility)
        if not isinstance(versions, list) or not versions or not all(isinstance(item, str) for item in versions):
            raise BadRequest("versions is a list of HL7 versions")
        emr.versions, emr.receiving_facility = tuple(versions), facility
        return web.json_response({"versions": versions, "facility": facility})

    async def slots(self, request: web.Request) -> web.Response:
        location, day = request.query.get("location"), request.query.get("date", "")
        if not location:
            raise BadRequest("location is required")
        try:
            when = date.fromisoformat(day)
        except ValueError:
            raise BadRequest("date is required as YYYY-MM-DD") from None
        return web.json_response({"slots": self.the_ris().slots(location, request.query.get("modality"), when)})

    async def hold(self, request: web.Request) -> web.Response:
        """Keep back what the RIS sends by itself: `{"outbox": "siu"}`, `"orders"` or `"results"`."""
        self.outbox(await members(request)).hold()
        return web.json_response({"held": True})

    async def release(self, request: web.Request) -> web.Response:
        self.outbox(await members(request)).release()
        return web.json_response({"held": False})

    def outbox(self, body: Mapping[str, Any]) -> Any:
        return self.the_ris().outboxes[one_of(body, "outbox", ("siu", "orders", "results"), "siu")]

    async def emit(self, request: web.Request) -> web.Response:
        """Let the RIS send: raw `message`, an `event` of an order, or an `event` of made-up appointments."""
        ris, body = self.the_ris(), await members(request)
        if "message" in body:
            outbox = one_of(body, "outbox", ("siu", "orders", "results"), "siu")
            return web.json_response({"controlId": ris.emit_raw(text(body, "message"), outbox)}, status=202)
        event, version = text(body, "event"), body.get("version")
        if version is not None:
            version = one_of(body, "version", ("2.3", "2.3.1", "2.4", "2.5", "2.5.1"), "2.3")
        if "orderId" in body:
            slot_id = text(body, "slotId") if "slotId" in body else None
            done = ris.emit(event, order_id=text(body, "orderId"), slot_id=slot_id, version=version)
            return web.json_response({"controlId": done}, status=202)
        if "appointmentId" in body:
            done = ris.emit_again(event, appointment_id=text(body, "appointmentId"))
            return web.json_response({"controlId": done}, status=202)
        facility, count = text(body, "facility"), number(body, "count", 1, MAX_COUNT)
        location = text(body, "location", facility)
        made = ris.emit_invented(event, facility=facility, location=location, count=count, version=version)
        return web.json_response({"appointmentIds": made}, status=202)

    async def orders(self, request: web.Request) -> web.Response:
        """Made-up orders that the RIS knows and announces: `{"count": 100, "prefix": "P1X"}`."""
        body = await members(request)
        made = self.the_ris().make_orders(number(body, "count", 1, MAX_ORDERS), text(body, "prefix", "MORE"))
        return web.json_response({"orderIds": made}, status=202)

    async def take(self, request: web.Request) -> web.Response:
        """Somebody at the desk books a slot: `{"slotId": …}`."""
        self.the_ris().take(text(await members(request), "slotId"))
        return web.json_response({"taken": True})

    async def text_messages(self, request: web.Request) -> web.Response:
        """What became of a text message: `{"to": "+12175550111", "statuses": ["sent"], "repeat": 2}`."""
        if self.twilio is None:
            raise Unknown("simulator twilio")
        body = await members(request)
        statuses = body.get("statuses", list(DELIVERED))
        if not isinstance(statuses, list) or not all(isinstance(status, str) for status in statuses):
            raise BadRequest("statuses is a list of words such as delivered")
        optional = {name: text(body, key) for name, key in TEXTS.items() if key in body}
        repeat = number(body, "repeat", 1, 100)
        try:
            told = await self.twilio.emit(to=text(body, "to"), statuses=statuses, repeat=repeat, **optional)
        except (OSError, TimeoutError, ClientError) as error:
            return error_response(502, "unreachable", f"the engine: {type(error).__name__}")
        return web.json_response({"answers": told})

    async def revoke(self, request: web.Request) -> web.Response:
        """No token that athena has given is taken any more."""
        if self.athena_rest is None:
            raise Unknown("simulator athena-rest")
        self.athena_rest.revoke()
        return web.json_response({"revoked": True})

    async def reset(self, request: web.Request) -> web.Response:
        """The state of the start; `{"orders": true}` sends the orders again."""
        body = await members(request)
        if self.ris is not None:
            await self.ris.reset(orders=body.get("orders") is True)
        for emr in self.emrs.values():
            await emr.reset()
        for other in (self.webhook, self.athena_rest):
            if other is not None:
                await other.reset()
        return web.json_response({"reset": True})


@web.middleware
async def errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except (FaultError, BadRequest, Unreadable) as error:
        return error_response(400, "bad_request", str(error))
    except Unknown as error:
        return error_response(404, "unknown", f"There is no {error.args[0]}")
    except Refused as error:
        return error_response(409, "refused", str(error))
    except web.HTTPException as error:
        return error_response(error.status, "http", error.reason)


def error_response(status: int, code: str, message: str) -> web.Response:
    return web.json_response({"error": {"code": code, "message": message}}, status=status)


async def members(request: web.Request) -> dict[str, Any]:
    """The JSON object of the body; an empty body is an empty object. Raises BadRequest."""
    if not await request.read():
        return {}
    try:
        body = await request.json()
    except (JSONDecodeError, UnicodeDecodeError):
        raise BadRequest("the body is no JSON") from None
    if not isinstance(body, dict):
        raise BadRequest("the body is no JSON object")
    return body


def text(body: Mapping[str, Any], name: str, default: str | None = None) -> str:
    value = body.get(name, default)
    if not isinstance(value, str) or not value:
        raise BadRequest(f"{name} is required as text")
    return value


def number(body: Mapping[str, Any], name: str, default: int, most: int) -> int:
    value = body.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise BadRequest(f"{name} is a number from 1 to {most}")
    return value


def one_of(body: Mapping[str, Any], name: str, allowed: tuple[str, ...], default: str) -> str:
    value = text(body, name, default)
    if value not in allowed:
        raise BadRequest(f"{name} is one of {', '.join(allowed)}")
    return value
