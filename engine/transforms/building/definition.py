"""What a ``build`` says, with everything it extends laid under it.

A definition may extend another (``extends: emr/base``) or be one that stands elsewhere (``using: ris/slots/qry``);
what it says itself replaces what is below. A field that is named, whole or by one of its components, replaces
everything that was said about that field. Each piece remembers the file and key it came from, for the error that
names them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from engine.errors import SpecError
from engine.hl7.path import Path
from engine.transforms.base import Fragment, Loading
from engine.transforms.values.text import near
from engine.transforms.values.value import site_value

At = tuple[str | int, ...]
_Made = TypeVar("_Made")


class SegmentConfig(BaseModel):
    """How often a segment is made, and where it stands."""

    model_config = ConfigDict(extra="forbid")

    each: str | None = Field(None, description="One for each segment of this name in the incoming message.")
    filled: str | None = Field(None, description="Also made, once, when this field gets a value (PV1-19).")
    when: Any = Field(None, description="Made if this condition holds, and only then.")
    after: str | None = Field(None, description="Stands after this segment, where the structure allows several places.")


class TimesConfig(BaseModel):
    """How times are written."""

    model_config = ConfigDict(extra="forbid")

    precision: str | None = Field(None, description="second or minute")
    offset: str | None = Field(None, description="never, always or by_version (from 2.5)")
    zone: Any = Field(None, description="Local time of this zone; without it each time stays in its own.")


class BuildConfig(BaseModel):
    """A new message from a declared mapping: HL7 (``message``, ``fields``) or JSON (``json``)."""

    model_config = ConfigDict(extra="forbid")

    extends: str | None = Field(None, description="Lay this over another definition of transforms/.")
    using: str | None = Field(None, description="A definition of transforms/; $site.… in its name is filled in.")
    message: Any = Field(None, description="Type and event, such as QRY^Q01, or {from: MSH-9}.")
    structure: str | None = Field(None, description="Such as SIU_S12; needed when message is not fixed.")
    version: Any = Field(None, description="HL7 version (MSH-12); the rules V1 to V8 follow from it.")
    charset: Any = Field(None, description="Character set (MSH-18) such as 8859/1; empty is ASCII.")
    unmappable: str | None = Field(None, description="error or replace: characters that the charset lacks.")
    times: TimesConfig = Field(default_factory=lambda: TimesConfig.model_validate({}))
    values: dict[str, Any] = Field({}, description="Working values: $name in this definition.")
    copy_: list[str] = Field([], alias="copy", description="Fields that are copied as they stand.")
    fields: dict[str, Any] = Field({}, description="Target path → value.")
    defaults: dict[str, Any] = Field({}, description="Values of fields that are still empty.")
    segments: dict[str, SegmentConfig] = {}
    without: list[str] = Field([], description="Segments and fields of what is extended that are not sent.")
    json_: Any = Field(None, alias="json", description="A JSON body: names and values, nested as it shall be.")


#: How alike two names are of which one is a slip of the other; names that were meant differ more.
_SLIP = 0.88
#: What may be a working value in a text: ``$name``, or a word of a template.
_NAMED = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Piece:
    """One thing said in a definition, and where."""

    spec: Any
    at: At
    #: Empty: in the channel's own file.
    file: str = ""


@dataclass(slots=True)
class Definition:
    """A definition with everything below it laid under."""

    scalars: dict[str, Piece] = field(default_factory=dict)
    values: dict[str, Piece] = field(default_factory=dict)
    #: Target → value, in the order in which they were said.
    fields: dict[Path, Piece] = field(default_factory=dict)
    defaults: dict[Path, Piece] = field(default_factory=dict)
    segments: dict[str, dict[str, Piece]] = field(default_factory=dict)

    def spec(self, name: str) -> Any:
        """What was said about ``name``, or None."""
        piece = self.scalars.get(name)
        return None if piece is None else piece.spec


def read_definition(config: BuildConfig, loading: Loading) -> Definition:
    """The definition of one ``build`` step. SpecError for what cannot be read, in its own file."""
    definition = Definition()
    _lay(definition, config, loading, (), "", ())
    return definition


def check_values(definition: Definition) -> None:
    """A working value that nothing reads, and whose name is nearly one that is read, is a slip. SpecError.

    Others may be read by what extends the definition.
    """
    laid: list[Mapping[Any, Piece]] = [definition.scalars, definition.values, definition.fields, definition.defaults]
    said = [piece.spec for pieces in (*laid, *definition.segments.values()) for piece in pieces.values()]
    read = {name for spec in said for text in _texts(spec) for name in _NAMED.findall(text)}
    known = sorted(read & definition.values.keys())
    for name, piece in definition.values.items():
        nearest = [] if name in read else get_close_matches(name, known, 1, _SLIP)
        if nearest:
            said_so = {"expected": f"a working value: {', '.join(known)}", "nearest": nearest[0], "file": piece.file}
            raise SpecError(f"nothing reads ${name}", at=piece.at, **said_so)


def _texts(spec: Any) -> Iterator[str]:
    """Every text in something said: values, conditions, templates, members of JSON."""
    if isinstance(spec, str):
        yield spec
    elif isinstance(spec, Mapping):
        for name, value in spec.items():
            yield str(name)
            yield from _texts(value)
    elif isinstance(spec, list):
        for value in spec:
            yield from _texts(value)


def named_in(site: Any, name: str, at: At) -> str:
    """``ris/slots/$site.ris.slots`` with the site's values in it."""

    def value(found: re.Match[str]) -> str:
        return str(site_value(site, found[1].split("."), at))

    return re.sub(r"\$site\.([A-Za-z0-9_]+(?:\.[A-Za-z0-9_]+)*)", value, name)


