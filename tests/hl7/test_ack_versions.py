"""Acks of every version, with every delimiter and in every charset of table 0211 that can be read."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from engine.hl7 import charset as charsets
from engine.hl7.ack import AckCode, make_ack
from engine.hl7.answer import read_ack
from engine.hl7.header import header_of, is_acknowledgement
from engine.hl7.message import Message

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
VERSIONS = ("2.1", "2.2", "2.3", "2.3.1", "2.4", "2.5", "2.5.1", "2.6", "2.7", "2.7.1", "2.8", "2.8.1", "2.8.2", "2.9")


def message(version: str = "2.5", delimiters: str = "|^~\\&", charset: str = "", name: str = "RIS") -> str:
    f, c = delimiters[0], delimiters[1]
    fields = [f"MSH{delimiters}", name, "DTI", "ENGINE", "SITE", "20260101", "", f"SIU{c}S12", "M1", "P", version]
    fields += ["", "", "", "", "", charset] if charset else []
    return f.join(fields) + "\rPID" + f + "1\r"


def refused(raw: bytes) -> bytes:
    header = header_of(raw)
    assert header is not None
    return make_ack(header, AckCode.AE, "A1", NOW, condition=204, location="PID^1^3")


@pytest.mark.parametrize("version", VERSIONS)
def test_an_error_is_written_as_its_version_writes_it(version: str) -> None:
    raw = refused(message(version).encode())
    made = Message.parse(raw)
    assert (made.version, made.value("MSA-2"), made.value("MSH-9.1")) == (version, "M1", "ACK")
    modern = version >= "2.5"
    assert (made.read("MSH-9") == "ACK") is (version in ("2.1", "2.2", "2.3"))
    assert bool(made.value("MSA-6")) is (not modern and version != "2.1")
    assert (made.value("ERR-3.1"), made.value("ERR-4")) == (("204", "E") if modern else ("", ""))
    assert bool(made.value("ERR-1")) is not modern
    read = read_ack(raw)
    assert (read.code, read.condition, read.location) == ("AE", "204", "PID-3")


@pytest.mark.parametrize("delimiters", ["|^~\\&", "|^~\\&#", "$%~\\&", "|^", "|^~", "|^~\\", "!@*\\+?", "#:~\\&"])
def test_delimiters_are_the_senders(delimiters: str) -> None:
    raw = refused(message("2.7", delimiters).encode())
    assert raw.startswith(b"MSH" + delimiters[:2].encode())
    read = read_ack(raw)
    assert (read.control_id, read.condition, read.location) == ("M1", "204", "PID-3")


SAMPLES = {
    "ISO IR87": "山田", "ISO IR159": "山田", "ISO IR14": "ﾔﾏﾀﾞ", "GB 18030-2000": "李明", "KS X 1001": "김",
    "BIG-5": "李明",    "CNS 11643-1992": "李明", "UNICODE": "Müller", "UNICODE UTF-8": "Ωmega李",
    "8859/5": "Иванов", "8859/6": "محمد",
    "8859/7": "Ωμεγα", "8859/8": "שלום", "8859/2": "Łódź", "8859/15": "Šœur€",
}  # fmt: skip


@pytest.mark.parametrize(
    "name", [name for name in charsets.TABLE_0211 if "UTF-16" not in name and "UTF-32" not in name]
)
def test_what_is_copied_keeps_its_bytes_in_every_charset(name: str) -> None:
    sender = SAMPLES.get(name, "RIS")
    codec = charsets.codec(name)
    assert codec is not None
    raw = message("2.5.1", charset=name, name=sender).encode(codec)
    made = refused(raw)
    assert Message.parse(made).value("MSH-18") == name
    assert sender.encode(codec) in made
    assert read_ack(made).control_id == "M1"
    assert Message.parse(raw).to_bytes() == raw


@pytest.mark.parametrize("codec", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"])
def test_a_message_in_wide_characters_is_answered_in_them(codec: str) -> None:
    text = message("2.5.1", charset="UNICODE UTF-16", name="Ωmega")
    raw = text.encode(codec)
    made = refused(raw)
    read = Message.parse(made)
    assert (read.value("MSH-5"), read.value("MSA-2"), read.version) == ("Ωmega", "M1", "2.5.1")
    ack = "MSH|^~\\&|A|B|C|D|2026||ACK|X|P|2.5\rMSA|AA|M1\r".encode(codec)
    assert is_acknowledgement(ack)


@pytest.mark.parametrize("lie", ["ASCII", "UNICODE UTF-8", "", "8859/1~UNICODE UTF-8", "KLINGON", "UNICODE UTF-16"])
def test_a_charset_that_is_not_true_harms_no_byte(lie: str) -> None:
    raw = message(charset=lie, name="M\u00fcller").encode("latin-1")
    assert b"|M\xfcller|" in refused(raw)
    assert Message.parse(raw).to_bytes() == raw


def test_more_encoding_characters_than_there_are_is_no_message() -> None:
    assert header_of(b"MSH|^~\\&#@|RIS|DTI|E|S|2026||SIU^S12|M1|P|2.7\r") is None
