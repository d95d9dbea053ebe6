"""Character sets: HL7 table 0211 and the Python codecs that read them, decoding that never fails.

Bytes that a codec cannot read become lone surrogates (``surrogateescape``), so they leave the engine as they came.
Decoding always comes before splitting: in Shift-JIS, GBK or Big5 the second byte of a character may look like a
delimiter. Which charset a message is in is decided in ``message.py``.
"""

from __future__ import annotations

import codecs
import encodings
import encodings.aliases
import pkgutil
import re
from collections.abc import Callable
from functools import lru_cache

from engine.remembered import remembered

#: HL7 table 0211 → Python codec (the canonical name of ``codecs.lookup``).
TABLE_0211: dict[str, str] = {
    "ASCII": "ascii",
    "ISO IR6": "ascii",
    "8859/1": "iso8859-1",
    "8859/2": "iso8859-2",
    "8859/3": "iso8859-3",
    "8859/4": "iso8859-4",
    "8859/5": "iso8859-5",
    "8859/6": "iso8859-6",
    "8859/7": "iso8859-7",
    "8859/8": "iso8859-8",
    "8859/9": "iso8859-9",
    "8859/15": "iso8859-15",
    # JIS X 0201: the one-byte katakana of its upper half are where Shift-JIS has them.
    "ISO IR14": "shift_jis",
    "ISO IR87": "iso2022_jp_ext",
    "ISO IR159": "iso2022_jp_ext",
    "GB 18030-2000": "gb18030",
    "KS X 1001": "euc_kr",
    # Big5 holds planes 1 and 2 of CNS 11643 and is what such senders put on the wire.
    "CNS 11643-1992": "big5",
    "BIG-5": "big5",
    # Withdrawn without ever naming an encoding; beside ASCII delimiters it can only be UTF-8.
    "UNICODE": "utf-8",
    "UNICODE UTF-8": "utf-8",
    "UNICODE UTF-16": "utf-16",
    "UNICODE UTF-32": "utf-32",
}

_NAMES = {name.upper(): codec for name, codec in TABLE_0211.items()}
_8859 = re.compile(r"(?:ISO)?[ _/-]*8859[ _/-]*(\d{1,2})")
# Text encodings of Python that are no character set anybody stores text in, or that hide delimiters.
_REFUSED = frozenset({"idna", "punycode", "unicode-escape", "raw-unicode-escape", "undefined", "utf-7", "mbcs", "oem"})
#: Codecs whose characters take two bytes or four.
WIDE = ("utf-16", "utf-32")
# They shift in and out of their sets, and there is more than one way to write that.
_STATEFUL = ("iso2022", "hz")
_BOMS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    ("MSH".encode("utf-32-le"), "utf-32-le"),
    ("MSH".encode("utf-32-be"), "utf-32-be"),
    ("MSH".encode("utf-16-le"), "utf-16-le"),
    ("MSH".encode("utf-16-be"), "utf-16-be"),
)

_FIRST = frozenset(mark[0] for mark, _ in _BOMS)


@remembered(256)
def codec(name: str) -> str | None:
    """The Python codec of a charset: a name of table 0211, a codec name, or a usual spelling of either; else None."""
    spelled = " ".join(name.split()).upper()
    if spelled in _NAMES:
        return _NAMES[spelled]
    if part := _8859.fullmatch(spelled):
        spelled = f"ISO8859-{part[1]}"
    found = _lookup(spelled)
    if found is None:
        return None
    # Python keeps hex, base64 and rot13 in the same registry; only text encodings carry this mark.
    if not getattr(found, "_is_text_encoding", False) or found.name in _REFUSED:
        return None
    return "utf-8" if found.name == "utf-8-sig" else found.name


def _lookup(name: str) -> codecs.CodecInfo | None:
    """A codec of Python's own. Any name may come in, and Python remembers each that it is asked for: it is asked for
    those that it has, in one spelling.
    """
    if not name.isascii() or "\0" in name:
        return None
    plain = encodings.normalize_encoding(name.lower())
    known = plain in encodings.aliases.aliases or plain.replace(".", "_") in encodings.aliases.aliases
    if not known and plain not in _modules():
        return None
    try:
        return codecs.lookup(plain)
    except LookupError:  # of another operating system
        return None


