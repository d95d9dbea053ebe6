"""A conformance profile as an admin writes it: ``transforms/NAME.yaml`` → ``engine.hl7.profile.Profile``.

Everything that can be wrong in it is told when the channel loads, with the line: a segment that the structure does not
have, a field that the segment does not have, a usage that contradicts a number. What it means is in ``hl7/profile.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, field_validator

from engine.errors import PathError, SpecError
from engine.hl7 import dictionary
from engine.hl7.path import Path
from engine.hl7.profile import MOST_TIMES, FieldRule, Profile, SegmentRule, Usage, is_at, members_of, places
from engine.hl7.structure import structure_of
from engine.hl7.versions import SUPPORTED_VERSIONS
from engine.transforms.base import Fragment
from engine.transforms.building.definition import validated
from engine.transforms.values.text import near

_USAGES = tuple(usage.value for usage in Usage)
_Key = tuple[str | int, ...]


_Part = TypeVar("_Part", bound="_Rule")


class _Rule(BaseModel):
    model_config = ConfigDict(extra="forbid")

    usage: Any = Field(None, description="R required, RE required but may be empty, O optional, X not used.")
    least: int | None = Field(None, ge=0, le=MOST_TIMES, description="How often at least.")
    most: int | None = Field(None, ge=1, le=MOST_TIMES, description="How often at most.")


class SegmentPart(_Rule):
    """What is said about a segment or group."""


class FieldPart(_Rule):
    """What is said about a field or component."""

    length: int | None = Field(None, ge=1, description="How many characters at most.")
    values: list[str] | None = Field(None, min_length=1, description="The only values that may stand there.")

    @field_validator("values", mode="before")
    @classmethod
    def _texts(cls, values: Any) -> Any:
        """YAML reads 1 as a number; in a message it is text."""
        plain = isinstance(values, list) and all(type(value) in (str, int) for value in values)
        return [str(value) for value in values] if plain else values


class ProfileFile(BaseModel):
    """A conformance profile."""

    model_config = ConfigDict(extra="forbid")

    description: str = Field("", description="For people.")
    messages: list[str] = Field(default_factory=list, description="SIU or SIU^S12; any when left out.")
    versions: list[str] = Field(default_factory=list, description="HL7 versions; any when left out.")
    segments: dict[str, Any] = Field(default_factory=dict, description="Segment or group: usage, or its rule.")
    fields: dict[str, Any] = Field(default_factory=dict, description="Path: usage, or its rule.")


def read_profile(fragment: Fragment) -> Profile:
    """The profile that stands in a file. Raises SpecError with the file and the key of what is wrong."""
    part = validated(ProfileFile, fragment.data, (), fragment.file)
    reader = _Reader(fragment.file, part)
    return Profile(
        name=fragment.name,
        messages=tuple(part.messages),
        versions=tuple(part.versions),
        segments={name: reader.segment(name, spec) for name, spec in part.segments.items()},
        fields=dict(reader.field(name, spec) for name, spec in part.fields.items()),
    )


class _Reader:
    """One file and the structures that it speaks of."""

    def __init__(self, file: str, part: ProfileFile) -> None:
        self._file = file
        self._versions = part.versions or list(SUPPORTED_VERSIONS)
        for number, version in enumerate(part.versions):
            if version not in SUPPORTED_VERSIONS:
                self._fail(("versions", number), f"{version} is no HL7 version", SUPPORTED_VERSIONS, version)
        self._places = self._all_places(part.messages)
        self._segments = {name for version in self._versions for name in dictionary.segments(version)}

    def segment(self, name: str, spec: Any) -> SegmentRule:
        """The rule about a segment or group."""
        at: _Key = ("segments", name)
        local = name.startswith("Z") and len(name) == 3
        if not local and not any(is_at(name, place) for place in self._places):
            names = {place[-1] for place in self._places}
            inside = {f"{group}.{place[-1]}" for place in self._places for group in place[:-1]}
            self._fail(at, f"{name} is no segment or group of these messages", inside if "." in name else names, name)
        rule = self._rule(SegmentPart, spec, at)
        self._agrees(rule, at)
        return SegmentRule(self._usage(rule, at), rule.least, rule.most)

    def field(self, name: str, spec: Any) -> tuple[Path, FieldRule]:
        """The rule about a field or component."""
        at: _Key = ("fields", name)
        path = self._path(name, at)
        rule = self._rule(FieldPart, spec, at)
        self._agrees(rule, at)
        if path.component is not None and (rule.least is not None or rule.most is not None):
            word = "least" if rule.least is not None else "most"
            raise SpecError("a component does not repeat", at=(*at, word), expected="a field", file=self._file)
        values = None if rule.values is None else frozenset(rule.values)
        return path, FieldRule(self._usage(rule, at), rule.least, rule.most, rule.length, values)

    def _path(self, name: str, at: _Key) -> Path:
        try:
            path = Path.parse(name)
        except PathError as error:
            raise SpecError(str(error), at=at, file=self._file) from None
        if path.field is None or path.segment_index is not None:
            raise SpecError(
                f"{name} names no field of every {path.segment}", at=at, expected=f"{path.segment}-1", file=self._file
            )
        known = {version: dictionary.fields(version, path.segment) for version in self._versions}
        most = max(map(len, known.values()))
        if not most and not path.segment.startswith("Z"):
            self._fail(at, f"{path.segment} is no segment of these versions", self._segments, path.segment)
        if most and path.field > most:
            raise SpecError(f"{path.segment} has {most} fields", at=at, file=self._file)
        return path

    def _rule(self, model: type[_Part], spec: Any, at: _Key) -> _Part:
        """A bare usage is the short form."""
        return validated(model, {"usage": spec} if not isinstance(spec, Mapping) else spec, at, self._file)

    def _usage(self, rule: _Rule, at: _Key) -> Usage | None:
        if rule.usage is None:
            return None
        if rule.usage not in _USAGES:
            self._fail((*at, "usage"), f"{rule.usage} is no usage", _USAGES, str(rule.usage))
        return Usage(rule.usage)

    def _agrees(self, rule: _Rule, at: _Key) -> None:
        """What cannot be kept by any message is a slip of the pen."""
        usage = self._usage(rule, at)
        if rule.least is not None and rule.most is not None and rule.least > rule.most:
            raise SpecError("least is more than most", at=(*at, "least"), expected=f"{rule.most}", file=self._file)
        if usage is Usage.NOT_USED and (rule.least or rule.most or getattr(rule, "values", None)):
            raise SpecError("what is not used has no further rules", at=(*at, "usage"), file=self._file)
        if usage is Usage.REQUIRED and rule.least == 0:
            raise SpecError("what is required stands once at least", at=(*at, "least"), expected="1", file=self._file)

    def _all_places(self, messages: Sequence[str]) -> set[tuple[str, ...]]:
        """The segments and groups of all structures that are meant."""
        found: set[tuple[str, ...]] = set()
        if not messages:
            every = [(version, name) for version in self._versions for name in dictionary.structures(version)]
            found.update(place for version, name in every for place in places(members_of(version, name)))
        for number, message in enumerate(messages):
            kind, _, event = message.partition("^")
            names = self._structures(kind, event)
            if not names:
                known = {name for version in self._versions for name in dictionary.structures(version)}
                kinds = {name.partition("_")[0] for name in known}
                word = kind.partition("_")[0]  # SIU_S12 is a structure, SIU^S12 the message
                self._fail(("messages", number), f"{message} is no message of these versions", kinds, word)
            found.update(place for version, name in names for place in places(members_of(version, name)))
        return found

    def _structures(self, kind: str, event: str) -> list[tuple[str, str]]:
        found = []
        for version in self._versions:
            known = dictionary.structures(version)
            if event:
                names = [structure_of(kind, event, version)]
            else:
                names = [name for name in known if name.partition("_")[0] == kind]
            found += [(version, name) for name in names if name is not None]
        return found

    def _fail(self, at: _Key, message: str, words: Any, word: str) -> None:
        nearest = near(word, words)
        expected = ", ".join(sorted(words)) if len(words) <= 20 else ""
        raise SpecError(message, at=at, expected=expected, nearest=nearest, file=self._file)
