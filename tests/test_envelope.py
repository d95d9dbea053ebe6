"""Correlation ids and envelopes."""

from __future__ import annotations

import uuid

import pytest

from engine.envelope import Envelope, Origin, correlation_id_from, new_correlation_id
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


def test_a_fork_may_be_changed_without_the_original_seeing_it() -> None:
    message = Message.parse(b"MSH|^~\\&|RIS|DTI|||||SIU^S12|1|P|2.3\rPID|1||P1\r")
    original = Envelope(message, Origin("mllp"), "c", "channel", 1, 0.0, {"emr": ["epic"]})
    fork = original.fork()
    fork.body.set("PID-3", "P2")
    fork.variables["emr"] = []
    assert original.body.value("PID-3") == "P1"
    assert original.variables == {"emr": ["epic"]}
