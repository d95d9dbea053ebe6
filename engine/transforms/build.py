"""``build``: a new message from a declared mapping, HL7 or JSON.

The incoming message is read, never changed: what the mapping does not name is not sent. MSH-1, MSH-2, MSH-7, MSH-9.3,
MSH-10 and MSH-12 are the engine's, MSH-11 is P unless given. How definitions extend each other is in
``building/definition.py``, segments and versions beside it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from engine.envelope import Envelope
from engine.errors import SpecError, StepFailed
from engine.hl7.charset import codec
from engine.hl7.dictionary import required_fields
from engine.hl7.message import Message
from engine.hl7.path import Path
from engine.hl7.separators import Separators
from engine.hl7.structure import message_type_field, required_segments, segment_order, structure_of
from engine.hl7.versions import SUPPORTED_VERSIONS, at_least
from engine.transforms.base import CONTINUE, Context, Loading, Step, Verdict
from engine.transforms.building.assembly import Assembly
from engine.transforms.building.blanks import Blanks, Once
from engine.transforms.building.definition import BuildConfig, Definition, Piece, check_values, placed, read_definition
from engine.transforms.building.json_body import compile_json
from engine.transforms.building.segments import BuildScope, FieldPlan, SegmentPlan, field_plan
from engine.transforms.building.version_rules import segment_rules
from engine.transforms.values.conditions import compile_condition
from engine.transforms.values.direct import Data, data_of
from engine.transforms.values.readers import Literal, Value, Variable
from engine.transforms.values.scope import Times
from engine.transforms.values.text import as_data, near
from engine.transforms.values.times import written, zone_named
from engine.transforms.values.value import Compiler

#: A version whose structures have every segment that some other version lacks.
_WIDEST = "2.5.1"
_ENGINE_FIELDS = frozenset({1, 2, 7, 10, 12, 18})


class Build(Step):
    """A new message from a declared mapping."""

    Config = BuildConfig

    def __init__(self, config: BuildConfig, loading: Loading) -> None:
        definition = read_definition(config, loading)
        json, message = definition.scalars.get("json"), definition.scalars.get("message")
        if (json is None) == (message is None):
            raise SpecError("a build makes one message", expected="message and fields, or json")
        if json is not None:
            compiler = Compiler(loading, "build")
            compiler.names = _names(definition, compiler)
            body = placed(json, lambda: compile_json(compiler, json.spec, json.at))
            self._run = _JsonBuild(body).run
        else:
            self._run = HL7Build(definition, loading).run
        check_values(definition)

    def run(self, envelope: Envelope, context: Context) -> Verdict:
        """Replace the body."""
        if "control_id" not in envelope.variables and isinstance(envelope.body, Message):
            envelope.variables["control_id"] = envelope.body.control_id
        self._run(envelope, context)
        return CONTINUE


class _JsonBuild:
    def __init__(self, value: Value) -> None:
        self._value = value

    def run(self, envelope: Envelope, context: Context) -> None:
        envelope.body = self._value.json(envelope, context)


class HL7Build:
    """An HL7 message, compiled."""

    def __init__(self, definition: Definition, loading: Loading) -> None:
        self._definition = definition
        self._compiler = Compiler(loading, "build")
        self._version = self._compiler.version = self._fixed("version", required=True)
        if self._version not in SUPPORTED_VERSIONS:
            raise self._wrong("version", "this is no HL7 version", ", ".join(SUPPORTED_VERSIONS))
        self._compiler.names = _names(definition, self._compiler)
        self._charset = self._read_charset()
        self._unmappable = self._fixed("unmappable") or "error"
        if self._unmappable not in ("error", "replace"):
            raise self._wrong("unmappable", "this is no way to go on", "error or replace")
        self._times, self._zone = self._read_times()
        self._type, self._structure = self._read_message()
        order = segment_order(self._structure, self._version)
        if not order:
            raise self._wrong("message", f"{self._structure} does not exist in HL7 {self._version}")
        self._values: dict[str, Value] = {}
        self._said = Counter(repr(piece.spec) for piece in definition.fields.values())
        self._blanks = Blanks()
        plans = self._fields_of("MSH", definition.fields, blanks=self._blanks)
        self._header = ["MSH", Separators.default.encoding_characters]
        self._header += [""] * (max((18, *(plan.number for plan in plans))) - 2)
        for plan in plans:
            # MSH-1 is the delimiter itself, so field 3 stands second.
            self._header[plan.number - 1] = plan.text or ""
        self._header_writes = [(plan.number - 1, plan.write) for plan in plans if plan.text is None]
        self._header_defaults = [
            (plan.number - 1, plan.write)
            for plan in self._fields_of("MSH", definition.defaults)
            if plan.number <= len(self._header)
        ]
        self._header_form = self._form_of_header(plans)
        self._assembly = self._assemble(order)
        self._blanks.close()

    def run(self, envelope: Envelope, context: Context) -> None:
        scope = BuildScope(envelope, context, self._times)
        if self._zone is not None and (name := self._zone(envelope, context)):
            scope.zone = zone_named(name)
            if scope.zone is None:
                raise StepFailed("build", "unknown_zone")
        charset = self._charset if isinstance(self._charset, str) else self._charset(envelope, context)
        if charset and codec(charset) is None:
            raise StepFailed("build", "unknown_charset", "MSH-18")
        texts = self._blanks.read(scope)
        if texts is None:
            scope.texts, scope.plain = self._blanks.one_by_one(scope), False
        else:
            scope.texts = texts
        # The assembly reads what came in; the header may copy from it, so it is made last.
        lines = self._assembly.lines(scope, "")
        if len(lines) == 1:
            raise StepFailed("build", "required_missing", self._structure)
        lines[0] = self._make_header(scope, charset)
        text = "\r".join(lines)
        # Line feeds that came in with a text may end a segment here.
        envelope.body = Message.from_text(text) if "\n" in text else Message.of_lines(lines)
        envelope.charset, envelope.unmappable = charset or "ASCII", self._unmappable

    def _form_of_header(self, plans: Sequence[FieldPlan]) -> str:
        """The header with places for its blanks, time, control id and charset; empty where it depends on more."""
        blanks = [plan for plan in plans if plan.text is None]
        before_time = all(plan.form == "%s" and plan.number < 7 for plan in blanks)
        if self._header_defaults or not before_time or not isinstance(self._type, str):
            return ""
        fields = [text.replace("%", "%%") for text in self._header]
        fields[8], fields[10], fields[11] = self._type, fields[10] or "P", self._version
        for number in (*(plan.number for plan in blanks), 7, 10, 18):
            fields[number - 1] = "%s"
        return "|".join(fields)

    def _make_header(self, scope: BuildScope, charset: str) -> str:
        context, times = scope.context, self._times
        at = written(context.now, 12 if times.minutes_only else 14, offset=times.offset)
        if self._header_form:
            texts = [write(scope) for _, write in self._header_writes]
            return (self._header_form % (*texts, at, context.make_control_id(), charset)).rstrip("|")
        fields = self._header.copy()
        for place, write in self._header_writes:
            fields[place] = write(scope)
        for place, write in self._header_defaults:
            if not fields[place]:
                fields[place] = write(scope)
        fields[6] = at
        fields[8] = self._type if isinstance(self._type, str) else self._typed(self._type.hl7(scope))
        fields[9] = context.make_control_id()
        fields[10] = fields[10] or "P"
        fields[11] = self._version
        fields[17] = charset
        return "|".join(fields).rstrip("|")

    def _typed(self, text: str) -> str:
        """MSH-9 of a message whose event is the incoming one's."""
        kind, _, rest = text.partition("^")
        event = rest.partition("^")[0]
        if not kind or not event:
            raise StepFailed("build", "required_missing", "MSH-9")
        return self._with_structure(kind, event)

    def _with_structure(self, kind: str, event: str) -> str:
        if at_least(self._version, "2.3.1"):
            return f"{kind}^{event}^{self._structure}"
        return f"{kind}^{event}"

    # Compiling

    def _fixed(self, name: str, *, required: bool = False) -> str:
        piece = self._definition.scalars.get(name)
        if piece is None:
            if required:
                raise SpecError(f"a build of an HL7 message needs its {name}", expected=f"{name}: and a value")
            return ""
        value = placed(piece, lambda: Compiler(self._compiler.loading, "build").value(piece.spec, piece.at))
        if not value.static:
            raise self._wrong(name, f"the {name} is fixed when the channel loads", "a literal or $site.…")
        return as_data(value.constant)

    def _wrong(self, name: str, message: str, expected: str = "") -> SpecError:
        piece = self._definition.scalars.get(name) or Piece(None, (name,))
        return SpecError(message, at=piece.at, expected=expected, file=piece.file)

    def _read_charset(self) -> str | Data:
        """A charset, or what reads one from each message (the one in which the partner wrote by itself)."""
        piece = self._definition.scalars.get("charset")
        if piece is None:
            return ""
        value = placed(piece, lambda: self._compiler.value(piece.spec, piece.at))
        if not value.static:
            return data_of(value)
        name = as_data(value.constant)
        if name and codec(name) is None:
            raise self._wrong("charset", "this charset is not known", "such as 8859/1 or UNICODE UTF-8")
        return name

    def _read_times(self) -> tuple[Times, Data | None]:
        precision, offset = (
            self._word("precision", ("second", "minute")),
            self._word("offset", ("by_version", "never", "always")),
        )
        piece = self._definition.scalars.get("times.zone")
        zone = None if piece is None else data_of(placed(piece, lambda: self._compiler.value(piece.spec, piece.at)))
        with_offset = offset == "always" or (offset == "by_version" and at_least(self._version, "2.5"))
        return Times(precision == "minute", with_offset), zone

    def _word(self, name: str, words: tuple[str, ...]) -> str:
        word = self._fixed(f"times.{name}") or words[0]
        if word not in words:
            error = self._wrong(f"times.{name}", f"{word} is no {name}", ", ".join(words))
            raise SpecError(
                error.message, at=error.at, expected=error.expected, nearest=near(word, words), file=error.file
            )
        return word

    def _read_message(self) -> tuple[str | Value, str]:
        piece = self._definition.scalars["message"]
        value = placed(piece, lambda: self._compiler.value(piece.spec, piece.at))
        structure = self._fixed("structure")
        if not value.static:
            if not structure:
                raise self._wrong("message", "the structure cannot be told from this", "structure beside it")
            return value, structure
        kind, _, event = as_data(value.constant).partition("^")
        event = event.partition("^")[0]
        found = structure or structure_of(kind, event, self._version)
        if not found:
            raise self._wrong("message", f"{kind}^{event} does not exist in HL7 {self._version}", "such as ORM^O01")
        self._structure = found
        return (
            self._with_structure(kind, event) if structure else message_type_field(kind, event, self._version)
        ), found

    def _fields_of(
        self, segment: str, said: dict[Path, Piece], each: str = "", blanks: Blanks | None = None
    ) -> tuple[FieldPlan, ...]:
        by_number: dict[int, list[tuple[Path, Value]]] = {}
        for path, piece in said.items():
            if path.segment != segment or piece.spec is None or path.field is None:
                continue
            if segment == "MSH" and path.field in _ENGINE_FIELDS:
                raise SpecError(f"{path} is the engine's", at=piece.at, expected="another field", file=piece.file)
            value = self._value(piece)
            if not (isinstance(value, Literal) and value.constant is None):
                by_number.setdefault(path.field, []).append((path, value))
        return tuple(field_plan(number, by_number[number], each, blanks) for number in sorted(by_number))

    def _value(self, piece: Piece) -> Value:
        """What a field says; where another says the same and it is the same everywhere, its text is made once."""
        said = repr(piece.spec)
        if said not in self._values:
            value = placed(piece, lambda: self._compiler.value(piece.spec, piece.at))
            again = self._said[said] > 1 and not (value.static or value.paths() or isinstance(value, Variable))
            self._values[said] = Once(value) if again else value
        return self._values[said]

    def _assemble(self, order: tuple[str, ...]) -> Assembly:
        definition = self._definition
        names: dict[str, Piece] = {}
        for path, piece in definition.fields.items():
            names.setdefault(path.segment, piece)
        plans: list[SegmentPlan] = []
        after: dict[str, str] = {}
        for name, piece in names.items():
            if name == "MSH":
                continue
            if name not in order and not name.startswith("Z"):
                if name not in segment_order(self._structure, _WIDEST):
                    raise SpecError(
                        f"{self._structure} has no segment {name}",
                        at=piece.at,
                        expected=", ".join(order),
                        file=piece.file,
                    )
                continue  # rules V3 and V7: the version has no such segment
            said = definition.segments.get(name, {})
            if "after" in said:
                after[name] = str(said["after"].spec)
            plan = self._segment(name, said)
            if plan.fields:
                plans.append(plan)
        self._check_required(plans)
        return Assembly(plans, order, after)

    def _check_required(self, plans: list[SegmentPlan]) -> None:
        """What the version requires and nothing here can fill would fail every message: told when it is loaded."""
        made = {plan.name for plan in plans}
        for plan in plans:
            filled = {field.number for field in (*plan.fields, *plan.defaults)} | set(plan.rules.targets)
            for number in plan.required:
                if number not in filled:
                    raise self._lacking(f"{plan.name}-{number}", "a value or a default for it")
        for name in required_segments(self._structure, self._version):
            if name not in made and name != "MSH":
                raise self._lacking(name, f"fields of {name}")

    def _lacking(self, what: str, expected: str) -> SpecError:
        message = f"{self._structure} of HL7 {self._version} requires {what}, and nothing here fills it"
        return self._wrong("version", message, expected)

    def _segment(self, name: str, said: dict[str, Piece]) -> SegmentPlan:
        values = [
            self._value(piece)
            for path, piece in self._definition.fields.items()
            if path.segment == name and piece.spec is not None
        ]
        reads_itself = any(path.segment == name for value in values for path in value.paths())
        each = str(said["each"].spec or "") if "each" in said else name if reads_itself else ""
        when = said.get("when")
        condition = (
            None
            if when is None or when.spec is None
            else placed(when, lambda: compile_condition(when.spec, self._compiler.loading, when.at))
        )
        blanks = self._blanks if not each and condition is None else None
        fields = self._fields_of(name, self._definition.fields, each, blanks)
        filled = said.get("filled")
        return SegmentPlan(
            name,
            fields,
            self._fields_of(name, self._definition.defaults),
            tuple(number for number in required_fields(self._version, name) if number),
            segment_rules(self._version, name),
            each=each,
            filled=0 if filled is None else _field_number(filled, name),
            when=condition,
        )


def _field_number(piece: Piece, segment: str) -> int:
    text = str(piece.spec)
    if Path.looks_like(text) and (path := Path.parse(text)).segment == segment and path.field:
        return path.field
    raise SpecError(f"{text} is no field of {segment}", at=piece.at, expected=f"such as {segment}-3", file=piece.file)


def _names(definition: Definition, compiler: Compiler) -> dict[str, Value]:
    """Working values in the order in which they are said; a later one may use an earlier one."""
    names: dict[str, Value] = {}
    compiler.names = names
    for name, piece in definition.values.items():
        names[name] = placed(piece, lambda piece=piece: compiler.value(piece.spec, piece.at))  # type: ignore[misc]
    return names
