"""The one error shape of the admin API, and the guard that stands before its routes.

Every answer that is not a success is ``{"error": {"code", "message", …}}``: validation errors of FastAPI, unknown
addresses and faults of the engine alike. Values of a request are never repeated, and the text of an unexpected
exception neither leaves nor is logged, since it may quote content: its type and its place do.
"""

from __future__ import annotations

import hmac
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engine.errors import ERROR_TABLE, HL7EngineError
from engine.runtime.auditor import Auditor
from engine.store.audit import Who

log = structlog.get_logger("engine.admin")

#: What a monitor asks for every few seconds: that is no login.
WATCHED = ("/health", "/metrics")

STATUS_CODES = {404: "not_found", 405: "method_not_allowed", 413: "body_too_large", 500: "internal_error"}


class AdminError(HL7EngineError):
    """The admin API says no: a code of the error table, or ``conflict`` with its reason."""

    def __init__(self, code: str, *, message: str = "", field: str = "", status: int | None = None) -> None:
        row = ERROR_TABLE.get(code)
        self.code, self.field = code, field
        self.message = message or (row.message if row else code)
        self.status = status or (row.status if row else 409)
        super().__init__(self.message)


def error_response(error: AdminError) -> JSONResponse:
    """The error shape."""
    body: dict[str, Any] = {"code": error.code, "message": error.message}
    if error.field:
        body["field"] = error.field
    return JSONResponse({"error": body}, status_code=error.status)


def install(app: FastAPI) -> None:
    """Answer every kind of error in the one shape."""
    app.add_exception_handler(AdminError, on_admin_error)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(HTTPException, on_http_error)


def on_admin_error(request: Request, error: Exception) -> JSONResponse:
    """What a route raised."""
    del request
    return error_response(error if isinstance(error, AdminError) else AdminError("internal_error"))


def on_invalid(request: Request, error: Exception) -> JSONResponse:
    """FastAPI found a parameter invalid: name it, never its value."""
    del request
    errors = error.errors() if isinstance(error, RequestValidationError) else []
    field = next((str(found["loc"][-1]) for found in errors if found.get("loc")), "")
    return error_response(AdminError("invalid_parameter", field=field))


def on_http_error(request: Request, error: Exception) -> JSONResponse:
    """No such address, or not with this method."""
    del request
    status = error.status_code if isinstance(error, HTTPException) else 500
    if code := STATUS_CODES.get(status):
        return error_response(AdminError(code))
    return error_response(AdminError("bad_request", message="The request cannot be read.", status=status))


class Guard:
    """Asks for the key before anything else, and catches what no route foresaw."""

    def __init__(self, app: ASGIApp, key: str | None, auditor: Auditor, metrics_key: str = "") -> None:
        """``key``: None lets everyone in (the local socket), empty lets no one in. ``metrics_key`` is for
        ``/metrics`` alone, where the admin key does as well.
        """
        self.app, self.key, self.auditor = app, key, auditor
        self._metrics_key = metrics_key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ``Guard``."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        peer = (scope.get("client") or ("",))[0] or ""
        if not self.admits(scope):
            log.warning("admin.unauthorized", peer=peer)
            self.auditor.refused(peer)
            await error_response(AdminError("unauthorized"))(scope, receive, send)
            return
        if scope["path"] not in WATCHED:
            who = self.who(scope)
            scope.setdefault("state", {})["who"] = who
            self.auditor.admitted(who, peer)
        started = False

        async def watch(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self.app(scope, receive, watch)
        except ClientDisconnect:
            return
        except Exception as error:  # noqa: BLE001 - the last door: a fault of one request must not say more than its type
            log.error("admin.fault", error=type(error).__name__, where=place(error))
            if not started:
                await error_response(AdminError("internal_error"))(scope, receive, send)

    def admits(self, scope: Scope) -> bool:
        """Whether this request may go on; takes the same time whatever part of the key is right."""
        if self.key is None or scope["path"] == "/health":
            return True
        given = b"".join(value for name, value in scope["headers"] if name == b"x-api-key")
        if scope["path"] != "/metrics":
            return _is_key(given, self.key)
        given = given or b"".join(_bearer(value) for name, value in scope["headers"] if name == b"authorization")
        return _is_key(given, self.key) | _is_key(given, self._metrics_key)

    def who(self, scope: Scope) -> Who:
        """Who is asking: the key's name, or the user at the other end of the local socket."""
        if self.key is not None:
            return Who.api_key("admin")
        uid = scope.get("state", {}).get("uid")
        return Who.unknown() if uid is None else Who.local(uid)


def _is_key(given: bytes, key: str) -> bool:
    return hmac.compare_digest(given, key.encode()) and bool(key)


def _bearer(header: bytes) -> bytes:
    """The key of ``Authorization: Bearer KEY``."""
    scheme, _, key = header.partition(b" ")
    return key.strip() if scheme.lower() == b"bearer" else b""


def place(error: BaseException) -> str:
    """``file.py:42`` of the innermost frame."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    return "" if frame is None else f"{frame.tb_frame.f_code.co_filename.rsplit('/', 1)[-1]}:{frame.tb_lineno}"
