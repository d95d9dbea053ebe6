"""The words of connectors and steps: entry points of this and of anybody's package → classes.

``hl7engine.sources``, ``hl7engine.steps`` and ``hl7engine.destinations`` are read once per process; a class is
imported when a site uses its word. A package that does not import, or is none of ours, is a SpecError of the place
that uses it.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal

from engine.config.problems import nearest, one_of
from engine.destinations.base import Destination
from engine.errors import SpecError
from engine.sources.base import Source
from engine.transforms.base import Step

Kind = Literal["sources", "steps", "destinations"]

#: What a class of each kind must be, and what people call one.
BASES: dict[Kind, type[Any]] = {"sources": Source, "steps": Step, "destinations": Destination}
NOUNS: dict[Kind, str] = {"sources": "source", "steps": "step", "destinations": "destination"}


@cache
def _entries(kind: Kind) -> dict[str, tuple[EntryPoint, ...]]:
    found: dict[str, tuple[EntryPoint, ...]] = {}
    for entry in entry_points(group=f"hl7engine.{kind}"):
        # The same package seen twice on the path (an editable install, a build folder) is no conflict.
        if all(entry.value != known.value for known in found.get(entry.name, ())):
            found[entry.name] = (*found.get(entry.name, ()), entry)
    return found


def words(kind: Kind) -> tuple[str, ...]:
    """Everything an admin can write for ``kind``, sorted."""
    return tuple(sorted(_entries(kind)))


def component(kind: Kind, word: str) -> type[Any]:
    """The class of ``word``. Raises SpecError: no such word, a package that cannot be used."""
    entries = _entries(kind).get(word, ())
    noun = NOUNS[kind]
    if not entries:
        known = words(kind)
        raise SpecError(
            f"no {noun} is called `{word}`",
            expected=one_of(known) or "hl7engine to be installed, it registers none",
            nearest=nearest(word, known),
        )
    if len(entries) > 1:
        values = " and ".join(sorted(entry.value for entry in entries))
        raise SpecError(f"two packages offer the {noun} `{word}`: {values}", expected="one of them uninstalled")
    return _load(kind, entries[0])


@cache
def _load(kind: Kind, entry: EntryPoint) -> type[Any]:
    place = f"the {NOUNS[kind]} `{entry.name}` ({entry.value})"
    try:
        found = entry.load()
    except Exception as error:  # noqa: BLE001 - a stranger's module runs here; whatever it raises must not end the engine
        raise SpecError(
            f"{place} cannot be imported: {type(error).__name__}", expected="a package that works"
        ) from None
    base = BASES[kind]
    if not (isinstance(found, type) and issubclass(found, base) and hasattr(found, "Config")):
        raise SpecError(
            f"{place} is no {NOUNS[kind]} of hl7engine", expected=f"a subclass of {base.__name__} with Config"
        )
    return found
