"""Regular expressions for what partners write, matched in bounded time whatever they write.

Python's own matcher goes back over the text again and again and may need years for `(a+)+b`; this one follows all ways
at once and looks at each character once. It takes Python's syntax except what cannot be matched so (back-references,
looking ahead and behind, atomic groups and possessive repeats). Only whether something matches somewhere is asked.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from typing import Any

#: Characters of a text that are looked at; what stands behind them does not count.
LONGEST_TEXT = 1000
#: Steps of a compiled pattern at most.
LARGEST = 500

_parser: Any = importlib.import_module("re._parser")

_CATEGORIES: dict[str, Callable[[str], bool]] = {
    "DIGIT": str.isdecimal,
    "SPACE": str.isspace,
    "WORD": lambda character: character.isalnum() or character == "_",
}

Test = Callable[[str], bool]
#: ("char", test) | ("split", step, step) | ("jump", step) | ("at", word) | ("match",)
Step = tuple[Any, ...]


class Pattern:
    """One compiled pattern.

    Raises ValueError, with a sentence, for what is none or cannot be matched in bounded time.
    """

    __slots__ = ("_steps", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        try:
            re.compile(text)  # its own check is the stricter one
            tree = _parser.parse(text)
        except (re.error, RecursionError, OverflowError):
            raise ValueError("no regular expression") from None
        self._steps: list[Step] = []
        self._sequence(tree, tree.state.flags)
        self._emit("match")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pattern) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def search(self, text: str) -> bool:
        """Whether it matches anywhere in the first part of ``text``."""
        text = text[:LONGEST_TEXT]
        going: set[int] = set()
        for at in range(len(text) + 1):
            if self._follow(going, text, at):
                return True
            if at < len(text):
                character = text[at]
                going = {
                    number + 1
                    for number in going
                    if self._steps[number][0] == "char" and self._steps[number][1](character)
                }
        return False

    def _follow(self, going: set[int], text: str, at: int) -> bool:
        """Add a new beginning and every step that is reached without a character; whether the end is among them."""
        open_steps = [0, *going]
        going.clear()
        while open_steps:
            number = open_steps.pop()
            if number in going:
                continue
            going.add(number)
            step = self._steps[number]
            if step[0] == "match":
                return True
            if step[0] in ("split", "jump"):
                open_steps += step[1:]
            elif step[0] == "at" and _is_at(step[1], text, at):
                open_steps.append(number + 1)
        return False

    # -- compiling -------------------------------------------------------------------------------------------------

    def _emit(self, *step: Any) -> int:
        if len(self._steps) >= LARGEST:
            raise ValueError("the pattern is too large")
        self._steps.append(step)
        return len(self._steps) - 1

    def _sequence(self, items: Any, flags: int) -> None:
        for operator, argument in items:
            self._item(str(operator), argument, flags)

    def _item(self, operator: str, argument: Any, flags: int) -> None:
        if operator in ("MAX_REPEAT", "MIN_REPEAT"):
            least, most, items = argument
            self._repeat(least, most, items, flags)
        elif operator == "BRANCH":
            self._branch(argument[1], flags)
        elif operator == "SUBPATTERN":
            _, added, removed, items = argument
            self._sequence(items, (flags | added) & ~removed)
        elif operator == "AT":
            word = str(argument).removeprefix("AT_")
            lines = flags & re.MULTILINE and word in ("BEGINNING", "END")
            self._emit("at", f"{word}_LINE" if lines else word)
        else:
            self._emit("char", _character(operator, argument, flags))

    def _repeat(self, least: int, most: int, items: Any, flags: int) -> None:
        for _ in range(least):
            self._sequence(items, flags)
        if most >= _parser.MAXREPEAT:
            begin = self._emit("split")
            self._sequence(items, flags)
            self._emit("jump", begin)
            self._steps[begin] = ("split", begin + 1, len(self._steps))
            return
        begun = []
        for _ in range(most - least):
            begun.append(self._emit("split"))
            self._sequence(items, flags)
        for begin in begun:
            self._steps[begin] = ("split", begin + 1, len(self._steps))

    def _branch(self, branches: list[Any], flags: int) -> None:
        ends = []
        for branch in branches[:-1]:
            begin = self._emit("split")
            self._sequence(branch, flags)
            ends.append(self._emit("jump"))
            self._steps[begin] = ("split", begin + 1, len(self._steps))
        self._sequence(branches[-1], flags)
        for end in ends:
            self._steps[end] = ("jump", len(self._steps))


def _character(operator: str, argument: Any, flags: int) -> Test:
    """The test of one character. ValueError for what is no character."""
    if operator == "ANY":
        return (lambda character: True) if flags & re.DOTALL else (lambda character: character != "\n")
    if operator in ("LITERAL", "NOT_LITERAL"):
        test, negative = _set([("LITERAL", argument)], flags), operator == "NOT_LITERAL"
    elif operator == "IN":
        items = [(str(kind), value) for kind, value in argument]
        negative = items[0][0] == "NEGATE"
        test = _set(items[negative:], flags)
    else:
        raise ValueError("the pattern looks back or ahead, which cannot be matched in bounded time")
    return (lambda character: not test(character)) if negative else test


def _set(items: list[tuple[str, Any]], flags: int) -> Test:
    singles = frozenset(chr(value) for kind, value in items if kind == "LITERAL")
    ranges = [value for kind, value in items if kind == "RANGE"]
    categories = [_category(str(value)) for kind, value in items if kind == "CATEGORY"]

    def holds(character: str) -> bool:
        if character in singles or any(low <= ord(character) <= high for low, high in ranges):
            return True
        return any(category(character) for category in categories)

    if not flags & re.IGNORECASE:
        return holds
    return lambda character: any(holds(form) for form in {character, *character.lower()[:1], *character.upper()[:1]})


def _category(name: str) -> Test:
    word = name.removeprefix("CATEGORY_").removeprefix("UNI_")
    test = _CATEGORIES[word.removeprefix("NOT_")]
    return (lambda character: not test(character)) if word.startswith("NOT_") else test


def _is_at(word: str, text: str, at: int) -> bool:
    """Whether a place between two characters is what an anchor asks for."""
    before, after = text[at - 1 : at], text[at : at + 1]
    if "BOUNDARY" in word:
        is_word = _CATEGORIES["WORD"]
        between = (before != "" and is_word(before)) != (after != "" and is_word(after))
        return between != word.startswith("NON_")
    if word.startswith("BEGINNING"):
        return at == 0 or (word == "BEGINNING_LINE" and before == "\n")
    if word == "END_STRING":
        return at == len(text)
    return at == len(text) or (after == "\n" and (word == "END_LINE" or at == len(text) - 1))
