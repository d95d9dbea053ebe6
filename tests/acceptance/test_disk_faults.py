"""A disk that is full or fails, under the real engine: nobody is told yes, the engine says so, and goes on by itself.

The faults come from a library that is loaded before the engine's own (``tests/crash/shim.c``, needs ``cc``) and are
switched while it runs; a full disk is also a real one where the system lets us mount a small one.
"""

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.crash.shim import Disk

from .peers import Sender, appointments, arrived, is_idle, siu, told

Site = Any
WaitFor = Callable[..., Any]
#: More than the write-ahead log has room for without growing.
MANY = 400

FAULTS = {
    "full": lambda disk: setattr(disk, "space", 0),
    "write": lambda disk: disk.fail(write=errno.EIO),
    "fsync": lambda disk: disk.fail(fsync=errno.EIO),
}


def mend(disk: Disk) -> None:
    disk.space = None
    disk.fail()


@pytest.fixture
def site(new_site: Callable[..., Site], disk: Disk) -> Site:
    made = new_site(env=disk.environment)
    disk.watch(made.data)
    return made.start()


def store_of(site: Site) -> tuple[int, str]:
    """What /health says: its status, and why the disk takes nothing."""
    health = site.health()
    return health.status, health.json["store"]


def until_refused(sender: Sender, first: int) -> tuple[list[str], str]:
    """Send until something is refused: what was acknowledged before, and the last answer."""
    taken = []
    for number in range(first, first + MANY):
        code, _ = told(sender.ask(siu(f"A{number}")))
        if code != "AA":
            return taken, code
        taken.append(f"A{number}")
    raise AssertionError("nothing was refused")


def test_a_full_disk_is_told_to_senders_callers_and_the_monitor_and_work_goes_on_by_itself(
    site: Site, disk: Disk, wait_for: WaitFor
) -> None:
    with Sender(site.port("SIU")) as sender:
        assert told(sender.ask(siu("A1"))) == ("AA", "CA1S12")
        FAULTS["full"](disk)
        taken, code = until_refused(sender, 2)
        assert code == "AR"
        assert store_of(site) == (503, "SQLITE_FULL")
        answer = site.slots()
        assert (answer.status, answer.error["code"]) == (503, "store_unavailable")
        shown = site.cli("channels")
        assert "SQLITE_FULL" in shown.stderr
        assert site.log_lines("store.refuses")
        mend(disk)
        wait_for(lambda: store_of(site) == (200, "ok"), "the disk is looked at again without any traffic")
        assert told(sender.ask(siu("Z1"))) == ("AA", "CZ1S12")
    wait_for(lambda: is_idle(site), "everything delivered")
    assert appointments(arrived(site, "epic")) == ["A1", *taken, "Z1"], "what was refused never left"
    assert site.slots().status == 200


@pytest.mark.parametrize("fault", ["write", "fsync"])
def test_a_failed_write_or_fsync_is_no_yes_and_what_was_refused_is_not_found_after_a_kill(
    site: Site, disk: Disk, wait_for: WaitFor, fault: str
) -> None:
    with Sender(site.port("SIU")) as sender:
        assert told(sender.ask(siu("A1")))[0] == "AA"
        wait_for(lambda: is_idle(site), "delivered")
        FAULTS[fault](disk)
        sender.send(siu("A2"))
        wait_for(lambda: site.log_lines("store.in_doubt"), "a commit in doubt")
        status, store = store_of(site)
        assert (status, store.startswith("SQLITE_IOERR")) == (503, True)
        with Sender(site.port("SIU")) as another:
            assert told(another.ask(siu("B1"))) == ("AR", "CB1S12"), "what comes meanwhile is refused at once"
        mend(disk)
        assert told(sender.receive()) == ("AR", "CA2S12")
        site.kill()
    site.start(orders=False)
    with Sender(site.port("SIU")) as sender:
        assert told(sender.ask(siu("A3")))[0] == "AA"
    wait_for(lambda: is_idle(site), "delivered")
    assert appointments(arrived(site, "epic")) == ["A1", "A3"]


