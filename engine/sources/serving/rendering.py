"""Replies as they go out: headers and JSON, for an ASGI server or as they stand on the wire."""

from __future__ import annotations

from json.encoder import encode_basestring as _quoted
from operator import attrgetter
from typing import Any

from engine.envelope import Reply
from engine.json_text import Written, writer

_encode = writer(ascii_only=False, allow_nan=False)
_encode_ascii = writer(allow_nan=False)
_NAMES, _WRITTEN, _TEXT = frozenset({str}), frozenset({Written}), attrgetter("text")
_NO_CONTENT = 204
_USUAL_HEAD = (
    b"x-correlation-id: %b\r\ncache-control: no-store\r\n"
    b"content-type: application/json; charset=utf-8\r\ncontent-length: %d\r\n"
)


def wire(reply: Reply, correlation_id: str) -> tuple[bytes, bytes]:
    """Headers as they stand on the wire, and the body. Raises ValueError for a body that is no JSON."""
    if not reply.headers and reply.status != _NO_CONTENT:
        body = reply.rendered or json_body(reply.body)
        return _USUAL_HEAD % (correlation_id.encode(), len(body)), body
    start, body = render(reply, correlation_id)
    return b"".join(b"%b: %b\r\n" % header for header in start["headers"]), body


def render(reply: Reply, correlation_id: str) -> tuple[dict[str, Any], bytes]:
    """The same for an ASGI server: its message that begins an answer, and the body."""
    headers = {
        "x-correlation-id": correlation_id,
        "cache-control": "no-store",
        **{name.lower(): value for name, value in reply.headers.items()},
    }
    body = b""
    if reply.status != _NO_CONTENT:
        body = reply.rendered or json_body(reply.body)
        headers |= {"content-type": "application/json; charset=utf-8", "content-length": str(len(body))}
    raw = [(name.encode("ascii"), value.encode("latin-1")) for name, value in headers.items()]
    return {"type": "http.response.start", "status": reply.status, "headers": raw}, body


def json_body(value: Any) -> bytes:
    """JSON as callers get it. Raises ValueError for what is none."""
    try:
        if type(value) is dict and list in map(type, value.values()):
            return _with_lists(value).encode()
        return _encode(value).encode()
    except UnicodeEncodeError:  # a lone surrogate, which only an escape can express
        return _encode_ascii(value).encode()


def _with_lists(value: dict[Any, Any]) -> str:
    """An object with members that are lists: what is written already (``Written``) is taken as it stands in these."""
    if not _NAMES.issuperset(map(type, value)):
        return _encode(value)
    members: list[str] = []
    for name, member in value.items():
        is_written = type(member) is list and _WRITTEN.issuperset(map(type, member))
        text = f"[{','.join(map(_TEXT, member))}]" if is_written else _encode(member)
        members.append(f"{_quoted(name)}:{text}")
    return f"{{{','.join(members)}}}"
