"""Request/response: a caller waits while a partner is asked (channels with ``reply:``).

A query is recorded once, with its outcome, before the caller hears it. A request under ``idempotency:`` is recorded
with its key, its MSH-10 and its bytes before the first byte leaves; after a crash or a lost answer it is ``unknown``
and never sent again by the engine: the caller's retry repeats it, or a later message resolves it (``keys.py``).
A caller who hangs up cancels nothing: the exchange runs by itself (``running.py``). ``call.py`` is the way to the
partner and back, ``records.py`` what is written.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Coroutine, Mapping
from typing import Any

import structlog

from engine.config.plan import ChannelPlan, IdempotencyPlan, ReplyPlan
from engine.delivery import DeliveryState, MessageState
from engine.envelope import ACCEPT, Ack, Envelope, Origin, Receipt, Reply, new_correlation_id
from engine.errors import MalformedMessage, Refused, StepFailed, StoreError
from engine.json_text import writer
from engine.promise import Promise
from engine.runtime import content, keys
from engine.runtime.asking import Committing
from engine.runtime.call import Call, Caller, Ended
from engine.runtime.faults import where
from engine.runtime.parts import Parts
from engine.runtime.records import Records
from engine.runtime.reply import Outcome, error_answer, row_for
from engine.runtime.routing import cause_of
from engine.runtime.running import Running
from engine.spread import Spread
from engine.store.base import CloseKey, DropKey, KeyRow, OpenKey, Operation, Sending, Settle
from engine.transforms.base import ForgetKeys, ResolveExchange

log = structlog.get_logger("engine.exchange")

_encode = writer(ascii_only=False)


class Exchange:
    """The ``receive`` of a channel with a reply."""

    def __init__(self, plan: ChannelPlan, reply: ReplyPlan, parts: Parts) -> None:
        self.plan, self.reply, self.parts = plan, reply, parts
        self.caller = Caller(plan, reply, parts)
        self.records = Records(plan, self.caller.destination)
        #: Of every answer: bound here, once.
        self._log = log.bind(channel=plan.name)
        self.open = True
        self.received = 0
        self.answered = 0
        #: Answers by HTTP status; and seconds to each, of requests for which an exchange was begun.
        self.statuses, self.took = Counter[int](), Spread()
        self._under_way: set[Running] = set()
        self._all_ended: Promise[None] | None = None
        self._calls: dict[int, Call] = {}
        self._finder = keys.KeyFinder(parts.store, plan.name, parts.found_by)
        self._keys_in_use: set[tuple[str, str]] = set()

    # -- the door --------------------------------------------------------------------------------------------------

    def __call__(self, body: bytes | bytearray, origin: Origin) -> Receipt:
        """Start an exchange; see ``engine.envelope.Receive``."""
        correlation_id = origin.correlation_id or new_correlation_id()
        receipt = Receipt(correlation_id, self.parts.store.new_id())
        self.received += 1
        running = Running(self._run(receipt, bytes(body), origin), self._has_ended)
        self._under_way.add(running)
        running.go_on()
        return receipt

    def refuse(self, origin: Origin, code: str, body: bytes = b"") -> None:
        """Record what the source answered negatively by itself."""
        correlation_id = origin.correlation_id or new_correlation_id()
        self.statuses[row_for(self.reply, code).status] += 1
        log.info("exchange.refused", channel=self.plan.name, correlation_id=correlation_id, cause=code)
        self._record_refusal(self.parts.store.new_id(), correlation_id, body, origin, code)

    async def ask(self, request: Mapping[str, Any], correlation_id: str | None) -> Reply:
        """The same exchange for another channel or a person; checks what the source would check."""
        query = {name: str(value) for name, value in request.items() if not isinstance(value, dict | list | None)}
        asked_as = correlation_id or new_correlation_id()
        origin = Origin("ask", "ask", {}, query, "ask", asked_as)
        body = _encode(request).encode()
        try:
            self.plan.source.check(origin, body)
        except Refused as error:
            self.refuse(origin, error.code, body)
            return self._error(error.code, asked_as, field=error.field, extra=error.extra)
        reply = await self(body, origin).answer
        return reply if isinstance(reply, Reply) else self._error("internal_error", asked_as)

    def late(self, correlation_id: str) -> Reply:
        """What a caller is told who cannot wait any longer: as after a time-out, nobody knows how it ends."""
        outcome = Outcome("unanswered")
        row, unknown = self.caller.row(outcome), self.caller.may_leave_unknown(outcome)
        return error_answer(row, correlation_id, unknown=unknown)

    async def drained(self) -> None:
        """Wait until no exchange is under way."""
        while self._under_way:
            if self._all_ended is None:
                self._all_ended = Promise()
            await self._all_ended.wait()

    async def close(self) -> None:
        """End what is still under way; what was sent under a key is ``unknown`` then."""
        for running in list(self._under_way):
            running.cancel()
        await self.drained()

    def _has_ended(self, running: Running) -> None:
        self._under_way.discard(running)
        if not self._under_way and self._all_ended is not None:
            ended, self._all_ended = self._all_ended, None
            ended.set_result(None)

    # -- one exchange ----------------------------------------------------------------------------------------------

    async def _run(self, receipt: Receipt, body: bytes, origin: Origin) -> None:
        reply: Reply | None = None
        try:
            reply = await self._begun(receipt, body, origin)
        except Refused as error:
            self._record_refusal(receipt.message_id, receipt.correlation_id, body, origin, error.code)
            reply = self._error(error.code, receipt.correlation_id, field=error.field, extra=error.extra)
        except StoreError:
            reply = self._error("store_unavailable", receipt.correlation_id)
        except asyncio.CancelledError:
            reply = self._error("channel_stopped", receipt.correlation_id)
            raise
        except Exception as error:  # noqa: BLE001 - a fault of ours must not leave a caller without an answer
            log.error("exchange.internal_error", **self._ids(receipt), error=type(error).__name__, at=where(error))
        finally:
            self._answer(receipt, reply or self._error("internal_error", receipt.correlation_id))

    def _answer(self, receipt: Receipt, reply: Reply) -> None:
        self.answered += 1
        self.statuses[reply.status] += 1
        if receipt.received_at:
            self.took.add(self.parts.clock.time() - receipt.received_at)
        receipt.settle(ACCEPT if reply.status < 400 else Ack("error", cause=reply.code or ""), reply)
        self._log.info(  # the caller has the answer by then
            "exchange.answered",
            message_id=receipt.message_id,
            correlation_id=receipt.correlation_id,
            status=reply.status,
            code=reply.code or "",
        )

    def _begun(self, receipt: Receipt, body: bytes, origin: Origin) -> Coroutine[Any, Any, Reply]:
        """The way that a request takes, to be awaited. Raises Refused."""
        if not self.open:
            raise Refused("channel_stopped")
        parsed = origin.json
        if parsed is None:
            try:
                parsed = content.parse(body, origin, self.plan.charset)
            except MalformedMessage:
                raise Refused("invalid_body") from None
        receipt.received_at = now = self.parts.clock.time()
        request = Envelope(parsed, origin, receipt.correlation_id, self.plan.name, receipt.message_id, now)
        request.request = None if isinstance(parsed, bytes) else parsed
        context = self.parts.context(self.plan.name, receipt.message_id)
        call = Call(request, body, context)
        if self.plan.idempotency is not None:
            key = self.plan.idempotency.key(request, context)
            if key:
                return self._keyed(call, self.plan.idempotency, key)
        return self._query(call)

    async def _query(self, call: Call) -> Reply:
        """One commit, with the outcome, before the answer."""
        try:
            await self.caller.prepare(call)
        except StepFailed as error:
            return await self._unprepared(call, error)
        if call.answered:
            return await self._answered(call)
        ended = await self.caller.send(call)
        await self._commit_whole(call, ended)
        return ended.reply

    async def _answered(self, call: Call) -> Reply:
        """The request's own steps gave the answer: no partner is asked, and none is owed anything."""
        ended = await self.caller.ended(call, Outcome("answered"), "answered by its steps", call.outgoing)
        effects = ended.effects if ended.success else ()
        state = MessageState.ROUTED if ended.success else MessageState.FAILED
        await self._note(call, state, ended.cause, ended.reply.status, *effects)
        return ended.reply

    async def _unprepared(self, call: Call, error: StepFailed) -> Reply:
        """The request's transforms failed for a reason of ours."""
        cause = cause_of(error)
        log.error("exchange.failed", **call.ids, cause=cause)
        await self._note(call, MessageState.FAILED, cause, 500)
        return self._error("internal_error", call.correlation_id)

    # -- under an idempotency key ----------------------------------------------------------------------------------

    async def _keyed(self, call: Call, plan: IdempotencyPlan, key: str) -> Reply:
        scope = f"{self.plan.name}|{call.request.origin.api_key}"
        if (scope, key) in self._keys_in_use:
            raise Refused("in_progress")
        self._keys_in_use.add((scope, key))
        try:
            row = self.parts.store.find_key(scope, key, self.parts.clock.time())
            if row is None:
                return await self._first(call, plan, scope, key)
            if row.body_hash != keys.digest(call.request.request):
                raise Refused("idempotency_mismatch")
            if row.status is not None:
                return await self._replay(call, row)
            return await self._repeat(call, plan, row, key)
        finally:
            self._keys_in_use.discard((scope, key))

    async def _first(self, call: Call, plan: IdempotencyPlan, scope: str, key: str) -> Reply:
        """A new key: the intent is committed before the first byte leaves."""
        try:
            await self.caller.prepare(call)
        except StepFailed as error:
            return await self._unprepared(call, error)
        if call.answered:
            return await self._answered(call)
        if self.caller.breaker.open:
            ended = await self.caller.send(call)
            await self._commit_whole(call, ended)
            return ended.reply
        now = self.parts.clock.time()
        opened = OpenKey(
            scope,
            key,
            keys.digest(call.request.request),
            self.plan.name,
            call.message_id,
            call.delivery_id,
            keys.expires_at(plan, call.request, call.context, now),
            self._finder.members_of(call.request.request),
        )
        return await self._finish(call, scope, key, self.records.intended(call, now), opened)

    async def _finish(self, call: Call, scope: str, key: str, *intent: Operation) -> Reply:
        """Commit that it is about to leave, send it, and commit the outcome before the caller hears it."""
        stopped = Outcome("unavailable")
        try:
            await self._committed(*intent)
            self._calls[call.delivery_id], stopped = call, Outcome("unanswered")
            ended = await self.caller.send(call)
        except asyncio.CancelledError:
            await self._interrupted(call, stopped, scope, key)
            raise
        finally:
            self._calls.pop(call.delivery_id, None)
        await self._commit(call, ended, *self._key_operations(ended, scope, key))
        return ended.reply

    def _key_operations(self, ended: Ended, scope: str, key: str) -> list[Operation]:
        """Only a success or a definite refusal is replayed; an unknown outcome keeps its key open for the retry."""
        if ended.unknown:
            return []
        if ended.outcome.definite and not ended.retryable:
            return [self._close_key(ended, scope, key)]
        return [DropKey(scope, key)]

    def _close_key(self, ended: Ended, scope: str, key: str) -> CloseKey:
        reply = ended.reply
        return CloseKey(scope, key, reply.status, reply.code, reply.rendered or _encode(reply.body).encode())

    async def _interrupted(self, call: Call, outcome: Outcome, scope: str, key: str) -> None:
        """The channel stops: before this attempt left, as its commit was under way (then the store does this behind
        that), or in the middle of a send, and nobody knows what the partner did.
        """
        reply = self._error("channel_stopped", call.correlation_id)
        ended = Ended(outcome, reply, f"{outcome.kind} interrupted", unknown=outcome.sent or call.may_be_taken)
        try:
            await self._commit(call, ended, *self._key_operations(ended, scope, key))
        except StoreError:
            log.error("exchange.not_stored", **call.ids)  # recovery at the next start does the same

    async def _replay(self, call: Call, row: KeyRow) -> Reply:
        """The outcome is known: the same status and body again."""
        await self._note(call, MessageState.ROUTED, f"replayed {row.message_id}", row.status)
        return Reply(row.status or 500, json.loads(row.answer), {"Idempotent-Replayed": "true"}, row.code)

    async def _repeat(self, call: Call, plan: IdempotencyPlan, row: KeyRow, key: str) -> Reply:
        """The outcome is unknown: the same bytes once more, unless it was resolved meanwhile."""
        delivery = self.parts.store.delivery(row.delivery_id)
        if delivery is None or delivery.state in (DeliveryState.DISCARDED, DeliveryState.PARKED):
            return await self._first(call, plan, row.scope, key)
        await self._note(call, MessageState.ROUTED, f"repeats {row.message_id}")
        await self.caller.restore_variables(call)
        call.delivery_id, call.control_id = delivery.delivery_id, delivery.control_id
        call.content_type, call.attempts = delivery.content_type, delivery.attempts
        if delivery.state is DeliveryState.DELIVERED:
            answer = self.parts.store.delivery_answer(delivery.delivery_id)
            ended = await self.caller.ended(call, Outcome("answered"), "resolved", answer)
            if ended.success:
                await self._committed(self._close_key(ended, row.scope, key))
            return ended.reply
        call.may_be_taken = True
        if self.caller.breaker.open:
            return (await self.caller.send(call)).reply  # nothing leaves, and nothing becomes known
        call.outgoing = self.parts.store.delivery_body(delivery.delivery_id)
        sending = Sending(delivery.delivery_id, self.parts.clock.time(), call.attempts + 1)
        return await self._finish(call, row.scope, key, sending)

    # -- what other channels' messages mean here -------------------------------------------------------------------

    def settled(self, effect: ResolveExchange | ForgetKeys) -> list[Operation]:
        """The operations by which ``effect`` settles or forgets exchanges of this channel."""
        now = self.parts.clock.time()
        operations: list[Operation] = []
        for row in self._finder.matching(effect.match, now):
            if isinstance(effect, ForgetKeys):
                operations.append(DropKey(row.scope, row.key))
            elif (call := self._calls.get(row.delivery_id)) is not None:
                call.early = effect.message
            elif resolved := self._resolved(row, effect, now):
                operations.append(resolved)
        return operations

    def _resolved(self, row: KeyRow, effect: ResolveExchange, now: float) -> Settle | None:
        delivery = self.parts.store.delivery(row.delivery_id)
        if delivery is None or delivery.state is not DeliveryState.UNKNOWN:
            return None
        log.info("exchange.resolved", channel=self.plan.name, message_id=row.message_id)
        state = DeliveryState.DELIVERED
        return Settle(row.delivery_id, state, now, delivery.attempts, "resolved", answer=effect.message)

    # -- what is recorded ------------------------------------------------------------------------------------------

    def _commit(self, call: Call, ended: Ended, *more: Operation) -> Committing:
        """The outcome of what is recorded."""
        return self._committed(*self.records.settled(call, ended, self.parts.clock.time()), *more)

    def _commit_whole(self, call: Call, ended: Ended) -> Committing:
        """A request that was not recorded before, and its outcome."""
        return self._committed(*self.records.done(call, ended, self.parts.clock.time()))

    def _note(
        self, call: Call, state: MessageState, cause: str, status: int | None = None, *more: Operation
    ) -> Committing:
        """Record a request without a delivery; ``status`` when that commit is all its answer waits for."""
        return self._committed(self.records.note(call, self.parts.clock.time(), state, cause, status), *more)

    def _committed(self, *operations: Operation) -> Committing:
        """To be awaited: the commit of a unit. Raises StoreError."""
        return Committing(self.parts.store, operations)

    def _record_refusal(self, message_id: int, correlation_id: str, body: bytes, origin: Origin, code: str) -> None:
        now = self.parts.clock.time()
        row = row_for(self.reply, code)
        self.parts.record(self.records.refused(message_id, correlation_id, now, body, origin, row))

    def _error(
        self, code: str, correlation_id: str, *, field: str | None = None, extra: dict[str, Any] | None = None
    ) -> Reply:
        return error_answer(row_for(self.reply, code), correlation_id, field=field, extra=extra)

    def _ids(self, receipt: Receipt) -> dict[str, Any]:
        ids = {"message_id": receipt.message_id, "correlation_id": receipt.correlation_id}
        return {"channel": self.plan.name, **ids}
