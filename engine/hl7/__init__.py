"""The HL7 v2 standard, pure: bytes and values, no I/O, no clock, no log.

A message comes in as bytes. ``mllp.Framer`` cuts them out of a stream; ``Message.parse`` finds where they begin and
which charset they are in (``wire``, ``charset``), which delimiters they use (``separators``), and splits them when
something is asked for (``rows``, ``message``, ``segment``). Places are named as HL7 people name them, ``PID-3.1``, and
each name is compiled to what reads and writes there (``path``, ``places``).
``read`` and ``write`` deal in HL7 text as it stands, ``value`` and ``set`` in data, with escape sequences between the
two (``escape``). Absent is None, empty is "", and two quotes are the null that deletes. What nobody changed leaves as
it came, byte for byte.

``ack`` makes and reads acknowledgements in the version of their message. ``dictionary`` and ``structure`` know the
standard's tables per version (``versions``), and ``validation`` tells where a message does not keep to them: its
segments (``grammar``) or what stands in them (``content``, ``datatypes``). ``adapters`` hands messages to python-hl7
and hl7apy. Nothing here ever shows content: errors and ``repr`` say types, ids, paths and offsets.
"""

from __future__ import annotations

from engine.hl7.ack import AckCode, make_ack
from engine.hl7.answer import AckRead, read_ack
from engine.hl7.message import Message
from engine.hl7.mllp import Framer, frame
from engine.hl7.path import Path

__all__ = ["AckCode", "AckRead", "Framer", "Message", "Path", "frame", "make_ack", "read_ack"]
