"""What an acknowledgement comes to: a response, or one of the errors that a destination raises."""

from __future__ import annotations

from engine.destinations.base import Response
from engine.errors import Evidence, MalformedMessage, Rejected, Unanswered, Unexpected
from engine.hl7.answer import AckRead, UnknownCode, read_ack


def verdict(raw: bytes) -> Response:
    """The response; raises Rejected for a definite no, Unexpected and Unanswered for what is none."""
    return judged(*read(raw))


def read(raw: bytes) -> tuple[AckRead, bytes]:
    """The acknowledgement in an answer, and its bytes. Raises Unexpected, Unanswered."""
    try:
        return read_ack(raw), raw
    except UnknownCode as error:
        raise Unexpected(Evidence(error.word, error.condition, body=raw, text=error.text)) from None
    except MalformedMessage:
        raise Unanswered("malformed") from None


def judged(ack: AckRead, raw: bytes) -> Response:
    """The response, or Rejected for a definite no."""
    evidence = evidence_of(ack, raw)
    if not ack.code.positive:
        raise Rejected(evidence)
    return Response(raw, evidence)


def evidence_of(ack: AckRead, raw: bytes) -> Evidence:
    """What an acknowledgement says, in codes."""
    codes = (ack.code.value, ack.condition, ack.location, ack.application_error)
    return Evidence(*codes, body=raw, text=ack.text or "", wrong=ack.wrong)
