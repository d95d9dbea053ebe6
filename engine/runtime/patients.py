"""Which patients a message is about: the ids it can be searched by, read from the bytes as they were received.

They go to the store, which keeps keyed hashes of them, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any

from engine.config.plan import Patients
from engine.hl7.message import Message
from engine.hl7.path import Path
from engine.hl7.segment import Segment

#: Ids of one message at most; what comes after is not searched.
MOST = 100


#: Of a message or a request, and the query of the latter: the ids of its patients, each once, in their order.
Reader = Callable[[Any, Mapping[str, Any]], tuple[str, ...]]


def reader(patients: Patients) -> Reader:
    """Reads them from what comes over one channel."""
    if not (patients.paths or patients.members):
        return lambda _body, _query: ()
    return lambda body, query: _each_once(
        _of_message(patients, body) if isinstance(body, Message) else _of_request(patients, body, query)
    )


def _each_once(found: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(islice(found, MOST)))


def _of_message(patients: Patients, body: Message) -> Iterator[str]:
    for path, field in patients.paths:
        for segment in body.segments(path.segment) if path.segment_index is None else [body]:
            yield from _values(segment, path, field)


def _values(segment: Segment | Message, path: Path, field: Path) -> Iterator[str]:
    """What stands at a path, in every repetition of its field unless it names one."""
    text = segment.at(field) if isinstance(segment, Segment) else segment.read(field)
    if not text:
        return
    if path.repetition is not None or segment.separators.repetition not in text:
        numbers = range(path.repetition or 1, (path.repetition or 1) + 1)
    else:
        numbers = range(1, min(MOST, text.count(segment.separators.repetition) + 1) + 1)
    for number in numbers:
        if value := segment.value(path if len(numbers) == 1 else replace(path, repetition=number)):
            yield value


def _of_request(patients: Patients, body: Any, query: Mapping[str, Any]) -> Iterator[str]:
    for root, *names in patients.members:
        value: Any = body if root == "body" else query
        for name in names:
            value = value.get(name) if isinstance(value, Mapping) else None
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, str | int) and not isinstance(one, bool) and one != "":
                yield str(one)
