"""Request/response: outcomes, idempotency keys, what resolves and what is replayed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any

import pytest

from engine.cache import CachePut
from engine.config.plan import Breaker, ErrorRule, ErrorWhen, IdempotencyPlan, ReplyPlan, Retry
from engine.delivery import DeliveryState
from engine.destinations.base import Outgoing, Response
from engine.envelope import Envelope, Reply
from engine.errors import (
    ERROR_TABLE,
    DeliveryError,
    ErrorRow,
    Evidence,
    Refused,
    Rejected,
    StepFailed,
    Unanswered,
    Unavailable,
)
from engine.runtime.supervisor import Supervisor
from engine.store import SqliteStore
from engine.store.base import OpenKey, Operation, Sending
from engine.store.transaction import Told
from engine.transforms.base import Chain, Context, ForgetKeys, ResolveExchange, Verdict

from .conftest import WHO, Bench, Scripted, siu, steps, to

ROWS = {
    **ERROR_TABLE,
    "slot_taken": ErrorRow("slot_taken", 409, "The slot is no longer available."),
    "ris_error": ErrorRow("ris_error", 502, "The RIS refused the request."),
    "ris_unavailable": ErrorRow("ris_unavailable", 503, "The RIS cannot be reached.", True, 10),
    "ris_timeout": ErrorRow("ris_timeout", 504, "The RIS did not answer in time.", True),
    "ris_bad_response": ErrorRow("ris_bad_response", 502, "The RIS gave an answer that cannot be used.", True),
}
RULES = (
    ErrorRule(ErrorWhen(condition=frozenset({"206"})), "slot_taken"),
    ErrorRule(ErrorWhen(condition=frozenset({"207"})), "ris_error", retryable=True),
    ErrorRule(ErrorWhen(unavailable=True), "ris_unavailable"),
    ErrorRule(ErrorWhen(unanswered=True), "ris_timeout"),
    ErrorRule(ErrorWhen(bad_response=True), "ris_bad_response"),
    ErrorRule(ErrorWhen(otherwise=True), "ris_error"),
)
BODY = {"orderId": "ORDER123", "slotId": "S1", "start": "2026-01-16T09:00:00-06:00"}


class Member:
    """A member of the request, as a compiled value."""

    static = False

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, envelope: Envelope, context: Context) -> str:
        return str((envelope.request or {}).get(self.name, ""))


def confirm(envelope: Envelope, context: Context) -> Verdict | None:
    """The reply's transform: which message confirmed, and what the request's variables were."""
    assert context.request is not None
    envelope.body = {"confirmed_by": envelope.body.control_id, "order": context.request.variables["order"]}
    return None


def request_hl7(envelope: Envelope, context: Context) -> Verdict | None:
    envelope.variables["order"] = envelope.request["orderId"]
    envelope.body = siu(context.make_control_id())
    return None


def serving(
    bench: Bench,
    ris: Scripted,
    *,
    idempotent: bool = True,
    on: dict[str, Chain] | None = None,
    accept: dict[str, Any] | None = None,
    transform: Chain | None = None,
    reply: Chain | None = None,
    retry: Retry | None = None,
    **channel: Any,
) -> AbstractAsyncContextManager[Supervisor]:
    """A booking channel when idempotent, else a query channel."""
    plan = ReplyPlan("ris", 201, reply or steps(confirm), RULES, ROWS, on or {}, accept or {})
    idempotency = IdempotencyPlan(Member("requestId"), 86400.0, Member("start")) if idempotent else None  # type: ignore[arg-type]
    destination = to(
        ris,
        "ris",
        connections=4,
        on_unanswered="unknown" if idempotent else "repeat",
        retry=retry or Retry(attempts=1 if idempotent else 2),
    )
    return bench.running(
        destination, reply=plan, idempotency=idempotency, transform=transform or steps(request_hl7), **channel
    )


def yes() -> Response:
    return Response(siu("ORR1"), Evidence("AA"))


async def post(bench: Bench, request_id: str = "R1", **more: Any) -> Reply:
    reply = await bench.source.send(json.dumps({**BODY, "requestId": request_id, **more}).encode(), api_key="rad")
    assert isinstance(reply, Reply)
    return reply


async def test_a_confirmed_request_is_answered_after_its_outcome_is_committed(bench: Bench) -> None:
    ris = Scripted([yes()])
    async with serving(bench, ris):
        reply = await post(bench)
        assert reply.status == 201
        assert reply.body["confirmed_by"] == "ORR1"
        assert reply.body["order"] == "ORDER123"
        (row,) = bench.deliveries()
        assert (row.state, row.attempts) == ("delivered", 1)
        (message,) = bench.messages()
        assert reply.body["correlationId"] == message.correlation_id


async def test_the_partners_answer_is_kept_as_it_came_whatever_a_reply_makes_of_it(bench: Bench) -> None:
    def change(envelope: Envelope, context: Context) -> Verdict | None:
        envelope.body.write("MSH-10", "CHANGED")
        assert context.response is not None
        envelope.body = {"answered": context.response.body.control_id, "worked_on": envelope.body.control_id}
        return None

    ris = Scripted([yes()])
    async with serving(bench, ris, reply=steps(change)):
        reply = await post(bench)
        assert (reply.body["answered"], reply.body["worked_on"]) == ("ORR1", "CHANGED")


async def test_the_same_key_and_body_is_replayed_without_a_second_send(bench: Bench) -> None:
    ris = Scripted([yes()])
    async with serving(bench, ris):
        first, second = await post(bench), await post(bench)
    assert (second.status, second.body) == (first.status, first.body)
    assert second.headers["Idempotent-Replayed"] == "true"
    assert len(ris.sent) == 1


async def test_the_same_key_with_another_body_is_refused(bench: Bench) -> None:
    ris = Scripted([yes()])
    async with serving(bench, ris):
        await post(bench)
        reply = await post(bench, slotId="S2")
    assert (reply.status, reply.code) == (422, "idempotency_mismatch")
    assert len(ris.sent) == 1


async def test_the_same_key_in_flight_is_refused_and_may_be_tried_again(bench: Bench) -> None:
    ris = Scripted([yes()])
    ris.gate.clear()
    async with serving(bench, ris):
        first = asyncio.ensure_future(post(bench))
        await bench.until(lambda: ris.under_way == 1)
        second = await post(bench)
        assert (second.status, second.code, second.body["error"]["retryable"]) == (409, "in_progress", True)
        ris.gate.set()
        assert (await first).status == 201


async def test_the_intent_is_committed_before_the_first_byte_leaves(bench: Bench) -> None:
    ris = Scripted([yes()])
    ris.gate.clear()
    async with serving(bench, ris):
        posting = asyncio.ensure_future(post(bench))
        await bench.until(lambda: ris.under_way == 1)
        (row,) = bench.deliveries()
        assert (row.state, row.control_id) == ("sending", ris.sent[0].control_id)
        ris.gate.set()
        await posting


async def test_a_lost_answer_is_unknown_and_the_retry_sends_the_same_bytes(bench: Bench) -> None:
    ris = Scripted([Unanswered("timeout"), yes()])
    async with serving(bench, ris):
        lost = await post(bench)
        assert (lost.status, lost.code) == (504, "ris_timeout")
        assert lost.body["error"]["outcome"] == "unknown"
        assert [row.state for row in bench.deliveries()] == ["unknown"]
        found = await post(bench)
        assert (found.status, found.body["order"]) == (201, "ORDER123")
        assert ris.sent[0].body == ris.sent[1].body
        assert ris.sent[0].control_id == ris.sent[1].control_id
        assert [row.state for row in bench.deliveries()] == ["delivered"]
        assert (await post(bench)).headers["Idempotent-Replayed"] == "true"


@pytest.mark.parametrize("failures", [1, 5])
async def test_an_unknown_booking_stays_unknown_while_the_partner_cannot_be_reached(
    bench: Bench, failures: int
) -> None:
    ris = Scripted([Unanswered("timeout"), *[Unavailable("refused")] * failures, yes()])
    async with serving(bench, ris, breaker=Breaker(failures=4, probe=0.05)):
        await post(bench)
        for _ in range(failures):
            away = await post(bench)
            assert (away.status, away.body["error"]["outcome"]) == (503, "unknown")
            assert [row.state for row in bench.deliveries()] == ["unknown"]
        ris.script = [yes()]
        exchange = bench.supervisor._channels["bench"].running.exchange  # type: ignore[union-attr]
        await bench.until(lambda: not exchange.caller.breaker.open)
        assert (await post(bench)).status == 201
        assert len({outgoing.control_id for outgoing in ris.sent}) == 1
        assert len(bench.deliveries()) == 1


async def test_a_crash_between_sending_and_answer_leaves_unknown_and_nothing_is_sent_again(bench: Bench) -> None:
    stuck, ris = Scripted(), Scripted([yes()])
    stuck.gate.clear()
    async with serving(bench, stuck):
        posting = asyncio.ensure_future(post(bench))
        await bench.until(lambda: stuck.under_way == 1)
        # What a kill leaves is what is committed at this moment: keep a copy of the files.
        for file in (bench.folder / "data").iterdir():
            (bench.folder / f"kept-{file.name}").write_bytes(file.read_bytes())
        stuck.gate.set()
        await posting
    for file in (bench.folder / "data").iterdir():
        file.unlink()
    for file in bench.folder.glob("kept-*"):
        file.rename(bench.folder / "data" / file.name.removeprefix("kept-"))
    async with serving(bench, ris):
        assert [row.state for row in bench.deliveries()] == ["unknown"]
        assert not ris.sent
        assert (await post(bench)).status == 201
        assert ris.sent[0].control_id == stuck.sent[0].control_id


@pytest.mark.parametrize("again", [False, True], ids=["at first", "as a retry"])
async def test_a_booking_whose_channel_stops_before_it_leaves_is_as_it_was_before(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    ris = Scripted([Unanswered("timeout"), yes()] if again else [yes()])
    told_late: list[Callable[[], None]] = []
    commit = SqliteStore.commit

    def hold_back(store: SqliteStore, operations: Sequence[Operation], told: Told) -> None:
        held = not told_late and type(operations[-1]) in (Sending, OpenKey)
        commit(store, operations, (lambda error: told_late.append(partial(told, error))) if held else told)

    async with serving(bench, ris):
        if again:
            await post(bench)
        monkeypatch.setattr(SqliteStore, "commit", hold_back)
        posting = asyncio.ensure_future(post(bench))
        await bench.until(lambda: bool(told_late))
        assert [row.state for row in bench.deliveries()] == ["sending"]
        exchange = bench.supervisor._channels["bench"].running.exchange  # type: ignore[union-attr]
        await exchange.close()
        assert (await posting).code == "channel_stopped"
        told_late.pop()()
        (row,) = bench.deliveries()
        assert (row.state, row.attempts) == (("unknown", 1) if again else ("discarded", 0))
        assert len(ris.sent) == (1 if again else 0), "not a byte of this attempt has left"
        monkeypatch.undo()
        assert (await post(bench)).status == 201
        assert len({outgoing.control_id for outgoing in ris.sent}) == 1
        assert [row.state for row in bench.deliveries()] == (["delivered"] if again else ["discarded", "delivered"])


async def test_callers_of_a_slow_partner_wait_in_line_and_do_not_open_the_circuit(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.runtime.call.WAIT", 0.05)
    ris = Scripted([yes() for _ in range(5)])
    ris.gate.clear()
    async with serving(bench, ris, idempotent=False, breaker=Breaker(1, 60.0)):
        first = [asyncio.ensure_future(post(bench, f"R{number}")) for number in range(4)]
        await bench.until(lambda: ris.under_way == 4)
        late = await post(bench, "R5")
        assert (late.status, late.code) == (503, "ris_unavailable")
        ris.gate.set()
        assert [reply.status for reply in await asyncio.gather(*first)] == [201] * 4
        assert (await post(bench, "R6")).status == 201
    assert len(ris.sent) == 5, "who found no free connection was not sent"


async def test_nobody_sends_a_request_again_but_its_caller(bench: Bench) -> None:
    def fail(envelope: Envelope, context: Context) -> Verdict | None:
        raise StepFailed("build", "required_missing", "PID-3")

    async with serving(bench, Scripted([Unanswered("timeout")])) as supervisor:
        await post(bench)
        (unknown,) = bench.messages()
        with pytest.raises(ValueError, match="repeated by its caller"):
            await supervisor.resend_message(unknown.message_id, WHO)
        assert [row.state for row in bench.deliveries()] == ["unknown"]
    async with serving(bench, Scripted(), transform=steps(fail)) as supervisor:
        assert (await post(bench, "R2")).status == 500
        (failed,) = [row for row in bench.messages() if row.state == "failed"]
        with pytest.raises(ValueError, match="repeated by its caller"):
            await supervisor.resend_message(failed.message_id, WHO)
        assert "failed" in {row.state for row in bench.messages()}


async def test_a_definite_refusal_is_replayed_with_its_codes_and_never_its_text(bench: Bench) -> None:
    evidence = Evidence("AE", "206", "OBR-18", "SLOT_TAKEN", siu("NO1"), "Doe^John has it")
    ris = Scripted([Rejected(evidence)])
    async with serving(bench, ris):
        first, second = await post(bench), await post(bench)
    assert (first.status, first.code) == (409, "slot_taken")
    assert first.body["error"]["hl7"] == {"ack": "AE", "condition": "206"}
    assert "Doe" not in json.dumps(first.body)
    assert (second.body, len(ris.sent)) == (first.body, 1)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (Unavailable("refused"), 503, "ris_unavailable"),
        (Rejected(Evidence("AE", "207")), 502, "ris_error"),
    ],
)
async def test_what_may_be_tried_again_is_never_replayed(bench: Bench, error: Any, status: int, code: str) -> None:
    ris = Scripted([error, yes()])
    async with serving(bench, ris):
        first = await post(bench)
        assert (first.status, first.code) == (status, code)
        assert (await post(bench)).status == 201
        assert ris.sent[0].control_id != ris.sent[1].control_id


async def test_an_unusable_answer_to_a_booking_is_unknown(bench: Bench) -> None:
    ris = Scripted([Unanswered("mismatch"), Response(b"garbage"), yes()])

    def strict(envelope: Envelope, context: Context) -> Verdict | None:
        if isinstance(envelope.body, bytes):
            raise StepFailed("python", "wrong_structure")
        return confirm(envelope, context)

    async with serving(bench, ris, reply=steps(strict)):
        for _ in range(2):
            reply = await post(bench)
            assert (reply.status, reply.code) == (502, "ris_bad_response")
            assert reply.body["error"]["outcome"] == "unknown"
        assert (await post(bench)).status == 201
        assert len({outgoing.control_id for outgoing in ris.sent}) == 1


async def test_a_connector_that_breaks_leaves_a_booking_unknown_and_its_caller_with_an_answer(bench: Bench) -> None:
    class Broken(Scripted):
        async def send(self, outgoing: Outgoing) -> Response:
            if not self.sent:
                self.sent.append(outgoing)
                raise ZeroDivisionError
            return await super().send(outgoing)

    ris = Broken([yes()])
    async with serving(bench, ris):
        reply = await post(bench)
        assert (reply.status, reply.body["error"]["outcome"]) == (504, "unknown")
        assert [row.state for row in bench.deliveries()] == ["unknown"]
        assert (await post(bench)).status == 201
        assert ris.sent[0].body == ris.sent[1].body


async def test_a_later_message_resolves_an_unknown_booking(bench: Bench) -> None:
    ris = Scripted([Unanswered("timeout")])
    async with serving(bench, ris) as supervisor:
        await post(bench)
        exchange = supervisor._channels["bench"].running.exchange  # type: ignore[union-attr]
        match = {"body.orderId": ("", "ORDER123"), "body.start": ("2026-01-16T15:00:00+00:00",)}
        wrong = {"body.orderId": ("ORDER123",), "body.start": ("2026-01-16T16:00:00+00:00",)}
        assert exchange.settled(ResolveExchange("bench", wrong, siu("SIU0"))) == []
        await bench.store.submit(*exchange.settled(ResolveExchange("bench", match, siu("SIU1"))))
        assert [(row.state, row.cause) for row in bench.deliveries()] == [("delivered", "resolved")]
        for _ in range(2):
            reply = await post(bench)
            assert (reply.status, reply.body["confirmed_by"]) == (201, "SIU1")
        assert len(ris.sent) == 1


async def test_a_message_that_arrives_before_the_time_out_settles_the_booking_then(bench: Bench) -> None:
    ris = Scripted([Unanswered("timeout")])
    ris.gate.clear()
    async with serving(bench, ris) as supervisor:
        posting = asyncio.ensure_future(post(bench))
        await bench.until(lambda: ris.under_way == 1)
        exchange = supervisor._channels["bench"].running.exchange  # type: ignore[union-attr]
        assert exchange.settled(ResolveExchange("bench", {"body.orderId": ("ORDER123",)}, siu("SIU1"))) == []
        ris.gate.set()
        reply = await posting
    assert (reply.status, reply.body["confirmed_by"]) == (201, "SIU1")


async def test_a_cancelled_order_s_keys_are_forgotten(bench: Bench) -> None:
    ris = Scripted([yes(), yes()])
    async with serving(bench, ris) as supervisor:
        await post(bench)
        exchange = supervisor._channels["bench"].running.exchange  # type: ignore[union-attr]
        await bench.store.submit(*exchange.settled(ForgetKeys("bench", {"body.orderId": ("ORDER123",)})))
        assert "Idempotent-Replayed" not in (await post(bench)).headers
        assert len(ris.sent) == 2


async def test_keys_of_two_callers_do_not_meet(bench: Bench) -> None:
    ris = Scripted([yes(), yes()])
    async with serving(bench, ris):
        await post(bench)
        await bench.source.send(json.dumps({**BODY, "requestId": "R1"}).encode(), api_key="other")
    assert len(ris.sent) == 2


async def test_a_key_expires_after_its_time_but_not_before_the_appointment(bench: Bench) -> None:
    ris = Scripted([yes(), yes(), yes()])
    async with serving(bench, ris):
        await post(bench)
        bench.clock.at += 90_000
        await post(bench)
        assert len(ris.sent) == 1  # the appointment is still to come
        bench.clock.at += 20 * 86_400
        await post(bench)
        assert len(ris.sent) == 2


async def test_a_query_is_repeated_once_when_its_connection_is_lost_and_then_unavailable(bench: Bench) -> None:
    ris = Scripted([Unanswered("lost"), yes(), Unanswered("lost"), Unanswered("lost"), Unanswered("timeout")])
    async with serving(bench, ris, idempotent=False):
        assert (await post(bench)).status == 201
        assert (await post(bench)).status == 503
        assert (await post(bench)).status == 504
        assert len(ris.sent) == 5
        assert [row.state for row in bench.deliveries()] == ["delivered", "discarded", "discarded"]


async def test_a_query_is_repeated_after_a_time_out_only_when_its_file_says_so(bench: Bench) -> None:
    ris = Scripted([Unanswered("timeout"), yes()])
    retry = Retry(attempts=2, on=frozenset({"unavailable", "unanswered"}))
    async with serving(bench, ris, idempotent=False, retry=retry):
        assert (await post(bench)).status == 201
    assert len(ris.sent) == 2


async def test_a_refusal_is_never_repeated(bench: Bench) -> None:
    ris = Scripted([Rejected(Evidence("AE", "100"))])
    async with serving(bench, ris, idempotent=False):
        reply = await post(bench)
    assert (reply.status, reply.code, len(ris.sent)) == (502, "ris_error", 1)


async def test_an_open_circuit_answers_at_once_and_closes_when_a_probe_succeeds(bench: Bench) -> None:
    ris = Scripted([Unavailable("refused")] * 4)
    breaker = Breaker(failures=4, probe=0.05)
    async with serving(bench, ris, idempotent=False, breaker=breaker):
        for _ in range(2):
            assert (await post(bench)).status == 503
        assert len(ris.sent) == 4
        reply = await post(bench)
        assert (reply.status, reply.headers["Retry-After"], len(ris.sent)) == (503, "10", 4)
        await bench.until(lambda: ris.probes > 0)
        ris.script = [yes()]
        assert (await post(bench)).status == 201


async def test_a_code_adds_the_members_its_steps_make(bench: Bench) -> None:
    def alternatives(envelope: Envelope, context: Context) -> Verdict | None:
        envelope.variables["alternatives"] = [{"id": "S2"}]
        return None

    ris = Scripted([Rejected(Evidence("AE", "206"))])
    async with serving(bench, ris, on={"slot_taken": steps(alternatives)}):
        reply = await post(bench)
    assert reply.body["error"]["alternatives"] == [{"id": "S2"}]


async def test_a_request_that_a_step_refuses_is_recorded_and_never_sent(bench: Bench) -> None:
    def refuse(envelope: Envelope, context: Context) -> Verdict | None:
        raise Refused("invalid_body", field="orderId")

    ris = Scripted()
    async with serving(bench, ris, transform=steps(refuse)):
        reply = await post(bench)
        assert (reply.status, reply.body["error"]["field"]) == (400, "orderId")
        await bench.until(lambda: [(row.state, row.cause) for row in bench.messages()] == [("refused", "invalid_body")])
        assert not ris.sent


async def test_a_fault_of_ours_is_500_and_recorded_without_content(bench: Bench, logged: list[dict[str, Any]]) -> None:
    def broken(envelope: Envelope, context: Context) -> Verdict | None:
        raise KeyError("Doe^John")

    ris = Scripted()
    async with serving(bench, ris, transform=steps(broken)):
        reply = await post(bench)
        assert (reply.status, reply.code) == (500, "internal_error")
        assert [(row.state, row.cause) for row in bench.messages()] == [("failed", "step transform: internal KeyError")]
    assert "Doe" not in str(logged)
    assert "Doe" not in json.dumps(reply.body)


async def test_ask_goes_the_same_way(bench: Bench) -> None:
    ris = Scripted([yes()])
    async with serving(bench, ris) as supervisor:
        reply = await supervisor.ask("bench", {**BODY, "requestId": "R1"}, "corr-1", WHO)
    assert (reply.status, reply.body["correlationId"]) == (201, "corr-1")


def answer(envelope: Envelope, context: Context) -> Verdict:
    """Steps that know the answer."""
    envelope.variables["order"] = envelope.request["orderId"]
    context.effects.append(CachePut("orders", "ORDER123", b"{}", context.now.timestamp() + 60))
    envelope.body = {"found": 1}
    return Verdict.ANSWER


def count(envelope: Envelope, context: Context) -> Verdict | None:
    """The reply's transform on an answer that is JSON."""
    assert context.request is not None
    envelope.body = {"count": envelope.body["found"], "order": context.request.variables["order"]}
    return None


