"""A partner that sends without end: what it sends is bounded before anybody reads it."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from engine.destinations.connections.mllp import MAX_WAITING, Link
from engine.errors import Unanswered
from engine.hl7.mllp import frame


class Wire:
    """A transport that remembers how it ended."""

    def __init__(self) -> None:
        self.aborted = False

    def set_write_buffer_limits(self, high: int) -> None:
        """As asyncio has it."""

    def get_extra_info(self, name: str) -> None:
        """There is no socket."""

    def write(self, data: bytes) -> None:
        """Nobody reads it."""

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True


async def test_answers_without_end_end_the_connection() -> None:
    link, wire = Link(1000), Wire()
    link.connection_made(cast("asyncio.BaseTransport", wire))
    answers = frame(b"MSH|^~\\&|A\rMSA|AA|1\r") * 10
    read = 0
    for _ in range(1000):
        link.data_received(answers)
    assert wire.aborted
    with pytest.raises(Unanswered):  # noqa: PT012 - as many as there are, then the reason
        for _ in range(10_000):
            await link.next_frame()
            read += 1
    assert read <= MAX_WAITING + 10, "no more was kept than came in one piece"


async def test_nothing_is_taken_after_an_answer_that_was_too_large() -> None:
    link, wire = Link(100), Wire()
    link.connection_made(cast("asyncio.BaseTransport", wire))
    link.data_received(b"\x0bMSH|" + b"A" * 1000)
    link.data_received(b"\x1c\r" + frame(b"MSH|^~\\&|A\rMSA|AA|1\r"))
    with pytest.raises(Unanswered):
        await link.next_frame()
