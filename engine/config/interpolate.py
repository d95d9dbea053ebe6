"""``${VAR}`` in a parsed file: filled in after parsing and on scalars only, so that no value can change the structure.

    ${VAR}             the variable; a problem when it is not set
    ${VAR:-default}    the default when it is not set or empty
    ${VAR:?why}        a problem that says why, when it is not set or empty
    ${file:PATH}       what a file holds, without the line break at its end (relative to the site)
    $${                a literal ${

What is filled in is text; a field that wants a number reads it as one. ``$name`` without braces is a variable of the
message and no business of this file. Problems name variables and files, never what they hold.
"""

from __future__ import annotations

import difflib
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.config.yaml import Document, KeyPath

_FORM = re.compile(r"\$\$\{|\$\{([^{}]*)\}|\$\{")
_VARIABLE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?:(:[-?])(.*))?", re.DOTALL)
_FORMS = "${NAME}, ${NAME:-default}, ${NAME:?why} or ${file:PATH}"
#: A file of this kind holds one secret or one address.
_MAX_FILE = 64 * 1024
#: Characters of all filled-in texts of one file; each alias of a text counts.
MAX_TEXT = 16 * 1024 * 1024
#: Faults of one file that are told; a file with more of them has one reason for all.
MAX_FAULTS = 100
_SHORT = 6


class _Unset(Exception):
    """A ``${…}`` that cannot be filled in."""

    def __init__(self, message: str, expected: str = "", nearest: str = "") -> None:
        self.message, self.expected, self.nearest = message, expected, nearest
        super().__init__(message)


@dataclass(slots=True)
class Variables:
    """What ``${…}`` reads during one load of a site."""

    env: Mapping[str, str]
    #: Paths of ``${file:…}`` are relative to it.
    folder: Path
    #: What was filled in → how it is written: problems of every file show the latter.
    used: dict[str, str] = field(default_factory=dict)


def fill(document: Document, variables: Variables) -> None:
    """Fill in every ``${…}`` of ``document``; what could not be filled in is a problem and in ``unresolved``."""
    document.hidden = variables.used
    document.value = _Filler(document, variables).value(document.raw, ())


class _Filler:
    def __init__(self, document: Document, variables: Variables) -> None:
        self.document, self.variables = document, variables
        self.left = MAX_TEXT
        self.told: set[tuple[int, str]] = set()

    def value(self, value: Any, path: KeyPath) -> Any:
        """A copy of ``value`` with its texts filled in."""
        if isinstance(value, dict):
            return {key: self.value(inner, (*path, key)) for key, inner in value.items()}
        if isinstance(value, list):
            return [self.value(inner, (*path, index)) for index, inner in enumerate(value)]
        if isinstance(value, str) and "${" in value:
            return self.text(value, path)
        return value

    def text(self, text: str, path: KeyPath) -> str:
        """``text`` filled in; itself when that is not possible."""
        if len(self.told) < MAX_FAULTS:
            try:
                self.spend(len(text))
                return _FORM.sub(self.one, text)
            except _Unset as unset:
                problem = self.document.problem(path, unset.message, expected=unset.expected, nearest=unset.nearest)
                # The same mark serves every alias of one text: one fault, one problem.
                if (problem.line, problem.message) not in self.told:
                    self.told.add((problem.line, problem.message))
                    self.document.problems.append(problem)
        self.document.unresolved.add(path)
        return text

    def spend(self, size: int) -> None:
        """Count what is made. Raises _Unset."""
        self.left -= size
        if self.left < 0:
            raise _Unset("more text than one file may make", f"at most {MAX_TEXT // 1024 // 1024} Mi characters")

    def one(self, found: re.Match[str]) -> str:
        """One ``${…}``. Raises _Unset."""
        if found[0] == "$${":
            return "${"
        inside = found[1]
        if inside is None:
            raise _Unset("a `${` without its end", _FORMS)
        if inside.startswith("file:"):
            return self.hide(self.file(inside.removeprefix("file:")), found[0])
        form = _VARIABLE.fullmatch(inside)
        if form is None:
            raise _Unset("a `${…}` that cannot be read", _FORMS)
        name, how, rest = form.groups()
        value = self.variables.env.get(name)
        if value or (value is not None and how is None):
            return self.hide(value, f"${{{name}}}")
        if how == ":-":
            return str(rest)
        if how == ":?":
            raise _Unset(f"the environment has no `{name}`: {rest}")
        near = difflib.get_close_matches(name, self.variables.env, n=1, cutoff=0.8)
        raise _Unset(f"the environment has no `{name}`", "a value there, or a default: ${NAME:-default}", "".join(near))

    def hide(self, value: str, written: str) -> str:
        """``value``, which no problem will show. What is very short is no secret and would be found everywhere."""
        self.spend(len(value))
        if len(value) >= _SHORT:
            self.variables.used.setdefault(value, written)
        return value

    def file(self, name: str) -> str:
        """What a file holds. Raises _Unset."""
        path = self.variables.folder / name
        try:
            found = path.stat()
            if not stat.S_ISREG(found.st_mode):
                raise _Unset(f"`{name}` is no file", "a text file; pipes and devices may never end")
            if found.st_size > _MAX_FILE:
                raise _Unset(f"the file `{name}` is too large", f"at most {_MAX_FILE // 1024} KiB")
            return path.read_text(encoding="utf-8").rstrip("\r\n")
        except FileNotFoundError:
            raise _Unset(f"there is no file `{name}`", "a path, absolute or relative to the site") from None
        except (OSError, UnicodeError):
            raise _Unset(f"the file `{name}` cannot be read", "a text file that the engine's user may read") from None
