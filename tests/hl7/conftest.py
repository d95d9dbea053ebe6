"""What the tests of the standard share: the sample messages, on the wire as a partner would send them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

SAMPLES = Path(__file__).resolve().parents[2] / "samples" / "hl7"


def _on_the_wire(path: Path) -> bytes:
    """Samples are kept with one line per segment; on the wire segments end with CR."""
    return path.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r")


@pytest.fixture(params=sorted(SAMPLES.glob("*.hl7")), ids=lambda path: path.stem)
def each_sample(request: pytest.FixtureRequest) -> bytes:
    """Every sample message in turn."""
    return _on_the_wire(request.param)


@pytest.fixture
def sample() -> Callable[[str], bytes]:
    """A sample by its name."""

    def read(name: str) -> bytes:
        return _on_the_wire(SAMPLES / f"{name}.hl7")

    return read


@pytest.fixture
def all_samples() -> list[bytes]:
    """All sample messages."""
    return [_on_the_wire(path) for path in sorted(SAMPLES.glob("*.hl7"))]
