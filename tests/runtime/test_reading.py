"""Key and patients read together are those that are read apart."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.config.plan import Order, Patients
from engine.envelope import Origin
from engine.hl7.bulk import LARGE
from engine.hl7.message import Message
from engine.hl7.path import Path
from engine.runtime import content, lane_keys, patients, reading

MERGES = (Path.parse("MRG-1.1"),)
FIELD = st.lists(
    st.sampled_from(["", "M1", "M2", "M1^^^A", "~", "^", "&", '""', "\\T\\", "M-1", "é", "ÿ", "M1~M2", " M1"]),
    max_size=3,
).map("".join)
LINE = st.builds(
    lambda name, fields: "|".join([name, *fields]),
    st.sampled_from(["PID", "MRG", "PV1", "OBX", "pid", "PIDX", "MSH", ""]),
    st.lists(FIELD, max_size=4),
)
ORDERS = [
    Order(),
    Order("none"),
    *(
        Order("key", tuple(map(Path.parse, paths)), (), merges)
        for paths in (["PID-3.1"], ["MRG-1.1"], ["PID-3.1", "PV1-3"], ["PV1-2"], ["PID-3"])
        for merges in ((), MERGES)
    ),
]


def of(*texts: str) -> Patients:
    paths = [Path.parse(text) for text in texts]
    return Patients(tuple((path, replace(path, repetition=None, component=None, subcomponent=None)) for path in paths))


@given(
    st.lists(LINE, max_size=5),
    st.sampled_from(ORDERS),
    st.sampled_from(
        [(), ("PID-3.1",), ("PID-3.1", "MRG-1.1"), ("PID-3.1", "MSH-3.1"), ("PID-3[2].1",), ("PID-3.2.1",)]
    ),
    st.sampled_from(["MSH|^~\\&|A", "MSH|*~\\&|A", "MSH|^~\\&|A|||||||||||||||8859/1"]),
    st.sampled_from(["", "OBX|1\r" * 40]),
)
def test_both_at_once_are_what_they_are_apart(
    lines: list[str], order: Order, texts: tuple[str, ...], header: str, more: str
) -> None:
    raw = "\r".join([header, *lines, more]).encode("latin-1")
    named = of(*texts)
    key = lane_keys.key_of(order, Message.parse(raw), str.lower)
    ids = patients.reader(named)(Message.parse(raw), {})
    for body in (Message.parse(raw), content.parse(raw, Origin("mllp"), None, split=False)):
        assert reading.reader(order, named, str.lower)(body, {}) == (key, ids)


@pytest.mark.parametrize("segments", ["PID|1||M1^^^A", "PID|1||M1\rPID|2||M2", "PV1|1"])
def test_of_a_large_message_too(segments: str) -> None:
    message = Message.parse(f"MSH|^~\\&|A\r{segments}\rOBX|1|ED|||{'A' * LARGE}\r".encode())
    key, ids = lane_keys.key_of(ORDERS[2], message, str.lower), patients.reader(of("PID-3.1"))(message, {})
    assert reading.reader(ORDERS[2], of("PID-3.1"), str.lower)(message, {}) == (key, ids)


@pytest.mark.parametrize("body", [{"patient": {"mrn": "M1"}}, b"bytes", None])
def test_of_what_is_no_message_too(body: Any) -> None:
    order = Order("key", (Path.parse("PID-3.1"),), ("patient.mrn",))
    named = replace(of("PID-3.1"), members=(("body", "patient", "mrn"),))
    key, ids = ("m1", ("M1",)) if isinstance(body, dict) else ("", ())
    assert reading.reader(order, named, str.lower)(body, {}) == (key, ids)
