"""A PostgreSQL database by psycopg 3, asked in read-only transactions through a cursor of the server's.

``DECLARE CURSOR`` takes nothing but a query, and rows that nobody wants do not leave the server. Values are bound by
the protocol, as text whose type the server infers. A host that is not this machine is asked over TLS with its
certificate and name checked, unless the address says ``sslmode`` itself.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg import conninfo

from engine.transforms.databases.base import QueryError, Row, rows_of
from engine.transforms.databases.statement import Statement

#: SQLSTATE classes of a server that has no place, or goes (PostgreSQL, appendix A): connection exceptions,
#: insufficient resources, operator intervention; a wrong password or database is told as such by its code.
_AWAY = ("08", "53", "57P", "28", "3D")
_CANCELED = "57014"


class PostgresqlDatabase:
    """A database of a server."""

    def __init__(self, dsn: str, timeout: float) -> None:
        """Raises ValueError for an address that libpq does not read. ``timeout`` in seconds."""
        try:
            told: dict[str, Any] = conninfo.conninfo_to_dict(dsn)
        except psycopg.ProgrammingError:
            raise ValueError("no address that PostgreSQL's library reads") from None  # its text quotes the address
        hosts = str(told.get("host") or told.get("hostaddr") or os.environ.get("PGHOST") or "")
        self._timeout = timeout
        self._settings = {
            "application_name": "hl7engine",
            "connect_timeout": max(2, int(timeout)),
            "keepalives_idle": 30,
            "tcp_user_timeout": int(timeout * 1000),
            **_tls(told, hosts),
            **told,
        }
        self.name = f"postgresql:{hosts or 'local'}/{told.get('dbname') or ''}"

    def connect(self) -> PostgresqlConnection:
        """Connect and log in."""
        try:
            connection = psycopg.connect(**self._settings)
        except psycopg.Error as error:
            raise QueryError("unavailable", _word(error)) from None
        connection.read_only = True
        return PostgresqlConnection(connection, self._timeout)


class PostgresqlConnection:
    """A session."""

    def __init__(self, connection: psycopg.Connection[Any], timeout: float) -> None:
        self._connection = connection
        self._patience = f"SET LOCAL statement_timeout = {int(timeout * 1000)}"
        # One more handle of the same socket: it can be shut down from another thread at any time.
        self._handle = socket.socket(fileno=os.dup(connection.fileno()))

    def fetch(self, statement: Statement, values: Mapping[str, Any], limit: int) -> list[Row]:
        """Ask in a transaction of its own."""
        bound = [_text(values[name]) for name in statement.names]
        try:
            with (
                self._connection.transaction(),
                psycopg.RawServerCursor(self._connection, "rows") as cursor,
            ):
                self._connection.execute(self._patience.encode())
                cursor.execute(statement.numbered.encode(), bound)
                found = cursor.fetchmany(limit + 1)
                columns = [column.name for column in cursor.description or ()]
                return rows_of(columns, found)
        except psycopg.Error as error:
            raise self._error(error) from None

    def _error(self, error: psycopg.Error) -> QueryError:
        state = error.sqlstate or ""
        if state == _CANCELED:
            return QueryError("unanswered", "timeout")
        if self._connection.broken or self._connection.closed or state.startswith(_AWAY):
            return QueryError("unavailable", state or "lost")
        return QueryError("failed", state or type(error).__name__)

    def interrupt(self) -> None:
        """Cut the connection: the server sees it, and so does who waits."""
        with contextlib.suppress(OSError):
            self._handle.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End the session."""
        with contextlib.suppress(psycopg.Error, OSError):
            self._connection.close()
        self._handle.close()


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return str(value).lower() if isinstance(value, bool) else str(value)


def _tls(told: Mapping[str, Any], hosts: str) -> dict[str, str]:
    """What the address leaves out: libpq's own default would go on in clear where TLS fails."""
    if "sslmode" in told or "service" in told or os.environ.get("PGSSLMODE") or all(map(_is_local, hosts.split(","))):
        return {}
    trusted = "sslrootcert" in told or bool(os.environ.get("PGSSLROOTCERT"))
    return {"sslmode": "verify-full"} | ({} if trusted else {"sslrootcert": "system"})


def _is_local(host: str) -> bool:
    return host in ("", "localhost", "::1") or host.startswith(("/", "@", "127."))


def _word(error: psycopg.Error) -> str:
    """Why there is no connection: the server's code, or what can be told of libpq's text, which is not repeated."""
    if error.sqlstate:
        return error.sqlstate
    text = str(error)
    if isinstance(error, psycopg.errors.ConnectionTimeout) or "timeout expired" in text:
        return "timeout"
    words = {"password authentication": "28P01", "does not exist": "3D000", "SSL": "tls", "certificate": "tls"}
    return next((word for sign, word in words.items() if sign in text), "refused")