@pytest.mark.parametrize("idempotent", [True, False])
@pytest.mark.parametrize("error", [None, Unavailable("refused")])
async def test_what_the_steps_answer_asks_no_partner(
    bench: Bench, idempotent: bool, error: DeliveryError | None
) -> None:
    def never(envelope: Envelope, context: Context) -> Verdict | None:
        raise AssertionError("a step behind the answer")

    ris = Scripted([error] if error else [])
    async with serving(
        bench, ris, idempotent=idempotent, transform=steps(answer, never), reply=steps(count)
    ) as supervisor:
        for _ in range(2):
            reply = await post(bench)
            assert (reply.status, reply.body["count"], reply.body["order"]) == (201, 1, "ORDER123")
        assert [(row.state, row.cause) for row in bench.messages()] == [("routed", "answered by its steps")] * 2
        assert not bench.deliveries()
        assert not ris.sent
        assert supervisor.store.cache_get("orders", "ORDER123", bench.clock.time()) == b"{}"


async def test_an_answer_of_its_steps_that_the_reply_cannot_use_is_a_failure(bench: Bench) -> None:
    def strict(envelope: Envelope, context: Context) -> Verdict | None:
        raise StepFailed("python", "wrong_answer", "starts_at")

    async with serving(bench, Scripted(), idempotent=False, transform=steps(answer), reply=steps(strict)):
        reply = await post(bench)
        assert (reply.status, reply.code) == (502, "ris_bad_response")
        ((state, cause),) = [(row.state, row.cause) for row in bench.messages()]
        assert (state, "wrong_answer" in cause) == ("failed", True)
        assert not bench.deliveries()


