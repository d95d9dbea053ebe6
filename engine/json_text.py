"""JSON text of values that every message makes or brings: as the standard library writes and reads it, with less ado.

``json.JSONEncoder`` sets up its encoder in C anew for each value, which takes longer than most values do; here that is
done once. Objects that hold themselves end with RecursionError. ``json.JSONDecoder`` looks for blanks around a text
that mostly has none.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from json import encoder
from typing import Any, NoReturn


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


class Written(dict[str, Any]):
    """An object of JSON with its text, for what is told again and again: an answer that lists it takes the text.

    It is never changed; who wants another changes a copy (``dict(…)``).
    """

    __slots__ = ("text",)

    def __init__(self, members: Mapping[str, Any]) -> None:
        """Raises ValueError for NaN."""
        super().__init__(members)
        #: Without blanks, in whatever letters its texts are.
        self.text = _written(self)

    def _is_written(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("what is written is not changed")

    __setitem__ = __delitem__ = __ior__ = _is_written
    clear = pop = popitem = setdefault = update = _is_written


_written = writer(ascii_only=False, allow_nan=False)


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
