"""athena by its REST API: what `emr/athena_rest` says of an appointment, and the calls that follow from it."""

from __future__ import annotations

import asyncio
import importlib.util
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from engine.cache import CacheForget, CachePut
from engine.envelope import Envelope, Reply
from engine.errors import Refused, StepFailed
from engine.transforms.base import Verdict

Make = Callable[..., Envelope]
Sample = Callable[[str], bytes]

BOOK = {
    "event": "book",
    "appointment": "APT556677",
    "patientid": "MRN123456",
    "departmentid": "21",
    "providerid": "71",
    "appointmenttypeid": "82",
    "start": "2025-01-16T09:00:00-06:00",
    "duration": "30",
    "reason": "New appointment",
}
LATER = {**BOOK, "event": "move", "start": "2025-01-16T14:30:00-06:00", "reason": "Rescheduled appointment"}
CANCEL = {**BOOK, "event": "cancel", "reason": "Cancelled by phone"}


@pytest.fixture
def athena(kit: SimpleNamespace) -> Any:
    spec = importlib.util.spec_from_file_location("site_athena", kit.SITE / "transforms" / "athena.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def call(athena: Any, kit: SimpleNamespace) -> Callable[..., Any]:
    """The call for an appointment; what it wants kept is committed, as after a positive answer."""
    context = kit.Context()
    context.reply = Reply(200, {"appointmentid": "700001", "correlationId": "c"})

    def go(body: dict[str, Any], *, taken: bool = True) -> Any:
        made = asyncio.run(athena.appointment(body, context, correlation_id="corr-1"))
        for effect in context.effects if taken else ():
            if isinstance(effect, CachePut):
                context.cache[(effect.cache, effect.key)] = effect.value
            elif isinstance(effect, CacheForget):
                context.cache.pop((effect.cache, effect.key), None)
        context.effects.clear()
        return made

    go.context = context  # type: ignore[attr-defined]
    return go


@pytest.mark.parametrize(
    ("name", "event", "reason"),
    [("N1_SIU_S12_RIS_v23", "book", "New appointment"), ("N1_SIU_S12_RIS_v251", "book", "New appointment"),
     ("N2_SIU_S15_v23", "cancel", None)],
)  # fmt: skip
def test_the_profile_says_what_the_calls_need(
    name: str, event: str, reason: str | None, kit: SimpleNamespace, envelope: Make, sample: Sample
) -> None:
    loading, context, made = kit.Loading(), kit.Context(), envelope(sample(name))
    loading.chain([{"include": "ris/read_siu"}], ()).run(made, context)
    assert loading.chain([{"include": "emr/athena_rest"}], ()).run(made, context) is Verdict.CONTINUE
    assert made.body == {**BOOK, "event": event, "reason": reason or made.body["reason"]}
    assert made.body["reason"]


def test_events_that_athena_has_no_call_for_are_left_out(kit: SimpleNamespace, envelope: Make, sample: Sample) -> None:
    made = envelope(sample("N1_SIU_S12_RIS_v23").replace(b"SIU^S12", b"SIU^S14"))
    assert kit.Loading().chain([{"include": "emr/athena_rest"}], ()).run(made, kit.Context()) is Verdict.DROP


def test_a_new_appointment_makes_a_slot_and_takes_it(call: Any) -> None:
    assert call(BOOK) == {"appointmentid": "700001", "patientid": "MRN123456", "appointmenttypeid": "82"}
    ((channel, wanted, correlation_id),) = call.context.asked
    assert (channel, correlation_id) == ("athena-rest-slot", "corr-1")
    assert (wanted["appointmentdate"], wanted["appointmenttime"], wanted["duration"]) == ("01/16/2025", "09:00", "30")
    assert json.loads(call.context.cache["athena_appointments", "APT556677"])["id"] == "700001"


def test_a_second_attempt_takes_the_same_slot(call: Any) -> None:
    first = call(BOOK, taken=False)
    call.context.cache["athena_slots", f"APT556677 {BOOK['start']}"] = b"700001"  # what the slot's own channel kept
    assert call(BOOK) == first
    assert len(call.context.asked) == 1


def test_a_move_takes_a_new_slot_and_a_cancellation_forgets_all(call: Any) -> None:
    call(BOOK)
    call.context.reply = Reply(200, {"appointmentid": "700002"})
    moved = call(LATER)
    assert (moved["appointmentid"], moved["action"], moved["newappointmentid"]) == ("700001", "reschedule", "700002")
    assert call(CANCEL) == {
        "appointmentid": "700002",
        "action": "cancel",
        "patientid": "MRN123456",
        "cancellationreason": "Cancelled by phone",
    }
    assert call.context.cache == {}
    with pytest.raises(StepFailed, match="unknown_appointment"):
        call(CANCEL)


def test_a_move_of_what_athena_never_heard_of_is_a_booking(call: Any) -> None:
    assert "action" not in call(LATER)


def test_what_stops_the_slot_stops_the_booking_with_the_same_code(call: Any) -> None:
    call.context.reply = Reply(503, {}, code="destination_unavailable")
    with pytest.raises(Refused) as refused:
        call(BOOK)
    assert refused.value.code == "destination_unavailable"
    with pytest.raises(StepFailed, match="required_missing"):
        call({**BOOK, "patientid": None})


@pytest.mark.parametrize(
    "answer", [{}, [], {"appointmentids": {}}, {"appointmentids": {"1": "a", "2": "b"}}, {"appointmentids": {"x": "a"}}]
)
def test_an_answer_without_one_slot_is_none(answer: Any, athena: Any, kit: SimpleNamespace, envelope: Make) -> None:
    context = kit.Context()
    context.request = envelope(None, request={"key": "k"})
    with pytest.raises(StepFailed, match="wrong_answer"):
        athena.slot(answer, context)
    assert athena.slot({"appointmentids": {"7": "09:00"}}, context) == {"appointmentid": "7"}
    assert athena.slot_request({"key": "k", "a": 1}, context) == {"a": 1}
