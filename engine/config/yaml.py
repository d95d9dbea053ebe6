"""YAML text → plain values, and a tree of marks that knows the line and column of every key and item.

Built on libyaml's events. Scalars are read as code tables need them: only ``true``, ``false``, ``null``, whole
numbers without a leading zero and decimals that survive the way there and back become other things than text;
``NO``, ``0123``, ``12:30`` and ``5.10`` stay what was written. Keys are always text. Duplicate keys, tags and
further documents are problems. Size, depth and what aliases expand to are bounded. ``${VAR}`` is the business of
``interpolate.py``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import yaml as pyyaml

from engine.errors import Problem

#: A file of a person's making is far smaller; a code table belongs into ``tables/``.
MAX_BYTES = 1024 * 1024
MAX_DEPTH = 64
#: Values of one file after its aliases are expanded.
MAX_VALUES = 100_000

Key = str | int
KeyPath = tuple[Key, ...]

_LOADER = getattr(pyyaml, "CSafeLoader", pyyaml.SafeLoader)
_CONSTANTS = {"": None, "~": None, "null": None, "true": True, "false": False} | {
    word: value
    for name, value in (("null", None), ("true", True), ("false", False))
    for word in (name.title(), name.upper())
}
_INT = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_FLOAT = re.compile(r"-?(0|[1-9][0-9]{0,8})\.[0-9]{1,8}")
_TEXT_TAGS = ("!", "tag:yaml.org,2002:str")


@dataclass(slots=True)
class Mark:
    """Where a key or an item stands, 1-based; ``items`` holds the marks of what lies inside."""

    line: int
    column: int
    items: Mapping[Key, Mark] = field(default_factory=dict)

    def find(self, path: KeyPath) -> Mark:
        """The mark of ``path``, or of the nearest thing above it that exists."""
        mark = self
        for key in path:
            inner = mark.items.get(key)
            if inner is None:
                break
            mark = inner
        return mark


@dataclass(slots=True)
class Document:
    """One parsed file."""

    #: As the admin knows it: relative to the site.
    file: str
    value: Any = None
    mark: Mark = field(default_factory=lambda: Mark(1, 1))
    problems: list[Problem] = field(default_factory=list)
    #: False when there is nothing to go on with: no YAML, or empty.
    usable: bool = True
    #: The value before ``${VAR}`` was filled in: what a message may quote.
    raw: Any = None
    #: What was filled in → how it is written.
    hidden: Mapping[str, str] = field(default_factory=dict, repr=False)
    #: Places whose ``${VAR}`` could not be filled in; they have their problem already.
    unresolved: set[KeyPath] = field(default_factory=set)
    #: Of a destination that was made from a row of a table (``rows.py``), by its number: which row.
    rows: Mapping[int, str] = field(default_factory=dict)

    def problem(self, path: KeyPath, message: str, **more: str) -> Problem:
        """A problem at ``path`` of this file; what ``${VAR}`` filled in is shown as ``${VAR}``."""
        more = {name: self._shown(text) for name, text in more.items()}
        if path[:1] == ("destinations",) and len(path) > 1 and path[1] in self.rows:
            message = f"{message} ({self.rows[int(path[1])]})"
        return Problem(self.file, self.mark.find(path).line, dotted(path), self._shown(message), **more)

    def _shown(self, text: str) -> str:
        for value in sorted(self.hidden, key=len, reverse=True):
            text = text.replace(value, self.hidden[value])
        return text

    def spoiled(self, path: KeyPath) -> bool:
        """Whether what stands at ``path`` has an unfilled ``${VAR}``: that is told, and what follows from it is not."""
        return any(place[: len(path)] == path for place in self.unresolved)

    def written(self, path: KeyPath) -> Any:
        """What stands in the file at ``path``, ``${VAR}`` unfilled; None when there is nothing."""
        value = self.raw
        for key in path:
            try:
                value = value[key]
            except (KeyError, IndexError, TypeError):
                return None
        return value


def dotted(path: KeyPath) -> str:
    """``("destinations", 0, "to")`` → ``destinations[0].to``."""
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path)
    return text.removeprefix(".")


def parse(data: bytes, file: str) -> Document:
    """Parse one file. Never raises: what is wrong is in ``problems``."""
    document = Document(file)
    try:
        _fill(document, data)
    except _Fault as fault:
        document.usable = False
        document.problems = [Problem(file, fault.line, "", fault.message, fault.expected)]
    document.raw = document.value
    return document


def _fill(document: Document, data: bytes) -> None:
    if len(data) > MAX_BYTES:
        raise _Fault(0, "the file is too large", f"at most {MAX_BYTES // 1024} KiB")
    composer = _Composer(document, _decode(data))
    try:
        node = composer.document()
    except pyyaml.MarkedYAMLError as error:
        raise _syntax(error) from None
    except pyyaml.reader.ReaderError as error:
        line = error.position and data[: error.position].count(b"\n") + 1
        raise _Fault(line, "a character that YAML does not allow", "plain text") from None
    if node is None:
        raise _Fault(0, "the file is empty")
    document.value, document.mark.items = node.value, node.items


def _decode(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _Fault(
            data[: error.start].count(b"\n") + 1, "a character is not UTF-8", "a file saved as UTF-8"
        ) from None


class _Fault(Exception):
    """Nothing of the file can be used."""

    def __init__(self, line: int, message: str, expected: str = "") -> None:
        self.line, self.message, self.expected = line, message, expected
        super().__init__(message)


class _Node(NamedTuple):
    value: Any
    items: Mapping[Key, Mark]
    #: Number of values, aliases expanded.
    size: int
    #: Levels, aliases expanded.
    depth: int = 1


class _Composer:
    """Builds values and marks from libyaml's events in one pass."""

    def __init__(self, document: Document, text: str) -> None:
        self.out = document
        self.events: Iterator[Any] = iter(pyyaml.parse(text, Loader=_LOADER))
        self.anchors: dict[str, _Node] = {}
        self.depth = 0

    def document(self) -> _Node | None:
        """The one document of the file; None when there is none."""
        node: _Node | None = None
        for event in self.events:
            if isinstance(event, pyyaml.DocumentStartEvent):
                if node is not None:
                    raise _Fault(
                        _line(event), "a second document begins here", "one document per file, no further `---`"
                    )
                node = self.node(next(self.events))
        return None if node is None or (node.value is None and not node.items) else node

    def node(self, event: Any) -> _Node:
        """The value that begins with ``event``."""
        if isinstance(event, pyyaml.AliasEvent):
            return self.alias(event)
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise _too_deep(event)
        if isinstance(event, pyyaml.ScalarEvent):
            node = _Node(self.scalar(event), {}, 1)
        else:
            self.untagged(event)
            node = self.sequence() if isinstance(event, pyyaml.SequenceStartEvent) else self.mapping()
        if node.size > MAX_VALUES:
            raise _Fault(_line(event), "too many values", f"at most {MAX_VALUES}, aliases expanded")
        self.depth -= 1
        if event.anchor is not None:
            self.anchors[event.anchor] = node
        return node

    def alias(self, event: Any) -> _Node:
        """What ``*name`` stands for. An anchor counts from its end on, so nothing can contain itself."""
        if event.anchor not in self.anchors:
            raise _Fault(_line(event), f"`*{event.anchor}` stands for nothing", f"`&{event.anchor}` further up")
        node = self.anchors[event.anchor]
        if self.depth + node.depth > MAX_DEPTH:
            raise _too_deep(event)
        return node

    def scalar(self, event: Any) -> Any:
        """A plain scalar as its value, a quoted one as text."""
        if event.implicit[0]:
            return plain(event.value)
        self.untagged(event)
        return event.value

    def untagged(self, event: Any) -> None:
        """Tags make objects or change types behind the reader's back."""
        if event.tag is not None and event.tag not in _TEXT_TAGS:
            self.report(event, f"the tag `{event.tag}` is not used here", "a plain value; text in quotes")

    def sequence(self) -> _Node:
        """A list, its start already read."""
        values: list[Any] = []
        items: dict[Key, Mark] = {}
        size, depth = 1, 0
        for event in self.events:
            if isinstance(event, pyyaml.SequenceEndEvent):
                break
            node = self.node(event)
            items[len(values)] = Mark(_line(event), event.start_mark.column + 1, node.items)
            values.append(node.value)
            size, depth = size + node.size, max(depth, node.depth)
        return _Node(values, items, size, depth + 1)

    def mapping(self) -> _Node:
        """Keys and values, the start already read."""
        values: dict[str, Any] = {}
        items: dict[Key, Mark] = {}
        merged: list[_Node] = []
        size, depth = 1, 0
        for event in self.events:
            if isinstance(event, pyyaml.MappingEndEvent):
                break
            key = self.key(event)
            node = self.node(next(self.events))
            size, depth = size + node.size, max(depth, node.depth)
            if key is None:
                continue
            if key == "<<" and event.implicit[0]:
                merged += self.merge(event, node)
            elif key in values:
                self.report(event, f"the key `{key}` stands here and in line {items[key].line}", "every key once", key)
            else:
                values[key], items[key] = node.value, Mark(_line(event), event.start_mark.column + 1, node.items)
        for node in merged:
            for name in node.value:
                if name not in values:
                    values[name], items[name] = node.value[name], node.items[name]
        return _Node(values, items, size, depth + 1)

    def key(self, event: Any) -> str | None:
        """The key as it is written, whatever it looks like; None (with its problem) when it is no scalar."""
        if isinstance(event, pyyaml.ScalarEvent):
            return str(event.value)
        self.node(event)
        self.report(event, "this key is no plain word", "`key: value`; put values with { } or [ ] in quotes")
        return None

    def merge(self, event: Any, node: _Node) -> list[_Node]:
        """The mappings that ``<<:`` lays under this one."""
        if isinstance(node.value, dict):
            return [node]
        if isinstance(node.value, list) and node.value and all(isinstance(value, dict) for value in node.value):
            return [_Node(value, node.items[index].items, 0) for index, value in enumerate(node.value)]
        self.report(event, "`<<` takes keys from elsewhere", "`<<: *name` where `&name` stands before keys", "<<")
        return []

    def report(self, event: Any, message: str, expected: str, key: str = "") -> None:
        """One problem that leaves the rest of the file readable."""
        self.out.problems.append(Problem(self.out.file, _line(event), key, message, expected))


