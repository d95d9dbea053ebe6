"""``ask: {channel, with, into}``: send a request through another channel of this site and take its reply.

The reply is JSON. An object with one member (its correlation id aside) gives that member: of ``{"slots": […]}`` the
list. Everything the asked channel does is recorded under this message's correlation id.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from engine.envelope import Envelope
from engine.errors import SpecError
from engine.transforms.base import CONTINUE, Context, Loading, Step, Verdict
from engine.transforms.building.json_body import compile_json
from engine.transforms.lookup import variable_name
from engine.transforms.values.missing import missing_policy
from engine.transforms.values.text import near
from engine.transforms.values.value import Compiler


class AskConfig(BaseModel):
    """A request to another channel."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    channel: str = Field(description="A request/response channel of this site.")
    with_: dict[str, Any] = Field({}, alias="with", description="Its query parameters or body: names and values.")
    into: str = Field(description="Name of the variable, without $.")
    missing: Any = Field(
        "error", description="When it answers with an error: error, park, hold, null or {error: CODE}."
    )


class Ask(Step):
    """Ask another channel."""

    Config = AskConfig
    pure = False

    def __init__(self, config: AskConfig, loading: Loading) -> None:
        if config.channel not in loading.channels:
            raise SpecError(
                f"there is no channel {config.channel}",
                at=("channel",),
                expected=", ".join(sorted(loading.channels)),
                nearest=near(config.channel, loading.channels),
            )
        self._channel = config.channel
        compiler = Compiler(loading, "ask")
        self._with = tuple((name, compile_json(compiler, spec, ("with", name))) for name, spec in config.with_.items())
        self._into = variable_name(config.into, ("into",), "ask")
        self._missing = missing_policy(config.missing, ("missing",), "ask", "asked_in_vain", config.channel)

    @property
    def asynchronous(self) -> bool:
        """It waits for an answer."""
        return True

    async def run(self, envelope: Envelope, context: Context) -> Verdict:
        """Ask and wait. An error of the other channel is what ``missing`` says; nothing of its text is taken."""
        request = {name: value.json(envelope, context) for name, value in self._with}
        reply = await context.ask(self._channel, request, envelope.correlation_id)
        refused = reply.code is not None or reply.status >= 400
        found = self._missing(None) if refused else _main(reply.body)
        if found is None:
            # A variable that is not there is left out of an error's members; an empty one would be shown.
            envelope.variables.pop(self._into, None)
        else:
            envelope.variables[self._into] = found
        return CONTINUE


def _main(body: Any) -> Any:
    if isinstance(body, dict):
        members = [value for name, value in body.items() if name != "correlationId"]
        if len(members) == 1:
            return members[0]
    return body
