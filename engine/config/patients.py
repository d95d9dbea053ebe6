"""``patients:`` of a channel, or of the site for all: where messages name the patient, for the search by patient id."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from engine.config.plan import Patients
from engine.errors import PathError
from engine.hl7.path import Path

_MEMBER = re.compile(r"\$(body|query)((?:\.[^.\s]+)+)")
_FORM = "a path such as PID-3.1, or a member of a request such as $body.patient.mrn or $query.mrn"


class Report(Protocol):
    """Takes a problem of one text."""

    def __call__(self, path: tuple[int], message: str, *, expected: str) -> object:
        """``path``: the index of the text."""
        ...


def compile_patients(texts: Sequence[str], report: Report) -> Patients:
    """The paths, parsed, and the members."""
    paths: list[tuple[Path, Path]] = []
    members: list[tuple[str, ...]] = []
    for index, text in enumerate(texts):
        if found := _MEMBER.fullmatch(text):
            members.append((found[1], *found[2].removeprefix(".").split(".")))
            continue
        try:
            path = Path.parse(text)
        except PathError as error:
            report((index,), str(error), expected=_FORM)
            continue
        if path.field is None:
            report((index,), f"`{text}` is a whole segment", expected=_FORM)
        paths.append((path, replace(path, repetition=None, component=None, subcomponent=None)))
    return Patients(tuple(paths), tuple(members))
