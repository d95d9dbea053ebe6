"""The audit trail: nothing of a patient gets in, nothing is changed unseen, and only its beginning is ever removed."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from dataclasses import fields

import pytest

from engine.delivery import DeliveryState
from engine.errors import StoreError
from engine.store import SqliteStore, chain, database, look
from engine.store.audit import Act, Audit, FindAudit, PurgeAudit, Who
from engine.store.base import Requeue

from .conftest import KEY

WHO = Who.api_key("portal")
#: As a careless caller might pass them on.
PLANTED = ("Doe^John", "MRN-4711 Doe", "O'Neil\rPID|1", "doe john", "<script>", "x" * 64, "Müller", "")


def entry(act: Act = Act.LOGIN, at: float = 1000.0, **members: object) -> Audit:
    return Audit(act, WHO, at, **members)


def tamper(folder, *statements: str) -> None:
    """Whoever can write the file, and knows what stands in the way."""
    with closing(sqlite3.connect(folder / database.DATABASE_FILE, isolation_level=None)) as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            connection.execute(statement)


@pytest.fixture
async def trail(new_store):
    """A closed store with ten entries; gives its folder."""
    store = new_store()
    await store.open()
    for number in range(10):
        await store.submit(entry(Act.CHANNEL_STARTED, 1000.0 + number, channel=f"c{number}"))
    await store.close()
    return store.folder


# -- what gets in --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("planted", PLANTED[:-1])
@pytest.mark.parametrize("member", ["channel", "destination"])
def test_what_is_no_name_of_the_site_is_refused_and_not_repeated(member, planted):
    with pytest.raises(ValueError, match="an audit entry holds no such") as refused:
        entry(**{member: planted})
    assert planted not in str(refused.value)


@pytest.mark.parametrize(
    "members",
    [
        {"channels": ("siu", "Doe^John")},
        {"files": {"channels/a.yaml": "Doe"}},
        {"files": {"PID|1\rDoe": "ab" * 32}},
        {"changed": ("PID|1\rDoe",)},
        {"numbers": {"Doe": 1}},
        {"numbers": {"found": "Doe"}},
        {"numbers": {"found": True}},
        {"peer": "Doe"},
    ],
)
def test_every_other_member_takes_ids_numbers_digests_and_names_only(members):
    with pytest.raises(ValueError):
        entry(**members)


@pytest.mark.parametrize("planted", ["", "Doe^John", "the engine, for Doe", "local socket, uid 0 (John Doe)"])
def test_who_acts_is_a_key_a_user_or_the_engine(planted):
    with pytest.raises(ValueError, match="an audit entry holds no such who"):
        Who(planted)


def test_the_names_of_people_come_from_the_site_and_the_machine():
    assert Who.local(0).text == "local socket, uid 0 (root)"
    assert Who.command(4_000_000_000).text == "command line, uid 4000000000"
    assert Who.api_key("rad^sched\r").text == "API key rad?sched?"
    assert Who.api_key("").text == "API key ?"


def test_no_member_of_an_entry_is_free_text():
    """A member that is added wants a pattern, and a line here."""
    assert {field.name for field in fields(Audit)} == {
        *("act", "who", "at", "channel", "destination", "message_id", "delivery_id"),
        *("peer", "channels", "files", "changed", "numbers"),
    }


# -- reading -------------------------------------------------------------------------------------------------------


async def test_entries_read_back_newest_first_and_by_every_filter(store):
    await store.submit(entry(Act.LOGIN, 1000.0, peer="10.0.0.9"))
    await store.submit(entry(Act.BODIES_VIEWED, 2000.125, channel="siu", message_id=4))
    await store.submit(
        Audit(Act.CONFIG_CHANGED, Who.engine(), 3000.0, channels=("a", "b"), files={"site.yaml": "ab" * 32})
    )
    rows = store.audit_rows(FindAudit())
    assert [(row.entry_id, row.at, row.act, row.who) for row in rows] == [
        (3, 3000.0, "config.changed", "the engine"),
        (2, 2000.125, "bodies.viewed", "API key portal"),
        (1, 1000.0, "login", "API key portal"),
    ]
    assert rows[0].facts == {"channels": ["a", "b"], "files": {"site.yaml": "ab" * 32}}
    assert rows[2].facts == {"peer": "10.0.0.9"}
    assert (rows[1].channel, rows[1].message_id, rows[1].delivery_id) == ("siu", 4, None)

    def ids(**members: object) -> list[int]:
        return [row.entry_id for row in store.audit_rows(FindAudit(**members))]

    assert ids(act="login") == [1]
    assert ids(who="the engine") == [3]
    assert ids(channel="siu") == [2]
    assert ids(message_id=4) == [2]
    assert ids(message_id=4, act="login") == []
    assert ids(since=2000.125) == [3, 2]
    assert ids(until=2000.125) == [2, 1]
    assert ids(before_id=3, limit=1) == [2]


async def test_an_act_whose_entry_cannot_be_written_does_not_happen(store, samples, states):
    delivery_id = await samples.owed(store, state=DeliveryState.PARKED)
    store._state.group._transaction._connection.execute(
        "CREATE TRIGGER fails BEFORE INSERT ON audit BEGIN SELECT raise(ABORT, 'x'); END"
    )
    with pytest.raises(StoreError):
        await store.submit(Requeue(delivery_id, 1.0), entry(Act.DELIVERY_RESENT))
    assert states(delivery_id) is DeliveryState.PARKED
    assert store.audit_rows(FindAudit()) == []


async def test_an_act_that_fails_leaves_no_entry(store):
    with pytest.raises(StoreError):
        await store.submit(entry(Act.DELIVERY_RESENT), Requeue(99, 1.0))
    assert store.audit_rows(FindAudit()) == []
    assert store.audit_head().startswith("0:")


# -- the chain -----------------------------------------------------------------------------------------------------


async def test_anybody_can_follow_the_chain_without_a_key(trail):
    """As docs/operating.md describes it."""
    import hashlib

    digest = bytes(32)
    with closing(sqlite3.connect(trail / database.DATABASE_FILE)) as connection:
        for *columns, stored in connection.execute(
            "SELECT id, at, act, who, channel, message_id, delivery_id, facts, hash FROM audit ORDER BY id"
        ):
            text = json.dumps(columns, separators=(",", ":")).encode()
            digest = hashlib.sha256(digest + text).digest()
            assert digest == stored


async def test_a_whole_trail_verifies_online_offline_and_without_the_key(trail, new_store):
    assert look.verify_audit(trail, {1: KEY}) == look.verify_audit(trail / "engine.db", {1: KEY})
    offline = look.verify_audit(trail, {1: KEY})
    assert (offline.entries, offline.last_id, offline.sealed, offline.fault) == (10, 10, True, "")
    assert look.verify_audit(trail, {}).sealed is None
    store = new_store()
    await store.open()
    assert await store.verify_audit() == offline
    assert store.audit_head() == offline.head


async def test_verifying_leaves_nothing_beside_a_backup(trail, tmp_path):
    shutil.copy(trail / "engine.db", tmp_path / "backup.db")
    before = sorted(path.name for path in tmp_path.iterdir())
    assert look.verify_audit(tmp_path / "backup.db", {1: KEY}).fault == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == before


REWRITTEN = "the seal of the head does not fit"


@pytest.mark.parametrize(
    ("statements", "fault"),
    [
        (["UPDATE audit SET who = 'API key other' WHERE id = 4"], "entry 4 does not fit"),
        (["UPDATE audit SET at = at + 1 WHERE id = 10"], "entry 10 does not fit"),
        (["DELETE FROM audit WHERE id = 5"], "entry 5 is missing"),
        (["DELETE FROM audit WHERE id = 1"], "entry 1 is missing"),
        (["DELETE FROM audit WHERE id > 8"], "entry 9 is missing"),
        (
            ["INSERT INTO audit SELECT id + 10, at, act, who, channel, 1, 1, facts, hash FROM audit WHERE id = 1"],
            "the trail goes on after its head",
        ),
        (
            [
                "DELETE FROM audit WHERE id > 8",
                "UPDATE audit_head SET last_id = 8, last_hash = (SELECT hash FROM audit WHERE id = 8)",
            ],
            REWRITTEN,
        ),
        (
            [
                "UPDATE audit_head SET purged_id = 3, purged_hash = (SELECT hash FROM audit WHERE id = 3)",
                "DELETE FROM audit WHERE id <= 3",
            ],
            REWRITTEN,
        ),
        (["UPDATE audit_head SET seal = x''"], REWRITTEN),
        (["DELETE FROM audit_head"], "the head of the trail is gone"),
    ],
)
def test_what_was_changed_removed_or_cut_is_found(trail, statements, fault):
    tamper(trail, *statements)
    assert fault in look.verify_audit(trail, {1: KEY}).fault


def test_a_chain_that_was_written_anew_does_not_have_the_seal(trail):
    """Without the key: every hash is right again, and the head names the last one."""
    with closing(sqlite3.connect(trail / database.DATABASE_FILE, isolation_level=None)) as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute("UPDATE audit SET who = 'API key other' WHERE id = 2")
        digest = bytes(32)
        for *columns, _ in connection.execute("SELECT * FROM audit ORDER BY id").fetchall():
            digest = chain.chained(digest, tuple(columns))
            connection.execute("UPDATE audit SET hash = ? WHERE id = ?", (digest, columns[0]))
        connection.execute("UPDATE audit_head SET last_hash = ?", (digest,))
    assert REWRITTEN in look.verify_audit(trail, {1: KEY}).fault
    assert look.verify_audit(trail, {}).fault == ""  # what a check without the key cannot see
    with pytest.raises(StoreError, match="not the one"):
        look.verify_audit(trail, {1: bytes(32)})


async def test_an_older_state_that_was_put_back_is_found_by_a_head_noted_elsewhere(trail, tmp_path, new_store):
    shutil.copytree(trail, tmp_path / "older")
    store = new_store()
    await store.open()
    await store.submit(entry(Act.LOGIN))
    head = store.audit_head()
    await store.close()
    assert look.verify_audit(trail, {1: KEY}, head).fault == ""
    assert look.verify_audit(tmp_path / "older", {1: KEY}).fault == ""  # by itself it is whole
    assert "the expected head is not in the trail" in look.verify_audit(tmp_path / "older", {1: KEY}, head).fault
    older = look.verify_audit(tmp_path / "older", {1: KEY}).head
    assert look.verify_audit(trail, {1: KEY}, older).fault == ""


async def test_sql_itself_refuses_to_change_or_remove_entries(sqlite):
    await sqlite.submit(entry())
    await sqlite.submit(entry())
    writer = sqlite._state.group._transaction._connection
    for statement in (
        "UPDATE audit SET who = 'x'",
        "DELETE FROM audit WHERE id = 1",
        "DELETE FROM audit",
        "INSERT OR REPLACE INTO audit SELECT * FROM audit WHERE id = 1",
        "INSERT INTO audit SELECT id + 9, at, act, who, channel, message_id, delivery_id, facts, hash FROM audit",
        "DELETE FROM audit_head",
        "INSERT OR REPLACE INTO audit_head SELECT * FROM audit_head",
        "UPDATE audit_head SET last_id = 1",
        "UPDATE audit_head SET purged_id = 1, purged_hash = x'00'",
        "UPDATE audit_head SET purged_id = 2, purged_hash = last_hash",
        "UPDATE audit_head SET last_hash = zeroblob(32)",
    ):
        with pytest.raises(sqlite3.IntegrityError, match="audit trail"):
            writer.execute(statement)


# -- the purge -----------------------------------------------------------------------------------------------------


async def test_a_purge_removes_the_old_beginning_and_says_so(trail, new_store):
    store = new_store()
    await store.open()
    await store.submit(PurgeAudit(before=1004.0, at=5000.0))
    rows = store.audit_rows(FindAudit())
    assert [row.entry_id for row in rows] == [11, 10, 9, 8, 7, 6, 5]
    assert (rows[0].act, rows[0].who, rows[0].facts) == (
        "audit.purged",
        "the engine",
        {"numbers": {"removed": 4, "up_to": 4}},
    )
    verified = await store.verify_audit()
    assert (verified.entries, verified.purged_id, verified.sealed, verified.fault) == (7, 4, True, "")
    await store.submit(PurgeAudit(before=1004.0, at=5000.0))
    assert len(store.audit_rows(FindAudit())) == 7  # nothing was old enough: no entry about nothing


async def test_a_purge_takes_a_limited_number_and_keeps_its_own_entry(trail, new_store):
    store = new_store()
    await store.open()
    await store.submit(PurgeAudit(before=9e9, at=5000.0, limit=3))
    assert [row.entry_id for row in store.audit_rows(FindAudit())] == [11, 10, 9, 8, 7, 6, 5, 4]
    await store.submit(PurgeAudit(before=9e9, at=5000.0))
    assert [row.entry_id for row in store.audit_rows(FindAudit())] == [12]
    assert (await store.verify_audit()).fault == ""


async def test_an_old_entry_behind_a_younger_one_waits_for_its_turn(store):
    """The clock jumped: only a beginning is ever removed."""
    for at in (5000.0, 1000.0, 6000.0):
        await store.submit(entry(at=at))
    await store.submit(PurgeAudit(before=2000.0, at=6000.0))
    assert [row.entry_id for row in store.audit_rows(FindAudit())] == [3, 2, 1]


async def test_a_purge_during_a_check_is_no_fault(trail, new_store, monkeypatch):
    store = new_store()
    await store.open()
    monkeypatch.setattr(chain, "_LOT", 3)
    writer, purged = store._state.group._transaction._connection, []

    def purge(seconds: float) -> None:
        if not purged:
            purged.append(True)
            writer.execute("BEGIN")
            handler = store_writer(store)
            handler(PurgeAudit(before=1007.0, at=5000.0))
            writer.execute("COMMIT")

    with closing(database.connect_reader(store.folder)) as reader:
        found = chain.verify(reader, store._crypto, pause=purge)
    assert (found.fault, found.purged_id, found.entries) == ("", 7, 4)


def store_writer(store: SqliteStore):
    from engine.store.audit_writer import AuditWriter

    return AuditWriter(store._state.group._transaction._connection.cursor(), store._crypto).purge


def test_a_store_of_an_engine_without_a_trail_says_so(tmp_path):
    from .every_state import VERSIONS, database_of

    database_of(VERSIONS / "0001.sql", tmp_path / "data")
    with pytest.raises(StoreError, match="has no audit trail"):
        look.verify_audit(tmp_path / "data", {1: KEY})
    with pytest.raises(StoreError, match="holds no store"):
        look.verify_audit(tmp_path, {1: KEY})
