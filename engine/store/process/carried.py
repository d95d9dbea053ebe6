"""Operations as plain values, which ``marshal`` writes and reads: what most messages write, and no other.

What is not carried is executed where it was made: large bodies, an audit entry, a removal, whatever a person does.
"""

from __future__ import annotations

import marshal
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Any

from engine.cache import CacheForget, CachePut
from engine.delivery import WORDS, DeliveryState, MessageState
from engine.errors import Evidence
from engine.store.late import IndexMessages
from engine.store.operations import (
    Accept,
    AckOwed,
    AckSent,
    CloseKey,
    DropKey,
    NewDelivery,
    OpenKey,
    Route,
    Sending,
    Settle,
)
from engine.store.upkeep import NoteClockStep, PurgeExpired, ReserveIds

Way = Callable[[Any], Any]
Plain = tuple[Any, ...]

#: Bytes above which a batch is not carried: the loop would be kept longer by handing it over than by executing it.
_MOST = 8 * 1024 * 1024


def _way(kind: type[Any], **there: Way) -> Way:
    """How a value of this type becomes plain. ``there``: what becomes of fields that are not plain by themselves."""
    names = [field.name for field in fields(kind)]
    get, ways = attrgetter(*names), [(names.index(name), way) for name, way in there.items()]
    if not ways:
        return get if len(names) > 1 else lambda value: (get(value),)

    def plain(value: Any) -> list[Any]:
        members = list(get(value))
        for at, way in ways:
            if members[at]:
                members[at] = way(members[at])
        return members

    return plain


def _back(kind: type[Any], **back: Way) -> Way:
    """The other way."""
    names = [field.name for field in fields(kind)]
    ways = [(names.index(name), way) for name, way in back.items()]

    def value(members: Any) -> Any:
        for at, way in ways:
            if members[at]:
                members[at] = way(members[at])
        return kind(*members)

    return value


_WORD = WORDS
_MESSAGE = {state.value: state for state in MessageState}
_DELIVERY = {state.value: state for state in DeliveryState}

# What every message writes is said field by field: that takes half as long as the same for any type.


def _settle(settle: Settle) -> Plain:
    evidence = settle.evidence
    return (
        settle.delivery_id,
        _WORD[settle.state],
        settle.at,
        settle.attempts,
        settle.cause,
        settle.next_at,
        # What a row holds of a partner's answer, beside the answer.
        evidence and (evidence.ack, evidence.condition, evidence.location, evidence.application_error),
        settle.answer,
        settle.may_be_duplicated,
        settle.body,
        settle.sent_at,
    )


def _settle_back(plain: Plain) -> Settle:
    of, state, at, attempts, cause, next_at, evidence, answer, again, body, sent_at = plain
    evidence = evidence and Evidence(*evidence)
    return Settle(of, _DELIVERY[state], at, attempts, cause, next_at, evidence, answer, again, body, sent_at)


def _delivery(delivery: NewDelivery) -> Plain:
    return (
        delivery.delivery_id,
        delivery.destination,
        delivery.key,
        delivery.body,
        delivery.control_id,
        delivery.content_type,
        _WORD[delivery.state],
        delivery.cause,
        _WORD[delivery.interrupted],
        delivery.sealed,
        delivery.sending and _sending(delivery.sending),
        delivery.settled and _settle(delivery.settled),
    )


def _delivery_back(plain: Plain) -> NewDelivery:
    of, to, key, body, control_id, content_type, state, cause, interrupted, sealed, sending, settled = plain
    sending, settled = sending and Sending(*sending), settled and _settle_back(settled)
    state, interrupted = _DELIVERY[state], _DELIVERY[interrupted]
    return NewDelivery(of, to, key, body, control_id, content_type, state, cause, interrupted, sealed, sending, settled)


def _deliveries(deliveries: Iterable[NewDelivery]) -> Plain:
    return tuple([_delivery(delivery) for delivery in deliveries])


def _deliveries_back(plain: Plain) -> tuple[NewDelivery, ...]:
    return tuple([_delivery_back(delivery) for delivery in plain])


def _accept(accept: Accept) -> Plain:
    return (
        accept.message_id,
        accept.channel,
        accept.correlation_id,
        accept.received_at,
        accept.body,
        accept.control_id,
        accept.message_type,
        accept.key,
        _WORD[accept.state],
        accept.cause,
        accept.ack,
        accept.origin,
        accept.patients,
        accept.at,
        _deliveries(accept.deliveries),
    )


def _accept_back(plain: Plain) -> Accept:
    of, channel, correlation_id, at, body, control_id, kind, key, state, cause, ack, origin, patients, *more = plain
    (routed_at, deliveries), state = more, _MESSAGE[state]
    return Accept(
        of,
        channel,
        correlation_id,
        at,
        body,
        control_id,
        kind,
        key,
        state,
        cause,
        ack,
        origin,
        patients,
        routed_at,
        _deliveries_back(deliveries),
    )


_sending = _way(Sending)

#: Type → how it becomes plain, and back.
_CARRIED: dict[type[Any], tuple[Way, Way]] = {
    Accept: (_accept, _accept_back),
    Settle: (_settle, _settle_back),
    AckOwed: (_way(AckOwed, delivery=_delivery), _back(AckOwed, delivery=_delivery_back)),
    Route: (
        _way(Route, state=_WORD.__getitem__, deliveries=_deliveries),
        _back(Route, state=_MESSAGE.__getitem__, deliveries=_deliveries_back),
    ),
    **{
        kind: (_way(kind), _back(kind))
        for kind in (
            AckSent,
            CacheForget,
            CachePut,
            CloseKey,
            DropKey,
            IndexMessages,
            NoteClockStep,
            OpenKey,
            PurgeExpired,
            ReserveIds,
            Sending,
        )
    },
}
_WAYS = {kind: (number, way) for number, (kind, (way, _)) in enumerate(_CARRIED.items())}
_BACK = [back for _, back in _CARRIED.values()]


def carried(batch: Iterable[Sequence[object]]) -> bytes | None:
    """The operations of several units, in their order; None when one of them is not carried."""
    plain, bodies = [], 0
    try:
        for operations in batch:
            for operation in operations:
                number, way = _WAYS[type(operation)]
                plain.append((number, way(operation)))
                if type(operation) is Accept and (bodies := bodies + len(operation.body)) > _MOST:
                    return None  # before all of it is in the memory once more
        written = marshal.dumps(plain)
    except (KeyError, ValueError, MemoryError):  # another type; a value that is not plain, as a large body; no room
        return None
    return written if len(written) <= _MOST else None


def brought(written: bytes) -> list[Any]:
    """The operations that ``carried`` has written."""
    return [_BACK[number](plain) for number, plain in marshal.loads(written)]  # noqa: S302 - from the engine alone
