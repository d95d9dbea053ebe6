"""Correlation ids and envelopes."""

from __future__ import annotations

import time
import uuid

import pytest

from engine.envelope import (
    ACCEPT,
    Ack,
    CorrelationIds,
    Envelope,
    Origin,
    Receipt,
    correlation_id_from,
    new_correlation_id,
)
from engine.hl7.message import Message


@pytest.mark.parametrize("header", ["a", "A-1_b.2", "x" * 64])
def test_a_well_formed_correlation_id_is_kept(header: str) -> None:
    assert correlation_id_from(header) == header


@pytest.mark.parametrize("header", [None, "", "x" * 65, "a b", "a\r\nSet-Cookie: x", 'a"b', "ä", "a/b"])
def test_anything_else_is_replaced_and_never_echoed(header: str | None) -> None:
    made = correlation_id_from(header)
    assert uuid.UUID(made).version == 7
    assert header is None or made != header


def test_new_correlation_ids_are_unique_and_rise_with_time() -> None:
    ids = [new_correlation_id() for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert [made[:13] for made in ids] == sorted(made[:13] for made in ids)


def test_ids_rise_whatever_the_clock_says_and_a_fork_shares_nothing_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    began = 1_800_000_000_123_456_789
    clock = [began] * 0x1002 + [began - 60_000_000_000] * 3 + [began + 2_000_000, began + 5_000_000_000]
    moments = iter(clock)
    monkeypatch.setattr(time, "time_ns", lambda: next(moments))
    make = CorrelationIds()
    ids = [make() for _ in clock]
    assert len(set(ids)) == len(ids)
    assert all((uuid.UUID(made).version, uuid.UUID(made).variant) == (7, uuid.RFC_4122) for made in ids)
    assert all(int(made.replace("-", "")[:12], 16) * 1_000_000 <= began + 5_000_000_000 for made in ids)
    assert ids == sorted(ids)
    assert len({made[19:] for made in ids}) == 2, "new chance every four seconds"
    moments = iter([began])
    make.forget()
    assert make()[19:] not in {made[19:] for made in ids}


def test_each_outcome_of_a_receipt_is_told_once() -> None:
    receipt, heard = Receipt("c"), list[tuple[object, object]]()
    receipt.listener = lambda: heard.append((receipt.accepted, receipt.answered))
    committed, no = receipt.committed, Ack("reject")
    receipt.accept(ACCEPT)
    receipt.accept(no)
    receipt.settle(no)
    receipt.finish(ACCEPT)
    assert heard == [(ACCEPT, None), (ACCEPT, no)]
    assert (committed.result(), receipt.answer.result()) == (ACCEPT, no)
    settled = Receipt("d")
    answer = settled.answer
    settled.settle(ACCEPT)
    assert answer.result() is settled.committed.result() is ACCEPT


def test_what_is_noted_the_listener_hears_from_who_notes_it() -> None:
    heard: list[str] = []
    first, second = Receipt("a"), Receipt("b")
    first.listener = second.listener = lambda: heard.append("told")
    committed = second.committed
    first.note(ACCEPT, ACCEPT)
    second.note(ACCEPT)
    second.note(Ack("reject"), ACCEPT)
    assert heard == []
    assert (first.accepted, first.answered) == (second.accepted, second.answered) == (ACCEPT, ACCEPT)
    assert committed.result() is ACCEPT


def test_a_fork_may_be_changed_without_the_original_seeing_it() -> None:
    message = Message.parse(b"MSH|^~\\&|RIS|DTI|||||SIU^S12|1|P|2.3\rPID|1||P1\r")
    original = Envelope(message, Origin("mllp"), "c", "channel", 1, 0.0, {"emr": ["epic"]})
    fork = original.fork()
    fork.body.set("PID-3", "P2")
    fork.variables["emr"] = []
    assert original.body.value("PID-3") == "P1"
    assert original.variables == {"emr": ["epic"]}
