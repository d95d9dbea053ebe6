"""``convert: {version: …}``: bring the HL7 message in motion into another version, in place.

What the other version keeps elsewhere moves there (``building/carried.py``): times between SCH-11 and TQ1, a patient's
numbers between PID-2, 4, 19, 20 and PID-3. Then every segment obeys the rules of the version
(``building/version_rules.py``): fields it lacks fall away, components it lacks are cut; segments fall away that its
structure lacks. MSH-9.3 and MSH-12 follow. A new mapping is ``build``'s; nothing is filled in here but ``defaults``.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from engine.envelope import Envelope
from engine.errors import SpecError, StepFailed
from engine.hl7.dictionary import required_fields
from engine.hl7.message import Message
from engine.hl7.path import Path
from engine.hl7.versions import SUPPORTED_VERSIONS
from engine.remembered import Memory
from engine.transforms.base import CONTINUE, Context, Loading, Step, Verdict
from engine.transforms.building.assembly import usual_lines
from engine.transforms.building.conversion import Conversion, Defaults
from engine.transforms.values.readers import Value
from engine.transforms.values.scope import Scope
from engine.transforms.values.text import as_data, near
from engine.transforms.values.value import Compiler, compile_value

#: Where MSH-12 stands in a list of fields.
_VERSION = 11
_NO_FIELDS: list[str] = []
_NO_DEFAULTS: Defaults = {}


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
        #: By MSH-9 and MSH-12.
        self._conversions = Memory(256, self._make)

    def run(self, envelope: Envelope, context: Context) -> Verdict:
        """Replace the body by the converted message; its delimiters become the usual ones."""
        body = envelope.body
        if not isinstance(body, Message):
            raise StepFailed("convert", "wrong_body")
        head = body.fields("MSH") or _NO_FIELDS
        conversion = self._conversions[head[8], head[11]] if len(head) > _VERSION else None
        if conversion is None:
            conversion = self._conversion_of(body)
        if not conversion.known:
            raise StepFailed("convert", "not_in_version", "MSH-9")
        defaults = self._values(envelope, context) if self._defaults else _NO_DEFAULTS
        envelope.body = body.remade(conversion.lines(body, defaults))
        return CONTINUE

    def _make(self, read: tuple[str, ...]) -> Conversion | None:
        """Of messages with this MSH-9 and MSH-12; None where these cannot be read alone."""
        message_type, old = read
        if "\\" in message_type or "\\" in old:
            return None
        return self._conversion_of(Message.of_lines([f"MSH|^~\\&|||||||{message_type}|||{old}"]))

    def _conversion_of(self, message: Message) -> Conversion:
        header = message.header
        structure = "".join(usual_lines(message)[0].split("|", 9)[8:9]).split("^")[2:3]
        return Conversion(self._version, header.type, header.event, "".join(structure), header.version, self._defaults)

    def _values(self, envelope: Envelope, context: Context) -> Defaults:
        scope = Scope(envelope, context)
        return {
            segment: [(number, value.hl7(scope)) for number, value in said] for segment, said in self._defaults.items()
        }


def _field(name: str) -> Path:
    if Path.looks_like(name):
        path = Path.parse(name)
        if path == Path(path.segment, field=path.field) and path.field and path.segment != "MSH":
            return path
    raise SpecError(f"{name} is no field", at=("defaults", name), expected="a whole field such as AIL-4")
