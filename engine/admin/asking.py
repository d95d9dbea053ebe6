"""What the routes of the admin API share: how one is declared, who asks whom, and how refusals and bodies are read."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from engine.admin.answers import AdminError
from engine.admin.search import LARGEST_ID
from engine.errors import HL7EngineError, Refused, StoreError
from engine.store.audit import Who

#: As the REST listener's own default.
LARGEST_REQUEST = 1024 * 1024

Result = TypeVar("Result")
Model = TypeVar("Model", bound=BaseModel)
Act = TypeVar("Act", bound=Callable[..., Awaitable[dict[str, Any] | Response]])

#: Names in paths that stand for a number of the store.
_NUMBERS = frozenset({"message_id", "delivery_id"})
_NUMBER = TypeAdapter(Annotated[int, Field(ge=1, le=LARGEST_ID)])


class Asked:
    """One request, as the guard let it in."""

    __slots__ = ("request",)

    def __init__(self, request: Request) -> None:
        self.request = request

    @property
    def who(self) -> Who:
        """Who is asking. Every route that does something, or shows content, needs it: it goes into the audit trail."""
        who: Who = self.request.state.who
        return who

    def header(self, name: str) -> str:
        """A header, or nothing."""
        return self.request.headers.get(name, "")

    def query(self, model: type[Model]) -> Model:
        """What stands behind the path; of a name that comes more than once, the last. Raises AdminError."""
        return checked(model, dict(self.request.query_params))

    async def json_object(self) -> dict[str, Any]:
        """The body, a JSON object of at most a megabyte. Raises AdminError."""
        body = b""
        async for chunk in self.request.stream():
            body += chunk
            if len(body) > LARGEST_REQUEST:
                raise AdminError("body_too_large")
        try:
            value = json.loads(body)
        except (ValueError, RecursionError):
            raise AdminError("invalid_body") from None
        if not isinstance(value, dict):
            raise AdminError("invalid_body")
        return value


class Router:
    """Routes, in the order in which they are declared.

    A route is a function that takes the Supervisor, what is ``Asked``, and what its path names. What it returns is the
    answer's JSON, or the answer.
    """

    def __init__(self) -> None:
        self.routes: list[Route] = []

    def get(self, path: str) -> Callable[[Act], Act]:
        """A route that is asked with GET."""
        return self._route(path, "GET")

    def post(self, path: str) -> Callable[[Act], Act]:
        """A route that is asked with POST."""
        return self._route(path, "POST")

    def _route(self, path: str, method: str) -> Callable[[Act], Act]:
        def declare(act: Act) -> Act:
            @wraps(act)
            async def answer(request: Request) -> Response:
                names = {name: _named(name, text) for name, text in request.path_params.items()}
                found = await act(request.app.state.supervisor, Asked(request), **names)
                return found if isinstance(found, Response) else JSONResponse(found)

            route = Route(path, answer)
            route.methods = {method}  # no HEAD
            self.routes.append(route)
            return act

        return declare


def _named(name: str, text: str) -> str | int:
    if name not in _NUMBERS:
        return text
    try:
        return _NUMBER.validate_python(text)
    except ValidationError:
        raise AdminError("invalid_parameter", field=name) from None


def checked(model: type[Model], values: dict[str, Any]) -> Model:
    """``values`` as a model. Raises AdminError, which names what is wrong and never its value."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        field = next((str(found["loc"][-1]) for found in error.errors() if found["loc"]), "")
        raise AdminError("invalid_parameter", field=field) from None


async def attempted(action: Awaitable[Result]) -> Result:
    """Await what the Supervisor was told to do; its refusals become answers."""
    try:
        return await action
    except StoreError:
        raise AdminError("store_unavailable") from None
    except Refused as error:
        raise AdminError(error.code, field=error.field or "") from None
    except HL7EngineError as error:
        raise AdminError("conflict", message=str(error)) from None
    except OSError as error:
        raise AdminError("conflict", message=error.strerror or "the system refused") from None
    except ValueError as error:
        # Exactly ValueError is the Supervisor's own word (states and ids); its subclasses may quote what they read.
        if type(error) is not ValueError:
            raise
        raise AdminError("conflict", message=str(error)) from None
