"""The same message for other libraries: python-hl7 objects, and hl7apy for reports on the standard's rules.

Both are slow (0.4 ms and 8 ms per message) and neither makes outgoing bytes here: hl7apy loses segments when it writes.
They are imported when first used. Run ``validate`` in a thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.hl7.message import Message

if TYPE_CHECKING:
    import hl7


def to_python_hl7(message: Message) -> hl7.Message:
    """The message as a python-hl7 object."""
    return message.to_python_hl7()


def from_python_hl7(message: hl7.Message) -> Message:
    """A message from a python-hl7 object."""
    return Message.from_python_hl7(message)


def to_hl7apy(message: Message, *, strict: bool = False, find_groups: bool = False) -> Any:
    """The message as an hl7apy object, for reading only.

    ``find_groups`` sorts segments into the groups of their structure and loses those that have no place in it, which is
    why it is off. hl7apy's own errors come through; their texts may hold content.
    """
    from hl7apy.consts import VALIDATION_LEVEL
    from hl7apy.parser import parse_message

    level = VALIDATION_LEVEL.STRICT if strict else VALIDATION_LEVEL.TOLERANT
    return parse_message(message.text, validation_level=level, find_groups=find_groups)


def validate(message: Message) -> list[str]:
    """What hl7apy finds wrong, as the kinds of fault it names (``ValidationError``, …); empty for nothing.

    Its texts quote content and are not passed on. ORM and ORR are always refused (it wants every branch of a choice),
    and so is a plain ``ACK``: see the notes on hl7apy before trusting a finding.
    """
    from hl7apy.exceptions import HL7apyException

    try:
        to_hl7apy(message, strict=True, find_groups=True).validate()
    except (HL7apyException, ValueError, TypeError, LookupError, AttributeError) as error:
        # Beside its own errors it lets those of bad values through, and breaks on some good ones (TQ1 at 2.7).
        return [type(error).__name__]
    return []
