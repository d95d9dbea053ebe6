"""What a reload does with each channel: which are touched, which are left, and what goes on when a new one cannot."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from engine.config import load_site
from engine.envelope import Origin
from engine.errors import ConfigError
from engine.runtime.reload import Change
from engine.runtime.supervisor import Supervisor
from engine.store.sqlite import SqliteStore

from .conftest import KEY, WHO, HeldClock, siu

FEED = """\
name: {name}
source: {{mllp: {{port: 0}}}}
transform: [{{set: {{MSH-6: $site.hospital.code}}}}{more}]
destinations:
{destinations}"""
TO_FILE = '  - {{name: {0}, to: {{file: {{path: "{0}/{{message_id}}.hl7"}}}}}}\n'
#: Nobody listens on the discard port of this machine.
TO_NOBODY = "  - {{name: {0}, to: {{mllp: {{host: 127.0.0.1, port: 9}}}}}}\n"


@dataclass
class Town:
    """A site of files, and its engine inside the test."""

    folder: Path
    clock: HeldClock = field(default_factory=HeldClock)
    supervisor: Supervisor = field(init=False)

    def write(self, name: str, *destinations: str, more: str = "") -> None:
        lines = "".join(item if item.startswith("  - ") else TO_FILE.format(item) for item in destinations)
        (self.folder / "channels" / f"{name}.yaml").write_text(FEED.format(name=name, destinations=lines, more=more))

    def load(self) -> Any:
        return load_site(self.folder, self.folder / "data", {})

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Supervisor]:
        store = SqliteStore(self.folder / "data", KEY, now=self.clock.time)
        await store.open()
        self.supervisor = Supervisor(self.load(), store, self.clock, self.load)
        await self.supervisor.start()
        try:
            yield self.supervisor
        finally:
            await self.supervisor.stop(5.0)
            await store.close()

    async def reload(self, *names: str) -> dict[str, str]:
        return {change.channel: change.what for change in await self.changes(*names)}

    async def changes(self, *names: str) -> list[Change]:
        return await self.supervisor.reload(WHO, *names)

    def status(self, name: str) -> Any:
        return next(status for status in self.supervisor.channels() if status.name == name)

    def running_of(self, name: str) -> Any:
        return self.supervisor._channels[name].running

    async def send(self, name: str, *ids: str) -> None:
        for control_id in ids:
            ack = await self.running_of(name).receiver(siu(control_id), Origin("test")).answer
            assert ack.positive

    async def waits(self, name: str, destination: str, number: int) -> None:
        async with asyncio.timeout(5):
            while self.supervisor.store.open_counts().get((name, destination, "queued"), 0) != number:  # noqa: ASYNC110
                await asyncio.sleep(0.002)


@pytest.fixture
def town(tmp_path: Path) -> Town:
    town = Town(tmp_path)
    for name in ("channels", "transforms", "tables"):
        (tmp_path / name).mkdir()
    (tmp_path / "site.yaml").write_text("rest: {port: 0}\nadmin: {port: 0}\nhospital: {code: H1}\nother: {x: 1}\n")
    (tmp_path / "transforms" / "shared.yaml").write_text("- set: {MSH-5: LAB}\n")
    (tmp_path / "tables" / "wards.csv").write_text("ward,room\nW,1\n")
    (tmp_path / "transforms" / "own.py").write_text("def same(message, context):\n    return message\n")
    town.write("adt", "lab", more=", {include: shared}")
    town.write("orm", "ris", more=", {lookup: {table: wards, key: PV1-3, into: ward}}, {python: 'own:same'}")
    return town


async def test_what_has_not_changed_is_not_touched(town: Town) -> None:
    async with town.running():
        before = town.running_of("adt"), town.running_of("orm")
        path = town.folder / "channels" / "adt.yaml"
        path.write_text(f"# a comment is no change\n{path.read_text()}")
        (town.folder / "transforms" / "unused.yaml").write_text("- drop: {}\n")
        assert await town.reload() == {"adt": "unchanged", "orm": "unchanged"}
        assert (town.running_of("adt"), town.running_of("orm")) == before


@pytest.mark.parametrize(
    ("file", "old", "new", "touched"),
    [
        ("channels/adt.yaml", "name: lab", "description: x, name: lab", {"adt"}),
        ("transforms/shared.yaml", "LAB", "LAB2", {"adt"}),
        ("tables/wards.csv", "W,1", "W,2", {"orm"}),
        ("transforms/own.py", "return message", "return None", {"orm"}),
        ("site.yaml", "H1", "H2", {"adt", "orm"}),
        ("site.yaml", "x: 1", "x: 2", set()),
        ("site.yaml", "hospital:", "timezone: America/Chicago\nhospital:", {"adt", "orm"}),
    ],
)
async def test_a_changed_input_restarts_the_channels_that_use_it(
    town: Town, file: str, old: str, new: str, touched: set[str]
) -> None:
    async with town.running():
        before = {name: town.running_of(name) for name in ("adt", "orm")}
        path = town.folder / file
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))
        done = await town.reload()
        assert {name for name, what in done.items() if what == "restarted"} == touched
        assert {name for name in before if town.running_of(name) is not before[name]} == touched


async def test_a_changed_port_keeps_its_senders_waiting_and_its_port_open(town: Town) -> None:
    async with town.running():
        address = town.status("adt").source
        town.write("adt", "lab", "archive")
        assert await town.reload("adt") == {"adt": "restarted"}
        assert town.status("adt").source == address
        assert [item.name for item in town.status("adt").destinations] == ["lab", "archive"]


async def test_new_channels_start_and_channels_without_a_file_stop(town: Town) -> None:
    async with town.running():
        town.write("new", "somewhere")
        (town.folder / "channels" / "orm.yaml").unlink()
        assert await town.reload() == {"adt": "unchanged", "new": "started", "orm": "removed"}
        assert [status.name for status in town.supervisor.channels()] == ["adt", "new"]
        assert sorted(town.supervisor.plan.channels) == ["adt", "new"]


async def test_only_the_named_channels_are_looked_at(town: Town) -> None:
    async with town.running():
        town.write("adt", "lab", "archive")
        town.write("orm", "ris", "archive")
        assert await town.reload("adt") == {"adt": "restarted"}
        assert len(town.status("orm").destinations) == 1
        with pytest.raises(ValueError, match="there is no channel none"):
            await town.reload("none")


async def test_a_file_that_is_not_valid_leaves_its_channel_as_it_was(town: Town) -> None:
    async with town.running():
        before = town.running_of("adt")
        good = (town.folder / "channels" / "adt.yaml").read_text()
        (town.folder / "channels" / "adt.yaml").write_text(good.replace("destinations:", "destinatons:"))
        (town.folder / "channels" / "fresh.yaml").write_text("name: fresh\n")
        changes = {change.channel: change for change in await town.changes()}
        assert (changes["adt"].what, changes["fresh"].what, changes["orm"].what) == ("kept", "broken", "unchanged")
        assert "did you mean 'destinations'" in town.status("adt").problems[0]
        assert (town.status("adt").state, town.status("fresh").state) == ("running", "broken")
        assert town.running_of("adt") is before
        (town.folder / "channels" / "adt.yaml").write_text(good)
        (town.folder / "channels" / "fresh.yaml").unlink()
        assert await town.reload() == {"adt": "unchanged", "orm": "unchanged"}
        assert town.status("adt").problems == ()


async def test_a_site_file_that_cannot_be_used_touches_nothing(town: Town) -> None:
    async with town.running():
        before = town.running_of("adt")
        (town.folder / "site.yaml").write_text("rest: [\n")
        with pytest.raises(ConfigError):
            await town.reload()
        assert town.running_of("adt") is before


async def test_a_destination_with_messages_in_its_lane_is_not_taken_away(town: Town) -> None:
    town.write("adt", TO_NOBODY.format("lab"))
    async with town.running():
        await town.send("adt", "M0", "M1")
        await town.waits("adt", "lab", 2)
        town.write("adt", "archive")
        (change,) = await town.changes("adt")
        assert (change.what, "2 wait (2 queued)" in change.problems[0].message) == ("kept", True)
        assert [item.name for item in town.status("adt").destinations] == ["lab"]
        await town.send("adt", "M2")
        await town.waits("adt", "lab", 3)
        (town.folder / "channels" / "adt.yaml").unlink()
        (change,) = await town.changes("adt")
        assert (change.what, "the file is gone, and 3 wait" in change.problems[0].message) == ("kept", True)
        assert town.status("adt").state == "running"
        assert await town.supervisor.discard_waiting("adt", "lab", (), WHO) == 3
        assert await town.reload("adt") == {"adt": "removed"}


async def test_a_destination_whose_lane_drains_meanwhile_is_taken_away(town: Town) -> None:
    async with town.running():
        for number in range(20):
            town.running_of("adt").receiver(siu(f"M{number}"), Origin("test"))
        town.write("adt", "archive")
        assert await town.reload("adt") == {"adt": "restarted"}
        assert town.supervisor.store.open_counts() == {}
        assert len(list((town.folder / "data" / "lab").iterdir())) == 20


TO_REPLY = """\
name: a
source: {rest: {path: /a}}
destinations:
  - name: one
    to: {mllp: {host: 127.0.0.1, port: 9}}
