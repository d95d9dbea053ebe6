"""The admin API's routes: health, channels, messages, traces, resending, asking.

Each route reads from the Supervisor or its store, or tells the Supervisor to do something; nothing is decided here.
JSON in, JSON out; errors have one shape (``answers.py``). What a person does is logged with ids.
"""

from __future__ import annotations

import os
from datetime import datetime
from difflib import get_close_matches
from importlib.metadata import version
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, FastAPI, Query, Request
from fastapi.responses import JSONResponse

from engine.admin import keeping, metrics
from engine.admin.answers import AdminError, Guard, install
from engine.admin.asking import Engine, Id, Person, attempted, json_object
from engine.admin.search import LARGEST_ID, Wanted, found
from engine.admin.trace import hops
from engine.admin.views import (
    channel_view,
    delivery_view,
    disk_view,
    keys_view,
    message_view,
    moment,
    process_view,
    pruned_view,
    reply_view,
    text_of,
)
from engine.delivery import DeliveryState, MessageState
from engine.envelope import CORRELATION_ID
from engine.errors import StoreError
from engine.runtime.metrics import Waits
from engine.runtime.orphans import OPEN
from engine.runtime.supervisor import Supervisor
from engine.store.audit import Act
from engine.store.base import Store

log = structlog.get_logger("engine.admin")
router = APIRouter()


