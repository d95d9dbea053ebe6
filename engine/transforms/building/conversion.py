"""What ``convert`` does to messages of one kind: worked out once for each MSH-9 and MSH-12 that come in.

Lines that are in the other version as they stand, as most are, are told by the form of their segment (``passage.py``);
only the others are taken apart. A time or a resource that goes into other segments has the whole message looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from operator import call, itemgetter

from engine.hl7.dictionary import fields as fields_of
from engine.hl7.separators import Separators
from engine.hl7.structure import message_type_field, segment_order, structure_of
from engine.hl7.versions import at_least
from engine.transforms.building.carried import carry_times
from engine.transforms.building.passage import Form, never, passage, unknown

#: Fields of MSH that the engine writes, or that have been there from the beginning, as a list has them: without MSH-1.
_HEADER = 12
#: Names of segments that a conversion remembers: senders may make names up.
_MOST = 512
_ENCODING = Separators.default.encoding_characters
#: What stands where a segment has its name.
_NAME = itemgetter(slice(3))

#: Segment → field, HL7 text: what fills fields that the version requires and that are empty.
Defaults = Mapping[str, Sequence[tuple[int, str]]]


class Conversion:
    """Of messages of one kind, from one version to another."""

    __slots__ = ("_event", "_fields", "_forms", "_kind", "_new", "_old", "_type", "known")

    def __init__(self, new: str, kind: str, event: str, structure: str, old: str, filled: Iterable[str] = ()) -> None:
        """``structure``: MSH-9.3 as it stands; ``filled``: segments that get defaults."""
        self._kind, self._event, self._old, self._new = kind, event, old, new
        #: Whether the new version has such messages, or nobody can tell.
        self.known = structure_of(kind, event, new) is not None or structure_of(kind, event, old) is None
        self._type = message_type_field(kind, event, new)
        if structure and self._type.count("^") == 1 and at_least(new, "2.3.1"):
            self._type += f"^{structure}"
        self._fields = len(fields_of(new, "MSH"))
        self._forms = _Forms(kind, event, old, new)
        self._forms.update(dict.fromkeys(filled, never))

    def header(self, fields: list[str]) -> str:
        """MSH in the new version, with the usual delimiters; ``fields``: its fields as they stand."""
        made = fields[: self._fields]
        if len(made) < _HEADER:
            made += [""] * (_HEADER - len(made))
        made[1], made[8], made[11] = _ENCODING, self._type, self._new
        return "|".join(made).rstrip("|")

    def segments(self, lines: list[str], defaults: Defaults) -> list[str]:
        """The segments behind MSH in the new version; ``lines``: as they stand."""
        stay = list(map(call, map(self._forms.__getitem__, map(_NAME, lines)), lines))
        return lines if all(stay) else self._carried(lines, stay, defaults)

    def _carried(self, lines: list[str], stay: Sequence[object], defaults: Defaults) -> list[str]:
        """``stay``: which of the lines need nothing."""
        rows = [None if stays else line.split("|") for line, stays in zip(lines, stay, strict=True)]
        if any(row is not None and self._moves(row) for row in rows):
            split = [line.split("|") for line in lines]
            carry_times(split, self._kind, self._old, self._new)
            lines, rows = [""] * len(split), [*split]
        carried = (line if row is None else self._segment(row, defaults) for line, row in zip(lines, rows, strict=True))
        return [line for line in carried if line is not None]

    def _moves(self, fields: list[str]) -> bool:
        return self._is_known(fields[0]) and passage(self._old, self._new, fields[0]).moves(fields)

    def _segment(self, fields: list[str], defaults: Defaults) -> str | None:
        """None for a segment that is left out."""
        name = fields[0]
        if _leaves(name, self._kind, self._event, self._old, self._new):
            return None
        if not self._is_known(name):
            return "|".join(fields).rstrip("|")
        return passage(self._old, self._new, name).carry(fields, defaults.get(name, ()))

    def _is_known(self, name: str) -> bool:
        return bool(fields_of(self._old, name) or fields_of(self._new, name))


class _Forms(dict[str, Form]):
    """Of each segment that has come in: whether a line of it stays as it stands."""

    def __init__(self, kind: str, event: str, old: str, new: str) -> None:
        super().__init__()
        self._ways = kind, event, old, new

    def __missing__(self, name: str) -> Form:
        form: Form = unknown
        _, _, old, new = self._ways
        if _leaves(name, *self._ways):
            form = never
        elif fields_of(old, name) or fields_of(new, name):
            form = passage(old, new, name).form
        if len(self) < _MOST:
            self[name] = form
        return form


@lru_cache(maxsize=4096)
def _leaves(name: str, kind: str, event: str, old: str, new: str) -> bool:
    """Whether the old version has this segment, in this structure or at all, and the new one has not."""
    if fields_of(old, name) and not fields_of(new, name):
        return True
    before, after = structure_of(kind, event, old), structure_of(kind, event, new)
    if before is None or after is None:
        return False
    return name in segment_order(before, old) and name not in segment_order(after, new)
