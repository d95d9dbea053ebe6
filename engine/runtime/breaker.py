"""A circuit breaker: after so many failures in a row callers are told at once instead of waiting each time.

No clock and no task of its own: the owner says how a call ended and asks whether to call. Systems.md D.5: open after 5
consecutive connect failures or time-outs, probe every 10 s.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class CircuitBreaker:
    """Counts failures in a row."""

    failures: int = 5
    in_a_row: int = 0

    @property
    def open(self) -> bool:
        """Whether callers are answered without a call."""
        return self.in_a_row >= self.failures

    def succeeded(self) -> None:
        """The partner answered (a refusal is an answer too)."""
        self.in_a_row = 0

    def failed(self) -> None:
        """The partner was not reached or did not answer."""
        self.in_a_row += 1
