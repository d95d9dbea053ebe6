"""SQLite's planner is asked whether each named query uses the index that its comment names.

A query that is not in PLANS fails, and so does any step that goes through a whole table.
"""

from __future__ import annotations

import re
import sqlite3

import pytest

from engine.store import keeping, queries

#: What every search asks of a message that it looks at.
FILTER = ("delivery_state", "delivery_control_id", "f PK")
#: Name → the indexes its plan must use; PK is a table's primary key. Nothing else may be used.
PLANS = {
    "MESSAGE": {"m PK"},
    "MESSAGE_BODY": {"m PK", "b PK", "l PK"},
    "MESSAGE_ACK": {"m PK", "a PK"},
    "SAME_CONTROL_ID": {"message_control_id", "m PK"},
    "CONTROL_ID_FROM": {"message_control_id"},
    "FIND_BY_LATE_PATIENT": {"m PK", *FILTER},
    "INDEXED_UP_TO": {"meta PK"},
    "TO_INDEX": {"message PK"},
    "INDEX_PATIENTS": {"message PK"},
    "INDEX_FURTHER_PATIENTS": {"message PK"},
    "PUT_PATIENT": set(),
    "INDEX_CONTROL_IDS": {"message PK"},
    "NOTE_INDEXED": {"meta PK"},
    "SAME_LATE_CONTROL_ID": {"m PK", "meta PK"},
    "LATE_CONTROL_IDS": {"message PK", "meta PK"},
    "FIND_BY_LATE_CONTROL_ID": {"m PK", *FILTER},
    "ACKS_OWED": {"message_ack_owed"},
    "UNROUTED": {"message_state"},
    "OLDEST_UNROUTED": {"message_state"},
    "CHANNELS": {"message_state"},
    "OPEN_MESSAGES": {"message_state"},
    "CLOCK_STEPS": set(),
    "RECEIVED_FROM": {"message PK"},
    "MESSAGE_IDS": {"message PK"},
    "DELIVERY": {"d PK", "m PK"},
    "DELIVERY_BODY": {"d PK", "s PK", "b PK", "l PK"},
    "OWN_STRETCH": {"o PK", "m PK", "b PK", "delivery_state"},
    "DELIVERY_ANSWER": {"d PK", "a PK"},
    "DELIVERIES_OF": {"delivery_state", "m PK"},
    "QUEUED": {"delivery_open", "m PK"},
    "OPEN_OF": {"delivery_open", "m PK"},
    "OLDEST_OPEN": {"delivery_open"},
    "PAUSED": {"pause PK"},
    "OPEN_DELIVERIES": {"delivery_open"},
    "PART": {"body_part PK"},
    "RUN_OF": {"large_body PK"},
    "PUT_PART": set(),
    "PUT_LARGE_BODY": set(),
    "FORGET_LARGE_BODY": {"large_body PK"},
    "OPEN_RUNS": set(),
    "OPEN_RUN": set(),
    "CLOSE_RUN": {"open_run PK"},
    "FIND_NEWEST": {"m PK", *FILTER},
    "FIND_OWN": {"m PK", *FILTER},
    "FIND_BY_STATE": {"message_state", *FILTER},
    "FIND_BY_CORRELATION_ID": {"message_correlation_id", *FILTER},
    "FIND_BY_CONTROL_ID_IN": {"message_control_id", *FILTER},
    "FIND_BY_CONTROL_ID_OUT": {"delivery_control_id", "m PK", *FILTER},
    "FIND_BY_DELIVERY_STATE": {"delivery_state", "m PK", *FILTER},
    "PATIENT_BUCKETS": {"p PK", "q PK"},
    "FIND_BY_PATIENT": {"q PK", "m PK", *FILTER},
    "TRACE_MESSAGES": {"message PK", "message_correlation_id", "m PK"},
    "TRACE_DELIVERIES": {"message PK", "message_correlation_id", "m PK", "delivery_state"},
    "CACHE": {"sqlite_autoindex_cache_1"},
    "EXCHANGE_KEY": {"sqlite_autoindex_exchange_key_1"},
    "KEY_HASHES": {"sqlite_autoindex_exchange_key_1"},
    "EXCHANGE_KEYS": {"n PK", "k PK"},
    "KEYS_WITHOUT": {"exchange_key_expires_at"},
    "EXCHANGE_KEY_ID": {"sqlite_autoindex_exchange_key_1"},
    "AUDIT_HEAD": {"audit_head PK"},
    "AUDIT_END": {"audit PK", "audit_head PK"},
    "MOVE_AUDIT_HEAD": {"audit_head PK"},
    "AUDIT_ENTRIES": {"a PK"},
    "OLDEST_AUDIT": {"a PK"},
    "PURGE_AUDIT": {"audit PK"},
    "FIND_AUDIT": {"a PK"},
    "FIND_AUDIT_BY_ACT": {"audit_act"},
    "FIND_AUDIT_BY_WHO": {"audit_who"},
    "FIND_AUDIT_BY_CHANNEL": {"audit_channel"},
    "FIND_AUDIT_BY_MESSAGE": {"audit_message_id"},
    "PRUNABLE": {
        *("message_state", "delivery_state", "k PK", "exchange_key_message_id"),
        *("b PK", "c PK", "o PK", "a PK"),
    },
    "BODY_CURSOR": {"body_cursor PK"},
    "MOVE_BODY_CURSOR": set(),
    "LEAVE_BODIES": {"message_state"},
    "BODIES_LEFT": {
        *("l PK", "m PK", "delivery_state", "k PK", "exchange_key_message_id"),
        *("b PK", "c PK", "o PK", "a PK"),
    },
    "NOT_LEFT": {"body_left PK"},
    "PRUNE_MESSAGE_ACK": {"message_ack PK"},
    "PRUNE_LARGE_BODY": {"large_body PK"},
    "NOTE_BODIES_REMOVED": {"message PK"},
    "DROP_RUN": set(),
    "DROPPED_RUN": {"dropped_run PK"},
    "END_DROPPED_RUN": {"dropped_run PK"},
    "DROPPED_PARTS": {"body_part PK"},
    "PRUNE_PART": {"body_part PK"},
    "MAY_PRUNE": {"m PK", "delivery_state", "k PK", "exchange_key_message_id"},
    "DELIVERY_IDS": {"m PK", "delivery_state"},
    "PRUNE_DELIVERY_BODY": {"delivery_body PK"},
    "PRUNE_DELIVERY_ANSWER": {"delivery_answer PK"},
    "EMPTY_DELIVERY": {"delivery PK"},
    "PRUNE_DELIVERY": {"delivery PK"},
    "PRUNE_MESSAGE_BODY": {"message_body PK"},
    "PRUNE_MESSAGE": {"message PK"},
    "NOTE_BUCKET": set(),
    "END_BUCKET": {"pruned_bucket PK"},
    "PRUNED_BUCKET": {"pruned_bucket PK"},
    "ORPHANED_PATIENTS": {"p PK", "m PK"},
    "PRUNE_PATIENT": {"patient PK"},
    "INTERRUPTED": {"delivery_state"},
    "RECOVER_INTERRUPTED": {"delivery_state"},
    "QUEUED_UP_TO": {"delivery_state"},
    "LAST_ID": {"message PK", "delivery PK", "meta PK"},
    "RESERVE_IDS": set(),
    "CUT_LOG": set(),
    "PLACE_HOLDERS": {"m PK", "delivery_state", "b PK"},
    "EXPIRED_CACHE": {"cache_expires_at"},
    "EXPIRED_KEYS": {"exchange_key_expires_at"},
    "DELETE_CACHE": {"cache PK"},
    "DELETE_KEY": {"exchange_key PK"},
    "NOTE_CLOCK_STEP": set(),
    "LAST_RECEIVED": {"message PK"},
    "RESEAL": {"meta PK"},
    "NOTE_RESEAL": set(),
    "END_RESEAL": {"meta PK"},
    "PLAIN": {"meta PK"},
    "NOTE_PLAIN": set(),
    "END_PLAIN": {"meta PK"},
    "STORE_KEYS": set(),
    "OTHER_KEYS": set(),
    "RETIRE_KEYS": set(),
    "LAST_MESSAGE": {"message PK"},
    "LAST_DELIVERY": {"delivery PK"},
    "SCAN_MESSAGES": {"message PK"},
    "SCAN_DELIVERIES": {"delivery PK"},
    "ORIGIN": {"message PK"},
    "PUT_ORIGIN": {"message PK"},
    "ANSWER": {"delivery PK"},
    "PUT_SEALED_ANSWER": {"delivery PK"},
    "FORGET_MEMBER": {"key_member PK"},
    "FORGET_WHOLE_MEMBERS": {"key_member_key_id"},
}

