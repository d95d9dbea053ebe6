"""Steps of a file → a Chain, and what a step may ask while it is compiled (``Loading`` of
``engine/transforms/base.py``).

A Place is a step's (or any value's) position: its document and key path, from which every fault gets its line.
Faults are collected, not raised: a chain is compiled to its end even when one of its steps is wrong, so that all
faults are told.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from engine.config.files import SiteFiles
from engine.config.problems import Problems, kind, of_spec, of_validation
from engine.config.registry import NOUNS, Kind, component, words
from engine.config.yaml import Document, KeyPath
from engine.errors import HL7EngineError, Problem, SpecError
from engine.transforms.base import Chain, Fragment, Step, Table

T = TypeVar("T")

#: Steps that set no variables but those their keys name (`into:`, and `$name:` under `set`). Any other may set any.
_TELLING = frozenset(
    (
        *("answer", "ask", "build", "convert", "copy", "delete", "drop", "hash_phone", "include", "keep", "lookup"),
        *("python", "query_database", "recall", "remember", "require", "resolve", "set", "template"),
    )
)

#: Steps whose keys are targets.
_WRITING = ("set", "copy")

_VARIABLE = re.compile(r"\$[A-Za-z_][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+)*", re.ASCII)

#: Keys under which ``{error: CODE}`` may stand.
_REFUSING = ("missing", "otherwise", "unavailable", "unanswered", "failed")


@dataclass(slots=True)
class Findings:
    """What is noticed while one channel is compiled."""

    channel: str
    problems: Problems = field(default_factory=Problems)
    #: Error codes that its steps raise, and where.
    codes: dict[tuple[str, str, KeyPath], None] = field(default_factory=dict)
    #: Variables that its steps set.
    variables: set[str] = field(default_factory=set)
    #: Variables that steps of the channel's own file read, and where first.
    reads: dict[str, KeyPath] = field(default_factory=dict)
    #: A step may set variables that nobody can know before it runs.
    open_variables: bool = False
    #: Channels that are asked for a reply: name, file, key path.
    asked: dict[tuple[str, str, KeyPath], None] = field(default_factory=dict)
    #: Exchanges that it settles or forgets: channel, member of the request that they are found by.
    resolves: set[tuple[str, str]] = field(default_factory=set)
    #: Files of the site that it led to.
    used: set[str] = field(default_factory=set)
    #: Sentences that stand for problems which are told already.
    told: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Place:
    """A position in a document, and the loader seen from there."""

    files: SiteFiles
    findings: Findings
    document: Document
    base: KeyPath = ()
    #: Files whose steps led here, outermost first.
    including: tuple[str, ...] = ()
    #: What stands here, for finding the line of a name in it.
    value: Any = None
    #: Fragments that were read from here.
    read: list[Document] = field(default_factory=list)
    #: Name of the channel that is compiled.
    channel: str = field(init=False)
    #: Every channel of the site, broken ones too.
    channels: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        self.channel, self.channels = self.findings.channel, self.files.channels

    def at(self, path: KeyPath, value: Any = None) -> Place:
        """The place at ``path`` below this one."""
        return Place(self.files, self.findings, self.document, (*self.base, *path), self.including, value)

    # -- faults ----------------------------------------------------------------------------------------------------

    def report(self, path: KeyPath, message: str, **more: str) -> None:
        """One problem at ``path`` below this place."""
        self.findings.problems.add(self.document.problem((*self.base, *path), message, **more))

    def attempt(self, build: Callable[[], T], what: str) -> T | None:
        """What ``build`` makes of the value here; None, its fault reported, when it cannot."""
        try:
            return build()
        except SpecError as error:
            self.spec_fault(error)
        except HL7EngineError as error:
            self.report((), str(error))
        except Exception as error:  # noqa: BLE001 - a stranger's component; its text may quote what it was given
            self.report((), f"{what} cannot be set up: {type(error).__name__}", expected="a package that works")
        return None

    def spec_fault(self, error: SpecError) -> None:
        """Report a component's complaint where the fault lies."""
        if error.file:
            document, path = self.files.documents.get(error.file) or Document(error.file), tuple(error.at)
        else:
            document, path = self.document, (*self.base, *error.at)
        if error.message not in self.findings.told and not document.spoiled(path):
            self.findings.problems.add(of_spec(error, document, path))

    def validate(self, annotation: Any, value: Any) -> tuple[Any] | None:
        """``value``, which stands here, as an ``annotation``; None with its problems when it is none."""
        try:
            return (_adapter(annotation).validate_python(value),)
        except ValidationError as error:
            self.findings.problems.extend(of_validation(error, annotation, self.document, self.base, value))
        return None

    # -- words -----------------------------------------------------------------------------------------------------

    def word(self, which: Kind, value: Any) -> tuple[str, Any] | None:
        """The single key of a connector or step and what stands under it; None with its problem."""
        noun = NOUNS[which]
        known = words(which)
        example = f"one {noun}, such as `{known[0]}: …`" if known else f"one {noun}"
        if isinstance(value, str) and value in known:
            self.report(
                (), f"`{value}` is a word alone", expected=f"`{value}:` with a colon, and its keys if it has any"
            )
        elif not isinstance(value, dict) or not value:
            self.report((), f"found {kind(value)} instead of a {noun}", expected=example)
        elif len(value) > 1:
            listed = " and ".join(f"`{key}`" for key in value)
            hint = "a dash before each" if which == "steps" else f"its own keys indented under the {noun}'s word"
            self.report((), f"{listed} stand together where one {noun} stands", expected=hint)
        else:
            return next(iter(value.items()))
        return None

    def component(self, which: Kind, value: Any, build: Callable[[type[Any], Any], T]) -> T | None:
        """The connector or step that stands here: word → class → validated Config → ``build(class, config)``."""
        found = self.word(which, value)
        if found is None:
            return None
        word, config = found
        place = self.at((word,), config)
        what = f"the {NOUNS[which]} `{word}`"
        cls = place.attempt(lambda: component(which, word), what)
        if cls is None:
            return None
        if config is None and isinstance(cls.Config, type) and issubclass(cls.Config, BaseModel):
            config = {}
        checked = place.validate(cls.Config, config)
        return checked and place.attempt(lambda: build(cls, checked[0]), what)

    # -- steps -----------------------------------------------------------------------------------------------------

    def steps(self, steps: Any) -> Chain:
        """Compile a list of steps that stands here; those that are wrong are reported and left out."""
        if not isinstance(steps, list):
            self.report((), f"found {kind(steps)} instead of steps", expected="a list of steps, each with a dash")
            return Chain(())
        found = [self.at((index,)).step(step) for index, step in enumerate(steps)]
        return Chain([step for step in found if step is not None])

    def step(self, value: Any) -> Step | None:
        """Compile one step."""
        if isinstance(value, dict) and len(value) == 1:
            self._note(*next(iter(value.items())))
        loading = self._loading(value)
        return self.component("steps", value, lambda cls, config: cls(config, loading))

    def _loading(self, value: Any) -> Place:
        if isinstance(value, dict) and len(value) == 1:
            word, config = next(iter(value.items()))
            return self.at((word,), config)
        return self

    def _note(self, word: str, config: Any) -> None:
        """What the step's keys tell about the whole channel."""
        findings = self.findings
        findings.open_variables |= word not in _TELLING
        if word in _WRITING and isinstance(config, dict):
            findings.variables |= {key[1:].split(".")[0] for key in config if str(key).startswith("$")}
        # A definition of `build` has names of its own, and an included file serves channels that set other ones.
        if word != "build" and not self.including:
            for name, path in _reads(word, config):
                findings.reads.setdefault(name, (*self.base, *path))
        if word == "ask" and isinstance(config, dict) and isinstance(config.get("channel"), str):
            findings.asked.setdefault((config["channel"], self.document.file, (*self.base, word, "channel")))
        if word == "resolve" and isinstance(config, dict) and isinstance(config.get("match"), dict):
            for member in list(config["match"])[:1]:
                findings.resolves.add((str(config.get("channel")), str(member).removeprefix("$")))
        self._note_codes(config, (word,))

    def _note_codes(self, config: Any, path: KeyPath) -> None:
        for key, inner in _everything(config, path):
            if key[-1] == "into":
                names = inner if isinstance(inner, list) else [inner]
                self.findings.variables |= {str(name).removeprefix("$").split(".")[0] for name in names}
            if key[-1] in _REFUSING and isinstance(inner, dict) and isinstance(inner.get("error"), str):
                self.findings.codes.setdefault((inner["error"], self.document.file, (*self.base, *key, "error")))

    # -- Loading ---------------------------------------------------------------------------------------------------

    @property
    def site(self) -> Mapping[str, Any]:
        """``$site``."""
        return self.files.values

    @property
    def folder(self) -> Path:
        """The site's folder."""
        return self.files.folder

    def table(self, name: str) -> Table:
        """``tables/NAME.csv``."""
        table, problems = self._named(name, lambda: self.files.table(name))
        self.findings.used.add(f"tables/{name}.csv")
        if table is None:
            raise self._told(problems, f"table {name}")
        return table

    def fragment(self, name: str) -> Fragment:
        """``transforms/NAME.yaml``."""
        document = self._document(name)
        self.read.append(document)
        Place(self.files, self.findings, document)._note_codes(document.value, ())
        return Fragment(name, document.file, document.value)

    def include(self, name: str) -> Chain:
        """The steps of ``transforms/NAME.yaml``, compiled."""
        document = self._document(name)
        if name in self.including:
            circle = " → ".join((*self.including[self.including.index(name) :], name))
            raise SpecError(
                "files include each other in a circle", at=self._where(name), expected=f"an end to {circle}"
            )
        return Place(self.files, self.findings, document, (), (*self.including, name)).steps(document.value)

    def chain(self, steps: Any, at: tuple[str | int, ...]) -> Chain:
        """Steps inside this step's own value."""
        return self.at(tuple(at)).steps(steps)

    def function(self, reference: str) -> Callable[..., Any]:
        """``file:name``."""
        self.findings.used.add(f"transforms/{reference.partition(':')[0]}.py")
        return self._named(reference, lambda: self.files.function(reference))

    def _document(self, name: str) -> Document:
        document = self._named(name, lambda: self.files.fragment(name))
        self.findings.used.add(document.file)
        self.findings.problems.extend(document.problems)
        if not document.usable:
            raise self._told(document.problems, document.file)
        return document

    def _told(self, problems: list[Problem], what: str) -> SpecError:
        """What a step is told when the file it needs has its problems already: it must not be told twice."""
        self.findings.problems.extend(problems)
        sentence = f"{what} has problems of its own"
        self.findings.told.add(sentence)
        return SpecError(sentence)

    def _named(self, name: str, find: Callable[[], T]) -> T:
        """Do ``find``; a fault of its is placed where ``name`` is written."""
        try:
            return find()
        except SpecError as error:
            if error.at:
                raise
            file, path = self._where_in_all(name)
            raise SpecError(error.message, at=path, expected=error.expected, nearest=error.nearest, file=file) from None

    def _where(self, name: str) -> KeyPath:
        return self._where_in_all(name)[1]

    def _where_in_all(self, name: str) -> tuple[str, KeyPath]:
        """File (empty: this one) and key path of the text ``name``, if it is written in only one place."""
        for file, value in (("", self.value), *((document.file, document.value) for document in self.read)):
            found = [path for path, inner in _everything(value, ()) if inner == name]
            if found:
                return file, found[0] if len(found) == 1 else ()
        return "", ()


