"""What a running engine writes into its audit trail, and that it writes nothing of any patient."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from engine.config.hashes import hash_files
from engine.errors import Evidence, Rejected, StoreError
from engine.runtime import auditor as auditing
from engine.runtime import housekeeping
from engine.runtime.auditor import Auditor
from engine.store.audit import Act, FindAudit, Who
from engine.store.base import Audit, AuditRow
from engine.store.sqlite import SqliteStore

from .conftest import WHO, Bench, Scripted, siu, to


def entries(bench: Bench, act: Act | None = None) -> list[AuditRow]:
    """Oldest first."""
    return list(bench.store.audit_rows(FindAudit(act=act, limit=500)))[::-1]


async def test_what_a_person_does_is_written_with_who_and_what(bench):
    emr = Scripted([Rejected(Evidence("AE"))])
    async with bench.running(to(emr)) as supervisor:
        await supervisor.stop_channel("bench", WHO)
        await supervisor.start_channel("bench", WHO)
        await bench.source.send(siu("M0", patient="MRN-PLANTED"))
        await bench.until(lambda: bench.deliveries("parked"))
        (parked,) = bench.deliveries()
        await supervisor.discard_delivery(parked.delivery_id, WHO)
        await supervisor.resend_message(parked.message_id, WHO)
        await bench.until(lambda: bench.deliveries("delivered"))
        await supervisor.resend_delivery(parked.delivery_id, WHO)
        await bench.until(lambda: len(emr.ids) == 3)
        written = entries(bench)
        assert [(row.act, row.who, row.channel) for row in written[1:]] == [
            ("channel.stopped", WHO.text, "bench"),
            ("channel.started", WHO.text, "bench"),
            ("delivery.discarded", WHO.text, "bench"),
            ("delivery.resent", WHO.text, "bench"),
            ("delivery.resent", WHO.text, "bench"),
        ]
        assert {(row.message_id, row.delivery_id) for row in written[3:]} == {(parked.message_id, parked.delivery_id)}
        assert "PLANTED" not in repr(written)
        assert "Doe" not in repr(written)
        assert (await bench.store.verify_audit()).fault == ""


async def test_a_backup_is_in_the_trail_before_it_begins_and_as_made_only_when_it_was(bench, tmp_path, monkeypatch):
    async with bench.running(to(Scripted())) as supervisor:
        first = len(entries(bench))
        (tmp_path / "there").mkdir()
        with pytest.raises(StoreError, match="exists already"):
            await supervisor.back_up(WHO, tmp_path / "there")
        await bench.until(lambda: len(entries(bench)) == first + 2)
        assert [row.act for row in entries(bench)[first:]] == ["backup.begun", "backup.failed"]
        manifest = await supervisor.back_up(WHO, tmp_path / "monday")
        await bench.until(lambda: len(entries(bench)) == first + 4)
        begun, made = entries(bench)[first + 2 :]
        assert (begun.act, made.act, made.who) == ("backup.begun", "backup.made", WHO.text)
        assert made.facts["numbers"] == {name: manifest[name] for name in ("messages", "deliveries", "bytes")}
        assert manifest["audit_head"] == f"{begun.entry_id}:{begun.hash}", "the copy holds who made it"
        monkeypatch.setattr(bench.store, "submit", refusing)
        with pytest.raises(StoreError):
            await supervisor.back_up(WHO, tmp_path / "unseen")
        assert not (tmp_path / "unseen").exists()
        monkeypatch.undo()


async def test_a_channel_is_not_stopped_when_that_cannot_be_written(bench, monkeypatch):
    async with bench.running(to(Scripted())) as supervisor:
        monkeypatch.setattr(bench.store, "submit", refusing)
        with pytest.raises(StoreError):
            await supervisor.stop_channel("bench", WHO)
        assert supervisor.channels()[0].state == "running"
        monkeypatch.undo()


def refusing(*operations: object) -> asyncio.Future[None]:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.set_exception(StoreError("not committed: SQLITE_FULL"))
    return future


# -- the site's files ----------------------------------------------------------------------------------------------


async def test_a_start_writes_the_files_and_channels_it_runs_and_what_changed(bench):
    first = {"site.yaml": "aa" * 32, "channels/a.yaml": "bb" * 32}
    async with bench.running(to(Scripted())):
        auditor = Auditor(bench.store, bench.clock)
        await auditor.config(WHO, first, ("a",))
        await auditor.config(WHO, first, ("a",))
        await auditor.config(WHO, {"site.yaml": "aa" * 32, "channels/b.yaml": "cc" * 32}, ("b",))
        changed, same, other = entries(bench)[1:]
    assert (changed.act, same.act, other.act) == ("config.changed", "config.loaded", "config.changed")
    assert changed.facts["changed"] == ["channels/a.yaml", "site.yaml"]
    assert {name: digest for name, digest in changed.facts["files"].items() if name != "*"} == first
    assert same.facts["files"] == {"*": changed.facts["files"]["*"]}
    assert other.facts["changed"] == ["channels/a.yaml", "channels/b.yaml"]
    assert (other.facts["channels"], other.who) == (["b"], WHO.text)


def test_the_files_of_a_site_are_what_the_engine_reads(tmp_path: Path):
    for name in ("site.yaml", "channels/a.yaml", "transforms/x/b.py", "tables/c.csv", ".env", "channels/.hidden"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "README.md").write_text("no part of it")
    before = hash_files(tmp_path)
    assert list(before) == ["site.yaml", "channels/a.yaml", "transforms/x/b.py", "tables/c.csv"]
    (tmp_path / "tables" / "c.csv").write_text("other")
    assert {name for name, digest in hash_files(tmp_path).items() if digest != before[name]} == {"tables/c.csv"}


# -- logins --------------------------------------------------------------------------------------------------------


@pytest.fixture
async def auditor(bench):
    async with bench.running(to(Scripted())):
        yield Auditor(bench.store, bench.clock)


async def committed(bench: Bench) -> None:
    """After whatever was submitted before."""
    await bench.store.submit()


async def test_a_login_is_one_entry_an_hour_for_each_person_and_address(bench, auditor):
    for peer in ("10.0.0.9", "10.0.0.9", "10.0.0.8"):
        auditor.admitted(WHO, peer)
    auditor.admitted(Who.api_key("admin"), "10.0.0.9")
    bench.clock.at += auditing.SESSION
    auditor.admitted(WHO, "10.0.0.9")
    await committed(bench)
    assert [(row.who, row.facts["peer"]) for row in entries(bench, Act.LOGIN)] == [
        (WHO.text, "10.0.0.9"),
        (WHO.text, "10.0.0.8"),
        ("API key admin", "10.0.0.9"),
        (WHO.text, "10.0.0.9"),
    ]


async def test_attempts_with_wrong_keys_are_counted_and_bounded(bench, auditor):
    for number in range(200):
        auditor.refused(f"10.0.0.{number}:4000")
        auditor.refused("[fe80::1%eth0]:4000")
    auditor.end_window()
    await committed(bench)
    rows = entries(bench, Act.LOGIN_REFUSED)
    assert len(rows) == auditing.ADDRESSES + 1 + 2
    assert {row.who for row in rows} == {"unknown"}
    more = {row.facts.get("peer", ""): row.facts["numbers"]["more_attempts"] for row in rows if "numbers" in row.facts}
    assert more == {"fe80::1": 199, "": 200 - auditing.ADDRESSES}


async def test_a_key_without_the_right_is_named(bench, auditor):
    auditor.refused("10.0.0.9:4000", Who.api_key("portal"), "bench")
    await committed(bench)
    (row,) = entries(bench, Act.LOGIN_REFUSED)
    assert (row.who, row.channel, row.facts) == ("API key portal", "bench", {"peer": "10.0.0.9"})


async def test_a_login_that_cannot_be_written_locks_nobody_out(bench, auditor, monkeypatch, logged):
    monkeypatch.setattr(bench.store, "submit", refusing)
    auditor.admitted(WHO, "not an address")
    await asyncio.sleep(0)
    monkeypatch.undo()
    assert [line["event"] for line in logged if line["log_level"] == "error"] == ["audit.entry_lost"]


# -- once a day ----------------------------------------------------------------------------------------------------


async def test_old_entries_are_removed_daily_and_the_head_is_noted(bench, logged, monkeypatch):
    monkeypatch.setattr(housekeeping, "LOT", 3)
    async with bench.running(to(Scripted())) as supervisor:
        for _ in range(10):
            await supervisor.auditor.note(Act.LOGIN, WHO)
        bench.clock.at += 2555 * 86400.0 + 1
        await supervisor.auditor.note(Act.LOGIN, WHO)
        await supervisor.housekeeping.daily()
        assert {row.act for row in entries(bench)} == {"login", "audit.purged"}
        assert len(entries(bench, Act.LOGIN)) == 1
        verified = await bench.store.verify_audit()
        assert (verified.fault, verified.purged_id >= 11) == ("", True)
    heads = [line["head"] for line in logged if line["event"] == "audit.head"]
    assert heads[-1] == verified.head


async def test_a_disk_that_cannot_be_read_does_not_keep_the_engine_from_stopping(bench, logged, monkeypatch):
    def fail() -> str:
        raise StoreError("cannot read: SQLITE_IOERR_READ")

    async with bench.running(to(Scripted())) as supervisor:
        monkeypatch.setattr(bench.store, "audit_head", fail)
        await supervisor.stop(5.0)
        monkeypatch.undo()
    assert "housekeeping.failed" in [line["event"] for line in logged]
    assert "engine.stopped" in [line["event"] for line in logged]


async def test_an_engine_waits_with_everything_until_the_trail_says_which_files_it_runs(bench, monkeypatch):
    monkeypatch.setattr(auditing, "AGAIN", 0.01)
    real, refused = SqliteStore.submit, []

    def submit(store, *operations):
        if len(refused) < 3 and isinstance(operations[0], Audit):
            refused.append(operations)
            future = asyncio.get_running_loop().create_future()
            future.set_exception(StoreError("the disk is full"))
            return future
        assert len(refused) == 3, "nothing is done before"
        return real(store, *operations)

    monkeypatch.setattr(SqliteStore, "submit", submit)
    async with bench.running(to(Scripted())) as supervisor:
        assert supervisor.ready
        assert await bench.source.send(siu("M1"))
        assert entries(bench)[0].act == "config.changed"
