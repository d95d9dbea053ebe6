"""The same message for other libraries: python-hl7 objects, and hl7apy objects for reading.

Both are slow (0.4 ms and 8 ms per message) and neither makes outgoing bytes here: hl7apy loses segments when it writes.
They are imported when first used. Whether a message keeps to the standard tells ``validation.py``.
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
