"""``recall: {cache, key, into, missing}``: what ``remember`` kept, into a variable."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from engine.envelope import Envelope
from engine.errors import StepFailed
from engine.json_text import reader
from engine.transforms.base import CONTINUE, Context, Loading, Step, Verdict
from engine.transforms.lookup import variable_name
from engine.transforms.values.direct import data_of
from engine.transforms.values.missing import missing_policy
from engine.transforms.values.value import Compiler

_decode = reader()


class RecallConfig(BaseModel):
    """A record of a durable cache."""

    model_config = ConfigDict(extra="forbid")

    cache: str = Field(min_length=1, description="Name of the cache.")
    key: Any = Field(description="A path, a variable, or a list: the first that is not empty.")
    into: str = Field(description="Name of the variable, without $.")
    missing: Any = Field("error", description="error, park, hold, null or {error: CODE}.")


class Recall(Step):
    """Read a record."""

    Config = RecallConfig
    pure = False

    def __init__(self, config: RecallConfig, loading: Loading) -> None:
        self._cache = config.cache
        self._key = data_of(Compiler(loading, "recall").source(config.key, ("key",)))
        self._into = variable_name(config.into, ("into",), "recall")
        self._missing = missing_policy(config.missing, ("missing",), "recall", "recall_missing", config.cache)

    def run(self, envelope: Envelope, context: Context) -> Verdict:
        """Read; what ``missing`` says when there is no record, or it expired."""
        key = self._key(envelope, context)
        record = context.cache_get(self._cache, key) if key else None
        envelope.variables[self._into] = self._missing(None) if record is None else self._read(record)
        return CONTINUE

    def _read(self, record: bytes) -> Any:
        try:
            return _decode(record.decode())
        except ValueError:
            # Raised below, outside of this block: the error quotes the record, and must not travel as a context.
            pass
        raise StepFailed("recall", "record_unreadable", self._cache)
