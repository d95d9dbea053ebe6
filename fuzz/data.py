"""An input cut into decisions and content: the same bytes always make the same choices, with and without a fuzzer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

Choice = TypeVar("Choice")

ROOT = Path(__file__).resolve().parents[1]
SAMPLES = ROOT / "samples" / "hl7"


class Input:
    """Reads decisions from the front of ``data``; what is used up reads as zeros."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def byte(self) -> int:
        """One byte."""
        self._at += 1
        return self._data[self._at - 1] if self._at <= len(self._data) else 0

    def choose(self, choices: Sequence[Choice]) -> Choice:
        """One of them."""
        return choices[self.byte() % len(choices)]

    def take(self, size: int) -> bytes:
        """That many bytes, or what is left."""
        piece = self._data[self._at : self._at + size]
        self._at += size
        return piece

    def line(self) -> bytes:
        """Bytes up to a NUL, or what is left."""
        end = self._data.find(b"\x00", self._at)
        piece = self._data[self._at :] if end < 0 else self._data[self._at : end]
        self._at += len(piece) + 1
        return piece

    def rest(self) -> bytes:
        """Everything that was not read."""
        piece = self._data[self._at :]
        self._at = len(self._data)
        return piece


def samples() -> list[bytes]:
    """The sample messages as they travel: segments ended by CR."""
    return [path.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r") for path in sorted(SAMPLES.glob("*.hl7"))]
