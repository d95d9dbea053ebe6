"""What is wrong with a file, in words for the person who mends it: pydantic's errors and SpecErrors → Problems.

A Problem names file, line, key, what was expected and the nearest valid word. No value of a file is ever quoted
except words that stand in the file where only certain words are possible, and these as written, before ``${VAR}`` is
filled in.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import ValidationError

from engine.config.fields import fields_at
from engine.config.yaml import Document, Key, KeyPath
from engine.errors import Problem, SpecError


class Problems:
    """Collects the problems of one channel, each once, in the order in which they were found."""

    def __init__(self) -> None:
        self._found: dict[Problem, None] = {}

    def add(self, problem: Problem) -> None:
        """Keep ``problem`` unless it is known."""
        self._found.setdefault(problem)

    def extend(self, problems: Iterable[Problem]) -> None:
        """Keep all of ``problems``."""
        for problem in problems:
            self.add(problem)

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._found)

    @property
    def all(self) -> tuple[Problem, ...]:
        """Everything found."""
        return tuple(self._found)

    @property
    def errors(self) -> tuple[Problem, ...]:
        """What stops the channel."""
        return tuple(problem for problem in self._found if problem.level == "error")


def nearest(word: object, words: Iterable[str]) -> str:
    """The word that was probably meant; empty when none is near."""
    if not isinstance(word, str):
        return ""
    choices = {choice.casefold(): choice for choice in words}
    found = difflib.get_close_matches(word.casefold(), choices, n=1, cutoff=0.6)
    return choices[found[0]] if found else ""


def one_of(words: Sequence[str]) -> str:
    """``one of a, b, c``; empty when there are none."""
    return f"one of {', '.join(words)}" if len(words) > 1 else "".join(words)


def kind(value: object) -> str:
    """What a value is, without saying which."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "text"
    return "a list" if isinstance(value, list) else "keys"


def of_spec(error: SpecError, document: Document, path: KeyPath) -> Problem:
    """A component's own complaint about what stands at ``path``."""
    return document.problem(path, error.message, expected=error.expected, nearest=error.nearest)


class _Complaint(NamedTuple):
    path: KeyPath
    #: Names of union branches that pydantic put into the path: depth → name.
    branches: Mapping[int, Key]
    type: str
    context: dict[str, Any]
    value: Any


def of_validation(
    error: ValidationError, annotation: Any, document: Document, base: KeyPath, value: Any
) -> list[Problem]:
    """Pydantic's errors about ``value``, which stands at ``base`` and should be an ``annotation``; one per place."""
    complaints = [
        _locate(item["loc"], item["type"], item.get("ctx", {}), item.get("input"), value)
        for item in error.errors(include_url=False)
    ]
    by_place: dict[KeyPath, list[_Complaint]] = {}
    for complaint in _likely(complaints):
        by_place.setdefault(complaint.path, []).append(complaint)
    problems = {
        place: _problem(place, same, annotation, document, base)
        for place, same in by_place.items()
        if not document.spoiled((*base, *place))
    }
    # A key that is written wrongly is missing too: one fault, one problem.
    written_wrongly = {(*place[:-1], problem.nearest) for place, problem in problems.items() if problem.nearest}
    return [
        problem
        for place, problem in problems.items()
        if not (by_place[place][0].type == "missing" and place in written_wrongly)
    ]


def _likely(complaints: list[_Complaint]) -> list[_Complaint]:
    """Of every union the complaints of the form that was probably meant: the one that fits deepest, then best."""
    unions = {(complaint.path[:depth], depth) for complaint in complaints for depth in complaint.branches}
    for place, depth in sorted(unions, key=lambda union: union[1]):
        here = [one for one in complaints if one.path[:depth] == place and depth in one.branches]
        counts = Counter(one.branches[depth] for one in here)
        inside = {one.branches[depth] for one in here if len(one.path) > depth}
        if inside:
            fewest = min(counts[branch] for branch in inside)
            meant = {branch for branch in inside if counts[branch] == fewest}
            complaints = [one for one in complaints if one not in here or one.branches[depth] in meant]
    return complaints


def _locate(loc: Sequence[Key], kind_of: str, context: dict[str, Any], found: Any, value: Any) -> _Complaint:
    """Pydantic's ``loc`` without the names of union branches that it inserts."""
    path: list[Key] = []
    branches: dict[int, Key] = {}
    for index, part in enumerate(loc):
        last = index == len(loc) - 1
        inside = value if isinstance(value, dict) else dict(enumerate(value)) if isinstance(value, list) else {}
        if part in inside:
            value = inside[part]
        elif not (last and kind_of == "missing"):
            branches[len(path)] = part
            continue
        path.append(part)
    return _Complaint(tuple(path), branches, kind_of, context, found)


