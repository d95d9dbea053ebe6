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
_LINE_END = re.compile(rb"\r\n|\r|\n")
# The usual ones, so that the question costs nothing.
_EXACT = frozenset({"ascii", "utf-8", "iso8859-1"})
_NO_HEADER = "no MSH segment at the beginning"


class Decoded(NamedTuple):
    """A message as text that begins with ``MSH``."""

    text: str
    #: The Python codec that made the text.
    codec: str
    #: MSH-18 as it stands; "" for none.
    declared: str
    #: Lines whose bytes the codec would write differently than they came; None for none.
    originals: dict[str, bytes] | None = None


def decode(raw: bytes, charset: str | None, default_charset: str) -> Decoded:
    """The text of a message. MalformedMessage without an MSH; ValueError for a ``charset`` nobody knows."""
    if not raw.startswith(b"MSH"):
        wide = charsets.wide_codec(raw)
        if wide:
            text, codec = charsets.decode(raw, wide)
            return Decoded(from_header(text), codec, declared_in(from_header(text)))
        raw = _from_header(raw)
    header = raw.partition(b"\r")[0]
    declared = declared_in(header.decode("ascii", "replace")) if header.count(raw[3:4]) > 16 else ""
    text, codec = charsets.decode(raw, _choose(charset, declared, default_charset))
    return Decoded(
        text, codec, declared, None if codec in _EXACT or charsets.is_exact(codec) else _originals(raw, codec)
    )


def declared_in(text: str) -> str:
    """MSH-18 of a message or of its header; "" when there is none."""
    header = text.partition("\r")[0].partition("\n")[0]
    fields = header.split(text[3:4] or "|", 18)
    return fields[17].strip() if len(fields) > 17 else ""


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


def _originals(raw: bytes, codec: str) -> dict[str, bytes] | None:
    kept = {}
    for line in _LINE_END.split(raw):
        text, _ = charsets.decode(line, codec)
        try:
            again = text.encode(codec, "surrogateescape")
        except UnicodeEncodeError:
            again = b""
        if again != line:
            kept[text] = line
    return kept or None
