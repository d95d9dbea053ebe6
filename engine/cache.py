"""Changes of a cache: what a step records, and what the store commits with the step's message."""

from __future__ import annotations

from dataclasses import field

from engine.values import dataclass


@dataclass(frozen=True, slots=True)
class CachePut:
    """Remember ``value`` under ``key`` (encrypted at rest); replaces what was there."""

    cache: str
    key: str
    value: bytes = field(repr=False)
    #: Seconds since the epoch.
    expires_at: float


@dataclass(frozen=True, slots=True)
class CacheForget:
    """Forget ``key``."""

    cache: str
    key: str
