"""Steps without a runtime: a loader that reads this repository's site, a context with a held clock."""

from __future__ import annotations

import csv
import importlib.util
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from pydantic import TypeAdapter

from engine.envelope import Envelope, Origin, Reply
from engine.errors import SpecError
from engine.hl7.message import Message
from engine.transforms.answer import Answer
from engine.transforms.ask import Ask
from engine.transforms.base import Chain, Context, Effect, Fragment, Loading, Step, Verdict
from engine.transforms.build import Build
from engine.transforms.convert import Convert
from engine.transforms.copy import Copy
from engine.transforms.delete import Delete
from engine.transforms.drop import Drop
from engine.transforms.hash_phone import HashPhone
from engine.transforms.include import Include
from engine.transforms.keep import Keep
from engine.transforms.lookup import Lookup
from engine.transforms.python import Python
from engine.transforms.query_database import QueryDatabase
from engine.transforms.recall import Recall
from engine.transforms.remember import Remember
from engine.transforms.require import Require
from engine.transforms.resolve import Resolve
from engine.transforms.set import Set
from engine.transforms.template import Template
from engine.transforms.validate import Validate

SITE = Path(__file__).parents[2]
SAMPLES = SITE / "samples" / "hl7"
NOW = datetime.fromisoformat("2025-01-15T08:32:04-05:00")

STEPS: dict[str, type[Step]] = {
    "query_database": QueryDatabase,
    "hash_phone": HashPhone,
} | {
    step.__name__.lower(): step
    for step in (
        *(Answer, Ask, Build, Convert, Copy, Delete, Drop, Include, Keep),
        *(Lookup, Python, Recall, Remember, Require, Resolve, Set, Template, Validate),
    )
}


class CsvTable:
    def __init__(self, name: str, columns: Sequence[str], rows: Sequence[Mapping[str, str]]) -> None:
        self.name, self.columns = name, tuple(columns)
        self._rows: dict[str, list[Mapping[str, str]]] = {}
        for row in rows:
            self._rows.setdefault(row[self.columns[0]], []).append(row)

    def rows(self, key: str) -> Sequence[Mapping[str, str]]:
        return self._rows.get(key, ())

    def every(self) -> Iterator[Mapping[str, str]]:
        for rows in self._rows.values():
            yield from rows


@dataclass
class FakeLoading:
    """Loading over this repository's folders, with files and tables of a test's own laid over them."""

    site: Mapping[str, Any] = field(
        default_factory=lambda: {
            "timezone": "America/Chicago",
            "ris": {
                "version": "2.3",
                "locations": "qry",
                "slots": "qry",
                "booking": "orm",
                "order_control": "NW",
                "facility": "DTI",
            },
            "epic": {"version": "2.3", "service_area": "SA10"},
        }
    )
    files: dict[str, Any] = field(default_factory=dict)
    tables: dict[str, CsvTable] = field(default_factory=dict)
    functions: dict[str, Callable[..., Any]] = field(default_factory=dict)
    channel: str = "test"
    channels: frozenset[str] = frozenset({"test", "radscheduler-book-appointment", "radscheduler-available-slots"})
    folder: Path = SITE

    def table(self, name: str) -> CsvTable:
        if name in self.tables:
            return self.tables[name]
        file = self.folder / "tables" / f"{name}.csv"
        if not file.is_file():
            raise SpecError(f"there is no table {name}")
        with file.open(newline="", encoding="utf-8") as lines:
            reader = csv.DictReader(lines)
            rows = list(reader)
        return CsvTable(name, reader.fieldnames or (), rows)

    def fragment(self, name: str) -> Fragment:
        if name in self.files:
            return Fragment(name, f"transforms/{name}.yaml", self.files[name])
        file = self.folder / "transforms" / f"{name}.yaml"
        if not file.is_file():
            raise SpecError(f"there is no {name}")
        return Fragment(name, f"transforms/{name}.yaml", yaml.safe_load(file.read_text(encoding="utf-8")))

    def include(self, name: str) -> Chain:
        return self.chain(self.fragment(name).data, ())

    def chain(self, steps: Any, at: tuple[str | int, ...]) -> Chain:
        return Chain([self.step(each) for each in steps])

    def step(self, spec: Mapping[str, Any]) -> Step:
        (word, config), *_ = spec.items()
        kind = STEPS[word]
        loading: Loading = self
        return kind(TypeAdapter(kind.Config).validate_python(config), loading)

    def function(self, reference: str) -> Callable[..., Any]:
        if reference in self.functions:
            return self.functions[reference]
        file, _, name = reference.partition(":")
        path = self.folder / "transforms" / f"{file}.py"
        spec = importlib.util.spec_from_file_location(f"site_{file}", path)
        if spec is None or spec.loader is None or not path.is_file():
            raise SpecError(f"there is no {reference}")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return getattr(module, name)  # type: ignore[no-any-return]


