"""The space that is left is watched, on the file system that the tests run on."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from engine.config.settings import DiskSettings
from engine.runtime import disk
from engine.runtime.disk import DiskWatch, Space

from .conftest import Bench, Scripted, siu, to


def watching(folder: Path, **settings: Any) -> DiskWatch:
    return DiskWatch(folder, DiskSettings.model_validate(settings))


def free(folder: Path) -> int:
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def events(logged: list[dict[str, Any]]) -> list[str]:
    return [line["event"] for line in logged if line["event"].startswith("disk.")]


def test_what_is_left_is_told_when_it_becomes_too_little_and_when_it_is_enough_again(
    tmp_path: Path, logged: list[dict[str, Any]]
) -> None:
    watch = watching(tmp_path, warn_below=0, warn_below_percent=0)
    space = watch.look()
    assert space is not None
    assert abs(space.free - free(tmp_path)) < space.total / 4
    assert (watch.low, events(logged)) == (False, [])
    watch.settings = DiskSettings(warn_below=space.total + 1)
    for _ in range(3):
        watch.look()
    assert (watch.low, events(logged)) == (True, ["disk.low"])
    watch.settings = DiskSettings(warn_below=0, warn_below_percent=0)
    watch.look()
    assert (watch.low, events(logged)) == (False, ["disk.low", "disk.enough"])


def test_the_larger_of_bytes_and_percent_counts_and_there_is_a_margin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logged: list[dict[str, Any]]
) -> None:
    watch = watching(tmp_path, warn_below="1GiB", warn_below_percent=10)
    assert watch.least(Space(0, 2 * 1024**3)) == 1024**3
    assert watch.least(Space(0, 100 * 1024**3)) == 10 * 1024**3

    def holding(available: int) -> Any:
        return lambda folder: os.statvfs_result((4096, 4096, 1000, available, available, 0, 0, 0, 0, 255))

    watch = watching(tmp_path, warn_below=0, warn_below_percent=10)
    for available, low in ((100, False), (99, True), (100, True), (104, True), (105, False), (100, False)):
        monkeypatch.setattr(disk.os, "statvfs", holding(available))
        watch.look()
        assert watch.low is low, available
    assert events(logged) == ["disk.low", "disk.enough"]


def test_a_folder_that_cannot_be_seen_says_nothing(tmp_path: Path, logged: list[dict[str, Any]]) -> None:
    assert watching(tmp_path / "gone").look() is None
    assert events(logged) == []


async def test_messages_cost_no_look(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0

    def look(watch: DiskWatch) -> None:
        nonlocal looks
        looks += 1

    monkeypatch.setattr(DiskWatch, "look", look)
    async with bench.running(to(Scripted())):
        for number in range(50):
            await bench.source.send(siu(f"M{number}"))
        await bench.until(lambda: len(bench.deliveries("delivered")) == 50)
        assert looks == 1, "the one at the start"
        monkeypatch.setattr(disk, "LOOK", 0.0)
        bench.supervisor.disk._background._task.cancel()  # type: ignore[union-attr]
        await asyncio.sleep(0.01)
        bench.supervisor.disk.begin()
        await bench.until(lambda: looks > 3)
