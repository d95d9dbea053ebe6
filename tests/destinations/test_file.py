"""The file destination: whole files or none, names from ids only, nothing outside of the data folder."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from engine.destinations.base import Building
from engine.destinations.file import FileConfig, FileDestination
from engine.errors import SpecError, Unavailable
from engine.hl7.bulk import Bulk, Pieces, Slice


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def make(building: Building) -> Any:
    return lambda path, **config: FileDestination(FileConfig(path=path, **config), building)


async def test_a_message_becomes_a_private_file(make: Any, building: Building, outgoing: Any) -> None:
    message = outgoing("OUT1")
    response = await make("out/{date}/{control_id}.hl7").send(message)
    path = building.data / "out" / "20261118" / "OUT1.hl7"
    assert response.evidence.ack == "AA"
    assert path.read_bytes() == message.body
    assert path.stat().st_mode & 0o777 == 0o600
    assert names(path.parent) == ["OUT1.hl7"]


async def test_a_repeat_replaces_its_own_file(make: Any, building: Building, outgoing: Any) -> None:
    destination = make("out/{delivery_id}.hl7")
    await destination.send(outgoing(body=b"first try, cut"))
    await destination.send(outgoing(body=b"again"))
    assert (building.data / "out" / "9.hl7").read_bytes() == b"again"


async def test_every_placeholder_is_filled(make: Any, building: Building, outgoing: Any) -> None:
    path = "out/{channel}-{destination}-{correlation_id}-{message_id}-{delivery_id}-{control_id}.txt"
    await make(path).send(outgoing("OUT1"))
    assert names(building.data / "out") == ["test-channel-partner-corr-1-7-9-OUT1.txt"]


@pytest.mark.parametrize(
    ("control_id", "name"),
    [
        ("../../etc/passwd", "_.._etc_passwd.hl7"),
        ("a/b\\c", "a_b_c.hl7"),
        (".hidden", "hidden.hl7"),
        ("", "_.hl7"),
        ("é\n", "__.hl7"),
        ("x" * 300, "x" * 100 + ".hl7"),
    ],
)
async def test_a_name_cannot_lead_elsewhere(
    make: Any, building: Building, outgoing: Any, control_id: str, name: str
) -> None:
    await make("out/{control_id}.hl7").send(outgoing(control_id))
    assert names(building.data / "out") == [name]


async def test_a_link_out_of_the_data_folder_is_not_followed(
    make: Any, building: Building, outgoing: Any, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (building.data / "out").symlink_to(elsewhere)
    with pytest.raises(Unavailable, match="disk"):
        await make("out/{control_id}.hl7").send(outgoing())
    assert names(elsewhere) == []


async def test_a_disk_that_takes_nothing_is_unavailable_and_leaves_nothing(
    make: Any, building: Building, outgoing: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("engine.destinations.file.os.write", full)
        with pytest.raises(Unavailable, match="disk"):
            await make("out/{control_id}.hl7").send(outgoing())
    assert names(building.data / "out") == []


async def test_append_adds_in_order(make: Any, building: Building, outgoing: Any) -> None:
    destination = make("out/all.txt", append=True)
    await asyncio.gather(*(destination.send(outgoing(body=b"m%d" % number)) for number in range(20)))
    assert (building.data / "out" / "all.txt").read_bytes() == b"".join(b"m%d\n" % number for number in range(20))
    assert (building.data / "out" / "all.txt").stat().st_mode & 0o777 == 0o600


async def test_a_half_written_addition_is_taken_back(
    make: Any, building: Building, outgoing: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    destination = make("out/all.txt", append=True, separator="")
    await destination.send(outgoing(body=b"first"))
    write, calls = os.write, []

    def fails_later(descriptor: int, data: Any) -> int:
        calls.append(1)
        if len(calls) > 1:
            raise OSError(28, "No space left on device")
        return write(descriptor, bytes(data[:3]))

    with monkeypatch.context() as patched:
        patched.setattr("engine.destinations.file.os.write", fails_later)
        with pytest.raises(Unavailable):
            await destination.send(outgoing(body=b"second"))
    assert (building.data / "out" / "all.txt").read_bytes() == b"first"


@pytest.mark.parametrize(
    "path",
    [
        "",
        "{control_id}.hl7",
        "messages.db",
        "/tmp/{control_id}",
        "../{control_id}",
        "out/../../{control_id}",
        "tls/{control_id}.pem",
        "out/latest.hl7",
        "out/{date}.hl7",
        "out/{patient}.hl7",
        "out/{control_id.__class__}",
        "out/{control_id!r}",
        "out/{}",
        "out/{control_id",
        "{control_id}/x.hl7",
        "out/{control_id}/",
    ],
)
def test_a_path_that_could_do_harm_is_refused(make: Any, path: str) -> None:
    with pytest.raises(SpecError) as error:
        make(path)
    assert error.value.at == ("path",)


@pytest.mark.parametrize("append", [False, True])
async def test_a_large_message_is_written_from_its_pieces(
    make: Any, building: Building, outgoing: Any, append: bool
) -> None:
    pieces = Pieces([b"MSH|1\r", Slice(Bulk(b"x" * 3_000_000), 1, 2_999_999), b"\r"])
    await make("out/{delivery_id}.hl7", append=append).send(outgoing(body=b"", pieces=pieces))
    assert (building.data / "out" / "9.hl7").read_bytes() == bytes(pieces) + (b"\n" if append else b"")
