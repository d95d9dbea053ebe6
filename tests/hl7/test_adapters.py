"""The same message for python-hl7 and hl7apy."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import hl7

from engine.hl7.adapters import from_python_hl7, to_hl7apy, to_python_hl7
from engine.hl7.message import Message

Sample = Callable[[str], bytes]


def test_python_hl7_and_back_changes_no_byte(each_sample: bytes) -> None:
    theirs = to_python_hl7(Message.parse(each_sample))
    assert isinstance(theirs, hl7.Message)
    assert from_python_hl7(theirs).to_bytes() == each_sample


def test_a_change_made_with_python_hl7_is_taken_over(sample: Sample) -> None:
    theirs = Message.parse(sample("O3_ADT_A01_v251")).to_python_hl7()
    theirs["PID.F8"] = "F"
    assert Message.from_python_hl7(theirs).read("PID-8") == "F"


def test_hl7apy_reads_the_message_without_losing_segments(sample: Sample) -> None:
    message = Message.parse(sample("O3_ADT_A01_v251"))
    message.write("ZDS-1", "1")
    theirs = to_hl7apy(message)
    assert [child.name for child in theirs.children] == message.names()


def test_neither_library_is_loaded_before_it_is_asked_for() -> None:
    code = (
        "import sys, engine.hl7, engine.hl7.adapters, engine.hl7.dictionary as d; d.fields('2.5.1', 'PID');"
        "print('hl7' in sys.modules, 'hl7apy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
