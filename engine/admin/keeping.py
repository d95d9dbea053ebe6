"""The admin API's routes about what is kept, and for how long: the audit trail, and pruning."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from engine.admin.answers import AdminError
from engine.admin.asking import Engine, Person, attempted, json_object
from engine.admin.search import LARGEST_ID
from engine.admin.views import audit_view, pruned_view
from engine.errors import StoreError
from engine.store.audit import Act, FindAudit

router = APIRouter()


@router.get("/api/audit")
async def get_audit(
    engine: Engine,
    act: Act | None = None,
    who: str | None = None,
    channel: str | None = None,
    message: Annotated[int | None, Query(ge=1, le=LARGEST_ID)] = None,
    since: datetime | None = None,
    until: datetime | None = None,
    before: Annotated[int | None, Query(ge=1, le=LARGEST_ID)] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> dict[str, Any]:
    """Entries of the audit trail, newest first. ``next`` is the ``before`` of the following page."""
    rows = engine.store.audit_rows(
        FindAudit(
            act=None if act is None else str(act),
            who=who,
            channel=channel,
            message_id=message,
            since=None if since is None else since.timestamp(),
            until=None if until is None else until.timestamp(),
            before_id=before,
            limit=limit,
        )
    )
    return {"entries": [audit_view(row) for row in rows], "next": rows[-1].entry_id if len(rows) == limit else None}


@router.get("/api/audit/verify")
async def verify_audit(
    engine: Engine, head: Annotated[str, Query(pattern=r"^(\d+:[0-9a-f]{64})?$")] = ""
) -> dict[str, Any]:
    """Check the whole trail while the engine goes on; ``head`` (``id:hash``) must be in it."""
    return asdict(await engine.store.verify_audit(head))


@router.get("/api/verify")
async def verify(engine: Engine) -> dict[str, Any]:
    """Check the store while the engine goes on; ``left_out``: tables that are too busy to be checked to the end."""
    found = await attempted(engine.store.check())
    return {"faults": found.faults, "left_out": found.left_out, "opened": True}


@router.post("/api/prune")
async def prune(engine: Engine, who: Person, request: Request) -> dict[str, Any]:
    """Remove now what is finished and old enough, or count it: ``{"dry_run": true}``."""
    dry_run = (await json_object(request)).get("dry_run", False) is True
    return {"dry_run": dry_run, **pruned_view(await attempted(engine.prune(who, dry_run)))}


@router.post("/api/backup")
async def back_up(engine: Engine, who: Person, request: Request) -> dict[str, Any]:
    """Copy the store into a new folder of this machine: ``{"to": "/backup/monday"}``; its manifest."""
    to = (await json_object(request)).get("to")
    if not isinstance(to, str) or not Path(to).is_absolute():
        raise AdminError("invalid_body")
    try:
        return dict(await engine.back_up(who, Path(to)))
    except StoreError as error:
        raise AdminError("conflict", message=str(error)) from None
