"""``validate: {structure: error, lengths: warn, profile: NAME}``: does the message keep to the standard of its version?

What is found on level ``error`` fails the step, or does what ``otherwise`` says; ``report`` lets the message go on.
Findings are logged by path and handed to later steps with ``into``. Nothing of the content is in them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from engine.envelope import Envelope
from engine.errors import SpecError, StepFailed
from engine.hl7.findings import PRESETS, Check, Finding, Level
from engine.hl7.message import Message
from engine.hl7.validation import validate
from engine.transforms.base import CONTINUE, Context, Loading, Step, Verdict
from engine.transforms.building.definition import named_in
from engine.transforms.lookup import variable_name
from engine.transforms.validating.profile_file import read_profile
from engine.transforms.values.missing import missing_policy

#: So many paths are named in a log line or a failure; the rest is counted.
_NAMED = 5


class ValidateConfig(BaseModel):
    """How much is minded of what the standard says."""

    model_config = ConfigDict(extra="forbid")

    levels: str = Field("default", description="The levels that are not named here: default, strict or lenient.")
    structure: Level | None = Field(None, description="Segments that are missing, foreign or out of order.")
    cardinality: Level | None = Field(None, description="Segments and fields that stand too often.")
    required: Level | None = Field(None, description="Required fields and components that are empty.")
    extra: Level | None = Field(None, description="Fields and components that the standard does not have.")
    withdrawn: Level | None = Field(None, description="Fields that the version has given up.")
    datatypes: Level | None = Field(None, description="Numbers, dates and times that are none.")
    lengths: Level | None = Field(None, description="More characters than published.")
    tables: Level | None = Field(None, description="Codes that are not in their HL7 table.")
    user_tables: Level | None = Field(None, description="Codes that are not among the suggested ones.")
    profile: str | None = Field(None, description="A conformance profile: a file of transforms/, without ending.")
    otherwise: Any = Field("error", description="error, park, hold, report or {error: CODE}.")
    into: str | None = Field(None, description="Name of the variable that takes the findings, without $.")


class Validate(Step):
    """Hold the message against the standard of its version, and against a profile."""

    Config = ValidateConfig

    def __init__(self, config: ValidateConfig, loading: Loading) -> None:
        if config.levels not in PRESETS:
            raise SpecError(f"{config.levels} is no set of levels", at=("levels",), expected=", ".join(PRESETS))
        named = {check.value: getattr(config, check.value, None) for check in Check if check is not Check.PROFILE}
        chosen = {name: level for name, level in named.items() if level is not None}
        self._levels = replace(PRESETS[config.levels], **chosen)
        self._profile = None
        if config.profile is not None:
            self._profile = read_profile(loading.fragment(named_in(loading.site, config.profile, ("profile",))))
        self._report = config.otherwise == "report"
        self._into = variable_name(config.into, ("into",), "validate") if config.into is not None else None
        if not self._report:
            if config.otherwise in ("keep", "null", None):
                raise SpecError(
                    "a message that is not valid cannot be passed over",
                    at=("otherwise",),
                    expected="error, park, hold, report or {error: CODE}",
                )
            missing_policy(config.otherwise, ("otherwise",), "validate", "invalid", "")
        self._otherwise = config.otherwise

    def run(self, envelope: Envelope, context: Context) -> Verdict:
        """Validate; raises StepFailed ``invalid`` or Refused when something is an error and is not only reported."""
        body = envelope.body
        if not isinstance(body, Message):
            raise StepFailed("validate", "wrong_body")
        findings = validate(body, self._levels, self._profile)
        if self._into is not None:
            envelope.variables[self._into] = [_as_data(finding) for finding in findings]
        if not findings:
            return CONTINUE
        errors = [finding for finding in findings if finding.level is Level.ERROR]
        context.warn(
            "message.findings", step="validate", errors=len(errors), found=len(findings), at=_paths(errors or findings)
        )
        if errors and not self._report:
            missing_policy(self._otherwise, (), "validate", "invalid", _paths(errors))(None)
        return CONTINUE


def _paths(findings: list[Finding] | tuple[Finding, ...]) -> str:
    """Where, and of which check: ``SCH-6 required, PID-7 datatypes and 3 more``."""
    named = ", ".join(f"{finding.path} {finding.check.value}" for finding in findings[:_NAMED])
    return named if len(findings) <= _NAMED else f"{named} and {len(findings) - _NAMED} more"


def _as_data(finding: Finding) -> dict[str, Any]:
    return {
        "level": finding.level.value,
        "check": finding.check.value,
        "path": finding.path,
        "line": finding.line,
        "problem": finding.problem,
        "expected": finding.expected,
        "source": finding.source,
    }
