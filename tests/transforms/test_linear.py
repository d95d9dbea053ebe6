"""Twice as long a message costs a step twice as much, and no more (10,000 segments, 5,000 repetitions)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from engine.hl7.message import Message
from tests.counting import LINEAR, ratio

HEAD = b"MSH|^~\\&|RIS|DTI|ENGINE|HERE|20261120080000||ORU^R01|M1|P|2.5.1\rPID|1||P1\rORC|RE\rOBR|1\r"
#: A result needs an order; this one is the same for all.
ORDER = {"OBR-4": "A^B", "OBR-27": "1"}
STEPS: dict[str, Any] = {
    "keep": {"keep": {"MSH-9.1": "ORU", "OBX-5": "never"}},
    "drop": {"drop": {"OBX-5": "never"}},
    "set": {"set": {"OBX-5": "x", "PID-5.1": {"from": "OBX-5", "format": "upper"}, "ZID-1": "z"}},
    "copy": {"copy": {"PID-18": "OBX-5", "PID-2": "PID-3.1"}},
    "delete": {"delete": ["OBX", "PID-19"]},
    "convert": {"convert": {"version": "2.3"}},
    "convert up": {"convert": {"version": "2.7"}},
    "require": {"require": {"that": {"PID-3.1": "P1"}, "otherwise": {"error": "no"}}},
    "template": {"set": {"$text": "{{ message['OBX-5'] }}"}},
    "build": {
        "build": {
            "message": "ORU^R01",
            "version": "2.3",
            "copy": ["PID-3", "OBX-2", "OBX-3", "OBX-5"],
            "fields": {"MSH-3": "ENGINE", "PID-5": {"from": "AIL-3.1", "default": "Doe"}, **ORDER},
            "defaults": {"OBX-1": "1", "OBX-11": "F"},
        }
    },
    "build, each": {
        "build": {
            "message": "ORU^R01",
            "version": "2.3",
            "fields": {
                "MSH-3": "ENGINE",
                "PID-3": {"from": "PID-3"},
                "PID-5": "Doe",
                "NTE-3": {"from": "OBX-5"},
                **ORDER,
            },
            "segments": {"NTE": {"each": "OBX"}},
        }
    },
    "build JSON": {"build": {"json": {"first": {"from": "OBX-5"}, "all": {"from": "AIL-3"}}}},
}


def segments(number: int) -> bytes:
    return HEAD + b"".join(b"OBX|%d|NM|A^B||%d\r" % (at, at) for at in range(number))


def repetitions(number: int) -> bytes:
    return HEAD + b"AIL|1||" + b"~".join(b"a%d^b&c" % at for at in range(number)) + b"\r"


def appointments(number: int) -> bytes:
    """Everything that stands elsewhere in another version, again and again."""
    one = b"SCH|1||||||||30|min\rTQ1|1||||||20260101\rPID|1|X|A~B||D~E||||F~G\rRGS|1\rAIL|1||a^b~c^d\rNTE|1||x\r"
    return HEAD.replace(b"ORU^R01", b"SIU^S12").replace(b"ORC|RE\rOBR|1\r", b"") + one * number


@pytest.mark.parametrize(
    ("raw", "size"),
    [(segments, 5_000), (repetitions, 2_500), (appointments, 1_000)],
    ids=["segments", "repetitions", "appointments"],
)
@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS.keys())
def test_a_step_on_a_long_message(
    envelope: Any, context: Any, loading: Any, step: Any, raw: Callable[[int], bytes], size: int
) -> None:
    chain = loading.chain([step], ())

    def make(number: int) -> Callable[[], Any]:
        given = envelope(raw(number))

        def work() -> None:
            chain.run(given, context)
            if isinstance(given.body, Message):
                given.body.to_bytes(None, "replace")

        return work

    assert ratio(make, size) <= LINEAR
