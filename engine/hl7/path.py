"""Where something stands in a message, as HL7 people write it: ``PID-3.1``.

Six forms: ``PID``, ``PID-3``, ``PID-3.1``, ``PID-3.1.2``, ``PID-3[2].1`` (second repetition) and ``OBX[2]-5`` (second
OBX). All numbers begin at 1. A path names a place, and is compiled to what reads and writes it (``places.py``).
"""

from __future__ import annotations

import re
from dataclasses import field as dataclass_field
from functools import lru_cache

from engine.errors import PathError
from engine.hl7.places import Read, Value, Write, reader, valuer, writer
from engine.values import dataclass

_N = r"([1-9]\d{0,3})"
_FORM = re.compile(rf"([A-Z][A-Z0-9]{{2}})(?:\[{_N}\])?(?:-{_N}(?:\[{_N}\])?(?:\.{_N}(?:\.{_N})?)?)?", re.ASCII)
_FORMS = "a path is written PID, PID-3, PID-3.1, PID-3.1.2, PID-3[2].1 or OBX[2]-5, numbers from 1 to 9999"
_DOTTED = re.compile(r"([A-Za-z][A-Za-z0-9]{2})[._/ :-]F?(\d+)((?:[._/ :-][RCS]?\d+)*)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Path:
    """One place in a message. None means "not said": the whole of what is above it."""

    segment: str
    #: ``OBX[2]``: which one, counted among the segments of that name; None is the first.
    segment_index: int | None = None
    field: int | None = None
    #: ``PID-3[2]``; None is the whole field, or the first repetition when a component is named.
    repetition: int | None = None
    component: int | None = None
    subcomponent: int | None = None
    #: ``Message.read``, ``value`` and ``write`` of this place in the message that they are called with.
    read: Read = dataclass_field(init=False, repr=False, compare=False)
    value: Value = dataclass_field(init=False, repr=False, compare=False)
    write: Write = dataclass_field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        read = reader(self)
        for name, compiled in (("read", read), ("value", valuer(read)), ("write", writer(self))):
            object.__setattr__(self, name, compiled)

    @staticmethod
    def parse(text: str) -> Path:
        """The place that ``text`` names; PathError says how it should have been written."""
        return _parse(text)

    @staticmethod
    def looks_like(text: str) -> bool:
        """Whether ``text`` as a whole has the form of a path."""
        return _FORM.fullmatch(text) is not None

    def __str__(self) -> str:
        out = self.segment
        if self.segment_index is not None:
            out += f"[{self.segment_index}]"
        if self.field is not None:
            out += f"-{self.field}"
        if self.repetition is not None:
            out += f"[{self.repetition}]"
        if self.component is not None:
            out += f".{self.component}"
        if self.subcomponent is not None:
            out += f".{self.subcomponent}"
        return out


@lru_cache(maxsize=4096)
def _parse(text: str) -> Path:
    found = _FORM.fullmatch(text)
    if found is None:
        raise PathError(f"{text[:40]!r} is no path: {_advice(text)}")
    numbers = [None if part is None else int(part) for part in found.groups()[1:]]
    return Path(found[1], *numbers)


def _advice(text: str) -> str:
    """The most likely intention behind a wrong path, else the list of forms."""
    if _FORM.fullmatch(text.strip().upper()):
        return f"write {text.strip().upper()}"
    bracketed = text.replace("(", "[").replace(")", "]")
    if bracketed != text and _FORM.fullmatch(bracketed):
        return f"write {bracketed}"
    if dotted := _DOTTED.fullmatch(text):
        rest = [re.sub(r"\D", "", part) for part in re.split(r"[._/ :-]", dotted[3])[1:]]
        guess = ".".join([f"{dotted[1].upper()}-{dotted[2]}", *rest])
        if _FORM.fullmatch(guess):
            return f"write {guess} (field, component, subcomponent; a repetition is PID-3[2].1)"
    return _FORMS
