"""What stays in memory of texts that partners choose: nothing that is long, wherever in a message it stands."""

from __future__ import annotations

import encodings
import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest

from engine.envelope import Envelope
from engine.errors import MalformedMessage, StepFailed
from engine.hl7.ack import AckCode, make_ack
from engine.hl7.charset import codec
from engine.hl7.header import header_of
from engine.hl7.message import Message
from engine.remembered import LONGEST, Memory, remembered
from engine.transforms.base import Step

from .conftest import CsvTable, FakeContext, FakeLoading

LONG = 5000
PLACES = [
    *(f"MSH-{number}" for number in (3, 4, 8, 9, 11, 12, 15, 16, 18)),
    *("MSH-9.1", "MSH-9.2", "MSH-9.3", "SCH-11.4", "PID-3.1", "PID-13", "AIL-3", "OBX-2", "OBX-3", "OBX-5"),
    "a segment's name",
]
SIU = (
    "MSH|^~\\&|SCHED|HOSPITAL|OIE|RADIOLOGY|20260105101500||SIU^S12^SIU_S12|M1|P|2.5.1|||AL|NE\r"
    "SCH|A1^SCHED|P1^RIS|||||ROUTINE|MRI|30|min|^^30^202601051030^202601051100\r"
    "PID|1||1^^^HOSP^MR||DUPONT^MARIE||19700412|F\rOBX|1|ST|1^X||text||||||F\rRGS|1|A\rAIL|1|A|MR1\r"
)
STEPS: list[dict[str, Any]] = [
    {"set": {"$found": {"from": "PID-3.1", "map": "known", "missing": None}}},
    {"set": {"$at": {"from": "SCH-11.4", "format": "timestamp", "zone": {"from": "PID-13"}}}},
    {"set": {"$phone": {"from": "PID-13", "format": "e164"}}},
    {"validate": {"otherwise": "report", "into": "$findings"}},
    {"convert": {"version": "2.3"}},
    {"convert": {"version": "2.7"}},
]


def _with(place: str, text: str) -> bytes:
    if place == "a segment's name":
        return f"{SIU}{text}|1\r{text.replace('X', 'ZZ')}\r".encode()
    message = Message.parse(SIU.encode())
    message.write(place, text)
    return message.to_bytes("ascii")


@pytest.fixture(scope="module")
def steps() -> list[Step]:
    loading = FakeLoading(tables={"known": CsvTable("known", ("a", "b"), [])})
    return [loading.step(spec) for spec in STEPS]


def _take(raw: bytes, steps: Sequence[Step], envelope: Callable[..., Envelope]) -> None:
    """What an engine does with a message, as far as it remembers anything."""
    header = header_of(raw)
    assert header is not None
    _ = header.wanted
    for code in (AckCode.AA, AckCode.AE):
        make_ack(header, code, "1", datetime(2026, 1, 5, tzinfo=UTC), condition=207)
    for step in steps:
        with suppress(StepFailed, MalformedMessage):
            step.run(envelope(raw), FakeContext())


def _held(begin: str) -> Iterator[object]:
    """Whatever holds a long text that begins so."""
    gc.collect()
    for holder in gc.get_objects():
        for member in gc.get_referents(holder):
            # A tuple of nothing but texts is known to its holder alone.
            for text in member if isinstance(member, tuple) and not gc.is_tracked(member) else (member,):
                if isinstance(text, str) and len(text) >= LONG and begin in text[:10]:
                    yield holder


@pytest.mark.parametrize("place", PLACES)
def test_nothing_long_stays_of_a_message(place: str, steps: list[Step], envelope: Callable[..., Envelope]) -> None:
    begin = f"X{PLACES.index(place)}Q"
    _take(_with(place, begin + "9" * LONG), steps, envelope)
    assert [type(holder) for holder in _held(begin)] == []


def test_nothing_stays_of_a_header_with_a_million_fields() -> None:
    raw = f"MSH|^~\\&|{'|' * 1_000_000}\r".encode()
    first, second = header_of(raw), header_of(raw)
    assert first is not None
    assert second is not None
    assert len(first.fields) > 1_000_000
    assert first.kind is not second.kind


def test_python_is_asked_for_no_charset_that_it_does_not_have_or_in_many_spellings() -> None:
    before = set(encodings._cache)  # type: ignore[attr-defined]
    for number in range(100):
        assert codec(f"no-set-{number}") is None
        assert codec(f"utf{'-' * number}8") == "utf-8"
        assert codec(f"iso8859{'_' * number}15 ") == "iso8859-15"
    assert len(set(encodings._cache) - before) <= 3  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "name",
    [
        "utf.8",
        "..utf8",
        "UTF-8\0",
        "utf8\udc80",
        "utf-8\u00e9",
        "",
        "hex",
        "rot13",
        "aliases",
        "encodings.utf_8",
        "mbcs",
        "x" * 9000,
    ],
)
def test_what_is_no_charset_is_none(name: str) -> None:
    assert codec(name) is None


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("koi8-r", "koi8-r"),
        ("windows-1252", "cp1252"),
        ("iso8859.1", "iso8859-1"),
        ("utf-8!", "utf-8"),
        ("cp1140", "cp1140"),
    ],
)
def test_python_s_names_of_charsets_are_known(name: str, found: str) -> None:
    assert codec(name) == found


def test_a_memory_keeps_so_many_results_of_short_texts() -> None:
    asked: list[str] = []

    def work(text: str) -> int:
        asked.append(text)
        return len(text)

    memory = Memory(2, work)
    short, long = "a" * LONGEST, "b" * (LONGEST + 1)
    assert [memory[text] for text in (short, long, short, long)] == [LONGEST, LONGEST + 1, LONGEST, LONGEST + 1]
    assert asked == [short, long, long]
    assert [memory[text] for text in ("c", "d")] == [1, 1]
    assert dict(memory) == {"d": 1}


def test_texts_of_a_call_are_measured_together() -> None:
    asked: list[tuple[str, str]] = []

    @remembered(10)
    def both(one: str, other: str) -> str:
        """What it does."""
        asked.append((one, other))
        return one + other

    half = "h" * (LONGEST // 2)
    for _ in range(2):
        assert both(half, half) == half + half
        assert both(half, half + "x") == half + half + "x"
    assert asked == [(half, half), (half, half + "x"), (half, half + "x")]
    assert both.__doc__ == "What it does."


def test_a_function_that_fails_is_asked_again() -> None:
    calls: list[str] = []

    def fail(text: str) -> int:
        calls.append(text)
        raise ValueError

    failing: Callable[[str], int] = remembered(10)(fail)
    for _ in range(2):
        with pytest.raises(ValueError):
            failing("a")
    assert calls == ["a", "a"]
