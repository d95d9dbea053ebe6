"""``query_database: {dsn, query, with, into}``: rows of a database into a variable.

The query is declared and only reads; values are bound to its named parameters and never become part of its text.
SQLite and PostgreSQL. Runs in threads of its own, so that a slow database holds up nobody but those who ask it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from engine.envelope import Envelope
from engine.errors import SpecError
from engine.transforms.base import CONTINUE, Context, Loading, Step, Verdict
from engine.transforms.databases.base import Database, QueryError
from engine.transforms.databases.pool import Pool
from engine.transforms.databases.sqlite import SqliteDatabase
from engine.transforms.databases.statement import Statement
from engine.transforms.lookup import variable_name
from engine.transforms.values.missing import missing_policy
from engine.transforms.values.scope import Scope
from engine.transforms.values.text import as_data, is_empty
from engine.transforms.values.times import Moment
from engine.transforms.values.value import Compiler
from engine.units import Timeout

_FORM = "sqlite:FILE or postgresql://USER@HOST/DATABASE"


class QueryDatabaseConfig(BaseModel):
    """A query and what becomes of its rows."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    dsn: SecretStr = Field(description=f"{_FORM}; a file is relative to the site's folder.")
    query: str = Field(description="One statement that reads, with parameters such as :location.")
    with_: dict[str, Any] = Field({}, alias="with", description="The parameters: names and values.")
    into: str = Field(description="Name of the variable, without $.")
    rows: Literal["all", "first"] = Field("all", description="all: a list of rows. first: one row.")
    missing: Any = Field(
        "error", description="When `rows: first` finds none: error, park, hold, null or {error: CODE}."
    )
    unavailable: Any = Field("error", description="When the database cannot be reached: the same words.")
    unanswered: Any = Field("error", description="When it takes too long: the same words.")
    failed: Any = Field("error", description="When it refuses the query, or its rows cannot be used: the same words.")
    timeout: Timeout = Field(10.0, description="Time for the query, connecting and waiting for a connection included.")
    max_rows: int = Field(1000, ge=1, le=100_000, description="More rows than these are a failure.")
    connections: int = Field(4, ge=1, le=64, description="Connections at most, and queries at once.")


class QueryDatabase(Step):
    """Ask a database."""

    Config = QueryDatabaseConfig
    pure = False

    def __init__(self, config: QueryDatabaseConfig, loading: Loading) -> None:
        database = _database(config.dsn.get_secret_value(), loading, config.timeout)
        self._pool = Pool(database, config.connections, config.timeout)
        self._statement = _statement(config)
        self._limit = 0 if config.rows == "first" else config.max_rows  # one row more is fetched than is allowed
        self._first = config.rows == "first"
        compiler = Compiler(loading, "query_database")
        self._with = tuple((name, compiler.value(spec, ("with", name))) for name, spec in config.with_.items())
        self._into = variable_name(config.into, ("into",), "query_database")
        self._missing = missing_policy(config.missing, ("missing",), "query_database", "no_row", self._into)
        name = database.name
        self._policies = {
            "unavailable": missing_policy(
                config.unavailable, ("unavailable",), "query_database", "database_unavailable", name
            ),
            "unanswered": missing_policy(
                config.unanswered, ("unanswered",), "query_database", "database_unanswered", name
            ),
            "failed": missing_policy(config.failed, ("failed",), "query_database", "database_failed", name),
        }

    @property
    def asynchronous(self) -> bool:
        """It waits for the database."""
        return True

    async def run(self, envelope: Envelope, context: Context) -> Verdict:
        """Ask; StepFailed or Refused as the keys for what went wrong say."""
        scope = Scope(envelope, context)
        values = {name: _bound(value.read(scope)) for name, value in self._with}
        try:
            rows = await self._pool.fetch(self._statement, values, self._limit)
            if len(rows) > self._limit and not self._first:
                raise QueryError("failed", "too_many_rows")
        except QueryError as error:
            context.warn(f"database.{error.kind}", database=self._pool.database.name, reason=error.reason)
            found = self._policies[error.kind](None)
        else:
            found = rows if not self._first else rows[0] if rows else self._missing(None)
        envelope.variables[self._into] = found
        return CONTINUE


def _statement(config: QueryDatabaseConfig) -> Statement:
    try:
        return Statement.read(config.query, frozenset(config.with_))
    except SpecError as error:
        raise SpecError(error.message, at=("query",), expected=error.expected, nearest=error.nearest) from None


def _database(dsn: str, loading: Loading, timeout: float) -> Database:
    """The database at an address, which may hold a password and is not repeated in an error."""
    scheme, _, rest = dsn.partition(":")
    if scheme == "sqlite" and rest.removeprefix("//"):
        return SqliteDatabase(loading.folder / rest.removeprefix("//"), timeout)
    if scheme not in ("postgresql", "postgres") or not rest.startswith("//"):
        raise SpecError("this is no address of a database", at=("dsn",), expected=_FORM)
    try:
        from engine.transforms.databases.postgresql import PostgresqlDatabase
    except ImportError:
        raise SpecError(
            "PostgreSQL needs psycopg, which is not installed",
            at=("dsn",),
            expected="pip install 'hl7engine[postgresql]'",
        ) from None
    try:
        return PostgresqlDatabase(dsn, timeout)
    except ValueError as error:
        raise SpecError(f"this is {error}", at=("dsn",), expected=_FORM) from None


def _bound(value: Any) -> Any:
    """A value as it is bound: nothing is NULL, a time is UTC in ISO 8601 (2027-01-31T15:00:00Z), a day is a day."""
    if is_empty(value):
        return None
    if isinstance(value, datetime):
        value = Moment(value)
    if isinstance(value, Moment) and value.digits >= 10:
        return value.iso(UTC).replace("+00:00", "Z")
    return value if isinstance(value, bool | int | float) else as_data(value)
