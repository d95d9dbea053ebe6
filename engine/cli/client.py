"""The command line's way to a running engine: its JSON API over the local socket of the data folder.

Standard library only, so that commands start fast. ``NotRunning`` when nobody answers there; ``ApiError`` when the
engine said no; ``NotTold`` when a member of its answer is read that is not there. The database behind the engine is
never touched from here.
"""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

from engine.admin.local import SOCKET, address_of
from engine.errors import HL7EngineError, NotRunning

if TYPE_CHECKING:
    import ssl

#: Longer than the engine lets anything take (a drain has 20 s, a reply 25 s).
TIMEOUT = 60.0


class ApiError(HL7EngineError):
    """The engine said no."""

    def __init__(self, status: int, error: Mapping[str, Any]) -> None:
        self.status, self.error = status, error
        self.code = str(error.get("code", "internal_error"))
        field = f" ({error['field']})" if error.get("field") else ""
        super().__init__(f"{error.get('message', self.code)}{field}")


class NotTold(HL7EngineError):
    """The engine's answer lacks something."""


class Told(dict[str, Any]):
    """An object of an answer. The engine that runs may be older than this command, or newer: what it does not tell is
    no fault of ours, and what it tells besides is of no interest.
    """

    def __missing__(self, name: str) -> Any:
        raise NotTold(f"the running engine does not tell `{name}`: it is of another version than this command")


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self) -> None:
        """Connect to the socket. Raises OSError."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        with address_of(self.path) as address:
            self.sock.connect(address)


class Client:
    """The JSON API of the engine that runs on one data folder."""

    def __init__(self, data: Path, timeout: float = TIMEOUT) -> None:
        self.data, self.timeout, self.where = data, timeout, str(data)
        #: Sent with every request.
        self.headers: Mapping[str, str] = {}

    def connection(self) -> http.client.HTTPConnection:
        """A new connection, not open yet."""
        return UnixConnection(self.data / SOCKET, self.timeout)

    def get(self, *path: str, **query: Any) -> dict[str, Any]:
        """GET ``/api/PATH``; members of ``query`` that are None are left out."""
        given = {name: value for name, value in query.items() if value is not None}
        return self.request("GET", path, urlencode(given))

    def post(self, *path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
        """POST ``/api/PATH`` with ``body`` as JSON."""
        content = None if body is None else json.dumps(body).encode()
        return self.request("POST", path, "", content, {"Content-Type": "application/json", **(headers or {})})

    def request(
        self,
        method: str,
        path: tuple[str, ...],
        query: str = "",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """One request. Raises NotRunning, ApiError."""
        target = "/api/" + "/".join(quote(part, safe="") for part in path) + (f"?{query}" if query else "")
        connection = self.connection()
        try:
            connection.request(method, target, body, {**self.headers, **(headers or {})})
            response = connection.getresponse()
            status, content = response.status, response.read()
        except PermissionError:
            raise NotRunning(f"the engine on {self.where} belongs to another user") from None
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
            raise NotRunning(f"no engine is running on {self.where} (start one with: hl7engine run)") from None
        except (OSError, http.client.HTTPException) as error:
            raise NotRunning(f"the engine on {self.where} did not answer ({type(error).__name__})") from None
        finally:
            connection.close()
        return answer(status, content)


class PortClient(Client):
    """The same API on an admin port, with its key; for an engine whose data folder is not at hand."""

    def __init__(self, url: str, key: str, tls: ssl.SSLContext, timeout: float = TIMEOUT) -> None:
        super().__init__(Path(), timeout)
        self.tls = tls
        self.url, self.where, self.headers = urlsplit(url), url, {"X-API-Key": key}

    def connection(self) -> http.client.HTTPConnection:
        """A new connection to the port, not open yet."""
        host, port = self.url.hostname or "", self.url.port
        if self.url.scheme == "https":
            return http.client.HTTPSConnection(host, port, timeout=self.timeout, context=self.tls)
        return http.client.HTTPConnection(host, port, timeout=self.timeout)


def answer(status: int, content: bytes) -> dict[str, Any]:
    """The answer's JSON object. Raises ApiError for what is not a success."""
    try:
        value = json.loads(content, object_hook=Told)
    except ValueError:
        value = {}
    if status >= 400 or not isinstance(value, dict):
        raise ApiError(status, value.get("error", {}) if isinstance(value, dict) else {})
    return value
