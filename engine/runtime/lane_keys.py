"""Which lanes a message stands in: the values of its ordering key, read from the bytes as they were received.

Most messages have one key. A message that names a second patient (an MRG segment: A18, A30, A34 to A36, A39 to A42 and
what later versions add) has the keys of both, so that it neither overtakes an earlier message of either nor is
overtaken by a later one. Several keys are stored as one text; what they are is nobody's business further down.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

from engine.config.plan import Order
from engine.hl7.message import Message
from engine.hl7.path import Path
from engine.hl7.segment import Segment

#: Keys of one message at most; one that names more is not routed.
MOST = 100

#: Stands between the keys of a text that ``joined`` made.
BETWEEN = "\x1e"


def joined(keys: Iterable[str]) -> str:
    """Several keys as one text; each once, in their order."""
    return BETWEEN.join(dict.fromkeys(key.replace(BETWEEN, " ") for key in keys))


def keys_of(key: str) -> tuple[str, ...]:
    """The keys of which ``joined`` made a text; the empty text is the one key of all messages without any."""
    return tuple(key.split(BETWEEN))


def key_of(order: Order, body: Message | Any, hashed: Callable[[str], str]) -> str:
    """The keys of a message as one text, each as ``hashed`` (``Store.lane_key``) gives it: they may be patient ids."""
    return joined(map(hashed, ordering_keys(order, body)))


def reader(order: Order, hashed: Callable[[str], str]) -> Callable[[Message | Any], str]:
    """``key_of`` for the messages of one channel."""
    if order.kind != "key":
        return lambda _body: ""
    value_of, merges = order.paths[0].value if order.paths else None, bool(order.merges)

    def read(body: Message | Any) -> str:
        if value_of is not None and isinstance(body, Message):
            value = value_of(body)
            if value and not (merges and body.count("MRG")):  # most messages have one key, named by the first path
                return hashed(value).replace(BETWEEN, " ")
        return key_of(order, body, hashed)

    return read


def too_many(key: str) -> bool:
    """Whether a message names more keys than one may."""
    return key.count(BETWEEN) >= MOST


def ordering_keys(order: Order, body: Message | Any) -> list[str]:
    """The values that keep a message in order; one empty value when there is none (all of these share one lane)."""
    if order.kind != "key":
        return [""]
    if not isinstance(body, Message):
        return [next((value for name in order.names if (value := _member(body, name))), "")]
    path, value = next(((path, value) for path in order.paths if (value := body.value(path))), (None, ""))
    if not order.merges or not body.count("MRG"):
        return [value]
    found = [""] if path is None else list(_values(body, path))
    for segment in body.segments("MRG"):
        found += next((values for prior in order.merges if (values := list(_repetitions(segment, prior)))), [])
        if len(found) > MOST:
            break
    return found


def _values(body: Message, path: Path) -> Iterator[str]:
    """What stands at ``path`` in each segment of its name: a merge may name several patients that stay."""
    if path.segment_index is not None:
        yield body.value(path)
        return
    for segment in body.segments(path.segment)[: MOST + 1]:
        if value := segment.value(path):
            yield value


def _repetitions(segment: Segment, path: Path) -> Iterator[str]:
    """Every identifier that a field lists: which of them earlier messages had as their key is not known."""
    if path.repetition is not None:
        yield segment.value(path)
        return
    for number in range(1, MOST + 2):
        place = replace(path, repetition=number)
        if segment.read(place) is None:
            return
        if value := segment.value(place):
            yield value


def _member(body: Any, name: str) -> str:
    for part in name.split("."):
        body = body.get(part) if isinstance(body, dict) else None
    return "" if body is None else str(body)
