"""The files of one load of a site: ``transforms/*.yaml``, ``tables/*.csv`` and functions of ``transforms/*.py``.

Each is read at most once per load, however many channels use it, and anew at the next load. Names are relative to
their folder, without ending, and cannot leave it. A site's Python is run by path, never through ``sys.path``.
"""

from __future__ import annotations

import hashlib
import re
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from engine.config.interpolate import Variables, fill
from engine.config.problems import nearest, one_of
from engine.config.tables import CsvTable, read_table
from engine.config.yaml import Document, parse
from engine.errors import Problem, SpecError

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")


def read_document(folder: Path, file: str, variables: Variables) -> Document:
    """Read, parse and fill in one YAML file of the site; what is wrong is in its ``problems``."""
    try:
        data = (folder / file).read_bytes()
    except OSError as error:
        problem = Problem(file, 0, "", f"cannot be read: {error.strerror}", "a file that the engine's user may read")
        return Document(file, problems=[problem], usable=False)
    document = parse(data, file)
    if document.usable:
        fill(document, variables)
    return document


class SiteFiles:
    """Everything beside the channel files, read when it is first asked for."""

    def __init__(self, variables: Variables, values: Mapping[str, Any], channels: frozenset[str]) -> None:
        self.folder, self.channels = variables.folder, channels
        self._variables = variables
        #: ``$site.…``
        self.values = values
        #: Documents by file, for the line of a fault that a component found in one.
        self.documents: dict[str, Document] = {}
        self._tables: dict[str, tuple[CsvTable | None, list[Problem]]] = {}
        self._modules: dict[str, ModuleType | SpecError] = {}
        self._names: dict[tuple[str, str], list[str]] = {}
        self._digests: dict[str, str] = {}

    def fragment(self, name: str) -> Document:
        """``transforms/NAME.yaml``, usable or not. Raises SpecError when there is none."""
        file = self._file("transforms", name, ".yaml", "file")
        if file not in self.documents:
            self.documents[file] = read_document(self.folder, file, self._variables)
        return self.documents[file]

    def table(self, name: str) -> tuple[CsvTable | None, list[Problem]]:
        """``tables/NAME.csv``, or what is wrong with it. Raises SpecError when there is none."""
        file = self._file("tables", name, ".csv", "table")
        if file not in self._tables:
            try:
                self._tables[file] = read_table(name, file, (self.folder / file).read_bytes())
            except OSError as error:
                self._tables[file] = None, [Problem(file, 0, "", f"cannot be read: {error.strerror}")]
        return self._tables[file]

    def digest(self, file: str) -> str:
        """A hash of what a file holds, read once per load; empty when it cannot be read."""
        if file not in self._digests:
            try:
                self._digests[file] = hashlib.sha256((self.folder / file).read_bytes()).hexdigest()
            except OSError:
                self._digests[file] = ""
        return self._digests[file]

    def names(self, folder: str, ending: str) -> list[str]:
        """What can be named in ``folder``, sorted."""
        if (folder, ending) not in self._names:
            root = self.folder / folder
            found = (path.relative_to(root).as_posix().removesuffix(ending) for path in root.rglob(f"*{ending}"))
            self._names[folder, ending] = sorted(name for name in found if _NAME.fullmatch(name))
        return self._names[folder, ending]

    def _file(self, folder: str, name: str, ending: str, noun: str) -> str:
        known = self.names(folder, ending)
        if name in known:
            return f"{folder}/{name}{ending}"
        expected = f"the name of a file in {folder}/, without ending"
        if name.endswith(ending) and name.removesuffix(ending) in known:
            raise SpecError(
                f"`{name}` is written with its ending", expected=expected, nearest=name.removesuffix(ending)
            )
        raise SpecError(f"there is no {noun} {folder}/{name}{ending}", expected=expected, nearest=nearest(name, known))

    # -- a site's Python -------------------------------------------------------------------------------------------

    def function(self, reference: str) -> Callable[..., Any]:
        """``file:name`` → the function. Raises SpecError: no such file, does not import, no such function."""
        name, colon, attribute = reference.partition(":")
        if not colon or not name or not attribute.isidentifier():
            raise SpecError(f"`{reference}` names no function", expected="FILE:FUNCTION, such as radscheduler:slots")
        module = self._module(name)
        found = getattr(module, attribute, None)
        if callable(found):
            return found  # type: ignore[no-any-return]
        known = sorted(
            key
            for key, value in vars(module).items()
            if callable(value) and not key.startswith("_") and getattr(value, "__module__", "") == module.__name__
        )
        what = "is no function" if hasattr(module, attribute) else "does not exist"
        message = f"`{attribute}` {what} in transforms/{name}.py"
        raise SpecError(message, expected=one_of(known), nearest=nearest(attribute, known))

    def _module(self, name: str) -> ModuleType:
        file = self._file("transforms", name, ".py", "file")
        if file not in self._modules:
            self._modules[file] = self._run(file)
        found = self._modules[file]
        if isinstance(found, SpecError):
            raise SpecError(found.message, expected=found.expected)
        return found

    def _run(self, file: str) -> ModuleType | SpecError:
        """Run a module of the site. Its name is unique per site, and no compiled copy is kept that could be stale."""
        path = self.folder / file
        site = hashlib.sha256(str(self.folder).encode()).hexdigest()[:8]
        module = ModuleType(f"hl7engine_site_{site}_{file.removesuffix('.py').replace('/', '__')}")
        module.__file__ = str(path)
        before = sys.modules.get(module.__name__)
        # Dataclasses and pydantic models look their module up by name.
        sys.modules[module.__name__] = module
        try:
            code = compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
            exec(code, module.__dict__)  # noqa: S102 - a site's Python is trusted like the engine's own
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a site's file raises breaks its channels only
            sys.modules.pop(module.__name__)
            if before is not None:
                sys.modules[module.__name__] = before
            line = _line_in(error, str(path))
            kind = type(error).__name__
            if isinstance(error, ModuleNotFoundError) and error.name:
                kind += f" ({error.name})"
            return SpecError(
                f"{file} cannot be imported: {kind}{f' in line {line}' if line else ''}",
                expected="a file that runs by itself; other files of the site cannot be imported in it",
            )
        return module


def _line_in(error: BaseException, path: str) -> int:
    """The last line of the site's own file that led to ``error``."""
    if isinstance(error, SyntaxError) and error.filename == path:
        return error.lineno or 0
    lines = [frame.lineno or 0 for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    return lines[-1] if lines else 0
