"""Escape sequences: data ↔ HL7 text.

``unescape(escape(x)) == x`` for every string. What is no known sequence is kept as it stands: ``\\Zabc\\`` of a
partner, a lone backslash at the end, ``C:\\dir\\file`` of somebody who never escaped. HL7 v2.5.1 §2.7.
"""

from __future__ import annotations

import re

from engine.hl7.separators import Separators

#: HL7 null: "delete the value you have" (HL7 v2.5.1 §2.5.3); as data two quotes must look different.
NULL = '""'
# Bytes that are not of the message's charset (``charset.py``).
_UNDECODED = re.compile("[\udc80-\udcff]")
# Sequences that mean the same whatever the delimiters are: highlighting, formatting, bytes, local ones.
_FORMATTING = re.compile(r"[HN]|\.[A-Za-z]{2}[+-]?\d*|[XCMZ][0-9A-Za-z]*", re.ASCII)
_FIRST_PRINTABLE = 32


def escape(value: str, separators: Separators = Separators.default) -> str:
    """HL7 text that stands for ``value``: delimiters, line ends and control characters escaped."""
    if separators.special.search(value) is None:
        return f"{separators.escape}X2222{separators.escape}" if value == NULL else value
    return value.translate(separators.escapes)


def as_data(text: str | None, separators: Separators, codec: str) -> str:
    """HL7 text as data: unescaped; "" for what is absent, empty or null; always text that JSON and databases take."""
    if not text or (text.isalnum() and text.isascii()):
        return text or ""
    if text == NULL:
        return ""
    data = unescape(text, separators, codec) if separators.escape in text else text
    return data if data.isascii() else _UNDECODED.sub("\ufffd", data)


def unescape(text: str, separators: Separators = Separators.default, codec: str = "ascii") -> str:
    """The data that HL7 text stands for. ``codec`` reads the bytes of ``\\Xhh..\\``: the message's charset.

    ``\\.br\\`` is a line feed. Other formatting (``\\H\\``, ``\\.sp3\\``) and unknown sequences stay as they stand.
    """
    mark = separators.escape
    if mark not in text:
        return text
    pieces = text.split(mark)
    out = [pieces[0]]
    at, last = 1, len(pieces) - 1
    while at <= last:
        # The last piece has no closing mark behind it, so it is no sequence whatever it says.
        meaning = _meaning(pieces[at], separators, codec) if at < last else None
        if meaning is None and at < last and _FORMATTING.fullmatch(pieces[at]):
            # Kept as one: its closing mark opens no other sequence (``\\H\\F\\N\\`` is an F in bold).
            meaning = f"{mark}{pieces[at]}{mark}"
        if meaning is None:
            out += (mark, pieces[at])
            at += 1
        else:
            out += (meaning, pieces[at + 1])
            at += 2
    return "".join(out)


def _meaning(sequence: str, separators: Separators, codec: str) -> str | None:
    if sequence in separators.meanings:
        return separators.meanings[sequence]
    if sequence[:1] == "X":
        return _from_hex(sequence[1:], codec)
    return "\n" if sequence.lower() == ".br" else None


def _from_hex(digits: str, codec: str) -> str | None:
    if not digits or len(digits) % 2 or any(digit not in "0123456789ABCDEFabcdef" for digit in digits):
        return None
    raw = bytes.fromhex(digits)
    try:
        return raw.decode("ascii" if raw.isascii() else codec)
    except UnicodeDecodeError:
        return None


def translate(text: str, source: Separators, target: Separators) -> str:
    """HL7 text of a message with ``source`` delimiters as it must stand in one with ``target`` delimiters."""
    if source is target or source == target:
        return text
    between = {number: sequence for number, sequence in target.escapes.items() if number >= _FIRST_PRINTABLE}
    data = dict(between)
    between[ord(source.field)] = target.field
    between[ord(source.component)] = target.component
    between[ord(source.repetition)] = target.repetition
    between[ord(source.subcomponent)] = target.subcomponent
    pieces = text.split(source.escape)
    out = [pieces[0].translate(between)]
    at, last = 1, len(pieces) - 1
    while at <= last:
        sequence = pieces[at]
        if at < last and sequence in source.meanings:
            # The letter would name another character over there.
            out.append(source.meanings[sequence].translate(data))
        elif at < last and _FORMATTING.fullmatch(sequence):
            out.append(f"{target.escape}{sequence}{target.escape}")
        else:
            out += (source.escape.translate(data), sequence.translate(between))
            at += 1
            continue
        out.append(pieces[at + 1].translate(between))
        at += 2
    return "".join(out)
