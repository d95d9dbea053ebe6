"""From the bytes of a message to its text: where it begins, which charset it is in.

Order of charsets: the one the caller names, MSH-18, the default. Decoding comes before splitting and never fails
(``charset.py``). Splitting is in ``message.py``.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from engine.errors import MalformedMessage
from engine.hl7 import charset as charsets

_BLANK = b" \t\r\n\x0b\x0c\x00\xef\xbb\xbf"
_BLANK_TEXT = " \t\r\n\x0b\x0c\x00\ufeff"
_FEEDS = r"(?<!\n)\n++(?=[A-Z][A-Z0-9]{2}(?:[^A-Za-z0-9 ]|\Z)|\r|\Z)|(?<=\r)\n++"
#: Line feeds that end a line: a segment, a CR or nothing follows, or a CR stands before (CR LF was made CR). Others are
#: text that somebody did not escape. A run of them is looked at once, from its beginning: it may be very long.
LINE_FEEDS = re.compile(_FEEDS, re.ASCII)
LINE_FEEDS_BYTES = re.compile(_FEEDS.encode())
# The usual ones, so that the question costs nothing.
_EXACT = frozenset({"ascii", "utf-8", "iso8859-1"})
#: What most messages begin with.
USUAL = b"MSH|^~\\&|"
_NO_HEADER = "no MSH segment at the beginning"


class Coding(NamedTuple):
    """How a message came to be text."""

    #: The Python codec.
    codec: str
    #: Whether it was read from bytes: those that are not of the charset stand in it as lone surrogates.
    read: bool
    #: MSH-18 as it stood then (``standing``).
    declared: str = ""
    #: Lines whose bytes the codec would write differently than they came (ISO 2022, Big5).
    originals: dict[str, bytes] | None = None


READ_AS_ASCII, MADE_IN_ASCII = Coding("ascii", True), Coding("ascii", False)


class Decoded(NamedTuple):
    """A message as text that begins with ``MSH``."""

    text: str
    #: The Python codec that made the text.
    codec: str
    #: MSH-18 as it stands; "" for none.
    declared: str
    #: Lines whose bytes the codec would write differently than they came; None for none.
    originals: dict[str, bytes] | None = None
    #: The lines of the text, where bytes decide where one ends; None leaves that to the text.
    lines: list[str] | None = None


def decode(raw: bytes, charset: str | None, default_charset: str) -> Decoded:
    """The text of a message. MalformedMessage without an MSH; ValueError for a ``charset`` nobody knows."""
    if not raw.startswith(b"MSH"):
        wide = charsets.wide_codec(raw)
        if wide:
            text, codec = charsets.decode(raw, wide)
            return Decoded(from_header(text), codec, declared_in(from_header(text)))
        raw = _from_header(raw)
    codec, declared = named(raw, charset, default_charset)
    if codec in _EXACT or charsets.is_exact(codec):
        return Decoded(*charsets.decode(raw, codec), declared)
    lines, originals = _by_line(raw, codec)
    return Decoded("\r".join(lines), codec, declared, originals, lines)


def named(raw: bytes | bytearray, charset: str | None, default_charset: str) -> tuple[str, str]:
    """The codec for a message that begins with MSH, and its MSH-18 as it stands. ValueError for an unknown charset."""
    end = raw.find(b"\r")
    header = raw if end < 0 else raw[:end]
    declared = declared_in(header.decode("ascii", "replace")) if header.count(raw[3:4]) > 16 else ""
    return _choose(charset, declared, default_charset), declared


def declared_in(text: str) -> str:
    """MSH-18 of a message or of its header; "" when there is none."""
    header = text.partition("\r")[0].partition("\n")[0]
    fields = header.split(text[3:4] or "|", 18)
    return fields[17].strip() if len(fields) > 17 else ""


def standing(line: str, separator: str) -> str:
    """MSH-18 of the first line of a message, as it stands; "" for none."""
    return line.split(separator, 18)[17] if line.count(separator) > 16 else ""


def made(standing: str, declared: str) -> Coding:
    """Of text that was not read from bytes: in the charset that MSH-18 names, else in ASCII."""
    return Coding(charsets.codec(charsets.declared(declared)) or "ascii", False, standing)


def lines_of(text: str) -> list[str]:
    """The segments of a text, without blank lines."""
    if "\n" in text:
        text = LINE_FEEDS.sub("\r", text.replace("\r\n", "\r"))
    return without_blank(text.split("\r"))


def without_blank(lines: list[str]) -> list[str]:
    """The lines that hold anything."""
    if not lines[-1]:
        lines.pop()
    return [line for line in lines if line] if "" in lines else lines


def from_header(text: str) -> str:
    """The text from ``MSH`` on, without the blanks and the byte order mark before it."""
    stripped = text.lstrip(_BLANK_TEXT)
    if not stripped.startswith("MSH"):
        raise MalformedMessage(_NO_HEADER, len(text) - len(stripped))
    return stripped


def _from_header(raw: bytes) -> bytes:
    stripped = raw.lstrip(_BLANK)
    if not stripped.startswith(b"MSH"):
        reason = "a batch, not a message" if stripped[:3] in (b"FHS", b"BHS") else _NO_HEADER
        raise MalformedMessage(reason, len(raw) - len(stripped))
    return stripped


def _choose(charset: str | None, declared: str, default: str) -> str:
    if charset is not None:
        chosen = charsets.codec(charset)
        if chosen is None:
            raise ValueError(f"{charset!r} is no character set known here")
        return chosen
    if not declared:
        return charsets.codec(default) or "ascii"
    named = charsets.codec(charsets.declared(declared))
    # A header that begins with one-byte letters cannot be in wide characters, whatever it says of itself.
    if named and named.startswith(("utf-16", "utf-32")):
        named = "utf-8"
    return named or charsets.codec(default) or "ascii"


def _by_line(raw: bytes, codec: str) -> tuple[list[str], dict[str, bytes] | None]:
    """Each line by itself: a shift that one leaves open, or a byte that is of no charset, does not spoil the next."""
    lines, kept = [], {}
    for line in LINE_FEEDS_BYTES.sub(b"\r", raw.replace(b"\r\n", b"\r")).split(b"\r"):
        text, _ = charsets.decode(line, codec)
        try:
            again = text.encode(codec, "surrogateescape")
        except UnicodeEncodeError:
            again = b""
        if again != line:
            kept[text] = line
        lines.append(text)
    return lines, kept or None
