"""Escaping, delimiters and charsets: data survives the way into HL7 text, to other delimiters, to bytes and back.

Input: two sets of delimiters, a charset, then text in UTF-8 (bytes that are none stand for themselves).
"""

from __future__ import annotations

import re

from engine.errors import MalformedMessage
from engine.hl7 import charset as charsets
from engine.hl7.escape import escape, translate, unescape
from engine.hl7.separators import Separators
from fuzz.data import Input

_DELIMITERS = ("|^~\\&", "#!*%@", "|^~\\&#", "^|~/@", "&~^\\|", "$,;:!", "|^")
_CODECS = (*sorted(set(charsets.TABLE_0211.values())), "cp1252", "koi8-r", "euc_jp", "hz")
# Chapter 2.7: what stays a sequence, since it says how text looks or is meant for somebody else.
_FORMATTING = re.compile(r"[HN]|\.[A-Za-z]{2}[+-]?\d*|[XCMZ][0-9A-Za-z]*", re.ASCII)


def seeds() -> list[bytes]:
    """Text with every kind of escape sequence."""
    texts = (
        r"a|b^c~d\e&f", r"\F\\S\\T\\R\\E\\.br\\X0D\\X41C3A4\\H\N\\.sp3\\Zx\\Cab\\M12", "\\", "a\\", '""', "a\r\nb\tc\x00\x1c\x0b",
        "ä€山田\U0001f600", r"C:\dir\file", "\\X\\\\X1\\\\XZZ\\", "\\P\\#",
    )  # fmt: skip
    return [
        bytes([one, other, (one * 7 + number) % 40]) + text.encode()
        for number, text in enumerate(texts)
        for one, other in ((0, 1), (1, 0), (2, 3), (0, 0), (5, 4))
    ]


def check(data: bytes) -> None:
    """There and back."""
    given = Input(data)
    source, target = (Separators.of(f"MSH{marks}{marks[0]}") for marks in (given.choose(_DELIMITERS) for _ in range(2)))
    codec, raw = given.choose(_CODECS), given.rest()
    text = raw.decode("utf-8", "surrogateescape")
    _check_escape(text, source)
    _check_translate(text, source, target)
    _check_charset(raw, codec)
    _check_names(raw)


def _check_escape(text: str, marks: Separators) -> None:
    escaped = escape(text, marks)
    beyond = {marks.field, marks.component, marks.repetition, marks.subcomponent, "\r", "\n", "\x1c", "\x0b"}
    assert not beyond & set(escaped), "data has left its place"
    assert escaped != '""', "data looks like HL7 null"
    assert unescape(escaped, marks) == text, "data does not come back"


def _check_translate(text: str, source: Separators, target: Separators) -> None:
    text = "".join(character for character in text if ord(character) >= 32)
    there = translate(text, source, target)
    assert unescape(there, target, "utf-8") == _expected(text, source, target), "the data has changed on the way"
    for mine, other in ((source.field, target.field), (source.component, target.component)):
        assert there.count(other) == text.count(mine), "the structure has changed"


def _expected(text: str, source: Separators, target: Separators) -> str:
    """What the text says, with its structure written in the other's delimiters."""
    structure = str.maketrans(
        source.field + source.component + source.repetition + source.subcomponent,
        target.field + target.component + target.repetition + target.subcomponent,
    )
    pieces, out, at = text.split(source.escape), [], 1
    out.append(pieces[0].translate(structure))
    while at < len(pieces):
        sequence = f"{source.escape}{pieces[at]}{source.escape}"
        data = unescape(sequence, source, "utf-8")
        if at < len(pieces) - 1 and data != sequence:
            out += (data, pieces[at + 1].translate(structure))
            at += 2
        elif at < len(pieces) - 1 and _FORMATTING.fullmatch(pieces[at]):
            out += (f"{target.escape}{pieces[at]}{target.escape}", pieces[at + 1].translate(structure))
            at += 2
        else:
            out += (source.escape, pieces[at].translate(structure))
            at += 1
    return "".join(out)


def _check_charset(raw: bytes, codec: str) -> None:
    name = charsets.codec(codec)
    if name is None:
        return
    text, used = charsets.decode(raw, name)
    if charsets.is_exact(used):
        assert text.encode(used, "surrogateescape") == raw, f"{used} does not give the bytes back"
    for marks in ("|^~\\&", "|^~?&", "?_~\\&"):
        written = text.encode(used, charsets.lacking(marks, keep=False))
        if used == "ascii":
            kept = set(marks) & set(text)
            assert set(marks) & set(written.decode("ascii")) <= kept, "what a set lacks has become a delimiter"


def _check_names(raw: bytes) -> None:
    name = raw[:40].decode("latin-1")
    known = charsets.codec(charsets.declared(name))
    if known is not None:
        assert charsets.codec(known) == known
        charsets.hl7_name(known)
    try:
        marks = Separators.of("MSH" + name)
    except MalformedMessage:
        return
    assert len(set(marks.field + marks.encoding_characters)) == 1 + len(marks.encoding_characters)
