"""What the routes of the admin API share: who asks whom, and how refusals and bodies are read."""

from __future__ import annotations

import json
from collections.abc import Awaitable
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Path, Request

from engine.admin.answers import AdminError
from engine.admin.search import LARGEST_ID
from engine.errors import HL7EngineError, Refused, StoreError
from engine.runtime.supervisor import Supervisor
from engine.store.audit import Who

#: As the REST listener's own default.
LARGEST_REQUEST = 1024 * 1024

Result = TypeVar("Result")
Id = Annotated[int, Path(ge=1, le=LARGEST_ID)]


def get_supervisor(request: Request) -> Supervisor:
    """The Supervisor this API steers."""
    supervisor: Supervisor = request.app.state.supervisor
    return supervisor


def get_who(request: Request) -> Who:
    """Who is asking, as the guard found out."""
    who: Who = request.state.who
    return who


Engine = Annotated[Supervisor, Depends(get_supervisor)]
#: Every route that does something, or shows content, takes it: it goes into the audit trail.
Person = Annotated[Who, Depends(get_who)]


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


async def json_object(request: Request) -> dict[str, Any]:
    """The request's body, a JSON object of at most a megabyte."""
    body = b""
    async for chunk in request.stream():
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
