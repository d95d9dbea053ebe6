"""Telling everybody of a batch that it failed: what one listener does wrong does not reach the others."""

from __future__ import annotations

from collections.abc import Sequence

from engine.errors import DoesNotFit, StoreError
from engine.promise import told as tell
from engine.store.faults import InDoubt, reason_of
from engine.store.transaction import Unit


def nobody(_error: StoreError | None) -> None:
    """Whoever waits for a unit that nobody asked for."""


def fail(batch: Sequence[Unit], error: Exception, operation: str = "") -> None:
    """Nothing of it is, or what became of it is not known; ``operation`` is the name of the one that it lies in."""
    text = ": ".join(part for part in ("not committed", operation, reason_of(error)) if part)
    for _, told in batch:
        # An exception for each: whoever raises it adds a traceback of their own.
        given: StoreError
        if isinstance(error, InDoubt):
            given = InDoubt(str(error))
        else:
            given = DoesNotFit(text) if isinstance(error, DoesNotFit) else StoreError(text)
        tell(told, given)