reply: {from: one}
"""


async def test_a_reply_is_not_taken_over_while_the_lanes_hold_messages(town: Town) -> None:
    town.write("a", TO_NOBODY.format("one"))
    async with town.running() as supervisor:
        await town.send("a", "M0")
        await town.waits("a", "one", 1)
        (town.folder / "channels" / "a.yaml").write_text(TO_REPLY)
        (change,) = await town.changes("a")
        assert change.what == "kept"
        assert "a.yaml:6: reply: the channel was without it, and 1 waits (1 queued) for `one`" in str(
            change.problems[0]
        )
        await town.send("a", "M1")
        await town.waits("a", "one", 2)
        assert await supervisor.discard_waiting("a", "one", (), WHO) == 2
        assert await town.reload("a") == {"a": "restarted"}


async def test_lanes_that_drain_in_a_moment_let_a_reply_in(town: Town) -> None:
    town.write("a", "one")
    async with town.running():
        for number in range(200):
            town.running_of("a").receiver(siu(f"M{number}"), Origin("test"))
        (town.folder / "channels" / "a.yaml").write_text(TO_REPLY)
        assert await town.reload("a") == {"a": "restarted"}
        assert len(list((town.folder / "data").glob("**/one/*.hl7"))) == 200


async def test_a_running_destination_gets_its_new_name_with_everything_that_waits(town: Town) -> None:
    town.write("adt", TO_NOBODY.format("lab"))
    async with town.running():
        await town.send("adt", "M0", "M1", "M2")
        await town.waits("adt", "lab", 3)
        with pytest.raises(ValueError, match="must name lab2, and lab no more"):
            await town.supervisor.rename_destination("adt", "lab", "lab2", WHO)
        town.write("adt", "lab2")
        assert await town.supervisor.rename_destination("adt", "lab", "lab2", WHO) == 3
        await town.waits("adt", "lab2", 0)
    written = sorted((town.folder / "data" / "lab2").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    assert [path.read_bytes().split(b"|")[9] for path in written] == [b"M0", b"M1", b"M2"]


async def test_a_new_version_that_cannot_start_gives_way_to_the_old_one(town: Town) -> None:
    async with town.running():
        taken = town.status("orm").source.rpartition(":")[2]
        path = town.folder / "channels" / "adt.yaml"
        path.write_text(path.read_text().replace("port: 0", f"port: {taken}"))
        (change,) = await town.changes("adt")
        assert (change.what, "Address already in use" in change.problems[0].message) == ("kept", True)
        assert town.status("adt").state == "running"
        await town.send("adt", "M0")


async def test_a_stopped_channel_takes_its_new_file_and_stays_stopped(town: Town) -> None:
    async with town.running():
        await town.supervisor.stop_channel("adt", WHO)
        town.write("adt", "lab", "archive")
        assert await town.reload() == {"adt": "stopped", "orm": "unchanged"}
        assert [item.name for item in town.status("adt").destinations] == ["lab", "archive"]
        assert await town.reload("adt") == {"adt": "stopped"}
        await town.supervisor.start_channel("adt", WHO)
        assert town.status("adt").state == "running"


async def test_what_a_site_says_about_retention_holds_after_a_reload(town: Town) -> None:
    site = town.folder / "site.yaml"
    town.write("a", "one")
    async with town.running() as supervisor:
        await town.send("a", "M0")
        await town.waits("a", "one", 0)
        town.clock.at += 100
        assert not (await supervisor.prune(WHO, dry_run=True)).messages
        site.write_text(site.read_text() + "retention: {delivered: 10s}\n")
        assert await town.reload("a") == {"a": "unchanged"}
        async with asyncio.timeout(5):
            while not (await supervisor.prune(WHO, dry_run=True)).messages:  # noqa: ASYNC110 - until it is delivered
                await asyncio.sleep(0.01)
        assert supervisor.plan.settings.admin.port == 0


async def test_what_only_a_restart_reads_is_told_and_new_callers_are_let_in(town: Town) -> None:
    site = town.folder / "site.yaml"
    async with town.running() as supervisor:
        site.write_text(site.read_text().replace("admin: {port: 0}", "admin: {port: 1}") + "api_keys: {me: {key: k}}\n")
        await town.reload()
        notes = [str(problem) for problem in supervisor.plan.problems if problem.level == "note"]
        assert "site.yaml: admin: changed, and read when the engine starts; expected a restart of the engine" in notes
        assert [name for name, _ in supervisor.http._keys.values()] == ["me"]