def _reads(word: str, config: Any) -> Iterator[tuple[str, KeyPath]]:
    """The variables that a step reads, as far as its text names them."""
    for path, inner in _everything({word: config}, ()):
        key = path[-1]
        if word not in _WRITING and isinstance(key, str) and _VARIABLE.fullmatch(key):
            yield key[1:].split(".")[0], path
        if isinstance(inner, str) and key != "into":
            if _VARIABLE.fullmatch(inner):
                yield inner[1:].split(".")[0], path
            elif "{{" in inner:
                from engine.transforms.values.sandbox import names_in  # with Jinja2, for sites that have templates

                yield from ((name, path) for name in names_in(inner))


def _everything(value: Any, path: KeyPath) -> Iterator[tuple[KeyPath, Any]]:
    """Every value inside ``value`` with its key path."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        yield (*path, key), inner
        yield from _everything(inner, (*path, key))


_ADAPTERS: dict[int, tuple[Any, TypeAdapter[Any]]] = {}


def _adapter(annotation: Any) -> TypeAdapter[Any]:
    """One adapter per type; kept with its type, so that an id is never used again for another."""
    known = _ADAPTERS.get(id(annotation))
    if known is None:
        known = _ADAPTERS[id(annotation)] = annotation, TypeAdapter(annotation)
    return known[1]