@lru_cache(maxsize=1)
def _modules() -> frozenset[str]:
    """The codecs that have no other name."""
    return frozenset(module.name for module in pkgutil.iter_modules(encodings.__path__))


@lru_cache(maxsize=64)
def hl7_name(codec_name: str) -> str | None:
    """What MSH-18 calls a Python codec; None when table 0211 has no name for it."""
    canonical = codec(codec_name)
    preferred = {"ascii": "ASCII", "utf-8": "UNICODE UTF-8", "iso2022_jp_ext": "ISO IR87", "big5": "BIG-5"}
    if canonical in preferred:
        return preferred[canonical]
    return next((name for name, known in TABLE_0211.items() if known == canonical), None)


def wide_codec(raw: bytes | bytearray) -> str | None:
    """UTF-16 or UTF-32 if the bytes begin that way (byte order mark, or ``MSH`` in wide characters)."""
    if not raw or raw[0] not in _FIRST or raw[1:3] == b"SH":
        return None
    return next((name for mark, name in _BOMS if raw.startswith(mark)), None)


def declared(text: str) -> str:
    """The one charset name that counts in the text of MSH-18.

    The first repetition counts (HL7 v2.5.1 §2.15.9.18). The Japanese sets of two bytes are only ever alternates,
    reached by escape sequences, so one of them anywhere in the list decides.
    """
    names = [" ".join(name.split()) for name in text.split("~")]
    return next((name for name in names if name.upper() in ("ISO IR87", "ISO IR159")), names[0])


def decode(raw: bytes, codec_name: str) -> tuple[str, str]:
    """Text and the codec that made it. Never fails: what a codec of several bytes stumbles over is read as ASCII."""
    if codec_name.startswith(WIDE):
        return raw.decode(codec_name, "replace"), codec_name
    try:
        return raw.decode(codec_name, "surrogateescape"), codec_name
    except UnicodeDecodeError:
        return raw.decode("ascii", "surrogateescape"), "ascii"


@lru_cache(maxsize=64)
def is_exact(codec_name: str) -> bool:
    """Whether decoding and encoding again gives every byte string back: true of UTF-8 and of all one-byte sets."""
    if codec_name.startswith(_STATEFUL):
        return False
    every = bytes(range(256))
    try:
        text = every.decode(codec_name, "surrogateescape")
        return len(text) == 256 and text.encode(codec_name, "surrogateescape") == every
    except UnicodeError:
        return False


#: Signs for a character that a set lacks; the last can be no delimiter (``separators.py``).
_SIGNS = "?_x"


def lacking(delimiters: str, *, keep: bool) -> str:
    """The error handler of ``str.encode`` that writes ``?`` for what a set lacks, or a sign that is no delimiter.

    With ``keep`` bytes that could not be read are written as they came.
    """
    sign = next(sign for sign in _SIGNS if sign not in delimiters)
    return f"hl7engine.{'keep' if keep else 'replace'}.{sign}"


def _handler(sign: str, keep: bool) -> Callable[[UnicodeError], tuple[bytes | str, int]]:
    def handle(error: UnicodeError) -> tuple[bytes | str, int]:
        if not isinstance(error, UnicodeEncodeError):
            raise error
        if not keep:
            return sign * (error.end - error.start), error.end
        out = bytearray()
        for character in error.object[error.start : error.end]:
            number = ord(character)
            out += bytes([number - 0xDC00]) if 0xDC80 <= number <= 0xDCFF else sign.encode()
        return bytes(out), error.end

    return handle


for _sign in _SIGNS:
    for _keep in (False, True):
        codecs.register_error(lacking(_SIGNS[: _SIGNS.index(_sign)], keep=_keep), _handler(_sign, _keep))
