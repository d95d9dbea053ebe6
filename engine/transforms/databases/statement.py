"""A declared query: one statement that reads, with named parameters (``:location``). Nothing is ever put into its text.

Read once when the channel loads. Names inside of texts, quoted names and comments are none, nor is a cast (``::date``).
The standard's word for this form is host parameter (ISO/IEC 9075-2, 5.4).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from engine.errors import SpecError
from engine.transforms.values.text import near

#: What a query that reads begins with.
READS = ("SELECT", "WITH", "VALUES")

_TOKEN = re.compile(
    r"""(?P<skip>
          [eE]'(?:[^'\\]|\\.|'')*' | '(?:[^']|'')*' | "(?:[^"]|"")*"
        | --[^\n]* | /\*.*?\*/ | \$(?P<tag>[A-Za-z_]\w*)?\$.*?\$(?P=tag)?\$ | ::
        )
      | :(?P<name>[A-Za-z_]\w*)
      | (?P<other>;|\?|\$[\w.]+)""",
    re.VERBOSE | re.DOTALL,
)
_COMMENT = re.compile(r"\s+|--[^\n]*(?:\n|$)|/\*.*?\*/", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Statement:
    """A query and the names of its parameters, in the order in which they first stand."""

    text: str
    names: tuple[str, ...]
    #: The same with ``$1``, ``$2``, … for the names.
    numbered: str

    @classmethod
    def read(cls, text: str, given: frozenset[str]) -> Statement:
        """The query ``text`` for the values ``given``. Raises SpecError for what no such query is."""
        text = text.strip()
        while text.endswith(";"):
            text = text[:-1].rstrip()
        _check_reads(text)
        names: dict[str, int] = {}

        def number(found: re.Match[str]) -> str:
            if found["other"]:
                raise _wrong(found["other"])
            if not found["name"]:
                return found[0]
            return f"${names.setdefault(found['name'], len(names) + 1)}"

        numbered = _TOKEN.sub(number, text)
        _check_names(names, given)
        return cls(text, tuple(names), numbered)


def _check_reads(text: str) -> None:
    rest = text
    while found := _COMMENT.match(rest):
        rest = rest[found.end() :]
    word = re.match(r"\w*", rest)
    if word is None or word[0].upper() not in READS or "\0" in text:
        raise SpecError("this is no query that reads", expected=f"one statement that begins with {', '.join(READS)}")
    if "{{" in text or "{%" in text:
        raise SpecError("a query is no template", expected="a parameter such as :location, and its value under `with`")


def _wrong(sign: str) -> SpecError:
    if sign == ";":
        return SpecError("two statements stand here", expected="one query")
    return SpecError(f"`{sign}` is no parameter", expected="a name such as :location, and its value under `with`")


def _check_names(names: dict[str, int], given: frozenset[str]) -> None:
    for name in names:
        if name not in given:
            raise SpecError(
                f"the parameter :{name} has no value", expected=f"`{name}:` under `with`", nearest=near(name, given)
            )
    for name in sorted(given):
        if name not in names:
            raise SpecError(
                f"the query has no parameter :{name}", expected="every name of `with` in it", nearest=near(name, names)
            )
