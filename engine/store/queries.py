"""Every read of the embedded store, and every write that has to find its rows, each with the index it needs.

``tests/store/test_query_plans.py`` asks SQLite's planner for each constant here; a new one needs its line there.
A term such as ``state <> 'delivered'`` that looks redundant is what lets the planner use a partial index
(schema.sql), and INDEXED BY keeps a choice whatever statistics somebody may have gathered. Indexes end in the rowid,
which is the id: "in order of id" then needs no sort. ``rows.py`` turns the rows into values.
"""
# ruff: noqa: S608  # put together from this file's own words only

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

#: The condition of the partial index delivery_open, word for word.
_OPEN = "d.state IN ('queued', 'sending', 'held', 'parked', 'unknown')"

_MESSAGE = (
    "m.id, m.channel, m.correlation_id, m.control_id, m.message_type, m.key, m.state, m.cause, m.received_at,"
    " m.routed_at, m.ack, m.origin"
)
_DELIVERY = (
    "d.id, d.message_id, d.channel, d.destination, m.correlation_id, d.key, d.state, d.cause, d.attempts, d.next_at,"
    " d.control_id, d.content_type, d.created_at, d.sent_at, d.settled_at, d.ack, d.condition, d.location,"
    " d.application_error, d.may_be_duplicated, m.received_at"
)
_DELIVERIES = f"SELECT {_DELIVERY} FROM delivery d CROSS JOIN message m ON m.id = d.message_id"
_LANES = f"SELECT {_DELIVERY} FROM delivery d INDEXED BY delivery_open CROSS JOIN message m ON m.id = d.message_id"

# -- messages ------------------------------------------------------------------------------------------------------

#: primary key. (message id)
MESSAGE = f"SELECT {_MESSAGE} FROM message m WHERE m.id = ?"

#: primary keys; no row for an unknown message, NULL for an empty body. (message id)
MESSAGE_BODY = "SELECT b.body FROM message m LEFT JOIN message_body b ON b.message_id = m.id WHERE m.id = ?"

#: message_state. (channel, after id, limit)
UNROUTED = f"""
SELECT {_MESSAGE} FROM message m INDEXED BY message_state
WHERE m.channel = ? AND m.state = 'received' AND m.id > ? ORDER BY m.id LIMIT ?"""

#: message_state, one step per channel: there is no scan for distinct values.
CHANNELS = """
WITH RECURSIVE known (channel) AS (
    SELECT min(channel) FROM message
    UNION ALL
    SELECT (SELECT min(m.channel) FROM message m WHERE m.channel > k.channel) FROM known k WHERE k.channel NOT NULL
)
SELECT channel FROM known WHERE channel NOT NULL"""

#: message_state, covering. (channel)
OPEN_MESSAGES = """
SELECT state, count(*) FROM message INDEXED BY message_state
WHERE channel = ? AND state IN ('received', 'failed') GROUP BY state"""

#: primary key: one probe of the search for the id where a time begins. (id)
RECEIVED_FROM = "SELECT id, received_at FROM message WHERE id >= ? ORDER BY id LIMIT 1"

#: primary key, both ends in one step each.
MESSAGE_IDS = "SELECT (SELECT min(id) FROM message), (SELECT max(id) FROM message)"

# -- deliveries ----------------------------------------------------------------------------------------------------

#: primary keys. (delivery id)
DELIVERY = f"{_DELIVERIES} WHERE d.id = ?"

#: primary keys; no row for an unknown delivery, NULLs for an empty body. (delivery id)
DELIVERY_BODY = """
SELECT b.body, b.sealed FROM delivery d LEFT JOIN delivery_body b ON b.delivery_id = d.id WHERE d.id = ?"""

#: primary keys; no row for an unknown delivery, NULL for no answer. (delivery id)
DELIVERY_ANSWER = """
SELECT a.answer FROM delivery d LEFT JOIN delivery_answer a ON a.delivery_id = d.id WHERE d.id = ?"""

#: delivery_message_id. (message id)
DELIVERIES_OF = f"{_DELIVERIES} WHERE d.message_id = ? ORDER BY d.id"

#: delivery_open twice, merged without a sort. (channel, destination, after id) twice, limit
QUEUED = f"""
{_LANES} WHERE d.channel = ? AND d.destination = ? AND d.state = 'queued' AND {_OPEN} AND d.id > ?
UNION ALL
{_LANES} WHERE d.channel = ? AND d.destination = ? AND d.state = 'held' AND {_OPEN} AND d.id > ?
ORDER BY 1 LIMIT ?"""

#: delivery_open. (channel, destination, state, after id, limit)
OPEN_OF = f"""
{_LANES} WHERE d.channel = ? AND d.destination = ? AND d.state = ? AND {_OPEN} AND d.id > ? ORDER BY d.id LIMIT ?"""

