"""The form body of a `rest:` source (application/x-www-form-urlencoded), as the JSON object that steps read.

Every field is text; a name that comes more than once has a list. Read strictly: UTF-8 only, no more fields than any
form has (WHATWG URL, 5.1).
"""

from __future__ import annotations

import json
from urllib.parse import parse_qsl

from engine.errors import Refused

#: Fields of a form at most.
MAX_FIELDS = 1000


def is_form(content_type: str) -> bool:
    """Whether a body of this type is a form."""
    kind, _, _ = content_type.partition(";")
    return kind.strip().lower() == "application/x-www-form-urlencoded"


def form_fields(body: bytes) -> list[tuple[str, str]]:
    """Names and values, in the order in which they came. Raises Refused."""
    try:
        return parse_qsl(body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS)
    except ValueError:
        raise Refused("invalid_body") from None


def form_object(body: bytes) -> bytes:
    """The form as a JSON object. Raises Refused."""
    found: dict[str, str | list[str]] = {}
    for name, value in form_fields(body):
        before = found.get(name)
        if before is None:
            found[name] = value
        else:
            found[name] = [*before, value] if isinstance(before, list) else [before, value]
    return json.dumps(found, ensure_ascii=False).encode()