def test_a_kill_while_a_commit_is_in_doubt_leaves_a_store_that_opens(site: Site, disk: Disk, wait_for: WaitFor) -> None:
    with Sender(site.port("SIU")) as sender:
        assert told(sender.ask(siu("A1")))[0] == "AA"
        # Else the outcome of A1 may be what is in doubt, and A2 is refused at once.
        wait_for(lambda: is_idle(site), "A1 delivered and written down")
        FAULTS["fsync"](disk)
        sender.send(siu("A2"))
        wait_for(lambda: site.log_lines("store.in_doubt"), "a commit in doubt")
        assert sender.is_silent()
        site.kill()
    mend(disk)
    site.start(orders=False)
    wait_for(lambda: is_idle(site), "delivered")
    # Its sender was told nothing: both are right.
    assert appointments(arrived(site, "epic")) in (["A1"], ["A1", "A2"])


def test_a_slow_disk_makes_senders_wait_and_loses_nothing(site: Site, disk: Disk, wait_for: WaitFor) -> None:
    disk.slow(30)
    with Sender(site.port("SIU")) as sender:
        sender.send(*(siu(f"A{number}") for number in range(40)))
        assert [told(sender.receive())[0] for _ in range(40)] == ["AA"] * 40
    disk.slow(0)
    wait_for(lambda: is_idle(site), "delivered")
    assert appointments(arrived(site, "epic")) == [f"A{number}" for number in range(40)]


# -- a real one ----------------------------------------------------------------------------------------------------


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A file system of 8 MiB at ``folder``; skips where nobody may mount one (the quota above is tried everywhere)."""
    folder.mkdir(mode=0o700)
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    mount = [*sudo, "mount", "-t", "tmpfs", "-o", f"size=8m,mode=0700,uid={os.geteuid()}", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        assert "HL7ENGINE_REQUIRE_ALL" not in os.environ, "may not mount a file system"
        pytest.skip("may not mount a file system")
    try:
        yield
    finally:
        subprocess.run([*sudo, "umount", str(folder)], check=True, capture_output=True)


def test_a_real_file_system_that_gets_full_is_told_before_it_is(
    new_site: Callable[..., Site], wait_for: WaitFor
) -> None:
    site = new_site()
    with (site.folder / "site.yaml").open("a") as file:
        file.write("disk: {warn_below: 3MiB, warn_below_percent: 0}\n")
    with small_disk(site.data):
        try:
            site.start()
            assert (site.health().status, site.health().json["disk"]) == (200, "ok")
            assert "getting full" not in site.cli("channels").stderr
            filler = site.data / "filler"
            left = os.statvfs(site.data)
            filler.write_bytes(bytes(left.f_bavail * left.f_frsize - 2 * 1024 * 1024))
            assert (site.health().status, site.health().json["disk"]) == (200, "low")
            assert "the disk is getting full: 2.0 MiB (25%) free of 8.0 MiB" in site.cli("channels").stderr
            assert "low, 2.0 MiB (25%) free of 8.0 MiB" in site.cli("status").stdout
            assert len(site.log_lines("disk.low")) == 1
            with Sender(site.port("SIU")) as sender:
                assert told(sender.ask(siu("A1")))[0] == "AA", "everything works still"
            filler.unlink()
            wait_for(lambda: site.health().json["disk"] == "ok", "there is room again")
            assert len(site.log_lines("disk.enough")) == 1
        finally:
            site.stop()


def test_a_real_file_system_that_is_full(new_site: Callable[..., Site], wait_for: WaitFor) -> None:
    site = new_site()
    with small_disk(site.data):
        try:
            site.start()
            filler = site.data / "filler"
            with Sender(site.port("SIU")) as sender:
                assert told(sender.ask(siu("A1")))[0] == "AA"
                with filler.open("wb", buffering=0) as file:
                    fill(file)
                taken, code = until_refused(sender, 2)
                assert code == "AR"
                assert store_of(site) == (503, "SQLITE_FULL")
                filler.unlink()
                wait_for(lambda: store_of(site) == (200, "ok"), "there is room again")
                assert told(sender.ask(siu("Z1")))[0] == "AA"
            wait_for(lambda: is_idle(site), "everything delivered")
            assert appointments(arrived(site, "epic")) == ["A1", *taken, "Z1"]
        finally:
            site.stop()


def fill(file: Any) -> None:
    """Write until nothing more fits."""
    for size in (65536, 4096, 1):
        with suppress(OSError):
            while file.write(bytes(size)):
                pass
