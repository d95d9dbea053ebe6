"""Request heads: their limits, what is refused although a lenient parser takes it, and what is no HTTP at all.

Pure. Framing on which two servers could differ is refused (request smuggling, RFC 9112 §11.2); what llhttp refuses by
itself (two lengths, a length beside chunks, bare LF, blanks before a colon, folded lines) is not looked at here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter

Headers = Sequence[tuple[bytes, bytes]]

_NAME = itemgetter(0)

#: How what is no HTTP begins, and what it is then.
_BEGINNINGS = {b"\x0b": "mllp", b"\x16\x03": "tls", b"\x15\x03": "tls", b"PRI * HTTP/2": "http/2", b"SSH-": "ssh"}


@dataclass(frozen=True, slots=True)
class Limits:
    """What peers may take of a listener."""

    #: Bytes of request line and headers; nginx and Apache allow 8 KiB a line, 32 KiB or more in all.
    head: int = 32 * 1024
    #: Seconds for request line and headers.
    head_timeout: float = 10.0
    #: Seconds for the body.
    body_timeout: float = 30.0
    #: Seconds in which a peer must read something of an answer.
    answer_timeout: float = 30.0
    connections: int = 1024
    #: Connections of one address.
    per_address: int = 256
    #: Bytes of the bodies of all requests together while they come.
    memory: int = 256 * 1024 * 1024
    #: Seconds an idle connection is kept.
    keep_alive: int = 30


def size_of(url: bytes, headers: Headers) -> int:
    """Bytes of a head, without what separates its parts."""
    return len(url) + sum(map(len, chain.from_iterable(headers)))


def check_framing(version: str, headers: Headers) -> None:
    """Raises ValueError for a head that another server could read otherwise."""
    if version not in ("1.1", "1.0"):
        raise ValueError("no version of HTTP that is spoken here")
    names = [*map(_NAME, headers)]
    hosts = names.count(b"host")
    if hosts > 1 or (hosts == 0 and version == "1.1"):
        raise ValueError("HTTP/1.1 wants one Host (RFC 9112 §3.2)")
    if b"transfer-encoding" not in names:
        return
    codings = [value.strip().lower() for name, value in headers if name == b"transfer-encoding"]
    if codings != [b"chunked"] or version == "1.0":
        raise ValueError("no other coding than chunked, and none in HTTP/1.0 (RFC 9112 §6.1)")


def without_upgrade(method: bytes, url: bytes, version: str, headers: Headers) -> bytes:
    """The same head without its offer to change the protocol (RFC 9110 §7.8)."""
    lines: Iterable[bytes] = (name + b": " + value for name, value in headers if name != b"upgrade")
    return b"\r\n".join((b"%s %s HTTP/%s" % (method, url, version.encode()), *lines)) + b"\r\n\r\n"


def other_protocol(first: bytes) -> str:
    """``mllp``, ``tls``, ``http/2`` or ``ssh``, by the first bytes of a connection; "" for what may be HTTP."""
    return next((name for begin, name in _BEGINNINGS.items() if first.startswith(begin)), "")
