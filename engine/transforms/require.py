"""``require: {that: CONDITION, otherwise: {error: CODE}}``: the caller is told no when it does not hold.

``otherwise`` may also be ``error``, ``park`` or ``hold``, which fail the step with cause ``requirement``.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from engine.envelope import Envelope
from engine.errors import SpecError
from engine.transforms.base import CONTINUE, Context, Loading, Step, Verdict
from engine.transforms.values.conditions import compile_condition
from engine.transforms.values.missing import missing_policy


class RequireConfig(BaseModel):
    """A condition without which the message does not go on."""

    model_config = ConfigDict(extra="forbid")

    that: Any = Field(description="A condition.")
    otherwise: Any = Field("error", description="{error: CODE}, error, park or hold.")


class Require(Step):
    """Go on only if a condition holds; else it is a fault."""

    Config = RequireConfig

    def __init__(self, config: RequireConfig, loading: Loading) -> None:
        self._holds = compile_condition(config.that, loading, ("that",)).test
        if config.otherwise in ("keep", "null", None):
            raise SpecError(
                "a requirement cannot be passed over", at=("otherwise",), expected="{error: CODE}, error, park or hold"
            )
        self._otherwise = missing_policy(config.otherwise, ("otherwise",), "require", "requirement", "")

    def run(self, envelope: Envelope, context: Context) -> Verdict:
        """Check; raises Refused or StepFailed."""
        if not self._holds(envelope, context):
            self._otherwise(None)
        return CONTINUE
