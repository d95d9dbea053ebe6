"""What a value is read from: the envelope, the context, and how times are written where it goes.

A plain Scope reads the message in motion. ``build`` has its own, which reads the occurrence of a segment that is being
mapped (``building/segments.py``).
"""

from __future__ import annotations

from datetime import UTC, tzinfo
from typing import Any

from engine.envelope import Envelope
from engine.hl7.message import Message
from engine.hl7.versions import at_least
from engine.transforms.base import Context
from engine.transforms.values.places import Place, read_place
from engine.transforms.values.text import HL7Text
from engine.transforms.values.times import Moment, hl7_time
from engine.values import dataclass


@dataclass(frozen=True, slots=True)
class Times:
    """How times are written (rule V6)."""

    minutes_only: bool = False
    offset: bool = False


class Scope:
    """One message while values are read from it."""

    __slots__ = ("context", "envelope", "times", "zone")

    def __init__(self, envelope: Envelope, context: Context, times: Times | None = None) -> None:
        self.envelope, self.context, self.times = envelope, context, times
        #: The zone that times are written in unless a value names its own; None leaves each in its own.
        self.zone: tzinfo | None = None

    def find(self, place: Place) -> str | None:
        """HL7 text with the usual delimiters; None when absent or when the body is no HL7 message."""
        return read_place(self.envelope, place.path)

    def host_zone(self) -> tzinfo:
        """The zone of the engine's host."""
        return self.context.now.tzinfo or UTC

    def time(self, moment: Moment, zone: tzinfo | None = None) -> HL7Text:
        """HL7 text of a time as it is written here."""
        times = self.times
        if times is None:
            body = self.envelope.body
            times = Times(offset=isinstance(body, Message) and at_least(body.version, "2.5"))
        return HL7Text(hl7_time(moment, times.minutes_only, times.offset, zone or self.zone))

    def request(self) -> Any:
        """``$body``: the JSON as it was received, also while a reply is made from an answer."""
        request = self.envelope.request
        origin = self.context.request
        return origin.request if request is None and origin is not None else request

    def variable(self, name: str) -> Any:
        """What steps put under ``$name``; in a reply also what the request's steps did."""
        variables = self.envelope.variables
        if name in variables:
            return variables[name]
        origin = self.context.request
        return None if origin is None else origin.variables.get(name)
