"""Steps that reach beyond the message: the cache, other channels, exchanges, the site's Python."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import hl7
import pytest
import yaml

from engine.cache import CacheForget, CachePut
from engine.envelope import Envelope, Reply
from engine.errors import Refused, SpecError, StepFailed
from engine.hl7.message import Message
from engine.transforms.base import ForgetKeys, ResolveExchange, Table, Verdict
from engine.transforms.values.text import HL7Text

Make = Callable[..., Envelope]

ORDER = "MSH|^~\\&|RIS|DTI|C|D|20250115||ORM^O01|1|P|2.3\rPID|1||M1||Doe^J\\T\\J\rORC|NW|O1^NS\r"
REMEMBER = {
    "cache": "orders",
    "key": "ORC-2.1",
    "expire": "2h",
    "value": {"mrn": {"from": "PID-3.1"}, "name": {"from": "PID-5", "format": "raw"}, "none": {"from": "PID-9"}},
    "forget": {"ORC-1": ["CA", "OC"]},
}


@pytest.fixture
def step(kit: SimpleNamespace) -> Callable[..., Any]:
    """One compiled step."""

    def go(spec: dict[str, Any], **loading: Any) -> Any:
        return kit.Loading(**loading).chain([spec], ()).steps[0]

    return go


# -- remember, recall ----------------------------------------------------------------------------------------------


def test_what_is_remembered_commits_with_the_message(step: Any, kit: SimpleNamespace, envelope: Make) -> None:
    context = kit.Context()
    step({"remember": REMEMBER}).run(envelope(ORDER), context)
    (effect,) = context.effects
    assert isinstance(effect, CachePut)
    assert (effect.cache, effect.key) == ("orders", "O1")
    assert effect.expires_at == kit.NOW.timestamp() + 7200
    assert json.loads(effect.value) == {"mrn": "M1", "name": "Doe^J\\T\\J", "none": None}
    assert "Doe" not in repr(effect)


def test_a_cancelled_one_is_forgotten(step: Any, kit: SimpleNamespace, envelope: Make) -> None:
    context = kit.Context()
    step({"remember": REMEMBER}).run(envelope(ORDER.replace("NW", "CA")), context)
    assert context.effects == [CacheForget("orders", "O1")]


def test_a_record_needs_a_key(step: Any, kit: SimpleNamespace, envelope: Make) -> None:
    with pytest.raises(StepFailed, match="key_missing at orders"):
        step({"remember": REMEMBER}).run(envelope(ORDER.replace("O1^NS", "")), kit.Context())


def test_bytes_of_no_charset_do_not_spoil_a_record(step: Any, kit: SimpleNamespace, envelope: Make) -> None:
    context = kit.Context()
    step({"remember": REMEMBER}).run(envelope(ORDER.encode().replace(b"Doe", b"D\xffe")), context)
    assert json.loads(context.effects[0].value)["mrn"] == "M1"


def test_a_record_may_stand_in_a_file(step: Any, kit: SimpleNamespace, envelope: Make) -> None:
    files = {"summary": {"id": {"from": "ORC-2.1"}}}
    context = kit.Context()
    step({"remember": REMEMBER | {"value": {"using": "summary"}}}, files=files).run(envelope(ORDER), context)
    assert json.loads(context.effects[0].value) == {"id": "O1"}


@pytest.mark.parametrize(
    ("change", "at", "file"),
    [
        ({"expire": "soon"}, ("expire",), ""),
        ({"expire": "0s"}, ("expire",), ""),
        ({"value": {"using": "nowhere"}}, ("value", "using"), ""),
        ({"value": {"using": "faulty"}}, ("id", "formt"), "transforms/faulty.yaml"),
        ({"value": {"id": {"from": "X", "formt": 1}}}, ("value", "id", "formt"), ""),
        ({"forget": {}}, ("forget",), ""),
    ],
)
def test_a_record_that_cannot_be_is_refused_when_it_loads(
    change: dict[str, Any], at: tuple[str, ...], file: str, step: Any
) -> None:
    with pytest.raises(SpecError) as refused:
        step({"remember": REMEMBER | change}, files={"faulty": {"id": {"from": "X", "formt": 1}}})
    assert (refused.value.at, refused.value.file) == (at, file)


def test_recall_reads_what_was_committed(step: Any, kit: SimpleNamespace, envelope: Make) -> None:
    context, made = kit.Context(), envelope(None, request={"orderId": "O1"})
    context.cache[("orders", "O1")] = b'{"mrn": "M1"}'
    recall = {"cache": "orders", "key": "$body.orderId", "into": "order", "missing": {"error": "unknown_order"}}
    step({"recall": recall}).run(made, context)
    assert made.variables["order"] == {"mrn": "M1"}
    for request in ({"orderId": "O2"}, {}):
        with pytest.raises(Refused, match="unknown_order"):
            step({"recall": recall}).run(envelope(None, request=request), context)
    made = envelope(None, request={"orderId": "O2"})
    step({"recall": recall | {"missing": None}}).run(made, context)
    assert made.variables["order"] is None


def test_a_record_that_cannot_be_read_is_not_quoted(step: Any, kit: SimpleNamespace, envelope: Make) -> None:
    context = kit.Context()
    context.cache[("orders", "O1")] = b'{"name": "Doe'
    with pytest.raises(StepFailed, match="record_unreadable at orders") as failed:
        step({"recall": {"cache": "orders", "key": "$body.id", "into": "x"}}).run(
            envelope(None, request={"id": "O1"}), context
        )
    assert failed.value.__context__ is None


# -- ask -----------------------------------------------------------------------------------------------------------

ASK = {
    "channel": "radscheduler-available-slots",
    "with": {
        "location": "$body.locationId",
        "date": {"from": "$body.start", "format": "date", "zone": "America/Chicago"},
        "nested": {"n": 1},
    },
    "into": "alternatives",
    "missing": None,
}
BODY = {"locationId": "DTI", "start": "2025-01-17T03:00:00Z"}


async def test_ask_takes_the_one_member_of_the_reply(step: Any, kit: SimpleNamespace, envelope: Make) -> None:
    context, made = kit.Context(), envelope(None, request=BODY)
    context.reply = Reply(200, {"slots": [{"id": "S1"}], "correlationId": "corr-1"})
    asking = step({"ask": ASK})
    assert asking.asynchronous
    assert await asking.run(made, context) is Verdict.CONTINUE
    request = {"location": "DTI", "date": "2025-01-16", "nested": {"n": 1}}
    assert context.asked == [("radscheduler-available-slots", request, "corr-1")]
    assert made.variables["alternatives"] == [{"id": "S1"}]


async def test_ask_takes_a_whole_object_of_several_members(step: Any, kit: SimpleNamespace, envelope: Make) -> None:
    context, made = kit.Context(), envelope(None, request=BODY)
    context.reply = Reply(201, {"status": "booked", "number": 5})
    await step({"ask": ASK}).run(made, context)
    assert made.variables["alternatives"] == {"status": "booked", "number": 5}


async def test_asking_in_vain(step: Any, kit: SimpleNamespace, envelope: Make) -> None:
    context = kit.Context()
    context.reply = Reply(503, {"error": {"message": "Doe"}}, code="ris_unavailable")
    made = envelope(None, request=BODY)
    await step({"ask": ASK}).run(made, context)
    assert "alternatives" not in made.variables
    with pytest.raises(StepFailed, match="asked_in_vain at radscheduler-available-slots"):
        await step({"ask": {name: spec for name, spec in ASK.items() if name != "missing"}}).run(made, context)
    with pytest.raises(Refused, match="ris_unavailable"):
        await step({"ask": ASK | {"missing": {"error": "ris_unavailable"}}}).run(made, context)


def test_a_channel_that_does_not_exist_is_refused_with_the_nearest(step: Any) -> None:
    with pytest.raises(SpecError) as refused:
        step({"ask": ASK | {"channel": "radscheduler-available-slot"}})
    assert (refused.value.at, refused.value.nearest) == (("channel",), "radscheduler-available-slots")
    with pytest.raises(SpecError):
        step({"resolve": {"channel": "nowhere", "match": {"$body.x": "PID-3"}}})


# -- resolve -------------------------------------------------------------------------------------------------------


def _router(kit: SimpleNamespace, envelope: Make, raw: bytes) -> list[Any]:
    context = kit.Context()
    channel = yaml.safe_load((kit.SITE / "channels" / "ris-siu-router.yaml").read_text("utf-8"))
    kit.Loading().chain(channel["transform"], ()).run(envelope(raw), context)
    return list(context.effects)


@pytest.mark.parametrize("name", ["N1_SIU_S12_RIS_v23", "N1_SIU_S12_RIS_v251"])
def test_an_announced_appointment_resolves_the_booking_of_its_order_and_time(
    name: str, kit: SimpleNamespace, envelope: Make, sample: Callable[[str], bytes]
) -> None:
    (effect,) = _router(kit, envelope, sample(name))
    assert isinstance(effect, ResolveExchange)
    assert effect.channel == "radscheduler-book-appointment"
    assert effect.match["body.orderId"] == ("ORDER123",)
    assert {"2025-01-16T09:00:00-06:00", "2025-01-16T15:00:00Z"} <= set(effect.match["body.start"])
    assert Message.parse(effect.message).value("SCH-2.1") == "APT556677"


def test_a_cancelled_appointment_forgets_the_keys_of_its_order(
    kit: SimpleNamespace, envelope: Make, sample: Callable[[str], bytes]
) -> None:
    effects = _router(kit, envelope, sample("N2_SIU_S15_v23"))
    assert effects == [ForgetKeys("radscheduler-book-appointment", {"body.orderId": ("ORDER123",)})]


def test_a_message_without_what_is_compared_says_nothing(step: Any, kit: SimpleNamespace, envelope: Make) -> None:
    context = kit.Context()
    spec = {"channel": "radscheduler-book-appointment", "match": {"$body.a": "PID-3.1", "$body.b": "PID-9"}}
    assert step({"resolve": spec}).run(envelope(ORDER), context) is Verdict.CONTINUE
    assert context.effects == []


@pytest.mark.parametrize("match", [{}, {"orderId": "PID-3"}, {"$body.": "PID-3"}, {"$query.x": "PID-3"}])
def test_only_members_of_a_recorded_request_are_compared(match: dict[str, str], step: Any) -> None:
    with pytest.raises(SpecError) as refused:
        step({"resolve": {"channel": "radscheduler-book-appointment", "match": match}})
    assert refused.value.at[0] == "match"


# -- python --------------------------------------------------------------------------------------------------------


@pytest.fixture
def call(kit: SimpleNamespace, envelope: Make, step: Any) -> Callable[..., Any]:
    """Run a function as a python step; gives (envelope, verdict, context)."""

    async def go(function: Callable[..., Any], body: Any = ORDER, **config: Any) -> Any:
        made, context = envelope(body, variables={"n": 5, "t": HL7Text("a^b")}), kit.Context()
        spec = {"call": "site:work", **config} if config else "site:work"
        verdict = step({"python": spec}, functions={"site:work": function}).run(made, context)
        return made, verdict if isinstance(verdict, Verdict) else await verdict, context

    return go


@pytest.mark.parametrize("result", [{"a": 1}, ["a"], "text", b"bytes", 5, True])
async def test_a_function_returns_the_new_body(result: Any, call: Any) -> None:
    made, verdict, _ = await call(lambda message, context: result)
    assert (made.body, verdict) == (result, Verdict.CONTINUE)


async def test_a_function_changes_the_message_or_drops_it(call: Any) -> None:
    def change(message: Message, context: Any) -> Message:
        message.set("PID-8", context.now.strftime("%Y"))
        return message

    made, _, _ = await call(change)
    assert made.body.read("PID-8") == "2025"
    _, verdict, _ = await call(lambda message, context: None)
    assert verdict is Verdict.DROP


async def test_a_function_may_work_with_objects_of_python_hl7(call: Any) -> None:
    def change(message: Message, context: Any) -> hl7.Message:
        other = message.to_python_hl7()
        other.assign_field("F", "PID", 1, 8)
        return other

    made, _, _ = await call(change)
    assert isinstance(made.body, Message)
    assert made.body.read("PID-8") == "F"


async def test_named_values_and_variables(call: Any) -> None:
    def work(message: Message, context: Any, *, n: int, text: str, options: dict[str, str]) -> dict[str, Any]:
        return {"sum": n + 1, "text": text, "options": options, "more": "unused"}

    with_ = {"n": "$n", "text": "$t", "options": {"ACTIVE": "Booked"}}
    made, _, _ = await call(work, **{"with": with_, "into": ["sum", "text", "options"]})
    assert {name: made.variables[name] for name in ("sum", "text", "options")} == {
        "sum": 6,
        "text": "a^b",
        "options": {"ACTIVE": "Booked"},
    }
    assert "more" not in made.variables
    assert isinstance(made.body, Message)
    made, _, _ = await call(lambda message, context: [1, 2], into="found")
    assert made.variables["found"] == [1, 2]


async def test_a_function_gets_the_tables_it_asks_for(call: Any) -> None:
    def work(message: Message, context: Any, *, places: Table, n: int) -> dict[str, Any]:
        return {"zones": [row["timezone"] for row in places.rows("DTI")], "none": list(places.rows("X")), "n": n}

    made, _, _ = await call(work, tables={"places": "locations"}, **{"with": {"n": "$n"}})
    assert made.body == {"zones": ["America/Chicago"], "none": [], "n": 5}
    with pytest.raises(SpecError, match="a value and a table"):
        await call(work, tables={"n": "locations"}, **{"with": {"n": "$n"}})


@pytest.mark.parametrize(
    ("result", "config"), [((1, 2), {}), ({1}, {}), (object(), {}), ({"a": 1}, {"into": ["b"]}), (5, {"into": ["b"]})]
)
async def test_a_wrong_return_type_is_told_by_its_type(result: Any, config: dict[str, Any], call: Any) -> None:
    with pytest.raises(StepFailed) as failed:
        await call(lambda message, context: result, **config)
    assert (failed.value.cause, failed.value.where) == ("wrong_return_type", f"site:work {type(result).__name__}")


async def _coroutine_that_fails(message: Message, context: Any) -> None:
    raise ValueError(message.value("PID-5"))


def _function_that_fails(message: Message, context: Any) -> None:
    raise ValueError(message.value("PID-5"))


def _function_that_gives_up(message: Message, context: Any) -> None:
    raise SystemExit(message.value("PID-5"))


async def test_a_function_that_would_end_the_process_fails_its_message_alone(call: Any) -> None:
    with pytest.raises(StepFailed) as failed:
        await call(_function_that_gives_up)
    assert str(failed.value) == "step python failed: python_failed at site:work SystemExit"


@pytest.mark.parametrize(
    ("function", "config"),
    [(_function_that_fails, {}), (_coroutine_that_fails, {}), (_function_that_fails, {"thread": True})],
)
async def test_an_exception_of_the_site_is_told_by_its_type_alone(
    function: Any, config: dict[str, Any], call: Any
) -> None:
    with pytest.raises(StepFailed) as failed:
        await call(function, **config)
    assert str(failed.value) == "step python failed: python_failed at site:work ValueError"
    assert failed.value.__context__ is None
    assert failed.value.__cause__ is None


async def test_a_function_may_refuse_or_fail_by_itself(call: Any) -> None:
    def refuse(message: Message, context: Any) -> None:
        raise Refused("unknown_order")

    async def fail(message: Message, context: Any) -> None:
        raise StepFailed("python", "own_cause", "PID-3", outcome="park")

    with pytest.raises(Refused, match="unknown_order"):
        await call(refuse)
    with pytest.raises(StepFailed, match="own_cause at PID-3"):
        await call(fail)


async def test_a_coroutine_is_awaited(call: Any) -> None:
    async def work(message: Message, context: Any) -> dict[str, bool]:
        await asyncio.sleep(0)
        return {"done": True}

    made, _, _ = await call(work)
    assert made.body == {"done": True}


async def test_thread_keeps_the_loop_free(call: Any) -> None:
    made, _, _ = await call(lambda message, context: {"thread": threading.current_thread().name}, thread=True)
    assert made.body["thread"] != threading.current_thread().name


async def test_a_function_that_holds_the_loop_up_is_named(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([10.0, 10.25, 20.0, 20.05])
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks))
    _, _, context = await call(lambda message, context: "x")
    warned = {"step": "python", "function": "site:work", "milliseconds": 250}
    assert context.warnings == [("step.blocked", warned)]
    _, _, context = await call(lambda message, context: "x")
    assert context.warnings == []


def test_purity_is_what_the_author_says(step: Any) -> None:
    functions = {"site:work": lambda message, context: message, "site:wait": _coroutine_that_fails}
    assert not step({"python": "site:work"}, functions=functions).pure
    assert step({"python": {"call": "site:work", "pure": True}}, functions=functions).pure
    assert not step({"python": {"call": "site:wait", "pure": True}}, functions=functions).pure


def test_a_value_that_cannot_be_is_refused_where_it_stands(step: Any) -> None:
    with pytest.raises(SpecError) as refused:
        step(
            {"python": {"call": "site:work", "with": {"a": {"b": {"from": "X", "formt": 1}}}}},
            functions={"site:work": len},
        )
    assert refused.value.at == ("with", "a", "b", "formt")
