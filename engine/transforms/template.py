"""``template: {text, into}``: text with ``{{ expressions }}`` into a field, a variable, a member, or as the body."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from engine.envelope import Envelope
from engine.transforms.base import CONTINUE, Context, Loading, Step, Verdict
from engine.transforms.values.sandbox import Template as Text
from engine.transforms.values.targets import target


class TemplateConfig(BaseModel):
    """Text with expressions in it."""

    model_config = ConfigDict(extra="forbid")

    text: str = Field(description="The template; what it makes is data and is escaped in an HL7 message.")
    into: str | None = Field(None, description="A path, $variable or member; without it the text becomes the body.")


class Template(Step):
    """Make text."""

    Config = str | TemplateConfig

    def __init__(self, config: str | TemplateConfig, loading: Loading) -> None:
        if isinstance(config, str):
            config = TemplateConfig(text=config, into=None)
        self._text = Text(config.text, loading.site, ("text",), "template")
        into = config.into
        self._put = None if into is None else target(into, ("into",), "template").putting(self._text)

    def run(self, envelope: Envelope, context: Context) -> Verdict:
        """Make it and put it."""
        if self._put is not None:
            self._put(envelope, context)
        else:
            envelope.body = self._text.text(envelope, context)
        return CONTINUE