def _problem(
    place: KeyPath, complaints: list[_Complaint], annotation: Any, document: Document, base: KeyPath
) -> Problem:
    path = (*base, *place)
    first = complaints[0]
    if first.type == "missing":
        return document.problem(path, f"`{place[-1]}` is missing")
    if first.type in ("extra_forbidden", "unexpected_keyword_argument"):
        known = fields_at(annotation, place[:-1])
        message = f"unknown key `{place[-1]}`"
        return document.problem(path, message, expected=one_of(known) or "no keys", nearest=nearest(place[-1], known))
    own = next((text for complaint in complaints if (text := _own_words(complaint))), "")
    if own:
        message, _, expected = own.rpartition("expected ")
        return document.problem(path, message.rstrip("; ") or _found(first.value, ""), expected=expected)
    words = [word for complaint in complaints for word in _words(complaint)]
    forms = dict.fromkeys(_expected(complaint) for complaint in complaints if not _words(complaint))
    expected = " or ".join([one_of(words), *forms] if words else forms)
    if words:
        return _wrong_word(path, words, expected, first, document)
    quotes = " (put it in quotes)" if expected == "text" and isinstance(first.value, int | float) else ""
    return document.problem(path, _found(first.value, expected), expected=expected + quotes)


def _found(value: object, expected: str) -> str:
    """What stands there, where its kind is the fault; else that it is not valid."""
    found = kind(value)
    if expected.startswith(("at least", "at most")):
        return "too few or too many"
    if found == "text" and expected.startswith("a number of at"):
        return "out of range"  # a number in quotes, or one of the environment
    if expected.startswith(found):
        return "out of range" if found == "a number" else "not valid"
    return "not valid" if not expected and found in ("text", "a number") else f"found {found}"


def _wrong_word(path: KeyPath, words: list[str], expected: str, complaint: _Complaint, document: Document) -> Problem:
    written = document.written(path)
    text = str(written).lower() if isinstance(written, bool) else str(written)
    message = f"`{text}` is not known here" if isinstance(written, str | int | float) else f"found {kind(written)}"
    return document.problem(path, message, expected=expected, nearest=nearest(complaint.value, words))


def _words(complaint: _Complaint) -> list[str]:
    """The words that are possible at this place."""
    if complaint.type in ("literal_error", "enum"):
        expected = str(complaint.context.get("expected", ""))
        return re.findall(r"'([^']*)'", expected) or [expected.lower()]
    if complaint.type == "union_tag_invalid":
        return re.findall(r"'([^']*)'", str(complaint.context.get("expected_tags", "")))
    return []


def _own_words(complaint: _Complaint) -> str:
    """The sentence of a ValueError that a model of ours raised."""
    if complaint.type in ("value_error", "assertion_error"):
        return str(complaint.context.get("error", "")) or "not valid"
    return ""


_EXPECTED = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "text",
    "list": "a list",
    "tuple": "a list",
    "set": "a list",
    "frozen_set": "a list",
    "dict": "keys with values",
    "model": "keys with values",
    "mapping": "keys with values",
    "bytes": "text",
    "none": "nothing",
    "path": "a file name",
    "date": "a date such as 2026-01-31",
    "url": "an address such as https://host/path",
}
_BOUNDS = {
    "greater_than": "a number above {gt}",
    "greater_than_equal": "a number of at least {ge}",
    "less_than": "a number below {lt}",
    "less_than_equal": "a number of at most {le}",
    "string_too_short": "text of at least {min_length} characters",
    "string_too_long": "text of at most {max_length} characters",
    "too_short": "at least {min_length} of them",
    "too_long": "at most {max_length} of them",
    "string_pattern_mismatch": "text of the form {pattern}",
    "multiple_of": "a multiple of {multiple_of}",
    "finite_number": "a finite number",
}


def _expected(complaint: _Complaint) -> str:
    # Of a secret pydantic counts the characters as if they were items.
    bound = f"string_{complaint.type}" if isinstance(complaint.value, str) else complaint.type
    if form := _BOUNDS.get(bound) or _BOUNDS.get(complaint.type):
        return form.format(**complaint.context)
    # int_parsing, model_type, list_type, url_scheme, …: the first word says what was wanted.
    stem = complaint.type.rsplit("_", 1)[0]
    return _EXPECTED.get(stem) or _EXPECTED.get(complaint.type.split("_", 1)[0], "another form")
