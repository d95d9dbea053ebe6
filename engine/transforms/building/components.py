"""Components that 2.7 has withdrawn, and where it keeps them: telephone numbers, degrees, validity ranges, ids.

HL7 v2.7 §2.A.88 (XPN), §2.A.87 (XCN), §2.A.82 (XAD), §2.A.89 (XTN), §2.A.83 (XON). ``carried.py`` is the same for
fields.
"""

from __future__ import annotations

from engine.hl7.dictionary import component_count
from engine.hl7.dictionary import fields as fields_of

#: Data type → (component up to 2.6, component from 2.7).
_MOVED = {
    "XTN": ((1, 12),),
    "XPN": ((6, 14),),
    "XCN": ((7, 21),),
    "PPN": ((7, 22),),
    "XON": ((3, 10),),
}
#: Data type → (range up to 2.6, its begin and its end from 2.7).
_RANGES = {"XPN": (10, 12, 13), "XCN": (17, 19, 20), "XAD": (12, 13, 14), "PPN": (18, 20, 21)}


def emptied(kind: str) -> tuple[int, ...]:
    """The components of a data type that 2.7 keeps elsewhere, in rising order."""
    return tuple(sorted([*(old for old, _ in _MOVED.get(kind, ())), *_RANGES.get(kind, ())[:1]]))


def carry_components(fields: list[str], version: str, *, up: bool) -> None:
    """Move what stands in components that ``version`` keeps elsewhere; ``up``: to 2.7 or later, else from there."""
    for number, part in enumerate(fields_of(version, fields[0]), 1):
        if number >= len(fields) or not fields[number] or part.type not in (*_MOVED, *_RANGES):
            continue
        known = component_count(version, part.type) or 0
        each = _up if up else _down
        fields[number] = "~".join(each(text, part.type, known) for text in fields[number].split("~"))


def _up(text: str, kind: str, known: int) -> str:
    parts = _parts(text)
    for old, new in _MOVED.get(kind, ()):
        if parts[old] and new <= known:
            parts[old], parts[new] = "", parts[new] or parts[old]
            if kind == "XTN":
                parts[3] = parts[3] or "PH"  # required from 2.7, and XTN.1 holds nothing but telephone numbers
    if kind in _RANGES and parts[_RANGES[kind][0]]:
        whole, first, last = _RANGES[kind]
        begin, _, end = parts[whole].partition("&")
        parts[whole], parts[first], parts[last] = "", parts[first] or begin, parts[last] or end
    return _text(parts, text)


def _down(text: str, kind: str, known: int) -> str:
    """Only what the version has no place for; what it has one for stays there."""
    parts = _parts(text)
    for old, new in _MOVED.get(kind, ()):
        if new > known and not parts[old]:
            parts[old] = parts[new]
    if kind in _RANGES:
        whole, first, last = _RANGES[kind]
        if first > known >= whole and not parts[whole]:
            parts[whole] = f"{parts[first]}&{parts[last]}".rstrip("&")
    return _text(parts, text)


def _parts(text: str) -> list[str]:
    parts = ["", *text.split("^")]
    return [*parts, *[""] * (24 - len(parts))]


def _text(parts: list[str], before: str) -> str:
    """What nothing moved in stays as it stands."""
    return before if parts == _parts(before) else "^".join(parts[1:]).rstrip("^")
