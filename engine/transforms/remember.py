"""``remember: {cache, key, expire, value, forget}``: keep a record of this message under a key until it expires.

The record is encrypted and commits with the message. With ``forget:`` a message for which that holds removes the
record instead.
"""

from __future__ import annotations

import json
import re
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from engine.cache import CacheForget, CachePut
from engine.envelope import Envelope
from engine.errors import SpecError, StepFailed
from engine.transforms.base import CONTINUE, Context, Loading, Step, Verdict
from engine.transforms.building.definition import Piece, named_in, placed
from engine.transforms.building.json_body import compile_json
from engine.transforms.values.conditions import compile_condition
from engine.transforms.values.value import Compiler

_DURATION = re.compile(r"(\d+(?:\.\d+)?) ?(s|m|h|d)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class RememberConfig(BaseModel):
    """A record in a durable cache."""

    model_config = ConfigDict(extra="forbid")

    cache: str = Field(min_length=1, description="Name of the cache; every channel of the site sees it.")
    key: Any = Field(description="A path, a variable, or a list: the first that is not empty.")
    expire: str = Field("30d", description="How long it is kept: 24h, 30d.")
    value: Any = Field(description="Names and values, or {using: a file of transforms/}.")
    forget: Any = Field(None, description="A condition; messages for which it holds remove the record.")


class Remember(Step):
    """Keep a record."""

    Config = RememberConfig
    pure = False

    def __init__(self, config: RememberConfig, loading: Loading) -> None:
        compiler = Compiler(loading, "remember")
        self._cache = config.cache
        self._key = compiler.source(config.key, ("key",))
        self._expire = _seconds(config.expire)
        record = _record(config.value, loading)
        self._value = placed(record, lambda: compile_json(compiler, record.spec, record.at))
        self._forget = compile_condition(config.forget, loading, ("forget",)) if config.forget is not None else None

    def run(self, envelope: Envelope, context: Context) -> Verdict:
        """Record the effect; StepFailed ``key_missing`` when the message has no key."""
        key = self._key.text(envelope, context)
        if not key:
            raise StepFailed("remember", "key_missing", self._cache)
        if self._forget is not None and self._forget(envelope, context):
            context.effects.append(CacheForget(self._cache, key))
            return CONTINUE
        # In ASCII, so that a byte of no charset comes back as what it was, and never as another character.
        record = json.dumps(self._value.json(envelope, context), separators=(",", ":")).encode("ascii")
        context.effects.append(CachePut(self._cache, key, record, context.now.timestamp() + self._expire))
        return CONTINUE


def _seconds(text: str) -> float:
    found = _DURATION.fullmatch(text)
    if found is None or not float(found[1]):
        raise SpecError("this is no time", at=("expire",), expected="a number and its unit: 15m, 24h or 30d")
    return float(found[1]) * _SECONDS[found[2]]


def _record(spec: Any, loading: Loading) -> Piece:
    if not (isinstance(spec, dict) and set(spec) == {"using"}):
        return Piece(spec, ("value",))
    name = named_in(loading.site, str(spec["using"]), ("value", "using"))
    try:
        fragment = loading.fragment(name)
    except SpecError as error:
        raise SpecError(error.message, at=("value", "using"), expected=error.expected, nearest=error.nearest) from None
    return Piece(fragment.data, (), fragment.file)
