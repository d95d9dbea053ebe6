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
from engine.store.patients import IndexPatients
from engine.store.upkeep import NoteClockStep, PurgeExpired, ReserveIds

Way = Callable[[Any], Any]

#: What a row holds of a partner's answer, beside the answer.
_OF_EVIDENCE = ("ack", "condition", "location", "application_error")
#: Bytes above which a batch is not carried: the loop would be kept longer by handing it over than by executing it.
_MOST = 8 * 1024 * 1024


def _way(kind: type[Any], names: Sequence[str] = (), **there: Way) -> Way:
    """How a value of this type becomes plain: all of its fields, or those with ``names``. ``there``: what becomes of
    fields that are not plain by themselves.
    """
    names = names or [field.name for field in fields(kind)]
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


def _each(way: Way) -> Way:
    return lambda values: tuple([way(value) for value in values])


_WORD = WORDS.__getitem__
_MESSAGE, _DELIVERY = ({state.value: state for state in states}.__getitem__ for states in (MessageState, DeliveryState))

_settle = _way(Settle, state=_WORD, evidence=_way(Evidence, _OF_EVIDENCE))
_settle_back = _back(Settle, state=_DELIVERY, evidence=_back(Evidence))
_delivery = _way(NewDelivery, state=_WORD, interrupted=_WORD, sending=_way(Sending), settled=_settle)
_delivery_back = _back(
    NewDelivery, state=_DELIVERY, interrupted=_DELIVERY, sending=_back(Sending), settled=_settle_back
)

#: Type → how it becomes plain, and back.
_CARRIED: dict[type[Any], tuple[Way, Way]] = {
    Settle: (_settle, _settle_back),
    AckOwed: (_way(AckOwed, delivery=_delivery), _back(AckOwed, delivery=_delivery_back)),
    **{
        kind: (
            _way(kind, state=_WORD, deliveries=_each(_delivery)),
            _back(kind, state=_MESSAGE, deliveries=_each(_delivery_back)),
        )
        for kind in (Accept, Route)
    },
    **{
        kind: (_way(kind), _back(kind))
        for kind in (
            AckSent,
            CacheForget,
            CachePut,
            CloseKey,
            DropKey,
            IndexPatients,
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
