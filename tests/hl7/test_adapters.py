"""The same message for python-hl7 and hl7apy."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import hl7
import pytest

from engine.hl7.adapters import from_python_hl7, to_hl7apy, to_python_hl7, validate
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


def _sent(raw: bytes) -> Message:
    """The sample with a time where it says ``@NOW``."""
    message = Message.parse(raw)
    message.write("MSH-7", "20250115083204")
    return message


@pytest.mark.parametrize(
    "name", ["P_epic_S12", "P_cerner_S12", "N1_SIU_S12_RIS_v251", "O3_ADT_A01_v251", "N5_ACK_CE_v251"]
)
def test_what_is_right_has_no_findings(sample: Sample, name: str) -> None:
    assert validate(_sent(sample(name))) == []


def test_findings_are_kinds_of_fault_without_content(sample: Sample) -> None:
    message = _sent(sample("P_cerner_S12"))
    message.delete("SCH-6")
    message.delete("RGS-1")
    assert validate(message) == ["ValidationError"]
    assert validate(_sent(sample("P_generic27_S12"))) == ["TypeError"]
    message.write("SCH-6", "S12")
    message.write("MSH-7", "yesterday at Doe's")
    assert validate(message) == ["ValueError"]


def test_neither_library_is_loaded_before_it_is_asked_for() -> None:
    code = (
        "import sys, engine.hl7, engine.hl7.adapters, engine.hl7.dictionary;"
        "print('hl7' in sys.modules, 'hl7apy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
