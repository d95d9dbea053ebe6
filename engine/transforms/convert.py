"""``convert: {version: …}``: bring the HL7 message in motion into another version, in place.

Every segment obeys the rules of the version (``building/version_rules.py``): fields it lacks fall away, components it
lacks are cut, withdrawn patient identifiers become repetitions of PID-3. TQ1 falls away below 2.5 and PD1 at 2.3;
MSH-9.3 and MSH-12 follow. A new mapping is ``build``'s; nothing is filled in here.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from engine.envelope import Envelope
from engine.errors import SpecError, StepFailed
from engine.hl7.message import Message
from engine.hl7.separators import Separators
from engine.hl7.structure import message_type_field
from engine.hl7.versions import SUPPORTED_VERSIONS, at_least
from engine.transforms.base import Context, Loading, Step, Verdict
from engine.transforms.building.assembly import usual_lines
from engine.transforms.building.version_rules import segment_rules
from engine.transforms.values.text import as_data, near
from engine.transforms.values.value import compile_value


class ConvertConfig(BaseModel):
    """Another HL7 version."""

    model_config = ConfigDict(extra="forbid")

    version: Any = Field(description="HL7 version, such as 2.5.1 or $site.epic.version.")


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
        dropped = {"TQ1": "2.5", "TQ2": "2.5", "PD1": "2.3.1", "SFT": "2.5"}
        self._dropped = frozenset(name for name, since in dropped.items() if not at_least(self._version, since))

    def run(self, envelope: Envelope, context: Context) -> Verdict:
        """Replace the body by the converted message; its delimiters become the usual ones."""
        del context
        body = envelope.body
        if not isinstance(body, Message):
            raise StepFailed("convert", "wrong_body")
        header, *segments = usual_lines(body)
        if "TQ1" in self._dropped and body.count("TQ1"):
            _keep_times(segments)
        lines = [self._header(header, body)]
        version, dropped = self._version, self._dropped
        for line in segments:
            name = line.partition("|")[0]
            if name in dropped:
                continue
            rules = segment_rules(version, name)
            if not rules.leave(line):
                fields = line.split("|")
                rules.apply(fields)
                line = "|".join(fields).rstrip("|") if len(fields) > 1 else name
            lines.append(line)
        converted = Message.of_lines(lines)
        if envelope.charset is None:
            # The text was read in the old message's charset, which MSH-18 need not name.
            envelope.charset = body.charset
        envelope.body = converted
        return Verdict.CONTINUE

    def _header(self, line: str, body: Message) -> str:
        fields = line.split("|")
        fields.insert(1, "|")
        fields.extend([""] * (13 - len(fields)))
        kind, event = body.type, body.event
        structure = fields[9].split("^")[2:3]
        fields[9] = message_type_field(kind, event, self._version)
        if structure and structure[0] and fields[9].count("^") == 1 and at_least(self._version, "2.3.1"):
            fields[9] += f"^{structure[0]}"
        fields[12] = self._version
        fields[1:3] = [Separators.default.encoding_characters]
        return "|".join(fields).rstrip("|")


def _keep_times(segments: list[str]) -> None:
    """Before TQ1 goes, its times move to SCH-11 where that is empty (rule V3)."""
    schedule = next((at for at, line in enumerate(segments) if line.startswith("SCH|")), None)
    timing = next((line.split("|") for line in segments if line.startswith("TQ1|")), None)
    if schedule is None or timing is None:
        return
    fields = segments[schedule].split("|")
    fields.extend([""] * (12 - len(fields)))
    timing.extend([""] * (9 - len(timing)))
    if not fields[11] and (timing[7] or timing[8]):
        fields[11] = f"^^^{timing[7]}^{timing[8]}".rstrip("^")
        segments[schedule] = "|".join(fields)
