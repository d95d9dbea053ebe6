"""``python: file:name``: a function of the site, ``def name(message, context)``.

It gets the body and returns one (a message, an object, a list, a text), or nothing: the message is dropped. ``with:``
gives it named values and ``tables:`` named tables, ``into:`` puts what it returns into variables and leaves the body
alone. ``Refused`` and ``StepFailed`` pass through; of any other exception only the type is told. A function that blocks
the loop says ``thread: true``.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from engine.envelope import Envelope
from engine.errors import Refused, SpecError, StepFailed
from engine.hl7.message import Message
from engine.transforms.base import CONTINUE, Context, Loading, Step, Verdict
from engine.transforms.building.json_body import compile_json
from engine.transforms.lookup import variable_name
from engine.transforms.values.direct import read_of
from engine.transforms.values.value import Compiler

#: A call that takes longer (seconds) held up every other message of the engine.
SLOW = 0.1

_BODIES = (Message, dict, list, str, bytes, int, float)


class PythonConfig(BaseModel):
    """A function of the site, with what it needs."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    call: str = Field(description="file:name, a function of transforms/file.py.")
    with_: dict[str, Any] = Field({}, alias="with", description="Named values that the function gets.")
    tables: dict[str, str] = Field({}, description="Named tables that the function gets: name → table.")
    into: str | list[str] | None = Field(None, description="A variable, or members of the returned object, one each.")
    thread: bool = Field(False, description="Run it in a thread, because it waits for something.")
    pure: bool = Field(False, description="It only works on the message: no cache, no files, no other channels.")


class Python(Step):
    """A function of the site."""

    Config = str | PythonConfig
    pure = False

    def __init__(self, config: str | PythonConfig, loading: Loading) -> None:
        if isinstance(config, str):
            config = PythonConfig.model_validate({"call": config})
        self._name = config.call
        self._function = loading.function(config.call)
        self._awaited = inspect.iscoroutinefunction(self._function)
        self._thread = config.thread and not self._awaited
        compiler = Compiler(loading, "python")
        values = {name: compile_json(compiler, spec, ("with", name)) for name, spec in config.with_.items()}
        #: Named values that are read for each message.
        self._with = tuple((name, read_of(value)) for name, value in values.items())
        self._tables = {name: loading.table(table) for name, table in config.tables.items()}
        if both := sorted(config.tables.keys() & config.with_.keys()):
            raise SpecError(f"{both[0]} is a value and a table", at=("tables", both[0]), expected="a name of its own")
        self._into = self._names(config.into)
        self._single = isinstance(config.into, str)
        self.pure = config.pure and not self.asynchronous  # type: ignore[misc]

    def _names(self, into: str | list[str] | None) -> tuple[str, ...]:
        names = [into] if isinstance(into, str) else into or []
        return tuple(variable_name(name, ("into",), "python") for name in names)

    @property
    def asynchronous(self) -> bool:
        """Whether it is awaited or runs in a thread."""
        return self._awaited or self._thread

    def run(self, envelope: Envelope, context: Context) -> Verdict | Awaitable[Verdict]:
        """Call it."""
        named: dict[str, Any] = self._tables.copy()
        for name, read in self._with:
            named[name] = read(envelope, context)
        if self.asynchronous:
            return self._run_async(envelope, context, named)
        began = time.perf_counter()
        try:
            result = self._function(envelope.body, context, **named)
        except (Refused, StepFailed):
            raise
        except (Exception, SystemExit) as error:  # noqa: BLE001 - site code may raise anything; its text may name a patient
            failure = type(error).__name__
        else:
            took = time.perf_counter() - began
            if took > SLOW:
                context.warn("step.blocked", step="python", function=self._name, milliseconds=int(took * 1000))
            return self._take(result, envelope)
        raise StepFailed("python", "python_failed", f"{self._name} {failure}")

    async def _run_async(self, envelope: Envelope, context: Context, named: dict[str, Any]) -> Verdict:
        try:
            if self._awaited:
                result = await self._function(envelope.body, context, **named)
            else:
                result = await asyncio.to_thread(self._function, envelope.body, context, **named)
        except (Refused, StepFailed):
            raise
        except (Exception, SystemExit) as error:  # noqa: BLE001 - as above
            failure = type(error).__name__
        else:
            return self._take(result, envelope)
        raise StepFailed("python", "python_failed", f"{self._name} {failure}")

    def _take(self, result: Any, envelope: Envelope) -> Verdict:
        if type(result) is dict and not self._into:
            envelope.body = result
            return CONTINUE
        if self._single:
            envelope.variables[self._into[0]] = result
            return CONTINUE
        if self._into:
            if not isinstance(result, Mapping) or not set(self._into) <= result.keys():
                raise self._wrong(result)
            envelope.variables.update((name, result[name]) for name in self._into)
            return CONTINUE
        if result is None:
            return Verdict.DROP
        envelope.body = self._body(result)
        return CONTINUE

    def _body(self, result: Any) -> Any:
        if (isinstance(result, _BODIES) and not isinstance(result, list)) or type(result) is list:
            return result
        library = type(result).__module__.partition(".")[0]
        if library == "hl7":
            return Message.from_python_hl7(result)
        if library == "hl7apy" and hasattr(result, "to_er7"):
            return Message.from_text(result.to_er7())
        raise self._wrong(result)

    def _wrong(self, result: Any) -> StepFailed:
        return StepFailed("python", "wrong_return_type", f"{self._name} {type(result).__name__}")