async def test_an_error_that_is_none_after_all_is_answered_as_a_success(bench: Bench) -> None:
    """The partner calls the request a duplicate; the steps of `on` find out that it did what was asked."""

    def look(envelope: Envelope, context: Context) -> Verdict | None:
        envelope.variables["found"] = envelope.request["orderId"]
        return None

    def tell(envelope: Envelope, context: Context) -> Verdict | None:
        assert context.request is not None
        envelope.body = {"found": context.request.variables.get("found")}
        return None

    ris = Scripted([duplicate(), duplicate()])
    accepts = {"slot_taken": lambda envelope, context: envelope.variables["found"] == "ORDER123"}
    async with serving(bench, ris, reply=steps(tell), on={"slot_taken": steps(look)}, accept=accepts):
        reply = await post(bench)
        assert (reply.status, reply.code, reply.body["found"]) == (201, None, "ORDER123")
        again = await post(bench)
        assert (again.status, again.headers["Idempotent-Replayed"]) == (201, "true")
        refused = await post(bench, "R2", orderId="O2")
        assert (refused.status, refused.code) == (409, "slot_taken")
        [accepted, given_up] = bench.deliveries()
        assert (accepted.state, accepted.cause) == (DeliveryState.DELIVERED, "accepted slot_taken")
        assert given_up.state is DeliveryState.DISCARDED


async def test_an_error_stays_one_when_the_reply_cannot_be_made(bench: Bench, logged: list[dict[str, Any]]) -> None:
    def fails(envelope: Envelope, context: Context) -> Verdict | None:
        raise StepFailed("python", "wrong_answer", "MSH-9")

    async with serving(bench, Scripted([duplicate()]), reply=steps(fails), accept={"slot_taken": lambda *_: True}):
        reply = await post(bench)
        assert (reply.status, reply.code) == (409, "slot_taken")
        assert [line["cause"] for line in logged if line["event"] == "exchange.not_accepted"]


def duplicate() -> Rejected:
    return Rejected(Evidence("AE", "206", body=siu("ORR2")))