def placed(piece: Piece, make: Callable[[], _Made]) -> _Made:
    """Run ``make``; an error in it is told with the file of ``piece``."""
    try:
        return make()
    except SpecError as error:
        if error.file or not piece.file:
            raise
        raise SpecError(
            error.message, at=error.at, expected=error.expected, nearest=error.nearest, file=piece.file
        ) from None


def _lay(target: Definition, config: BuildConfig, loading: Loading, at: At, file: str, seen: tuple[str, ...]) -> None:
    for word in ("using", "extends"):
        name = getattr(config, word)
        if name is not None:
            here = Piece(name, (*at, word), file)
            placed(here, lambda here=here: _lay_below(target, here, loading, seen))  # type: ignore[misc]
    for name in ("message", "structure", "version", "charset", "unmappable", "json_"):
        if name in config.model_fields_set:
            word = name.rstrip("_")
            target.scalars[word] = Piece(getattr(config, name), (*at, word), file)
    for name in config.times.model_fields_set:
        target.scalars[f"times.{name}"] = Piece(getattr(config.times, name), (*at, "times", name), file)
    for number, name in enumerate(config.without):
        _without(target, Piece(name, (*at, "without", number), file))
    for name, spec in config.values.items():
        target.values[name] = Piece(spec, (*at, "values", name), file)
    copied: dict[str, Any] = {}
    for number, name in enumerate(config.copy_):
        copied[name] = Piece({"from": name}, (*at, "copy", number), file)
    own = {name: Piece(spec, (*at, "fields", name), file) for name, spec in config.fields.items()}
    _lay_fields(target.fields, copied)
    _lay_fields(target.fields, own)
    _lay_fields(
        target.defaults, {name: Piece(spec, (*at, "defaults", name), file) for name, spec in config.defaults.items()}
    )
    for name, segment in config.segments.items():
        below = target.segments.setdefault(name, {})
        for word in segment.model_fields_set:
            below[word] = Piece(getattr(segment, word), (*at, "segments", name, word), file)


def _lay_below(target: Definition, here: Piece, loading: Loading, seen: tuple[str, ...]) -> None:
    name = named_in(loading.site, here.spec, here.at)
    if name in seen:
        raise SpecError(f"{name} extends itself", at=here.at)
    try:
        fragment = loading.fragment(name)
    except SpecError as error:
        if error.file:
            raise
        raise SpecError(error.message, at=here.at, expected=error.expected, nearest=error.nearest) from None
    data, at = _build_in(fragment)
    _lay(target, validated(BuildConfig, data, at, fragment.file), loading, at, fragment.file, (*seen, name))


def _build_in(fragment: Fragment) -> tuple[Any, At]:
    """A file of transforms/ is a definition, or a list of steps with one ``build`` in it."""
    if not isinstance(fragment.data, list):
        return fragment.data, ()
    builds = [number for number, step in enumerate(fragment.data) if isinstance(step, dict) and set(step) == {"build"}]
    if len(builds) != 1:
        raise SpecError(
            "there is not exactly one build in it", file=fragment.file, expected="a definition or one build"
        )
    return fragment.data[builds[0]]["build"], (builds[0], "build")


def validated(model: type[_Model], data: Any, at: At, file: str) -> _Model:
    """``data`` as ``model``; what is wrong becomes a SpecError."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = tuple(first["loc"])
        words = [info.alias or name for name, info in model.model_fields.items()]
        extra = first["type"] == "extra_forbidden"
        raise SpecError(
            f"{where[-1]} is no word here" if extra and where else str(first["msg"]),
            at=(*at, *where),
            expected=", ".join(words) if extra and len(where) == 1 else "",
            nearest=near(str(where[-1]), words) if extra and where else "",
            file=file,
        ) from None


_Model = TypeVar("_Model", bound=BaseModel)


def _target(piece: Piece, name: str) -> Path:
    if not Path.looks_like(name):
        raise SpecError(f"{name} is no path", at=piece.at, expected="a path such as PID-3 or PID-3.1", file=piece.file)
    path = Path.parse(name)
    if path.field is None or path.segment_index is not None:
        raise SpecError(
            f"{name} is not one field", at=piece.at, expected="a field such as PID-3 or PID-3.1", file=piece.file
        )
    return path


def _lay_fields(below: dict[Path, Piece], pieces: dict[str, Piece]) -> None:
    targets = {_target(piece, name): piece for name, piece in pieces.items()}
    named = {(path.segment, path.field) for path in targets}
    for path in [path for path in below if (path.segment, path.field) in named]:
        del below[path]
    below.update(targets)


def _without(target: Definition, piece: Piece) -> None:
    name = str(piece.spec)
    if not Path.looks_like(name):
        raise SpecError(f"{name} is no path", at=piece.at, expected="a segment or a field", file=piece.file)
    path = Path.parse(name)
    for fields in (target.fields, target.defaults):
        for each in [each for each in fields if each.segment == path.segment and path.field in (None, each.field)]:
            del fields[each]