#: delivery_open, covering.
DESTINATIONS_WITH_WORK = f"""
SELECT d.channel, d.destination, count(*) FROM delivery d INDEXED BY delivery_open
WHERE {_OPEN} AND d.state IN ('queued', 'held') GROUP BY d.channel, d.destination"""

#: delivery_open, covering.
OPEN_DELIVERIES = f"""
SELECT d.channel, d.destination, d.state, count(*) FROM delivery d INDEXED BY delivery_open
WHERE {_OPEN} GROUP BY d.channel, d.destination, d.state"""

# -- search --------------------------------------------------------------------------------------------------------

# Parameters: ids from and to, times from and to, then channel, state and delivery state twice each (NULL: any).
_FILTER = """
AND m.id >= ? AND m.id < ? AND m.received_at >= ? AND m.received_at <= ?
AND (? IS NULL OR m.channel = ?) AND (? IS NULL OR m.state = ?)
AND (? IS NULL OR EXISTS (SELECT 1 FROM delivery e WHERE e.message_id = m.id AND e.state = ?))"""

#: primary key, backwards. (filter, limit)
FIND_NEWEST = f"SELECT {_MESSAGE} FROM message m WHERE true {_FILTER} ORDER BY m.id DESC LIMIT ?"

#: message_state, backwards. (channel, state, filter, limit)
FIND_BY_STATE = f"""
SELECT {_MESSAGE} FROM message m INDEXED BY message_state
WHERE m.channel = ? AND m.state = ? {_FILTER} ORDER BY m.id DESC LIMIT ?"""

#: message_correlation_id, backwards. (correlation id, filter, limit)
FIND_BY_CORRELATION_ID = f"""
SELECT {_MESSAGE} FROM message m INDEXED BY message_correlation_id
WHERE m.correlation_id = ? {_FILTER} ORDER BY m.id DESC LIMIT ?"""

#: message_control_id and delivery_control_id. (control id twice, filter, limit)
FIND_BY_CONTROL_ID = f"""
SELECT {_MESSAGE} FROM message m
WHERE m.id IN (
    SELECT i.id FROM message i WHERE i.control_id = ? AND i.control_id <> ''
    UNION SELECT o.message_id FROM delivery o WHERE o.control_id = ? AND o.control_id <> ''
) {_FILTER} ORDER BY m.id DESC LIMIT ?"""

#: delivery_state, backwards. (delivery state, from id, to id, filter, limit)
FIND_BY_DELIVERY_STATE = f"""
SELECT {_MESSAGE} FROM delivery d INDEXED BY delivery_state CROSS JOIN message m ON m.id = d.message_id
WHERE d.state = ? AND d.state <> 'delivered' AND d.message_id >= ? AND d.message_id < ? {_FILTER}
GROUP BY d.message_id ORDER BY d.message_id DESC LIMIT ?"""

#: message_correlation_id. (correlation id)
TRACE_MESSAGES = f"SELECT {_MESSAGE} FROM message m WHERE m.correlation_id = ? ORDER BY m.id"

#: message_correlation_id, then delivery_message_id; sorts what one correlation id has. (correlation id)
TRACE_DELIVERIES = f"""
SELECT {_DELIVERY} FROM message m CROSS JOIN delivery d ON d.message_id = m.id
WHERE m.correlation_id = ? ORDER BY d.id"""

# -- caches and idempotency keys -----------------------------------------------------------------------------------

#: the unique index of cache. (cache, key, now)
CACHE = "SELECT value FROM cache WHERE cache = ? AND key = ? AND expires_at > ?"

_KEY = "k.scope, k.key, k.body_hash, k.channel, k.message_id, k.delivery_id, k.expires_at, k.status, k.code, k.answer"

#: the unique index of exchange_key. (scope, key, now)
EXCHANGE_KEY = f"SELECT {_KEY} FROM exchange_key k WHERE k.scope = ? AND k.key = ? AND k.expires_at > ?"

#: the primary keys of key_member and exchange_key. (member, now)
EXCHANGE_KEYS = f"""
SELECT {_KEY} FROM key_member n CROSS JOIN exchange_key k ON k.id = n.key_id
WHERE n.member = ? AND k.expires_at > ? ORDER BY n.key_id"""

#: the unique index of exchange_key. (scope, key)
EXCHANGE_KEY_ID = "SELECT id FROM exchange_key WHERE scope = ? AND key = ?"

# -- the audit trail -----------------------------------------------------------------------------------------------

#: primary key.
AUDIT_HEAD = "SELECT purged_id, purged_hash, last_id, last_hash, seal FROM audit_head WHERE id = 1"

#: primary key.
MOVE_AUDIT_HEAD = """
UPDATE audit_head SET purged_id = ?, purged_hash = ?, last_id = ?, last_hash = ?, seal = ? WHERE id = 1"""

_AUDIT = "a.id, a.at, a.act, a.who, a.channel, a.message_id, a.delivery_id, a.facts, a.hash"

