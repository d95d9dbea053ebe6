"""JSON text of values that every message makes or brings: as the standard library writes and reads it, with less ado.

``json.JSONEncoder`` sets up its encoder in C anew for each value, which takes longer than most values do; here that is
done once. Objects that hold themselves end with RecursionError. ``json.JSONDecoder`` looks for blanks around a text
that mostly has none.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from json import encoder
from typing import Any


def writer(
    *,
    ascii_only: bool = True,
    allow_nan: bool = True,
    sort_keys: bool = False,
    separators: tuple[str, str] = (",", ":"),
) -> Callable[[Any], str]:
    """What writes a value as JSON text."""
    slow = json.JSONEncoder(ensure_ascii=ascii_only, allow_nan=allow_nan, sort_keys=sort_keys, separators=separators)
    make_encoder = getattr(encoder, "c_make_encoder", None)
    if make_encoder is None:
        return slow.encode
    between_members, behind_names = separators
    text = encoder.encode_basestring_ascii if ascii_only else encoder.encode_basestring
    pieces = make_encoder(None, slow.default, text, None, behind_names, between_members, sort_keys, False, allow_nan)

    def write(value: Any) -> str:
        return "".join(pieces(value, 0))

    return write


def reader(**options: Any) -> Callable[[str], Any]:
    """What reads JSON text, with the options of ``json.JSONDecoder``. Raises ValueError."""
    decoder: Any = json.JSONDecoder(**options)
    scan, decode = decoder.scan_once, decoder.decode

    def read(text: str) -> Any:
        try:
            value, end = scan(text, 0)
            if end == len(text):
                return value
        except StopIteration:
            pass  # it begins with blanks, or is none: told in the words of the decoder
        return decode(text)

    return read
