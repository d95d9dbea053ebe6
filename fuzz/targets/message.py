"""The HL7 parser: nothing but MalformedMessage, lossless where nothing was changed, and what it reads is text.

Input: the charset that the channel names, then the bytes of a message.
"""

from __future__ import annotations

import hl7

from engine.errors import MalformedMessage
from engine.hl7.message import Message
from engine.hl7.path import Path
from fuzz.data import Input, samples

CHARSETS = (
    None,
    None,
    "UNICODE UTF-8",
    "8859/1",
    "ISO IR87",
    "GB 18030-2000",
    "BIG-5",
    "KS X 1001",
    "ISO IR14",
    "utf-16",
)
_PATHS = tuple(
    Path.parse(text)
    for text in (
        "MSH-1",
        "MSH-2",
        "MSH-9.3",
        "MSH-18",
        "PID-3",
        "PID-3[2].1",
        "PID-3.4.2",
        "OBX[2]-5.1",
        "OBX-5[3]",
        "ZZZ",
    )
)


def seeds() -> list[bytes]:
    """The samples, and messages as careless partners write them."""
    found = [b"\x00" + sample for sample in samples()]
    one = samples()[0]
    found += [
        b"\x00" + one.replace(b"\r", b"\n"),
        b"\x00\xef\xbb\xbf" + one.replace(b"\r", b"\r\n\r\n"),
        b"\x09" + one.decode().encode("utf-16"),
        b"\x00" + one.decode().encode("utf-32-le"),
        b"\x00MSH#!*%@#A#B##C##ADT!A01#1#P#2.3\rPID#1##a!b*c%T%d@e\r",
        b'\x00MSH|^~\\&#|||||||ADT^A01|1|P|2.7||||||UNICODE UTF-8\rPID|||\xc3\xa4\\X41\\\\F\\\\.br\\""|""\r',
        b"\x04MSH|^~\\&|||||||ADT^A01|1|P|2.5||||||~ISO IR87\rPID|||\x1b$B;3ED\x1b(B^a\r",
        b"\x06MSH|^~\\&|||||||ADT^A01|1|P|2.5||||||BIG-5\rPID|||\xa5\x5c\xa5\x7c\xff\r",
        b"\x00MSH|^~\\&\r\rNTE|1||line one\nline two\n\nOBX|1\r\x00\rA\rZZZ\r",
    ]
    return found


def check(data: bytes) -> None:
    """Read it, write it, read it again."""
    given = Input(data)
    charset, raw = given.choose(CHARSETS), given.rest()
    try:
        message = Message.parse(raw, charset)
    except MalformedMessage:
        return
    _check_reading(message)
    written = message.to_bytes()
    if _is_plain(raw, charset):
        assert written == raw, "what nobody changed leaves as it came"
    again = Message.parse(written, message.charset)
    assert again.to_bytes() == written, "written once and read again, it stays the same"
    twin = message.copy()
    assert twin.to_bytes() == written
    assert twin.text == message.text
    message.trim()
    trimmed = message.text
    message.trim()
    assert message.text == trimmed, "trimmed once is trimmed"
    assert twin.to_bytes() == written, "a copy does not notice"


def _is_plain(raw: bytes, charset: str | None) -> bool:
    """Whether nothing of the message's form is mended while it is read."""
    wide = charset == "utf-16" or b"UTF-16" in raw.upper() or b"UTF-32" in raw.upper()
    return (
        raw.startswith(b"MSH")
        and raw.endswith(b"\r")
        and b"\n" not in raw
        and b"\r\r" not in raw
        and not wide
        and b"\x1b" not in raw
    )


def _check_reading(message: Message) -> None:
    names = message.names()
    assert len(names) == len(message.segments())
    assert names[0] == "MSH"
    for path in _PATHS:
        message.value(path).encode("utf-8")
        message.null(path)
    for text in (message.type, message.event, message.control_id, message.version, message.charset, repr(message)):
        text.encode("utf-8")
    for name in set(names) - {""}:
        assert len(message.segments(name)) == message.count(name)
        last = f"{name}[{message.count(name)}]"
        assert not Path.looks_like(last) or message.read(last) is not None
    _ = message.undecodable
    if message.text.startswith("MSH|^~\\&|") and message.text.isascii():
        _check_with_python_hl7(message)


def _check_with_python_hl7(message: Message) -> None:
    """A second reader of the same text sees the same fields, where that one has no opinion of its own."""
    text = message.text
    if any(character in text for character in "\n\x0b\x0c\x1c\x1d\x1e\x1f\x85") or "" in message.names():
        return
    other = hl7.parse(text)
    for mine, theirs in zip(message.segments(), other, strict=True):
        for number in range(1, len(theirs)):
            path = f"{mine.name}-{number}"
            if mine.name not in ("MSH", "FHS", "BHS") and Path.looks_like(path):
                assert (mine.read(path) or "").strip() == str(theirs[number]).strip()
