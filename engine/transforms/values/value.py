"""Values as admins write them, compiled to objects that read them: the same words in every step.

``compile_value`` takes a literal (HL7 text), ``$name``, a list (the first that is not empty), a long form such as
``{from: PID-3.1, map: TABLE, format: date, zone: …, default: …, missing: …}`` or a ``{{ template }}``. The pieces are
in ``readers.py`` (sources), ``formats.py``, ``missing.py`` and ``sandbox.py``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from engine.errors import SpecError
from engine.hl7.path import Path
from engine.hl7.versions import at_least
from engine.remembered import remembered
from engine.transforms.base import Loading
from engine.transforms.values.formats import FORMATS, Formatted
from engine.transforms.values.missing import missing_policy
from engine.transforms.values.readers import (
    FirstOf,
    Literal,
    Mapped,
    Member,
    Otherwise,
    Parts,
    PathValue,
    Required,
    Value,
    Variable,
)
from engine.transforms.values.slips import refuse_near_path
from engine.transforms.values.text import HL7Text, is_empty, near
from engine.transforms.values.times import zone_named

__all__ = ["Compiler", "Value", "compile_value"]

At = tuple[str | int, ...]

_VARIABLE = re.compile(r"\$[A-Za-z_][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+)*", re.ASCII)
_LONG = (
    "from",
    "value",
    "parts",
    "default",
    "map",
    "column",
    "format",
    "zone",
    "country",
    "missing",
    "since",
    "before",
)
_SOURCES = frozenset({"from", "value", "parts"})


def compile_value(spec: Any, loading: Loading, at: At = (), *, step: str = "value") -> Value:
    """The value that ``spec`` describes. SpecError, at the key path ``at``, for what cannot be read."""
    return Compiler(loading, step).value(spec, at)


def is_long_form(spec: Any) -> bool:
    """Whether a mapping is a value's long form rather than a nested object."""
    return isinstance(spec, dict) and bool(_SOURCES & spec.keys()) and spec.keys() <= set(_LONG)


