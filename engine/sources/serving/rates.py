"""How many requests a caller may make: a token bucket for each route and caller."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from engine.sources.base import HttpRequest, HttpRoute

#: Callers whose rate is remembered; the one seen longest ago is forgotten first.
BUCKETS = 4096


class Rates:
    """Token buckets: so many requests a second for each route and caller, with room for a burst."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._buckets: OrderedDict[tuple[str, str, str], tuple[float, float]] = OrderedDict()

    def take(self, route: HttpRoute, request: HttpRequest) -> float:
        """Take one token of a caller, known by its key, else by its address: 0, or the seconds until there is one."""
        if route.rate is None:
            return 0.0
        caller = request.api_key or request.peer.rpartition(":")[0]
        now, key = self._monotonic(), (route.method, route.path, caller)
        tokens, at = self._buckets.pop(key, (float(route.burst), now))
        tokens = min(float(route.burst), tokens + (now - at) * route.rate)
        allowed = tokens >= 1.0
        self._buckets[key] = (tokens - 1.0 if allowed else tokens, now)
        if len(self._buckets) > BUCKETS:
            self._buckets.popitem(last=False)
        return 0.0 if allowed else (1.0 - tokens) / route.rate
