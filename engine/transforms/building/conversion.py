"""What ``convert`` does to messages of one kind: worked out once for each MSH-9 and MSH-12 that come in.

Lines that are in the other version as they stand, as most are, are told by the form of their segment (``passage.py``);
only the others are taken apart. A time or a resource that goes into other segments has the whole message looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from engine.hl7.dictionary import fields as fields_of
from engine.hl7.rows import is_name
from engine.hl7.separators import Separators
from engine.hl7.structure import message_type_field, segment_order, structure_of
from engine.hl7.versions import at_least
from engine.remembered import remembered
from engine.transforms.building.carried import carry_times
from engine.transforms.building.passage import Form, LeftOut, Passage, known, never

#: Fields of MSH that the engine writes, or that have been there from the beginning, as a list has them: without MSH-1.
_HEADER = 12
#: Names of segments that a conversion remembers: senders may make names up.
_MOST = 256
_ENCODING = Separators.default.encoding_characters
_UNKNOWN = Passage()

#: Segment → field, HL7 text: what fills fields that the version requires and that are empty.
Defaults = Mapping[str, Sequence[tuple[int, str]]]


class Conversion:
    """Of messages of one kind, from one version to another."""

    __slots__ = ("_fields", "_forms", "_kind", "_new", "_old", "_passages", "_type", "known")

    def __init__(self, new: str, kind: str, event: str, structure: str, old: str, filled: Iterable[str] = ()) -> None:
        """``structure``: MSH-9.3 as it stands; ``filled``: segments that get defaults."""
        self._kind, self._old, self._new = kind, old, new
        #: Whether the new version has such messages, or nobody can tell.
        self.known = structure_of(kind, event, new) is not None or structure_of(kind, event, old) is None
        self._type = message_type_field(kind, event, new)
        if structure and self._type.count("^") == 1 and at_least(new, "2.3.1"):
            self._type += f"^{structure}"
        self._fields = len(fields_of(new, "MSH"))
        self._passages = _Passages(kind, event, old, new)
        self._forms = _Forms(self._passages)
        self._forms.update(dict.fromkeys(filled, never))

    def header(self, fields: list[str]) -> str:
        """MSH in the new version, with the usual delimiters; ``fields``: its fields as they stand."""
        made = fields[: self._fields]
        if len(made) < _HEADER:
            made += [""] * (_HEADER - len(made))
        made[1], made[8], made[11] = _ENCODING, self._type, self._new
        return "|".join(made).rstrip("|")

    def segments(self, lines: list[str], defaults: Defaults) -> list[str]:
        """The segments behind MSH in the new version; ``lines``: as they stand, and not to be used any more."""
        forms = self._forms
        apart = [at for at, line in enumerate(lines) if not forms[line[:3]](line)]  # a name that is longer fits no form
        return self._carried(lines, apart, defaults) if apart else lines

    def _carried(self, lines: list[str], apart: Sequence[int], defaults: Defaults) -> list[str]:
        """``apart``: where the lines stand that do not stay as they are."""
        made: dict[int, str] = {}
        for at in apart:
            fields = lines[at].split("|")
            passage = self._passages[fields[0]]
            if passage.moves(fields):
                return self._moved(lines, defaults)
            made[at] = passage.carry(fields, defaults.get(fields[0], ()))
        for at, line in made.items():
            lines[at] = line
        return lines if all(lines) else list(filter(None, lines))

    def _moved(self, lines: list[str], defaults: Defaults) -> list[str]:
        """Of a message in which times or resources go from one segment to others."""
        rows = [line.split("|") for line in lines]
        carry_times(rows, self._kind, self._old, self._new)
        made = (self._passages[fields[0]].carry(fields, defaults.get(fields[0], ())) for fields in rows)
        return list(filter(None, made))


class _Passages(dict[str, Passage]):
    """Of each segment that has come in."""

    def __init__(self, kind: str, event: str, old: str, new: str) -> None:
        super().__init__()
        self._ways = kind, event, old, new

    def __missing__(self, name: str) -> Passage:
        if not is_name(name):
            return _UNKNOWN
        _, _, old, new = self._ways
        passage = _UNKNOWN
        if _leaves(name, *self._ways):
            passage = LeftOut(old, new, name)
        elif fields_of(old, name) or fields_of(new, name):
            passage = known(old, new, name)
        if len(self) < _MOST:
            self[name] = passage
        return passage


class _Forms(dict[str, Form]):
    """Of each segment that has come in: whether a line of it stays as it stands."""

    def __init__(self, passages: _Passages) -> None:
        super().__init__()
        self._passages = passages

    def __missing__(self, name: str) -> Form:
        form = self._passages[name].form
        if len(self) < _MOST:
            self[name] = form
        return form


@remembered(4096)
def _leaves(name: str, kind: str, event: str, old: str, new: str) -> bool:
    """Whether the old version has this segment, in this structure or at all, and the new one has not."""
    if fields_of(old, name) and not fields_of(new, name):
        return True
    before, after = structure_of(kind, event, old), structure_of(kind, event, new)
    if before is None or after is None:
        return False
    return name in segment_order(before, old) and name not in segment_order(after, new)
