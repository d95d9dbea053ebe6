"""Every error of the engine, as one tree.

    HL7EngineError
    ├── ConfigError            a site's files are wrong; carries every Problem found
    │   └── SpecError          one place in one file, raised while a component is compiled
    ├── MalformedMessage       theirs: these bytes are no HL7 message
    ├── FrameTooLarge          theirs: a frame passed the size limit
    ├── PathError              ours: a path such as PID-3.1 is written wrongly
    ├── Unmappable             a character does not exist in the charset of a destination
    ├── StepFailed             a transform step could not do its work on this message
    ├── Refused                the caller is told no, with one code of the error table
    ├── DeliveryError          what a destination raises
    │   ├── Unavailable        nothing was sent: safe to repeat
    │   ├── Unanswered         sent, outcome unknown: repeating may duplicate
    │   │   └── Unexpected     an answer to it came, of a kind that nobody expects
    │   └── Rejected           a definite no, with its codes
    ├── StoreError             the store could not commit (nothing of the unit was kept), or could not read
    │   ├── DoesNotFit         nor will it ever: the unit does not fit what is stored
    │   └── DoesNotOpen        a stored value is damaged, or its key is not given
    ├── DataFolderInUse        another engine runs on this data folder
    └── NotRunning             no engine answers on the local socket

No error text ever carries message content: ids, types, paths, codes and offsets only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import Any

from engine.values import dataclass


class HL7EngineError(Exception):
    """Something went wrong in hl7engine."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong in a site's files, told so that it can be mended at two in the morning."""

    #: File as the admin knows it: relative to the site.
    file: str
    #: 1-based; 0 when the file as a whole is meant.
    line: int
    #: Dotted key path inside the file (``destinations[0].retry.backoff``); may be empty.
    key: str
    #: What is wrong, one sentence.
    message: str
    #: What was expected (a form, a list of words); may be empty.
    expected: str = ""
    #: The nearest valid word, when one is near; may be empty.
    nearest: str = ""
    #: ``error`` stops the channel, ``note`` only informs.
    level: str = "error"

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        parts = [f"{where}: {self.key + ': ' if self.key else ''}{self.message}"]
        if self.expected:
            parts.append(f"expected {self.expected}")
        if self.nearest:
            parts.append(f"did you mean {self.nearest!r}?")
        return "; ".join(parts)


class ConfigError(HL7EngineError):
    """The files of a site are not valid."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class SpecError(ConfigError):
    """A value in a file is not what its component takes.

    ``at`` is the key path relative to the value that the component was given (``("fields", "SCH-8")``); the loader
    turns it into file and line. ``file`` names another file when the fault lies in one that was included.
    """

    def __init__(
        self, message: str, *, at: tuple[str | int, ...] = (), expected: str = "", nearest: str = "", file: str = ""
    ) -> None:
        self.at, self.message, self.expected, self.nearest, self.file = at, message, expected, nearest, file
        key = ".".join(str(part) for part in at)
        super().__init__([Problem(file=file, line=0, key=key, message=message, expected=expected, nearest=nearest)])


class MalformedMessage(HL7EngineError):
    """These bytes are no HL7 message."""

    def __init__(self, reason: str, offset: int = 0) -> None:
        self.reason, self.offset = reason, offset
        super().__init__(f"{reason} (at byte {offset})")


class FrameTooLarge(HL7EngineError):
    """A frame is larger than the listener takes."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        super().__init__(f"a frame passed the limit of {limit} bytes")


class PathError(HL7EngineError, ValueError):
    """A path is not written as the engine reads paths."""


class Unmappable(HL7EngineError):
    """A character does not exist in the charset of the destination."""

    def __init__(self, charset: str, path_hint: str = "") -> None:
        self.charset, self.path_hint = charset, path_hint
        super().__init__(f"a character {'of ' + path_hint + ' ' if path_hint else ''}does not exist in {charset}")


class StepFailed(HL7EngineError):
    """A transform step could not do its work on this message.

    ``cause`` is a stable word (``lookup_missing``, ``required_missing``, ``unmappable``); ``where`` a path, table or
    key name; never a value of the message. ``outcome`` (park, hold) overrides the channel's ``on_error``.
    """

    def __init__(self, step: str, cause: str, where: str = "", *, outcome: str | None = None) -> None:
        self.step, self.cause, self.where, self.outcome = step, cause, where, outcome
        super().__init__(f"step {step} failed: {cause}{' at ' + where if where else ''}")


class Refused(HL7EngineError):
    """The caller is told no.

    ``code`` is a row of the error table (systems.md D.5) or of the site's own error rules; ``field`` names a
    parameter, never its value; ``extra`` are further members of the JSON ``error`` object.
    """

    def __init__(self, code: str, *, field: str | None = None, extra: dict[str, Any] | None = None) -> None:
        self.code, self.field, self.extra = code, field, extra or {}
        super().__init__(code if field is None else f"{code} ({field})")


