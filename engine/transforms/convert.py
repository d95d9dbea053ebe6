"""``convert: {version: …}``: bring the HL7 message in motion into another version, in place.

What the other version keeps elsewhere moves there (``building/carried.py``): times between SCH-11 and TQ1, a patient's
numbers between PID-2, 4, 19, 20 and PID-3. Then every segment obeys the rules of the version
(``building/version_rules.py``): fields it lacks fall away, components it lacks are cut; segments fall away that its
structure lacks. MSH-9.3 and MSH-12 follow. A new mapping is ``build``'s; nothing is filled in here but ``defaults``.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from engine.envelope import Envelope
from engine.errors import SpecError, StepFailed
from engine.hl7.dictionary import fields as fields_of
from engine.hl7.dictionary import required_fields
from engine.hl7.message import Message
from engine.hl7.path import Path
from engine.hl7.separators import Separators
from engine.hl7.structure import message_type_field, segment_order, structure_of
from engine.hl7.versions import SUPPORTED_VERSIONS, at_least
from engine.transforms.base import Context, Loading, Step, Verdict
from engine.transforms.building.assembly import usual_lines
from engine.transforms.building.carried import carry_segment, carry_times, fill, moves_times
from engine.transforms.building.version_rules import segment_rules
from engine.transforms.values.readers import Value
from engine.transforms.values.scope import Scope
from engine.transforms.values.text import as_data, near
from engine.transforms.values.value import Compiler, compile_value

#: Fields of MSH that the engine writes, or that have been there from the beginning.
_HEADER = 13


class ConvertConfig(BaseModel):
    """Another HL7 version."""

    model_config = ConfigDict(extra="forbid")

    version: Any = Field(description="HL7 version, such as 2.5.1 or $site.epic.version.")
    defaults: dict[str, Any] = Field({}, description="Values of fields that this version requires and that are empty.")


class Convert(Step):
    """Bring the message into another HL7 version."""

    Config = ConvertConfig

    def __init__(self, config: ConvertConfig, loading: Loading) -> None:
        value = compile_value(config.version, loading, ("version",), step="convert")
        self._version = as_data(value.constant) if value.static else ""
        if self._version not in SUPPORTED_VERSIONS:
            raise SpecError(
                "this is no HL7 version",
                at=("version",),
                expected=", ".join(SUPPORTED_VERSIONS),
                nearest=near(self._version, SUPPORTED_VERSIONS),
            )
        compiler = Compiler(loading, "convert", version=self._version)
        #: Segment → field, value: of those that this version requires.
        self._defaults: dict[str, list[tuple[int, Value]]] = {}
        for name, spec in config.defaults.items():
            path = _field(name)
            default = compiler.value(spec, ("defaults", name))
            if path.field in required_fields(self._version, path.segment):
                self._defaults.setdefault(path.segment, []).append((path.field or 0, default))

    def run(self, envelope: Envelope, context: Context) -> Verdict:
        """Replace the body by the converted message; its delimiters become the usual ones."""
        body = envelope.body
        if not isinstance(body, Message):
            raise StepFailed("convert", "wrong_body")
        read = body.header
        kind, event, old, new = read.type, read.event, read.version, self._version
        if structure_of(kind, event, new) is None and structure_of(kind, event, old):
            raise StepFailed("convert", "not_in_version", "MSH-9")
        header, *segments = usual_lines(body)
        if moves_times(body, segments, old, new):
            split = [line.split("|") for line in segments]
            carry_times(split, kind, old, new)
            segments = ["|".join(fields) for fields in split]
        values = self._values(envelope, context)
        lines = [self._header(header, kind, event)]
        crosses = at_least(old, "2.7") is not at_least(new, "2.7")
        for line in segments:
            name = line.partition("|")[0]
            if _leaves(name, kind, event, old, new):
                continue
            rules = segment_rules(new, name)
            if crosses or "~" in line or name in values or not rules.leave(line):
                fields = line.split("|")
                carry_segment(fields, old, new)
                rules.apply(fields)
                for number, text in values.get(name, ()):
                    fill(fields, number, text)
                line = "|".join(fields).rstrip("|") if len(fields) > 1 else name
            lines.append(line)
        converted = Message.of_lines(lines)
        if envelope.charset is None:
            # The text was read in the old message's charset, which MSH-18 need not name.
            envelope.charset = body.charset
        envelope.body = converted
        return Verdict.CONTINUE

    def _values(self, envelope: Envelope, context: Context) -> dict[str, list[tuple[int, str]]]:
        if not self._defaults:
            return {}
        scope = Scope(envelope, context)
        return {
            segment: [(number, value.hl7(scope)) for number, value in said] for segment, said in self._defaults.items()
        }

    def _header(self, line: str, kind: str, event: str) -> str:
        fields = line.split("|")
        fields.insert(1, "|")
        fields.extend([""] * (_HEADER - len(fields)))
        structure = fields[9].split("^")[2:3]
        fields[9] = message_type_field(kind, event, self._version)
        if structure and structure[0] and fields[9].count("^") == 1 and at_least(self._version, "2.3.1"):
            fields[9] += f"^{structure[0]}"
        fields[12] = self._version
        fields[1:3] = [Separators.default.encoding_characters]
        # One less now: MSH-1 is the delimiter itself.
        del fields[len(fields_of(self._version, "MSH")) :]
        return "|".join(fields).rstrip("|")


def _field(name: str) -> Path:
    if Path.looks_like(name):
        path = Path.parse(name)
        if path == Path(path.segment, field=path.field) and path.field and path.segment != "MSH":
            return path
    raise SpecError(f"{name} is no field", at=("defaults", name), expected="a whole field such as AIL-4")


@lru_cache(maxsize=4096)
def _leaves(name: str, kind: str, event: str, old: str, new: str) -> bool:
    """Whether the old version has this segment, in this structure or at all, and the new one has not."""
    if fields_of(old, name) and not fields_of(new, name):
        return True
    before, after = structure_of(kind, event, old), structure_of(kind, event, new)
    if before is None or after is None:
        return False
    return name in segment_order(before, old) and name not in segment_order(after, new)
