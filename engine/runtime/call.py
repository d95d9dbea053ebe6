"""One request on its way to a partner and back: the request's transforms, the sends, and the reply for what came of it.

``Caller`` knows nothing of keys and records nothing: it turns a request into an outcome and a reply. When and what is
committed is ``exchange.py``'s business.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import field
from functools import partial
from typing import Any

import structlog

from engine.config.plan import ChannelPlan, ReplyPlan
from engine.destinations.base import Outgoing, Response
from engine.envelope import Envelope, Origin, Reply
from engine.errors import (
    DeliveryError,
    ErrorRow,
    HL7EngineError,
    MalformedMessage,
    Refused,
    StepFailed,
    Unanswered,
    Unavailable,
)
from engine.runtime import content
from engine.runtime.asking import Sending, run_steps
from engine.runtime.breaker import CircuitBreaker
from engine.runtime.context import StepContext, operations_of
from engine.runtime.faults import where
from engine.runtime.parts import Parts
from engine.runtime.reply import Outcome, error_answer, outcome_of, row_for, row_of_outcome
from engine.runtime.retry import rejection
from engine.runtime.routing import cause_of
from engine.runtime.turns import Turns
from engine.sources.serving.rendering import json_body
from engine.store.base import Operation
from engine.transforms.base import CONTINUE, Chain, Verdict
from engine.values import dataclass

log = structlog.get_logger("engine.exchange")

#: Where what a partner answered comes from.
_ANSWER = Origin("answer")

#: Seconds a request waits for a free connection before the partner counts as unavailable.
WAIT = 5.0


class Call:
    """One request on its way to the partner."""

    delivery_id: int = 0
    control_id: str = ""
    content_type: str = ""
    outgoing: bytes = b""
    #: The request's own steps gave the answer, and ``outgoing`` is it: nothing is sent.
    answered: bool = False
    attempts: int = 0
    #: When it was written that it is on its way.
    sent_at: float | None = None
    #: What the request's steps want committed when the partner says yes.
    effects: Sequence[Operation] = ()
    #: An earlier attempt left and nobody knows what came of it: only a definite answer ends that.
    may_be_taken: bool = False
    #: A message that settled this exchange while its answer was still awaited.
    early: bytes = b""

    def __init__(self, request: Envelope, body: bytes, context: StepContext) -> None:
        self.message_id, self.correlation_id = request.message_id, request.correlation_id
        #: As received; its variables are those after the request's transform.
        self.request = request
        self.body = body
        #: That of its own steps.
        self.context = context

    @property
    def ids(self) -> dict[str, Any]:
        """What a log line about it carries."""
        return {
            "channel": self.request.channel,
            "message_id": self.message_id,
            "correlation_id": self.correlation_id,
            "control_id": self.control_id,
        }


@dataclass(frozen=True, slots=True)
class Ended:
    """How a call ended, and what the caller is told."""

    outcome: Outcome
    reply: Reply
    cause: str
    answer: bytes = field(default=b"", repr=False)
    effects: Sequence[Operation] = ()
    #: Whether the same request may be sent anew (systems.md D.5).
    retryable: bool = False
    #: The partner may have acted, and nobody knows: recorded as such, its key stays open.
    unknown: bool = False

    @property
    def success(self) -> bool:
        """Whether the partner did what it was asked to."""
        return self.outcome.kind == "answered" and self.reply.code is None


class Caller:
    """Asks the partner of one request/response channel."""

    def __init__(self, plan: ChannelPlan, reply: ReplyPlan, parts: Parts) -> None:
        self.plan, self.reply, self.parts = plan, reply, parts
        self.destination = next(item for item in plan.destinations if item.name == reply.destination)
        self.breaker = CircuitBreaker(plan.breaker.failures)
        self.last_error = ""
        self._turns = Turns(self.destination.connections, WAIT)
        self._opened = asyncio.Event()
        #: The request's transforms, and those of what it becomes.
        self._there = Chain((*plan.transform.steps, *self.destination.transform.steps))

    async def probe(self) -> None:
        """While the circuit is open, look every so often whether the partner can be reached; until cancelled."""
        while True:
            await self._opened.wait()
            while self.breaker.open:
                await asyncio.sleep(self.plan.breaker.probe)
                try:
                    await self.destination.to.probe()
                except DeliveryError:
                    continue
                self.breaker.succeeded()
                log.info("circuit.closed", channel=self.plan.name, destination=self.destination.name)
            self._opened.clear()

    # -- there -----------------------------------------------------------------------------------------------------

    async def prepare(self, call: Call) -> None:
        """Run the request's transforms. Raises Refused (the caller is told no) or StepFailed (our fault)."""
        context, envelope = call.context, call.request.fork()
        chain = self._there
        try:
            verdict = await run_steps(chain, envelope, context) if chain.asynchronous else chain.run(envelope, context)
            if verdict is not CONTINUE:
                if verdict is Verdict.DROP:
                    raise StepFailed("transform", "dropped")
                call.answered = True
            body, call.content_type, call.control_id = content.encode(envelope)
            call.outgoing = body if isinstance(body, bytes) else bytes(body)
        except (Refused, StepFailed):
            raise
        except HL7EngineError as error:
            raise StepFailed("encode", type(error).__name__) from None
        except Exception as error:  # noqa: BLE001 - a fault of ours or of a site's Python
            log.error("exchange.internal_error", **call.ids, error=type(error).__name__, at=where(error))
            raise StepFailed("transform", f"internal {type(error).__name__}") from None
        call.request.variables = envelope.variables
        if context.effects:
            call.effects = operations_of(context.effects, self.parts.settled)
        call.delivery_id = self.parts.store.new_id()
        if not call.control_id:
            call.control_id = self.parts.make_control_id()

    async def restore_variables(self, call: Call) -> None:
        """What the reply's transform needs of the request, when the stored bytes are sent instead of new ones."""
        envelope = call.request.fork()
        try:
            await run_steps(self.plan.transform, envelope, self._context(call))
        except (StepFailed, Refused) as error:
            # The tables or the cache may have changed since; the bytes to send are stored all the same.
            log.info("exchange.variables_missing", **call.ids, cause=cause_of(error))
        call.request.variables = envelope.variables

    async def send(self, call: Call) -> Ended:
        """Ask the partner; a safe repeat where nothing was taken; the reply for whatever came of it."""
        answer: Response | DeliveryError
        if self.breaker.open:
            answer = Unavailable("circuit_open")
        elif not (self._turns.take_free() or await self._turns.take()):
            # The partner is slow and may well be there: that is no reason to open the circuit.
            answer = Unavailable("busy")
        else:
            try:
                answer = await self._attempts(call)
            finally:
                self._turns.give_back()
        if isinstance(answer, Response):
            return await self.ended(call, Outcome("answered", answer.evidence), "", answer.body)
        return await self._not_answered(call, answer)

    async def _attempts(self, call: Call) -> Response | DeliveryError:
        error: DeliveryError | None = None
        to = self.destination.to
        for _ in range(self.destination.retry.attempts or 1):
            if self.breaker.open:
                break
            call.attempts += 1
            try:
                response = await Sending(to, call.outgoing, call.control_id, partial(self._outgoing, call))
            except DeliveryError as raised:
                error = self._lost(raised)
                self._count(error)
                if not self._repeatable(error):
                    break
            except Exception as raised:  # noqa: BLE001 - a fault in a connector: nobody knows what the partner did
                log.error("exchange.internal_error", **call.ids, error=type(raised).__name__, at=where(raised))
                return Unanswered("internal")
            else:
                self.breaker.succeeded()
                return response
        return error or Unavailable("circuit_open")

    def _outgoing(self, call: Call) -> Outgoing:
        return Outgoing(
            call.outgoing,
            call.control_id,
            call.correlation_id,
            self.plan.name,
            self.destination.name,
            call.message_id,
            call.delivery_id,
            call.content_type,
            call.request.received_at,
            call.attempts,
        )

    def _lost(self, error: DeliveryError) -> DeliveryError:
        """A query whose connection was lost before the answer may go once more; lost again it is unavailable (D.5)."""
        repeatable = self.destination.on_unanswered == "repeat" and "unavailable" in self.destination.retry.on
        if isinstance(error, Unanswered) and error.reason == "lost" and repeatable:
            return Unavailable("lost")
        return error

    def _repeatable(self, error: DeliveryError) -> bool:
        """Whether ``retry.on`` lets this exchange be tried once more; a definite no never is."""
        if isinstance(error, Unanswered):
            return self.destination.on_unanswered == "repeat" and "unanswered" in self.destination.retry.on
        return isinstance(error, Unavailable) and "unavailable" in self.destination.retry.on

    def _count(self, error: DeliveryError) -> None:
        if isinstance(error, Unavailable) or (isinstance(error, Unanswered) and error.reason in ("timeout", "lost")):
            was_open = self.breaker.open
            self.breaker.failed()
            if self.breaker.open and not was_open:
                log.warning("circuit.open", channel=self.plan.name, destination=self.destination.name)
                self._opened.set()
        else:
            self.breaker.succeeded()

    # -- and back --------------------------------------------------------------------------------------------------

    async def _not_answered(self, call: Call, error: DeliveryError) -> Ended:
        outcome = outcome_of(error)
        if call.early and not outcome.definite:
            return await self.ended(call, Outcome("answered"), "resolved", call.early)
        if outcome.evidence is not None:
            return await self.ended(call, outcome, rejection(outcome.evidence), outcome.evidence.body)
        return await self.ended(call, outcome, str(error).replace(":", ""))

    async def ended(self, call: Call, outcome: Outcome, cause: str, answer: bytes = b"") -> Ended:
        """The reply for an outcome."""
        context = self._context(call)
        envelope = self._answer_envelope(call, answer)
        if envelope is None and outcome.kind == "answered":
            outcome, cause = Outcome("bad_response"), "bad response"
        context.request = call.request
        context.answered_with(partial(self._answer_envelope, call, answer))
        row: ErrorRow | None = None
        if outcome.kind != "answered" or self.reply.answer_rules:
            row = row_of_outcome(self.reply, outcome, envelope, context)
            if row is not None and outcome.kind == "answered":
                cause = f"refused {row.code}"
        if row is None and envelope is not None:
            try:
                reply = await self._positive(call, envelope, context)
            except Refused as error:
                row, cause = row_for(self.reply, error.code), f"refused {error.code}"
            except StepFailed as error:
                outcome, cause = Outcome("bad_response", outcome.evidence), f"bad response, {cause_of(error)}"
            else:
                return self._done(call, outcome, reply, cause, context, answer)
        row = row or self.row(outcome)
        extra, accepted = await self._extras(row.code, call)
        if accepted and envelope is not None and outcome.definite:
            # The reply's transform may use what the steps found out; it may have changed the answer already.
            call.request.variables = {**call.request.variables, **extra}
            envelope = self._answer_envelope(call, answer) or envelope
            try:
                reply = await self._positive(call, envelope, context)
            except (Refused, StepFailed) as error:
                log.warning("exchange.not_accepted", **call.ids, code=row.code, cause=cause_of(error))
            else:
                outcome = Outcome("answered", outcome.evidence)
                return self._done(call, outcome, reply, f"accepted {row.code}", context, answer)
        return self._negative(call, outcome, row, cause, answer, extra)

    def _done(
        self, call: Call, outcome: Outcome, reply: Reply, cause: str, context: StepContext, answer: bytes
    ) -> Ended:
        """The partner did what it was asked to."""
        self.last_error = ""
        effects = call.effects
        if context.effects:
            effects = (*effects, *operations_of(context.effects, self.parts.settled))
        return Ended(outcome, reply, cause, answer, effects)

    async def _positive(self, call: Call, envelope: Envelope, context: StepContext) -> Reply:
        """The reply's transform makes the body of the answer, ``envelope``. Raises StepFailed (unusable) or Refused."""
        chain = self.reply.transform
        try:
            await run_steps(chain, envelope, context) if chain.asynchronous else chain.run(envelope, context)
        except (StepFailed, Refused):
            raise
        except Exception as error:  # noqa: BLE001 - a fault of ours or of a site's Python
            log.error("exchange.internal_error", **call.ids, error=type(error).__name__, at=where(error))
            raise StepFailed("reply", f"internal {type(error).__name__}") from None
        body = envelope.body
        if isinstance(body, dict):
            body = {**body, "correlationId": call.correlation_id}
        elif not isinstance(body, list | str | int | float | bool | None):
            raise StepFailed("reply", "no JSON value")
        try:
            rendered = json_body(body)
        except ValueError:  # NaN: what the partner did is recorded all the same
            rendered = b""
        return Reply(self.reply.status, body, rendered=rendered)

    def _negative(
        self, call: Call, outcome: Outcome, row: ErrorRow, cause: str, answer: bytes, extra: dict[str, Any]
    ) -> Ended:
        self.last_error = cause
        unknown = not outcome.definite and (call.may_be_taken or self.may_leave_unknown(outcome))
        reply = error_answer(row, call.correlation_id, outcome=outcome, unknown=unknown, extra=extra)
        log.warning("exchange.not_successful", **call.ids, cause=cause, code=row.code)
        return Ended(outcome, reply, cause, answer, retryable=row.retryable, unknown=unknown)

    async def _extras(self, code: str, call: Call) -> tuple[dict[str, Any], bool]:
        """What ``reply.on`` finds out for a code (alternatives for a taken slot), and whether it is none after all."""
        chain, condition = self.reply.on.get(code), self.reply.accept.get(code)
        if chain is None and condition is None:
            return {}, False
        envelope = call.request.fork()
        context = self._context(call)
        context.request = call.request
        try:
            if chain is not None:
                await run_steps(chain, envelope, context)
        except (StepFailed, Refused) as error:
            log.warning("exchange.extra_missing", **call.ids, cause=cause_of(error))
            return {}, False
        extra = {name: value for name, value in envelope.variables.items() if name not in call.request.variables}
        return extra, condition is not None and condition(envelope, context)

    def _answer_envelope(self, call: Call, answer: bytes) -> Envelope | None:
        if not answer:
            return None
        try:
            body = content.parse(answer, _ANSWER, None, split=False)  # its reply may take the lines as they are
        except MalformedMessage:
            return None
        return Envelope(body, _ANSWER, call.correlation_id, self.plan.name, call.message_id, self.parts.clock.time())

    # -- judgements ------------------------------------------------------------------------------------------------

    def may_leave_unknown(self, outcome: Outcome) -> bool:
        """Whether an attempt that ended so leaves open what the partner did."""
        return outcome.sent and not outcome.definite and self.destination.on_unanswered == "unknown"

    def row(self, outcome: Outcome) -> ErrorRow:
        """The row of the error table for an outcome without an answer."""
        context = self.parts.context(self.plan.name, 0)
        return row_of_outcome(self.reply, outcome, None, context) or row_for(self.reply, "internal_error")

    def _context(self, call: Call) -> StepContext:
        return self.parts.context(self.plan.name, call.message_id)