def plain(text: str) -> Any:
    """The value of an unquoted scalar."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INT.fullmatch(text) and text != "-0":
        return int(text)
    # 5.10 as a number would be written out as 5.1: it stays text, and a field that wants a number still reads it.
    if _FLOAT.fullmatch(text) and str(float(text)) == text:
        return float(text)
    return text


def _too_deep(event: Any) -> _Fault:
    return _Fault(_line(event), f"nested more than {MAX_DEPTH} deep", "fewer levels, aliases expanded")


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


#: libyaml's words → words for the person who has to mend it.
_SYNTAX = {
    "mapping values are not allowed in this context": (
        "a `: ` where no key can stand",
        "one `key: value` per line, indented like its neighbours; text with `: ` in quotes",
    ),
    "found character that cannot start any token": (
        "a tab, or one of @ ` %, begins a value",
        "spaces for indentation, and such text in quotes",
    ),
    "did not find expected key": ("the indentation does not fit the lines above", "neighbouring keys in one column"),
    "did not find expected '-' indicator": (
        "the indentation does not fit the list above",
        "every `- ` of a list in one column",
    ),
    "could not find expected ':'": ("this is no `key: value`", "a colon and a space after the key"),
    "found unexpected end of stream": ("a quote is not closed", "a closing quote"),
    "did not find expected node content": ("a value is missing, or a bracket is not closed", "a value, ] or }"),
    "did not find expected ',' or ']'": ("a list in [ ] is not closed", "commas between items and a closing ]"),
    "did not find expected ',' or '}'": ("keys in { } are not closed", "commas between keys and a closing }"),
}


def _syntax(error: pyyaml.MarkedYAMLError) -> _Fault:
    mark = error.problem_mark or error.context_mark
    message, expected = _SYNTAX.get(error.problem or "", (f"not YAML: {error.problem or error.context}", ""))
    begun = error.context_mark
    if begun is not None and mark is not None and any(word in (error.context or "") for word in ("flow", "quoted")):
        # The person who mends it looks for the bracket or quote that was opened, not for the line that stumbled.
        if begun.line != mark.line:
            message += f" (noticed in line {mark.line + 1})"
        mark = begun
    return _Fault(mark.line + 1 if mark else 0, message, expected)
