"""The admin API's routes about what is kept, and for how long: the audit trail, and pruning."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from engine.admin.answers import AdminError
from engine.admin.asking import Asked, Router, attempted
from engine.admin.search import LARGEST_ID
from engine.admin.views import audit_view, pruned_view
from engine.errors import StoreError
from engine.runtime.supervisor import Supervisor
from engine.store.audit import Act, FindAudit

router = Router()


class Entries(BaseModel):
    """Entries of the audit trail that may be asked for."""

    act: Act | None = None
    who: str | None = None
    channel: str | None = None
    message: int | None = Field(default=None, ge=1, le=LARGEST_ID)
    since: datetime | None = None
    until: datetime | None = None
    before: int | None = Field(default=None, ge=1, le=LARGEST_ID)
    limit: int = Field(default=50, ge=1, le=500)


class Head(BaseModel):
    """An entry of the audit trail that somebody has noted."""

    head: str = Field(default="", pattern=r"^(\d+:[0-9a-f]{64})?$")


@router.get("/api/audit")
async def get_audit(engine: Supervisor, asked: Asked) -> dict[str, Any]:
    """Entries of the audit trail, newest first. ``next`` is the ``before`` of the following page."""
    wanted = asked.query(Entries)
    rows = engine.store.audit_rows(
        FindAudit(
            act=None if wanted.act is None else str(wanted.act),
            who=wanted.who,
            channel=wanted.channel,
            message_id=wanted.message,
            since=None if wanted.since is None else wanted.since.timestamp(),
            until=None if wanted.until is None else wanted.until.timestamp(),
            before_id=wanted.before,
            limit=wanted.limit,
        )
    )
    following = rows[-1].entry_id if len(rows) == wanted.limit else None
    return {"entries": [audit_view(row) for row in rows], "next": following}


@router.get("/api/audit/verify")
async def verify_audit(engine: Supervisor, asked: Asked) -> dict[str, Any]:
    """Check the whole trail while the engine goes on; ``head`` (``id:hash``) must be in it."""
    return asdict(await engine.store.verify_audit(asked.query(Head).head))


@router.get("/api/verify")
async def verify(engine: Supervisor, asked: Asked) -> dict[str, Any]:
    """Check the store while the engine goes on; ``left_out``: tables that are too busy to be checked to the end."""
    found = await attempted(engine.store.check())
    return {"faults": found.faults, "left_out": found.left_out, "opened": True}


@router.post("/api/prune")
async def prune(engine: Supervisor, asked: Asked) -> dict[str, Any]:
    """Remove now what is finished and old enough, or count it: ``{"dry_run": true}``."""
    dry_run = (await asked.json_object()).get("dry_run", False) is True
    return {"dry_run": dry_run, **pruned_view(await attempted(engine.prune(asked.who, dry_run)))}


@router.post("/api/backup")
async def back_up(engine: Supervisor, asked: Asked) -> dict[str, Any]:
    """Copy the store into a new folder of this machine: ``{"to": "/backup/monday"}``; its manifest."""
    to = (await asked.json_object()).get("to")
    if not isinstance(to, str) or not Path(to).is_absolute():
        raise AdminError("invalid_body")
    try:
        return dict(await engine.back_up(asked.who, Path(to)))
    except StoreError as error:
        raise AdminError("conflict", message=str(error)) from None