def make_app(supervisor: Supervisor, admin_key: str | None, metrics_key: str = "") -> FastAPI:
    """The API over ``supervisor``. Key None asks for none (the local socket), an empty one opens ``/health`` alone;
    ``metrics_key`` opens ``/metrics`` and nothing else.
    """
    app = FastAPI(title="hl7engine", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    app.state.supervisor, app.state.waits = supervisor, Waits(supervisor.store)
    app.include_router(router, default_response_class=JSONResponse)
    app.include_router(keeping.router, default_response_class=JSONResponse)
    app.include_router(metrics.router)
    install(app)
    app.add_middleware(Guard, key=admin_key, metrics_key=metrics_key, auditor=supervisor.auditor)
    return app


@router.get("/health")
async def health(engine: Engine) -> JSONResponse:
    """200 while the disk takes what is written and every valid channel that nobody stopped runs; 503 otherwise."""
    states = dict(sorted(engine.states.items()))
    well = engine.ready and not engine.store.trouble and not {"failed", "refused"} & set(states.values())
    status = "ok" if well else "degraded" if engine.ready else "not_ready"
    store = engine.store.trouble or "ok"
    found = {"status": status, "store": store, "disk": disk_view(engine.disk)["state"], "channels": states}
    return JSONResponse(found, status_code=200 if well else 503)


@router.get("/api/status")
async def get_status(engine: Engine) -> dict[str, Any]:
    """Which engine this is."""
    return {
        "version": version("hl7engine"),
        "pid": os.getpid(),
        "started_at": moment(engine.started_at),
        "ready": engine.ready,
        "site": str(engine.plan.folder),
        "data": str(engine.plan.data),
        "problems": [str(problem) for problem in engine.plan.problems],
        "rest": engine.http.summary(),
        "store": engine.store.trouble or "ok",
        "writing_process": process_view(engine.store.writing_process),
        "disk": disk_view(engine.disk),
        "pruning": {
            "last": None if engine.pruning.last is None else pruned_view(engine.pruning.last),
            "next_at": moment(engine.housekeeping.next_pruning),
        },
    }


@router.get("/api/channels")
async def get_channels(engine: Engine) -> dict[str, Any]:
    """All channels, broken ones too."""
    return {
        "store": engine.store.trouble or "ok",
        "disk": disk_view(engine.disk),
        "channels": [channel_view(status) for status in engine.channels()],
    }


@router.get("/api/channels/{name}")
async def get_channel(engine: Engine, name: str) -> dict[str, Any]:
    """One channel."""
    return {"channel": one_channel(engine, name)}


@router.post("/api/channels/{name}/start")
async def start_channel(engine: Engine, who: Person, name: str) -> dict[str, Any]:
    """Start a channel that was stopped or failed."""
    valid_channel(engine, name)
    await attempted(engine.start_channel(name, who))
    log.info("admin.channel_started", channel=name)
    return {"channel": one_channel(engine, name)}


@router.post("/api/channels/{name}/stop")
async def stop_channel(engine: Engine, who: Person, name: str) -> dict[str, Any]:
    """Stop a channel; what it accepted stays and goes on when it is started again."""
    valid_channel(engine, name)
    await attempted(engine.stop_channel(name, who))
    log.info("admin.channel_stopped", channel=name)
    return {"channel": one_channel(engine, name)}


@router.post("/api/reload")
async def reload(engine: Engine, who: Person, request: Request) -> dict[str, Any]:
    """Read the site's files again: ``{"channels": […]}``, or all; what became of each channel."""
    asked = (await json_object(request)).get("channels") or []
    if not isinstance(asked, list) or not all(isinstance(name, str) for name in asked):
        raise AdminError("invalid_body")
    changes = await attempted(engine.reload(who, *asked))
    log.info("admin.reloaded", channels=sorted(asked))
    return {
        "channels": [
            {"name": change.channel, "what": change.what, "problems": [str(problem) for problem in change.problems]}
            for change in changes
        ],
        "notes": [str(problem) for problem in engine.plan.problems if problem.level == "note"],
    }


@router.post("/api/channels/{name}/destinations/{destination}/pause")
async def pause_destination(engine: Engine, who: Person, name: str, destination: str) -> dict[str, Any]:
    """Send nothing to this destination until it is resumed; what waits, and what comes, waits."""
    valid_channel(engine, name)
    await attempted(engine.pause_destination(name, destination, who))
    log.info("admin.destination_paused", channel=name, destination=destination)
    return {"channel": one_channel(engine, name)}


@router.post("/api/channels/{name}/destinations/{destination}/resume")
async def resume_destination(engine: Engine, who: Person, name: str, destination: str) -> dict[str, Any]:
    """Go on sending to this destination."""
    valid_channel(engine, name)
    await attempted(engine.resume_destination(name, destination, who))
    log.info("admin.destination_resumed", channel=name, destination=destination)
    return {"channel": one_channel(engine, name)}


@router.get("/api/waiting")
async def get_waiting(engine: Engine) -> dict[str, Any]:
    """What waits in the store: by channel, destination ("": messages that are not routed, or failed) and state."""
    counts = engine.store.open_counts()
    names = ("channel", "destination", "state", "number")
    return {"waiting": [dict(zip(names, (*key, number), strict=True)) for key, number in sorted(counts.items())]}


@router.post("/api/channels/{name}/discard")
async def discard_waiting(engine: Engine, who: Person, name: str, request: Request) -> dict[str, Any]:
    """Give up what waits: ``{"destination": …, "states": […]}``; no destination for a channel without a file."""
    one_channel(engine, name)
    asked = await json_object(request)
    destination, states = asked.get("destination"), asked.get("states") or []
    if not isinstance(destination, str | None) or not set(states) <= {*map(str, OPEN), "received", "failed"}:
        raise AdminError("invalid_body")
    number = await attempted(engine.discard_waiting(name, destination, states, who))
    log.info("admin.waiting_discarded", channel=name, destination=destination or "", number=number)
    return {"channel": name, "destination": destination, "discarded": number}


@router.post("/api/channels/{name}/rename")
async def rename_destination(engine: Engine, who: Person, name: str, request: Request) -> dict[str, Any]:
    """Give what waits for a destination to its new name: ``{"from": …, "to": …}``."""
    valid_channel(engine, name)
    asked = await json_object(request)
    old, new = asked.get("from"), asked.get("to")
    if not isinstance(old, str) or not isinstance(new, str):
        raise AdminError("invalid_body")
    number = await attempted(engine.rename_destination(name, old, new, who))
    log.info("admin.destination_renamed", channel=name, destination=old, to=new, number=number)
    return {"channel": one_channel(engine, name), "moved": number}


@router.get("/api/messages")
async def get_messages(
    engine: Engine,
    channel: str | None = None,
    state: MessageState | None = None,
    delivery_state: DeliveryState | None = None,
    correlation_id: str | None = None,
    control_id: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    before: Annotated[int | None, Query(ge=1, le=LARGEST_ID)] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> dict[str, Any]:
    """Search, newest first. ``next`` is the ``before`` of the following page."""
    return found(
        engine.store,
        Wanted(
            channel=channel,
            state=state,
            delivery_state=delivery_state,
            correlation_id=correlation_id,
            control_id=control_id,
            since=since,
            until=until,
            before=before,
            limit=limit,
        ),
    )


@router.post("/api/messages/find")
async def find_messages(engine: Engine, who: Person, wanted: Wanted) -> dict[str, Any]:
    """The same search, asked for in the body: a patient id never stands in an address."""
    if wanted.patient is not None:
        await attempted(engine.auditor.note(Act.PATIENT_SEARCHED, who))
    return found(engine.store, wanted)


@router.get("/api/messages/{message_id}")
async def get_message(engine: Engine, who: Person, message_id: Id, bodies: bool = False) -> dict[str, Any]:
    """One message with its deliveries and hops; its bytes as text only when asked for."""
    store: Store = engine.store
    row = store.message(message_id)
    if row is None:
        raise missing(f"There is no message {message_id}.")
    deliveries = store.deliveries_of(message_id)
    found: dict[str, Any] = {
        "message": message_view(row, deliveries),
        "deliveries": [delivery_view(delivery) for delivery in deliveries],
        "hops": hops([row], deliveries, waits(engine)),
    }
    if bodies:
        viewed = engine.auditor.note(Act.BODIES_VIEWED, who, channel=row.channel, message_id=message_id)
        await attempted(viewed)
        log.info("admin.bodies_viewed", message_id=message_id, correlation_id=row.correlation_id, channel=row.channel)
        found["message"]["body"] = text_of(store.message_body(message_id))
        for view in found["deliveries"]:
            view["body"] = text_of(store.delivery_body(view["id"]))
            view["answer"] = text_of(store.delivery_answer(view["id"]))
    return found


@router.get("/api/store/keys")
async def get_keys(engine: Engine) -> dict[str, Any]:
    """The keys that stored values are sealed with, and whether they are being sealed again."""
    return keys_view(engine.store)


@router.post("/api/store/rotate-key")
async def rotate_key(engine: Engine, who: Person) -> dict[str, Any]:
    """Seal with a further key from here on; what is stored is sealed again in the background."""
    try:
        number = await engine.rotate_key(who)
    except StoreError as error:
        raise AdminError("conflict", message=str(error)) from None
    log.info("admin.key_rotated", key=number)
    return keys_view(engine.store)


@router.get("/api/trace/{correlation_id}")
async def get_trace(engine: Engine, correlation_id: str) -> dict[str, Any]:
    """Everything that one request or message caused, in order of time."""
    messages, deliveries = engine.store.trace(correlation_id)
    if not messages:
        raise missing("Nothing has this correlation id.")
    return {"correlation_id": correlation_id, "hops": hops(messages, deliveries, waits(engine))}


@router.post("/api/messages/{message_id}/resend")
async def resend_message(engine: Engine, who: Person, message_id: Id) -> dict[str, Any]:
    """Route a failed message again, or send what is parked, held, unknown or discarded again."""
    if engine.store.message(message_id) is None:
        raise missing(f"There is no message {message_id}.")
    done = await attempted(engine.resend_message(message_id, who))
    log.info("admin.message_resent", message_id=message_id)
    return {"message_id": message_id, "done": done}


@router.post("/api/deliveries/{delivery_id}/resend")
async def resend_delivery(engine: Engine, who: Person, delivery_id: Id) -> dict[str, Any]:
    """Send one delivery again: same bytes, same MSH-10."""
    one_delivery(engine, delivery_id)
    await attempted(engine.resend_delivery(delivery_id, who))
    log.info("admin.delivery_resent", delivery_id=delivery_id)
    return {"delivery": one_delivery(engine, delivery_id)}


@router.post("/api/deliveries/{delivery_id}/discard")
async def discard_delivery(engine: Engine, who: Person, delivery_id: Id) -> dict[str, Any]:
    """Give one delivery up; later ones of its key pass."""
    one_delivery(engine, delivery_id)
    await attempted(engine.discard_delivery(delivery_id, who))
    log.info("admin.delivery_discarded", delivery_id=delivery_id)
    return {"delivery": one_delivery(engine, delivery_id)}


@router.post("/api/ask/{channel}")
async def ask(engine: Engine, who: Person, channel: str, request: Request) -> dict[str, Any]:
    """Send a JSON object through a request/response channel; its reply comes with the HTTP status inside."""
    valid_channel(engine, channel)
    asked = await json_object(request)
    given = request.headers.get("x-correlation-id", "")
    correlation_id = given if CORRELATION_ID.fullmatch(given) else None
    return reply_view(await attempted(engine.ask(channel, asked, correlation_id, who)))


def valid_channel(engine: Supervisor, name: str) -> None:
    """Make sure that this channel can be told to do something."""
    state = one_channel(engine, name)["state"]
    if state in ("broken", "removed"):
        fault = "is not valid" if state == "broken" else "is gone"
        raise AdminError("conflict", message=f"The file of channel {name} {fault}; see hl7engine check.")


def one_channel(engine: Supervisor, name: str) -> dict[str, Any]:
    """The channel of that name."""
    for status in engine.channels():
        if status.name == name:
            return channel_view(status)
    near = get_close_matches(name, [status.name for status in engine.channels()], 1)
    raise missing("There is no channel of this name." + (f" Did you mean {near[0]}?" if near else ""))


def missing(message: str) -> AdminError:
    """404 with what is not there."""
    return AdminError("not_found", message=message)


def one_delivery(engine: Supervisor, delivery_id: int) -> dict[str, Any]:
    """The delivery as it stands now."""
    row = engine.store.delivery(delivery_id)
    if row is None:
        raise missing(f"There is no delivery {delivery_id}.")
    return delivery_view(row)


def waits(engine: Supervisor) -> dict[str, str]:
    """What each channel's ack waits for."""
    return {status.name: status.ack for status in engine.channels()}
