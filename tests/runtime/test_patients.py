"""Which patient ids a message is found by."""

from __future__ import annotations

from dataclasses import replace

from engine.config.plan import Patients
from engine.hl7.message import Message
from engine.hl7.path import Path
from engine.runtime.patients import MOST, reader

MSH = "MSH|^~\\&|A|B|C|D|20260101||ADT^A40|1|P|2.5\r"


def of(*texts: str) -> Patients:
    paths = [Path.parse(text) for text in texts]
    return Patients(tuple((path, replace(path, repetition=None, component=None, subcomponent=None)) for path in paths))


def ids(segments: str, *texts: str) -> tuple[str, ...]:
    return reader(of(*(texts or ("PID-3.1", "MRG-1.1"))))(Message.parse((MSH + segments).encode()), {})


def test_every_repetition_of_every_segment_counts_once() -> None:
    assert ids("PID|1||M1^^^A~M2^^^B~M1^^^C\rMRG|O1~O2\rPID|2||M3\rMRG|O3\r") == ("M1", "M2", "M3", "O1", "O2", "O3")


def test_a_message_without_a_patient_has_none() -> None:
    assert ids("PV1|1\r") == ids("PID|1||\r") == ids('PID|1||""\r') == ()


def test_a_path_that_names_a_repetition_means_that_one() -> None:
    assert ids("PID|1||M1~M2\r", "PID-3[2].1") == ("M2",)


def test_escapes_are_data() -> None:
    assert ids("PID|1||A\\T\\B\r") == ("A&B",)


def test_thousands_of_repetitions_are_cut() -> None:
    assert len(ids("PID|1||" + "~".join(f"M{number}" for number in range(5000)) + "\r")) == MOST


def test_members_of_a_request_and_its_query() -> None:
    members = Patients((), (("body", "patient", "mrn"), ("body", "others"), ("query", "mrn")))
    body = {"patient": {"mrn": 7}, "others": ["a", "", None, {"x": 1}]}
    assert reader(members)(body, {"mrn": "q"}) == ("7", "a", "q")
    assert reader(members)(None, {}) == reader(members)(b"bytes", {}) == ()
