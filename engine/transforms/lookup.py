"""``lookup: {table, key, into, missing}``: rows of a CSV in ``tables/``.

A table of two columns gives the list of values of all rows of the key (several rows = several EMRs); a wider one
gives the first row, whose columns are ``$into.column``.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from engine.envelope import Envelope
from engine.errors import SpecError
from engine.transforms.base import CONTINUE, Context, Loading, Step, Verdict
from engine.transforms.values.direct import data_of
from engine.transforms.values.missing import missing_policy
from engine.transforms.values.targets import VariableTarget, target
from engine.transforms.values.value import Compiler


class LookupConfig(BaseModel):
    """Rows of a table."""

    model_config = ConfigDict(extra="forbid")

    table: str = Field(description="A file of tables/, without ending; its first column is the key.")
    key: Any = Field(description="A path, a variable, or a list: the first that is not empty.")
    into: str = Field(description="Name of the variable, without $.")
    missing: Any = Field("error", description="error, park, hold, keep, null or {error: CODE}.")
    default: Any = Field(None, description="What stands there when the key has no row; instead of missing.")


def variable_name(name: str, at: tuple[str | int, ...], step: str) -> str:
    """``into:`` as a variable's name, with or without ``$``; SpecError when it is none."""
    plain = name.removeprefix("$")
    if not isinstance(target(f"${plain}", at, step), VariableTarget):
        raise SpecError(f"{name} is no variable", at=at)
    return plain


class Lookup(Step):
    """Rows of a table into a variable."""

    Config = LookupConfig

    def __init__(self, config: LookupConfig, loading: Loading) -> None:
        try:
            self.table = loading.table(config.table)
        except SpecError as error:
            raise SpecError(
                error.message, at=("table",), expected=error.expected, nearest=error.nearest, file=error.file
            ) from None
        compiler = Compiler(loading, "lookup")
        self._key, self._rows = data_of(compiler.source(config.key, ("key",))), self.table.rows
        self.into = variable_name(config.into, ("into",), "lookup")
        columns = self.table.columns
        #: Whose values are put there; None when it is a whole row.
        self.column = columns[1] if len(columns) == 2 else None
        self._default = compiler.value(config.default, ("default",)) if config.default is not None else None
        self._missing = missing_policy(config.missing, ("missing",), "lookup", "lookup_missing", config.table)

    def run(self, envelope: Envelope, context: Context) -> Verdict:
        """Look up; StepFailed ``lookup_missing`` or what ``missing`` says when the key has no row."""
        key = self._key(envelope, context)
        rows = self._rows(key)
        found: Any
        if not rows:
            found = self._default(envelope, context) if self._default is not None else self._missing(key)
        elif self.column is not None:
            found = [row[self.column] for row in rows]
        else:
            found = rows[0]
        envelope.variables[self.into] = found
        context.looked_up.add(self.into)
        return CONTINUE