class FakeContext(Context):
    """A held clock, numbered control ids, a cache and a channel that answers."""

    def __init__(self, now: datetime = NOW) -> None:
        self.now = now
        self.effects: list[Effect] = []
        self.looked_up: set[str] = set()
        self.ids: list[str] = []
        self.cache: dict[tuple[str, str], bytes] = {}
        self.asked: list[tuple[str, Mapping[str, Any], str]] = []
        self.reply = Reply(200, {})
        self.warnings: list[tuple[str, dict[str, Any]]] = []

    def make_control_id(self) -> str:
        self.ids.append(f"EN{len(self.ids) + 101:010d}")
        return self.ids[-1]

    def cache_get(self, cache: str, key: str) -> bytes | None:
        return self.cache.get((cache, key))

    async def ask(self, channel: str, request: Mapping[str, Any], correlation_id: str) -> Reply:
        self.asked.append((channel, request, correlation_id))
        return self.reply

    def warn(self, event: str, **ids: Any) -> None:
        self.warnings.append((event, ids))


@pytest.fixture
def loading() -> FakeLoading:
    return FakeLoading()


@pytest.fixture
def context() -> FakeContext:
    return FakeContext()


def _sample(name: str) -> bytes:
    return (SAMPLES / f"{name}.hl7").read_bytes().replace(b"\n", b"\r")


@pytest.fixture
def sample() -> Callable[[str], bytes]:
    """The bytes of a message of samples/hl7, segments ended by CR."""
    return _sample


@pytest.fixture
def envelope() -> Callable[..., Envelope]:
    """An envelope around a message (bytes or text), a JSON value, a request."""

    def make(
        body: Any = None,
        *,
        request: Any = None,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        variables: dict[str, Any] | None = None,
    ) -> Envelope:
        if isinstance(body, bytes):
            body = Message.parse(body)
        elif isinstance(body, str) and body.startswith("MSH"):
            body = Message.from_text(body)
        origin = Origin("mllp", headers=headers or {}, query=query or {})
        content = request if body is None else body
        return Envelope(content, origin, "corr-1", "test", 7, NOW.timestamp(), variables or {}, request)

    return make


@pytest.fixture
def run(context: FakeContext) -> Callable[..., Verdict]:
    """Run one step given as in YAML: ``run({"set": …}, envelope, loading)``."""

    def go(spec: Any, envelope: Envelope, loading: FakeLoading | None = None) -> Verdict:
        used = loading or FakeLoading()
        verdict = used.chain(spec if isinstance(spec, list) else [spec], ()).run(envelope, context)
        assert not inspect.isawaitable(verdict)
        return verdict

    return go


@pytest.fixture
def kit() -> SimpleNamespace:
    """The classes of this file, for tests that make their own."""
    return SimpleNamespace(
        Loading=FakeLoading, Context=FakeContext, Table=CsvTable, NOW=NOW, SITE=SITE, SAMPLES=SAMPLES
    )