#: Queries that may go through a whole index: that holds open rows only, or it is done once, as a store is opened.
WHOLE_INDEX = {"OPEN_DELIVERIES": "delivery_open", "KEY_HASHES": "sqlite_autoindex_exchange_key_1"}
#: Tables of a handful of rows: keys of the ring, times at which the clock was set back.
SMALL = ("store_key", "clock_step", "open_run")
#: Steps over what a query makes itself, one row at a time.
RECURSION = r"SCAN (k|known|given|newest|further|CONSTANT ROW|\(subquery-\d+\))$"
#: Queries that may sort, because what they sort is bounded by one id, one small set or one lot.
SORTS = {
    "TRACE_MESSAGES",
    "TRACE_DELIVERIES",
    "DELIVERIES_OF",
    "EXCHANGE_KEYS",
    "INTERRUPTED",
    "INDEX_PATIENTS",
    "INDEX_FURTHER_PATIENTS",
}


#: They go through whole tables on purpose: of a copy, or once before an engine starts on it.
OF_BACKUPS = ("UNFINISHED", "UNROUTED_NUMBER", "HOLD_RESTORED", "FAIL_RESTORED")


def named_queries() -> dict[str, str]:
    every = {**vars(queries), **vars(keeping)}
    for name in OF_BACKUPS:
        every.pop(name)
    return {name: text for name, text in every.items() if name.isupper() and not name.startswith("_")}


