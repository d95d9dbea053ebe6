"""``drop: CONDITION``: a message for which it holds is filtered (answered positively, recorded)."""

from __future__ import annotations

from typing import Any

from engine.envelope import Envelope
from engine.transforms.base import CONTINUE, Context, Loading, Step, Verdict
from engine.transforms.values.conditions import compile_condition


class Drop(Step):
    """Filter messages for which the condition holds."""

    Config = Any

    def __init__(self, config: Any, loading: Loading) -> None:
        condition = compile_condition(config, loading)
        self._test, self.opens = condition.test, condition.opens  # type: ignore[misc]  # of this one

    def run(self, envelope: Envelope, context: Context) -> Verdict:
        """Drop or go on."""
        return Verdict.DROP if self._test(envelope, context) else CONTINUE
