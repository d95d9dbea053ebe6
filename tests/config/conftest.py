"""A site in a folder, and small connectors and steps that only show what they were built from."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from engine.config import registry
from engine.config.plan import ChannelPlan, SitePlan
from engine.config.site import load_site
from engine.destinations.base import Building as DestinationBuilding
from engine.destinations.base import Destination, Outgoing, Response
from engine.envelope import Envelope
from engine.errors import Problem, SpecError
from engine.sources.base import Building as SourceBuilding
from engine.sources.base import Source, SourceContext
from engine.transforms.base import Context, Loading, Step, Verdict
from engine.units import Timeout


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Tls(Strict):
    ca: str
    verify: bool = True


class PortConfig(Strict):
    port: int = Field(ge=1, le=65535)
    host: str = "127.0.0.1"
    timeout: Timeout = 10.0
    tls: Tls | Literal["off"] = "off"


class Port(Source):
    Config = PortConfig

    def __init__(self, config: PortConfig, building: SourceBuilding) -> None:
        self.config, self.building = config, building

    def claims(self) -> tuple[str, ...]:
        return (f"tcp:{self.config.port}",)

    @property
    def address(self) -> str:
        return f"mllp://{self.config.host}:{self.config.port}"

    async def start(self, context: SourceContext) -> None: ...

    async def stop(self) -> None: ...


class Parameter(Strict):
    required: bool = False
    one_of: list[str] = []


class CallConfig(Strict):
    method: Literal["GET", "POST", "PUT"] = "GET"
    path: str = Field(pattern="^/")
    query: dict[str, Parameter] = {}


class Call(Port):
    Config = CallConfig
    can_reply: ClassVar[bool] = True

    def claims(self) -> tuple[str, ...]:
        return (f"http:{self.config.method} {self.config.path}",)


class FedConfig(Strict):
    pass


class Fed(Port):
    Config = FedConfig
    can_reply: ClassVar[bool] = True

    def claims(self) -> tuple[str, ...]:
        return ()


class PartnerConfig(PortConfig):
    bearer: SecretStr | None = None
    bodies: list[str] = []


class Partner(Destination):
    Config = PartnerConfig
    answers: ClassVar[bool] = True

    def __init__(self, config: PartnerConfig, building: DestinationBuilding) -> None:
        self.config, self.building = config, building
        if config.host == "nowhere":
            raise SpecError("this host does not exist", at=("host",), expected="a host")

    @property
    def address(self) -> str:
        return f"mllp://{self.config.host}:{self.config.port}"

    async def send(self, outgoing: Outgoing) -> Response:
        raise NotImplementedError


class FileConfig(Strict):
    path: str


class File(Partner):
    Config = FileConfig
    answers: ClassVar[bool] = False

    def __init__(self, config: FileConfig, building: DestinationBuilding) -> None:
        self.config, self.building = config, building


class Note(Step):
    """Keeps what it was given; ``run`` notes its word in the envelope."""

    Config: ClassVar[Any] = Any
    word = "note"

    def __init__(self, config: Any, loading: Loading) -> None:
        self.config, self.loading = config, loading
        self.compile()

    def compile(self) -> None: ...

    def run(self, envelope: Envelope, context: Context) -> Verdict | Awaitable[Verdict]:
        envelope.variables.setdefault("ran", []).append(self.word)
        return Verdict.CONTINUE


class SetStep(Note):
    Config: ClassVar[Any] = dict[str, str | int]
    word = "set"


class LookupConfig(Strict):
    table: str
    key: str | list[str]
    into: str
    missing: Literal["error", "keep"] | dict[str, str] = "error"


class LookupStep(Note):
    Config: ClassVar[Any] = LookupConfig
    word = "lookup"

    def compile(self) -> None:
        self.table = self.loading.table(self.config.table)


class IncludeStep(Note):
    Config: ClassVar[Any] = str
    word = "include"

    def compile(self) -> None:
        self.chain = self.loading.include(self.config)


class BuildStep(Note):
    Config: ClassVar[Any] = str
    word = "build"

    def compile(self) -> None:
        fragment = self.loading.fragment(self.config)
        for key, value in fragment.data["fields"].items():
            if value == "wrong":
                raise SpecError("this is wrong", at=("fields", key), file=fragment.file)
            if isinstance(value, dict) and "map" in value:
                self.loading.table(value["map"])


class PythonStep(Note):
    Config: ClassVar[Any] = str
    word = "python"

    def compile(self) -> None:
        self.function = self.loading.function(self.config)


class AskConfig(Strict):
    channel: str
    into: str
    otherwise: list[Any] = []


class AskStep(Note):
    Config: ClassVar[Any] = AskConfig
    word = "ask"

    def compile(self) -> None:
        if self.config.channel not in self.loading.channels:
            raise SpecError("there is no such channel", at=("channel",))
        self.chain = self.loading.chain(self.config.otherwise, ("otherwise",))


class Clumsy(Note):
    def compile(self) -> None:
        raise RuntimeError(f"could not read {self.config}")


@dataclass(frozen=True)
class Entry:
    name: str
    cls: Any
    broken: bool = False

    @property
    def value(self) -> str:
        return f"stranger.{self.name}:{getattr(self.cls, '__name__', self.cls)}"

    def load(self) -> Any:
        if self.broken:
            raise ImportError("a text that quotes s3cret")
        return self.cls


WORDS: dict[str, dict[str, Any]] = {
    "sources": {"mllp": Port, "rest": Call, "channel": Fed},
    "steps": {
        "ask": AskStep,
        "build": BuildStep,
        "include": IncludeStep,
        "lookup": LookupStep,
        "python": PythonStep,
        "set": SetStep,
        "clumsy": Clumsy,
        "no_step": dict,
    },
    "destinations": {"mllp": Partner, "file": File, "channel": File},
}


@pytest.fixture
def words(monkeypatch: pytest.MonkeyPatch) -> Mapping[str, dict[str, Any]]:
    """The words of this folder's tests instead of the installed ones."""
    entries: dict[str, dict[str, tuple[Entry, ...]]] = {
        kind: {name: (Entry(name, cls),) for name, cls in found.items()} for kind, found in WORDS.items()
    }
    entries["steps"]["broken"] = (Entry("broken", None, broken=True),)
    entries["steps"]["twice"] = (Entry("twice", Note), Entry("twice", SetStep))
    monkeypatch.setattr(registry, "_entries", entries.__getitem__)
    return entries


@dataclass
class Site:
    """Writes the files of a site and loads it."""

    folder: Path
    env: dict[str, str]

    def write(self, files: Mapping[str, str]) -> None:
        for name, text in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def load(self) -> SitePlan:
        return load_site(self.folder, None, self.env)

    def channel(self, text: str, **files: str) -> ChannelPlan:
        """The plan of the one channel ``x``, which must be without problems."""
        self.write({"channels/x.yaml": text, **files})
        plan = self.load()
        assert plan.problems == ()
        return plan.channels["x"]

    def problems(self, text: str, **files: str) -> list[Problem]:
        """What is wrong with the one channel ``x``."""
        self.write({"channels/x.yaml": text, **files})
        return list(self.load().problems)


@pytest.fixture
def site(tmp_path: Path, words: object) -> Callable[..., Site]:
    """``site(files)``: a site in a folder of its own, made of the fake words."""

    def make(files: Mapping[str, str] | None = None, **env: str) -> Site:
        made = Site(tmp_path, env)
        made.write({"site.yaml": "rest: {port: 8080}\n", **(files or {})})
        return made

    return make
