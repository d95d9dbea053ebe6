"""athenahealth's REST API: an appointment of the RIS as the call that athena wants.

athena knows a booking only as a slot of its own that somebody takes. So a new or moved appointment makes an open slot
first (channel athena-rest-slot), and the call that takes it is the message. athena's ids are remembered under the
RIS's: a slot as soon as athena has made it, so that a second attempt takes the same one; an appointment with the call
that settled it.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from engine.cache import CacheForget, CachePut
from engine.errors import Refused, StepFailed
from engine.transforms.base import Context

APPOINTMENTS, SLOTS = "athena_appointments", "athena_slots"
#: Seconds after which an appointment is not heard of any more.
KEPT = 400 * 86400.0


async def appointment(body: dict[str, Any], context: Context, *, correlation_id: str) -> dict[str, Any]:
    """The call: members of the address, and the fields of the form."""
    name, start, patient = body["appointment"], body["start"], body["patientid"]
    if not (name and start and patient):
        raise StepFailed("python", "required_missing", "SCH-2.1, SCH-11.4 or PID-3.1")
    known = _known(context, name)
    if body["event"] == "cancel":
        if known is None:
            raise StepFailed("python", "unknown_appointment", APPOINTMENTS)
        context.effects += [CacheForget(APPOINTMENTS, name), CacheForget(SLOTS, f"{name} {known['start']}")]
        fields = {"patientid": patient, "cancellationreason": body["reason"]}
        return {"appointmentid": known["id"], "action": "cancel", **fields}
    number = await _slot(body, context, correlation_id)
    kept = json.dumps({"id": number, "start": start}).encode()
    context.effects.append(CachePut(APPOINTMENTS, name, kept, context.now.timestamp() + KEPT))
    if body["event"] == "book" or known is None:
        return {"appointmentid": number, "patientid": patient, "appointmenttypeid": body["appointmenttypeid"]}
    if known["start"] != start:
        context.effects.append(CacheForget(SLOTS, f"{name} {known['start']}"))
    fields = {"newappointmentid": number, "patientid": patient, "reschedulereason": body["reason"]}
    return {"appointmentid": known["id"], "action": "reschedule", **fields}


async def _slot(body: dict[str, Any], context: Context, correlation_id: str) -> str:
    """athena's id of the slot for this appointment at this time. Raises Refused with the code of the channel asked."""
    key = f"{body['appointment']} {body['start']}"
    made = context.cache_get(SLOTS, key)
    if made is not None:
        return made.decode()
    start = datetime.fromisoformat(body["start"])
    wanted = {
        "key": key,
        "departmentid": body["departmentid"],
        "providerid": body["providerid"],
        "appointmenttypeid": body["appointmenttypeid"],
        "appointmentdate": start.strftime("%m/%d/%Y"),
        "appointmenttime": start.strftime("%H:%M"),
        "duration": body["duration"],
    }
    reply = await context.ask("athena-rest-slot", wanted, correlation_id)
    if reply.code is not None:
        raise Refused(reply.code)
    return str(reply.body["appointmentid"])


def slot_request(body: dict[str, Any], context: Context) -> dict[str, Any]:
    """The fields of the call; the key is ours."""
    return {name: value for name, value in body.items() if name != "key"}


def slot(body: Any, context: Context) -> dict[str, Any]:
    """athena's answer ``{"appointmentids": {"700001": "09:00"}}``: the id, which is remembered with it."""
    numbers = list(body.get("appointmentids") or ()) if isinstance(body, dict) else []
    if len(numbers) != 1 or not str(numbers[0]).isdigit() or context.request is None:
        raise StepFailed("python", "wrong_answer", "appointmentids")
    key = context.request.request["key"]
    context.effects.append(CachePut(SLOTS, key, str(numbers[0]).encode(), context.now.timestamp() + KEPT))
    return {"appointmentid": str(numbers[0])}


def _known(context: Context, name: str) -> dict[str, str] | None:
    record = context.cache_get(APPOINTMENTS, name)
    return None if record is None else json.loads(record)