#: primary key. (after id, up to id, limit)
AUDIT_ENTRIES = f"SELECT {_AUDIT} FROM audit a WHERE a.id > ? AND a.id <= ? ORDER BY a.id LIMIT ?"

#: primary key, from its begin. (after id, limit)
OLDEST_AUDIT = "SELECT a.id, a.at, a.hash FROM audit a WHERE a.id > ? ORDER BY a.id LIMIT ?"

#: primary key. (up to id)
PURGE_AUDIT = "DELETE FROM audit WHERE id <= ?"

# Parameters: act, who, channel and message id twice each (NULL: any), times from and to, before id, limit.
_AUDIT_FILTER = """
(? IS NULL OR a.act = ?) AND (? IS NULL OR a.who = ?) AND (? IS NULL OR a.channel = ?)
AND (? IS NULL OR a.message_id = ?) AND a.at >= ? AND a.at <= ? AND a.id < ? ORDER BY a.id DESC LIMIT ?"""

#: primary key, backwards. (filter)
FIND_AUDIT = f"SELECT {_AUDIT} FROM audit a WHERE {_AUDIT_FILTER}"

#: audit_act, backwards. (act, filter)
FIND_AUDIT_BY_ACT = f"SELECT {_AUDIT} FROM audit a INDEXED BY audit_act WHERE a.act = ? AND {_AUDIT_FILTER}"

#: audit_who, backwards. (who, filter)
FIND_AUDIT_BY_WHO = f"SELECT {_AUDIT} FROM audit a INDEXED BY audit_who WHERE a.who = ? AND {_AUDIT_FILTER}"

#: audit_channel, backwards. (channel, filter)
FIND_AUDIT_BY_CHANNEL = f"""
SELECT {_AUDIT} FROM audit a INDEXED BY audit_channel WHERE a.channel = ? AND a.channel <> '' AND {_AUDIT_FILTER}"""

#: audit_message_id, backwards. (message id, filter)
FIND_AUDIT_BY_MESSAGE = f"""
SELECT {_AUDIT} FROM audit a INDEXED BY audit_message_id
WHERE a.message_id = ? AND a.message_id IS NOT NULL AND {_AUDIT_FILTER}"""

# -- at start ------------------------------------------------------------------------------------------------------

#: delivery_state.
INTERRUPTED = """
SELECT interrupted, count(*) FROM delivery WHERE state = 'sending' AND state <> 'delivered' GROUP BY interrupted"""

#: delivery_state. (now)
RECOVER_INTERRUPTED = """
UPDATE delivery SET
    state = interrupted,
    cause = 'interrupted',
    may_be_duplicated = 1,
    settled_at = CASE interrupted WHEN 'queued' THEN NULL ELSE ? END
WHERE state = 'sending' AND state <> 'delivered'"""

#: primary keys, the last row of each: no id that was given out before comes again.
LAST_ID = """
SELECT max(
    coalesce((SELECT max(id) FROM message), 0),
    coalesce((SELECT max(id) FROM delivery), 0),
    coalesce((SELECT value FROM meta WHERE name = 'reserved_ids'), 0)
)"""

#: primary key. (id)
RESERVE_IDS = "INSERT OR REPLACE INTO meta (name, value) VALUES ('reserved_ids', ?)"

#: primary key. A transaction that changes nothing of meaning: see ``group_commit.py``.
CUT_LOG = """
INSERT INTO meta (name, value) VALUES ('log_cut', 1) ON CONFLICT (name) DO UPDATE SET value = value + 1"""

# -- removal -------------------------------------------------------------------------------------------------------

#: delivery_message_id, then primary keys. (message id)
PLACE_HOLDERS = """
SELECT d.id FROM delivery d
WHERE d.message_id = ? AND d.state = 'held'
AND NOT EXISTS (SELECT 1 FROM delivery_body b WHERE b.delivery_id = d.id)"""

#: cache_expires_at. (now, limit)
EXPIRED_CACHE = "SELECT id FROM cache WHERE expires_at <= ? ORDER BY expires_at LIMIT ?"

#: exchange_key_expires_at. (now, limit)
EXPIRED_KEYS = "SELECT id FROM exchange_key WHERE expires_at <= ? ORDER BY expires_at LIMIT ?"

#: key_member_key_id. (key id)
FORGET_MEMBERS = "DELETE FROM key_member WHERE key_id = ?"

# -- together ------------------------------------------------------------------------------------------------------


def open_counts(rows: Callable[..., Sequence[tuple[Any, ...]]]) -> dict[tuple[str, str, str], int]:
    """``Store.open_counts``; ``rows`` executes a query with its parameters."""
    counts: dict[tuple[str, str, str], int] = {}
    for channel, destination, state, count in rows(OPEN_DELIVERIES):
        counts[channel, destination, state] = count
    for (channel,) in rows(CHANNELS):
        for state, count in rows(OPEN_MESSAGES, channel):
            counts[channel, "", state] = count
    return counts