class DeliveryError(HL7EngineError):
    """A destination did not take the message."""


class Unavailable(DeliveryError):
    """Nothing was sent; repeating is safe. ``reason``: refused, dns, tls, timeout, lost, circuit_open, stopped."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"unavailable: {reason}")


class Unanswered(DeliveryError):
    """The message left, no valid answer came; repeating may duplicate it.

    ``reason``: timeout, lost (connection closed), mismatch (MSA-2 of another message), malformed (no usable answer),
    unexpected (``Unexpected``).
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"unanswered: {reason}")


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a partner's answer says, in codes only (systems.md D.5: ERR-5, ERR-3, MSA-6, ERR-1)."""

    #: AA AE AR CA CE CR of HL7 table 0008, or an HTTP status as text.
    ack: str
    #: HL7 table 0357.
    condition: str | None = None
    #: ``QRD-10``
    location: str | None = None
    #: ERR-5.1, such as SLOT_TAKEN.
    application_error: str | None = None
    #: The answer itself; never shown in text.
    body: bytes = field(default=b"", repr=False)
    #: MSA-3 or ERR-8: read by an admin's own rules, never passed on.
    text: str = field(default="", repr=False)
    #: Seconds the partner asks to wait before the next attempt.
    retry_after: float | None = None
    #: A positive answer that says all the same that something is wrong (an error with a condition).
    wrong: bool = False


class Unexpected(Unanswered):
    """An answer to this very message, whose code is unknown or not of the kind that was asked for."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        super().__init__("unexpected")


class Rejected(DeliveryError):
    """A definite no."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        codes = [evidence.ack, evidence.condition, evidence.location, evidence.application_error]
        super().__init__("rejected: " + " ".join(code for code in codes if code))


class StoreError(HL7EngineError):
    """The store could not commit, and nothing of the unit was kept; or it could not read."""


class DoesNotFit(StoreError):
    """The unit itself is wrong (an unknown id, a move that ``engine/delivery.py`` does not have): it never will fit."""


class DoesNotOpen(StoreError):
    """A stored value is damaged, or sealed with a key that is not given: reading it again will not help."""


class DataFolderInUse(HL7EngineError):
    """Another engine runs on this data folder."""


class NotRunning(HL7EngineError):
    """No engine answers on the local socket of this data folder."""


@dataclass(frozen=True, slots=True)
class ErrorRow:
    """One row of the error table that callers of REST channels see (systems.md D.5)."""

    code: str
    status: int
    message: str
    retryable: bool = False
    #: Seconds for the ``Retry-After`` header; None leaves it out.
    retry_after: float | None = None


#: The rows every site has. A site's own error rules (``reply.errors``) add their own.
ERROR_TABLE: dict[str, ErrorRow] = {
    row.code: row
    for row in (
        ErrorRow("missing_parameter", 400, "A required parameter is missing."),
        ErrorRow("invalid_parameter", 400, "A parameter is not valid."),
        ErrorRow("invalid_date", 400, "The date is not valid or out of range."),
        ErrorRow("unknown_modality", 400, "The modality is not known."),
        ErrorRow("invalid_body", 400, "The body is not valid."),
        ErrorRow("unauthorized", 401, "Credentials are missing or not valid."),
        ErrorRow("forbidden", 403, "This key may not use this route."),
        ErrorRow("wrong_signature", 403, "The signature is missing or not valid."),
        ErrorRow("not_found", 404, "There is nothing at this address."),
        ErrorRow("method_not_allowed", 405, "This method is not allowed here."),
        ErrorRow("in_progress", 409, "This request is still being processed.", retryable=True),
        ErrorRow("body_too_large", 413, "The body is too large."),
        ErrorRow("unsupported_media_type", 415, "The content type is not supported."),
        ErrorRow("idempotency_mismatch", 422, "The key was used with another request."),
        ErrorRow("rate_limited", 429, "Too many requests.", retryable=True),
        ErrorRow("internal_error", 500, "Internal error.", retryable=True),
        ErrorRow("store_unavailable", 503, "The request could not be recorded.", retryable=True, retry_after=10),
        ErrorRow("listener_full", 503, "Too much is being received.", retryable=True, retry_after=10),
        ErrorRow("channel_stopped", 503, "The channel is stopped.", retryable=True, retry_after=10),
        ErrorRow("destination_rejected", 502, "The partner rejected the message."),
        ErrorRow("destination_unavailable", 503, "The partner cannot be reached.", retryable=True, retry_after=10),
        ErrorRow("destination_timeout", 504, "The partner did not answer in time.", retryable=True),
        ErrorRow("destination_bad_response", 502, "The partner gave an answer that cannot be used.", retryable=True),
    )
}
