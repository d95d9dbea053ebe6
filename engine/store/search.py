"""Search over messages, newest first: which named queries answer a ``Find``, so that none goes through a table.

The most selective condition drives: a correlation id, else a patient, else a control id, else the state of a delivery,
else channel and state, else the time. Times become a window of ids first (ids rise with time),
so that a search long ago costs what one today does.
Where several queries share an answer, each gives its newest and the newest of all are among them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from engine.delivery import MessageState
from engine.store import queries
from engine.store.base import Find, MessageRow
from engine.store.crypto import Crypto
from engine.store.reader import Reader
from engine.store.stored import bucket_of, text

#: Seconds by which the times of ids that follow each other may be out of order without being a clock that was set back.
SLACK = 1.0
_LAST = 2**63 - 1
#: States of messages that never have a delivery.
_NO_DELIVERIES = frozenset({MessageState.FILTERED, MessageState.REFUSED})


class Search:
    """Answers ``Find``."""

    def __init__(self, reader: Reader, crypto: Crypto) -> None:
        self._reader, self._crypto = reader, crypto

    def find(self, find: Find) -> Sequence[MessageRow]:
        """See ``Store.find``."""
        if find.delivery_state is not None and find.state in _NO_DELIVERIES:
            return []
        start, end = self._window(find.since, find.until)
        end = min(end, find.before_id or _LAST)
        if start >= end:
            return []
        times = (-math.inf if find.since is None else find.since, math.inf if find.until is None else find.until)
        hashed = None if find.patient is None else self._crypto.patient_hash(find.patient)
        pairs = (find.channel, find.state, find.delivery_state, find.correlation_id)
        control_id = None if find.control_id is None else text(find.control_id)
        triples = (hashed, control_id)
        wanted = (*(value for value in pairs for _ in range(2)), *(value for value in triples for _ in range(3)))
        rest = (*times, *wanted, find.limit)
        if hashed is not None and find.correlation_id is None:
            return self._of_patient(hashed, find.limit, (start, end), rest)
        found: list[MessageRow] = []
        for query, given, narrow in self._queries(find):
            is_late = query is queries.FIND_BY_LATE_CONTROL_ID
            first = max(start, self._reader.indexed_up_to() + 1) if is_late else start
            ids = (first, end, first, end) if narrow else (first, end)
            found = _newest([*found, *self._reader.messages(query, *given, *ids, *rest)], find.limit)
            if len(found) == find.limit:  # what is older than these need not be read from the queries to come
                start = found[-1].message_id
        return found

    def _queries(self, find: Find) -> Iterator[tuple[str, tuple[object, ...], bool]]:
        """Each query that shares the answer, what it is given, and whether ids narrow it before its filter does."""
        if find.correlation_id is not None:
            yield queries.FIND_OWN, (find.correlation_id,), False
            yield queries.FIND_BY_CORRELATION_ID, (find.correlation_id,), False
        elif find.control_id is not None:
            # In this order: of those that are sorted into the index meanwhile, none is missed.
            yield queries.FIND_BY_LATE_CONTROL_ID, (text(find.control_id),), False
            yield queries.FIND_BY_CONTROL_ID_IN, (text(find.control_id),), False
            yield queries.FIND_BY_CONTROL_ID_OUT, (text(find.control_id),), True
        elif find.delivery_state is not None:
            for channel in self._channels(find):
                yield queries.FIND_BY_DELIVERY_STATE, (find.delivery_state, channel), True
        elif find.channel is None and find.state is None:
            yield queries.FIND_NEWEST, (), False
        else:
            for channel in self._channels(find):
                for state in [find.state] if find.state is not None else MessageState:
                    yield queries.FIND_BY_STATE, (channel, str(state)), False

    def _channels(self, find: Find) -> list[str]:
        return [find.channel] if find.channel is not None else [name for (name,) in self._reader.rows(queries.CHANNELS)]

    def _of_patient(
        self, hashed: bytes, limit: int, ids: tuple[int, int], rest: tuple[object, ...]
    ) -> list[MessageRow]:
        """Messages whose hashes stand in their own rows, then buckets, newest first: no id of one is in another.

        Also of those that are sorted in meanwhile, which leaves the hashes where they were.
        """
        up_to = self._reader.indexed_up_to()
        late, ids = (max(ids[0], up_to + 1), ids[1]), (ids[0], min(ids[1], up_to + 1))
        found = self._reader.messages(queries.FIND_BY_LATE_PATIENT, hashed, *late, *rest)
        if len(found) == limit or ids[0] >= ids[1]:
            return found
        for (bucket,) in self._reader.rows(queries.PATIENT_BUCKETS, hashed, *map(bucket_of, ids)):
            found += self._reader.messages(queries.FIND_BY_PATIENT, bucket, hashed, *ids, *ids, *rest)
            if len(found) >= limit:
                break
        return found[:limit]

    # -- times -----------------------------------------------------------------------------------------------------

    def _window(self, since: float | None, until: float | None) -> tuple[int, int]:
        """Ids, from and to, among which every message of a time is; some others may be."""
        if since is None and until is None:
            return 0, _LAST
        ((first, last),) = self._reader.rows(queries.MESSAGE_IDS)
        if first is None:
            return 0, 0
        steps = (step for (step,) in self._reader.rows(queries.CLOCK_STEPS) if first < step <= last)
        found: list[int] = []
        for low, high in pairwise((first, *steps, last + 1)):
            start = low if since is None else self._first(low, high, since - SLACK)
            end = high if until is None else self._first(start, high, until + SLACK)
            found += [start, end] if start < end else []
        return (min(found), max(found)) if found else (0, 0)

    def _first(self, low: int, high: int, time: float) -> int:
        """The first id from ``low`` on that was received at ``time`` or later; ``high`` when none is before it."""
        while low < high:
            middle = (low + high) // 2
            message_id, received_at = self._reader.row(queries.RECEIVED_FROM, middle)
            if message_id >= high or received_at >= time:
                high = middle
            else:
                low = message_id + 1
        return low


def _newest(rows: Iterable[MessageRow], limit: int) -> list[MessageRow]:
    found = {row.message_id: row for row in rows}
    return [found[message_id] for message_id in sorted(found, reverse=True)[:limit]]
