"""``resolve: {when, channel, match, outcome}``: what this message says about an exchange of another channel.

``outcome: delivered`` settles an exchange whose outcome is unknown: the message shows that the partner did it.
``outcome: cancelled`` forgets the idempotency keys of the exchange, so that the same request may be made again. No
match changes nothing. Both commit with this message.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from engine.envelope import Envelope
from engine.errors import SpecError
from engine.hl7.message import Message
from engine.transforms.base import CONTINUE, Context, ForgetKeys, Loading, ResolveExchange, Step, Verdict
from engine.transforms.values.conditions import compile_condition
from engine.transforms.values.readers import FirstOf, Value
from engine.transforms.values.scope import Scope
from engine.transforms.values.text import as_data, near
from engine.transforms.values.times import Moment
from engine.transforms.values.value import Compiler


class ResolveConfig(BaseModel):
    """What a message says about an exchange."""

    model_config = ConfigDict(extra="forbid")

    when: Any = Field(None, description="A condition; other messages say nothing.")
    channel: str = Field(description="The channel whose exchange it is.")
    match: dict[str, Any] = Field(description="$body.member of the recorded request → where this message has it.")
    outcome: Literal["delivered", "cancelled"] = Field("delivered", description="What became of it.")


class Resolve(Step):
    """Settle an unknown exchange, or forget a cancelled one's keys."""

    Config = ResolveConfig
    pure = False

    def __init__(self, config: ResolveConfig, loading: Loading) -> None:
        if config.channel not in loading.channels:
            raise SpecError(
                f"there is no channel {config.channel}", at=("channel",), nearest=near(config.channel, loading.channels)
            )
        if not config.match:
            raise SpecError("nothing is compared", at=("match",), expected="$body.member: path")
        compiler = Compiler(loading, "resolve")
        self._channel, self._outcome = config.channel, config.outcome
        self._when = compile_condition(config.when, loading, ("when",)) if config.when is not None else None
        self._match = tuple(
            (_member(name), compiler.source(spec, ("match", name))) for name, spec in config.match.items()
        )

    def run(self, envelope: Envelope, context: Context) -> Verdict:
        """Record the effect when every member of ``match`` has a value here."""
        if self._when is not None and not self._when(envelope, context):
            return CONTINUE
        scope = Scope(envelope, context)
        match = {name: _candidates(value, scope) for name, value in self._match}
        if not all(match.values()):
            return CONTINUE
        if self._outcome == "cancelled":
            context.effects.append(ForgetKeys(self._channel, match))
            return CONTINUE
        body = envelope.body
        raw = body.to_bytes(None, "replace") if isinstance(body, Message) else b""
        context.effects.append(ResolveExchange(self._channel, match, raw))
        return CONTINUE


def _member(name: str) -> str:
    if not name.startswith("$body.") or len(name) < 7:
        raise SpecError(f"{name} is no member of the request", at=("match", name), expected="$body.member")
    return name[1:]


def _candidates(value: Value, scope: Scope) -> tuple[str, ...]:
    """Every text that the request may have had: all of a list's values, and a time in each of its ISO 8601 forms."""
    texts: dict[str, None] = {}
    for each in value.values if isinstance(value, FirstOf) else (value,):
        found = each.read(scope)
        if isinstance(found, Moment):
            texts.update(dict.fromkeys(found.forms()))
        elif text := as_data(found):
            texts[text] = None
    return tuple(texts)
