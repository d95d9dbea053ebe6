"""``set: {TARGET: VALUE}``: put values into fields, variables or JSON members, in the order in which they stand."""

from __future__ import annotations

from typing import Any

from engine.envelope import Envelope
from engine.errors import SpecError
from engine.transforms.base import CONTINUE, Context, Loading, Step, Verdict
from engine.transforms.values.targets import putting, target
from engine.transforms.values.value import compile_value


class Set(Step):
    """Put values somewhere."""

    Config = dict[str, Any]

    def __init__(self, config: dict[str, Any], loading: Loading) -> None:
        if not config:
            raise SpecError("nothing is set", expected="TARGET: value")
        pairs = (
            (target(name, (name,), "set"), compile_value(spec, loading, (name,), step="set"))
            for name, spec in config.items()
        )
        self._puts = putting(pairs, "set")

    def run(self, envelope: Envelope, context: Context) -> Verdict:
        """Put each value; a later one sees the earlier ones."""
        for put in self._puts:
            put(envelope, context)
        return CONTINUE