@dataclass(slots=True)
class Compiler:
    """Compiles the values of one step; ``names`` are working values of a ``build``, ``version`` what it builds."""

    loading: Loading
    step: str
    names: Mapping[str, Value] = field(default_factory=dict)
    version: str | None = None

    def value(self, spec: Any, at: At = ()) -> Value:
        """A value as it stands on the right of a key: a bare text is a literal."""
        if isinstance(spec, list):
            return self._first_of([self.value(item, (*at, number)) for number, item in enumerate(spec)], at)
        if isinstance(spec, dict):
            return self._long(spec, at)
        if not isinstance(spec, str):
            return Literal(spec)
        if "{{" in spec or "{%" in spec:
            from engine.transforms.values.sandbox import Template  # with Jinja2, for sites that have templates

            return Template(spec, self.loading.site, at, self.step)
        if spec.startswith("$"):
            return self._variable(spec, at)
        return Literal(HL7Text(spec))

    def source(self, spec: Any, at: At = ()) -> Value:
        """A value as it stands under ``from:`` and ``key:``: a bare text is a path, or a member of a JSON body."""
        if isinstance(spec, list):
            return self._first_of([self.source(item, (*at, number)) for number, item in enumerate(spec)], at)
        if not isinstance(spec, str) or spec.startswith("$") or "{{" in spec:
            return self.value(spec, at)
        if Path.looks_like(spec):
            return PathValue(Path.parse(spec))
        refuse_near_path(spec, at)
        return Member(spec)

    def _first_of(self, values: list[Value], at: At) -> Value:
        if not values:
            raise SpecError("an empty list has no value", at=at, expected="at least one value")
        # What stands behind a constant is never read, and a constant that is empty never chosen.
        kept: list[Value] = []
        for value in values:
            if not (value.static and is_empty(value.constant)):
                kept.append(value)
            if kept and kept[-1].static:
                break
        if len(kept) <= 1:
            return kept[0] if kept else Literal(None)
        return FirstOf(tuple(kept))

    def _variable(self, spec: str, at: At) -> Value:
        if not _VARIABLE.fullmatch(spec):
            raise SpecError("this is no variable", at=at, expected="$name or $name.member")
        root, *members = spec[1:].split(".")
        if root == "site":
            return Literal(site_value(self.loading.site, members, at))
        if root in self.names:
            named = self.names[root]
            return named if not members else constant(Variable(spec[1:], named, tuple(members)))
        return Variable(spec[1:], None, tuple(members))

    def _long(self, spec: dict[Any, Any], at: At) -> Value:
        for word in spec:
            if word not in _LONG:
                raise SpecError(
                    f"{word!s} is no word of a value",
                    at=(*at, str(word)),
                    expected=", ".join(_LONG),
                    nearest=near(word, _LONG),
                )
        named = [word for word in ("from", "value", "parts") if word in spec]
        if len(named) != 1:
            raise SpecError("a value has exactly one source", at=at, expected="one of from, value and parts")
        if not self._in_version(spec, at):
            return Literal(None)
        value = self._base(spec, named[0], at)
        if "map" in spec:
            value = self._mapped(value, spec, at)
        elif "column" in spec:
            raise SpecError("a column needs a table", at=(*at, "column"), expected="map beside it")
        if "format" in spec:
            value = self._formatted(value, spec, at)
        elif stray := [word for word in ("zone", "country") if word in spec]:
            raise SpecError(f"{stray[0]} needs a format", at=(*at, stray[0]), expected="format beside it")
        if "default" in spec:
            default = self.value(spec["default"], (*at, "default"))
            value = default if value.static and is_empty(value.constant) else Otherwise(value, default)
        elif "missing" in spec and "map" not in spec:
            value = Required(
                value, missing_policy(spec["missing"], (*at, "missing"), self.step, "missing", _where(spec))
            )
        return constant(value)

    def _in_version(self, spec: dict[Any, Any], at: At) -> bool:
        for word in ("since", "before"):
            if word in spec and self.version is None:
                raise SpecError(f"{word} needs a version that is built", at=(*at, word), expected="a field of build")
        if self.version is None:
            return True
        since, before = str(spec.get("since", "0")), spec.get("before")
        return at_least(self.version, since) and (before is None or not at_least(self.version, str(before)))

    def _base(self, spec: dict[Any, Any], word: str, at: At) -> Value:
        inside = spec[word]
        if word == "from":
            # A site's switch that is not set takes the default instead of being a fault.
            if "default" in spec and isinstance(inside, str) and inside.startswith("$site."):
                try:
                    return self.source(inside, (*at, word))
                except SpecError:
                    return Literal(None)
            return self.source(inside, (*at, word))
        if word == "value":
            return self.value(inside, (*at, word))
        if not isinstance(inside, dict) or not inside:
            raise SpecError("parts is a mapping", at=(*at, word), expected="component numbers and their values")
        parts: dict[int, Value] = {}
        for number, part in inside.items():
            if not str(number).isdigit() or int(number) < 1:
                raise SpecError(f"{number} is no component number", at=(*at, word, str(number)), expected="1, 2, 3, …")
            parts[int(number)] = self.value(part, (*at, word, number))
        return Parts(parts)

    def _mapped(self, value: Value, spec: dict[Any, Any], at: At) -> Value:
        find, name = self._table(spec, at)
        missing = None if "default" in spec and "missing" not in spec else spec.get("missing", "error")
        policy = missing_policy(missing, (*at, "missing"), self.step, "lookup_missing", name)
        if isinstance(find, dict):
            if value.static:  # a switch of the site: it is known here what is found, and whether
                found = find.get(value.data(cast(Any, None)))
                if found is not None:
                    return found
                if missing in (None, "null"):
                    return Literal(None)
            return Mapped(value, find.get, policy, tuple(find.values()))
        return Mapped(value, find, policy)

    def _table(self, spec: dict[Any, Any], at: At) -> tuple[dict[str, Value] | Callable[[str], Value | None], str]:
        table = spec["map"]
        if isinstance(table, dict):
            return {
                _key(key): constant(self.value(entry, (*at, "map", str(key)))) for key, entry in table.items()
            }, "map"
        if not isinstance(table, str):
            raise SpecError("map is a table's name or a mapping", at=(*at, "map"), expected="a file of tables/")
        try:
            loaded = self.loading.table(table)
        except SpecError as error:
            raise SpecError(error.message, at=(*at, "map"), expected=error.expected, nearest=error.nearest) from None
        column = spec.get("column")
        if column is None and len(loaded.columns) != 2:
            raise SpecError("the table has several columns", at=(*at, "map"), expected="column beside it")
        if column is not None and column not in loaded.columns:
            raise SpecError(
                f"the table has no column {column}",
                at=(*at, "column"),
                expected=", ".join(loaded.columns),
                nearest=near(column, loaded.columns),
            )
        wanted = column or loaded.columns[1]

        @remembered(1024)
        def find(key: str) -> Value | None:
            rows = loaded.rows(key)
            return Literal(HL7Text(rows[0][wanted])) if rows else None

        return find, table

    def _formatted(self, value: Value, spec: dict[Any, Any], at: At) -> Value:
        word = spec["format"]
        if word not in FORMATS:
            raise SpecError(
                f"{word} is no format", at=(*at, "format"), expected=", ".join(FORMATS), nearest=near(word, FORMATS)
            )
        zone = self.source(spec["zone"], (*at, "zone")) if _is_source(spec.get("zone")) else None
        if zone is None and spec.get("zone") is not None:
            zone = Literal(str(spec["zone"]))
        return Formatted(
            value,
            word,
            zone=zone,
            site_zone=zone_named(str(self.loading.site.get("timezone") or "")),
            country=str(spec.get("country", "1")),
            step=self.step,
            where=_where(spec),
        )


def _is_source(spec: Any) -> bool:
    return isinstance(spec, (list, dict)) or (isinstance(spec, str) and (spec.startswith("$") or Path.looks_like(spec)))


def _key(key: Any) -> str:
    return str(key).lower() if isinstance(key, bool) else str(key)


def _where(spec: dict[Any, Any]) -> str:
    """What a value is read from, for an error: a path or a variable's name, never what is in it."""
    source = spec.get("from")
    if isinstance(source, list):
        source = source[0] if source else None
    return source if isinstance(source, str) and "{{" not in source else ""


def constant(value: Value) -> Value:
    """A value that can never differ is worked out once."""
    return Literal(value.read(cast(Any, None))) if value.static and not isinstance(value, Literal) else value


def site_value(site: Mapping[str, Any], members: list[str], at: tuple[str | int, ...]) -> Any:
    """``$site.a.b``: fixed when the channel loads. SpecError when ``site.yaml`` has no such member."""
    value: Any = site
    for depth, member in enumerate(members):
        if not isinstance(value, Mapping) or member not in value:
            known = sorted(map(str, value)) if isinstance(value, Mapping) else []
            raise SpecError(
                f"site.yaml has no {'.'.join(members[: depth + 1])}",
                at=at,
                expected=", ".join(known),
                nearest=near(member, known),
            )
        value = value[member]
    return value
