"""Paths that were slightly missed: ``MSH9.1``, ``PID.3``, ``pid-3``.

A bare text is a path or a member of a JSON body, and such a text would quietly be a member that no HL7 message has.
"""

from __future__ import annotations

import re

from engine.errors import SpecError
from engine.hl7 import dictionary
from engine.hl7.path import Path

FORMS = "a form such as PID-3, PID-3.1, PID-3[2].1 or OBX[2]-5"

#: Three capitals and a mark of a path; or the mark forgotten; or small letters with the hyphen that members lack.
_MARKED = re.compile(r"[A-Z][A-Z0-9]{2}[-.\[].*", re.DOTALL)
_NUMBERED = re.compile(r"([A-Z][A-Z0-9]{2})[-.]?(\d+(?:[-.]\d+){0,2})", re.ASCII)
_SMALL = re.compile(r"([A-Za-z][A-Za-z0-9]{2})-(\d+(?:[-.]\d+){0,2})", re.ASCII)


def refuse_near_path(text: str, at: tuple[str | int, ...]) -> None:
    """Raise SpecError, with the path that was meant where that is plain, for a text that is nearly a path."""
    found = _NUMBERED.fullmatch(text) or _SMALL.fullmatch(text)
    meant = f"{found[1].upper()}-{found[2].replace('-', '.')}" if found else ""
    known = bool(found) and Path.looks_like(meant) and meant[:3] in dictionary.segments("2.5.1")
    if known or _MARKED.fullmatch(text):
        raise SpecError(f"{text} is no path", at=at, expected=FORMS, nearest=meant if known else "")