def plan(connection: sqlite3.Connection, query: str) -> list[str]:
    rows = connection.execute(f"EXPLAIN QUERY PLAN {query}", [None] * query.count("?")).fetchall()
    return [detail for *_, detail in rows]


def used(step: str) -> str | None:
    """The index of one step of a plan."""
    if found := re.search(r"USING (?:COVERING )?INDEX (\w+)", step):
        return found[1]
    if found := re.match(r"(?:SEARCH|SCAN) (\w+) USING (?:INTEGER )?PRIMARY KEY", step) or re.fullmatch(
        r"SEARCH (\w+)",
        step,  # the first or last row of a table
    ):
        return f"{found[1]} PK"
    return None


def test_every_query_has_its_plan_here():
    assert set(named_queries()) == set(PLANS)


@pytest.mark.parametrize("name", PLANS)
async def test_a_query_uses_its_index_and_scans_no_table(sqlite, name):
    steps = plan(sqlite._state.group._transaction._connection, named_queries()[name])
    scans = [step for step in steps if step.startswith("SCAN") and not re.match(RECURSION, step)]
    if name == "FIND_NEWEST":  # along the primary key from its end, until the limit is reached
        assert [step for step in steps if "SEARCH m USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)" in step]
    scans = [step for step in scans if step.split()[1] not in SMALL]
    if name in WHOLE_INDEX:
        assert [used(step) for step in scans] == [WHOLE_INDEX[name]]
    else:
        assert scans == []
    assert {index for step in steps if (index := used(step))} == PLANS[name]
    assert name in SORTS or not [step for step in steps if "TEMP B-TREE" in step]


async def test_lanes_are_merged_without_a_sort(sqlite):
    steps = plan(sqlite._state.group._transaction._connection, queries.QUEUED)
    assert steps[0] == "MERGE (UNION ALL)"
    assert sum("delivery_open (channel=? AND destination=? AND state=? AND rowid>?)" in step for step in steps) == 2


async def test_the_plans_hold_with_statistics_of_a_store_that_is_full_of_finished_rows(sqlite):
    writer = sqlite._state.group._transaction._connection
    writer.execute("BEGIN")
    for number in range(2000):
        writer.execute(
            "INSERT INTO message VALUES (?, 'siu', ?, ?, '', '', 'routed', '', ?, 1, '', '{}', 0, NULL, NULL, NULL)",
            (2 * number, f"c{number}", f"i{number}", number),
        )
        writer.execute(
            "INSERT INTO delivery (id, message_id, channel, destination, key, state, cause, control_id, content_type,"
            " interrupted, created_at) VALUES (?, ?, 'siu', 'epic', '', 'delivered', '', ?, '', 'queued', 1)",
            (2 * number + 1, 2 * number, f"o{number}"),
        )
    writer.execute("COMMIT")
    writer.execute("ANALYZE")
    await sqlite.close()
    await sqlite.open()
    for name, query in named_queries().items():
        steps = plan(sqlite._state.group._transaction._connection, query)
        assert {index for step in steps if (index := used(step))} == PLANS[name], name
