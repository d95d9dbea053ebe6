"""Every read of the embedded store, and every write that has to find its rows, each with the index it needs.

``tests/store/test_query_plans.py`` asks SQLite's planner for each constant here; a new one needs its line there.
A term such as ``control_id <> ''`` that looks redundant is what lets the planner use a partial index
(schema.sql), and INDEXED BY keeps a choice whatever statistics somebody may have gathered. Indexes end in the rowid,
which is the id: "in order of id" then needs no sort. ``rows.py`` turns the rows into values.
"""
# ruff: noqa: S608  # put together from this file's own words only

from __future__ import annotations

from engine.store import keeping as _keeping
from engine.store.stored import BUCKET_BITS as _BUCKET_BITS
from engine.store.stored import OF_MESSAGE as _OF_MESSAGE

#: The condition of the partial index delivery_open, word for word.
_OPEN = "d.state <> 'delivered' AND d.state <> 'discarded'"

#: A message's control id: it is put into its index some time after the message (``late.py``).
_CONTROL_ID = "coalesce(m.late_control_id, m.control_id)"
_MESSAGE = (
    f"m.id, m.channel, m.correlation_id, {_CONTROL_ID}, m.message_type, m.key, m.state, m.cause, m.received_at,"
    " m.routed_at, m.ack, m.origin, m.sealed, m.bodies_removed_at"
)
_DELIVERY = (
    "d.id, d.message_id, d.channel, d.destination, m.correlation_id, d.key, d.state, d.cause, d.attempts, d.next_at,"
    f" CASE d.as_received WHEN 1 THEN {_CONTROL_ID} ELSE d.control_id END, d.content_type, d.created_at, d.sent_at,"
    " d.settled_at, d.ack, d.condition, d.location,"
    " d.application_error, d.may_be_duplicated, m.received_at"
)
_DELIVERIES = f"SELECT {_DELIVERY} FROM delivery d CROSS JOIN message m ON m.id = d.message_id"
_LANES = f"SELECT {_DELIVERY} FROM delivery d INDEXED BY delivery_open CROSS JOIN message m ON m.id = d.message_id"

# -- messages ------------------------------------------------------------------------------------------------------

#: primary key. (message id)
MESSAGE = f"SELECT {_MESSAGE} FROM message m WHERE m.id = ?"

# What ``Reader.chunks`` puts together: a value, its key, its table and row, the stretch of it that is meant, and the
# run and layout of a large body.

#: primary keys; no row for an unknown message, NULLs for an empty body. (message id)
MESSAGE_BODY = """
SELECT b.body, b.sealed, 'message_body', m.id, 0, b.length, l.run, l.layout FROM message m
LEFT JOIN message_body b ON b.message_id = m.id LEFT JOIN large_body l ON l.id = m.id WHERE m.id = ?"""

#: message_state. (channel, after id, limit)
UNROUTED = f"""
SELECT {_MESSAGE} FROM message m INDEXED BY message_state
WHERE m.channel = ? AND m.state = 'received' AND m.id > ? ORDER BY m.id LIMIT ?"""

#: message_state. (channel)
OLDEST_UNROUTED = """
SELECT received_at FROM message INDEXED BY message_state
WHERE channel = ? AND state = 'received' ORDER BY id LIMIT 1"""

#: primary keys; no row for an unknown message, NULL when the code says everything. (message id)
MESSAGE_ACK = """
SELECT a.answer, a.sealed, 'message_ack', m.id, 0, NULL, NULL, NULL FROM message m
LEFT JOIN message_ack a ON a.message_id = m.id WHERE m.id = ?"""

_NEWEST = """
(SELECT id FROM message INDEXED BY message_control_id
WHERE control_id = ? AND control_id <> '' ORDER BY id DESC LIMIT 256) newest"""
#: message_control_id, backwards and no further, then the primary key. (control id, channel, limit)
SAME_CONTROL_ID = f"SELECT {_MESSAGE} FROM {_NEWEST} CROSS JOIN message m USING (id) WHERE m.channel = ? LIMIT ?"

#: message_control_id: this one, if it is there, and those behind it: of numbers as many as have one more digit.
#: (control id)
CONTROL_ID_FROM = """
SELECT control_id FROM message INDEXED BY message_control_id
WHERE control_id >= ? AND control_id <> '' ORDER BY control_id LIMIT 10"""

_INDEXED_UP_TO = f"({_keeping.INDEXED_UP_TO})"
#: primary keys, backwards: of the few that are not in message_control_id. (control id, channel, limit)
SAME_LATE_CONTROL_ID = f"""
SELECT {_MESSAGE} FROM message m NOT INDEXED
WHERE m.id > {_INDEXED_UP_TO} AND m.late_control_id = ? AND m.channel = ? ORDER BY m.id DESC LIMIT ?"""

#: primary keys: all of these.
LATE_CONTROL_IDS = f"""
SELECT late_control_id, id FROM message WHERE id > {_INDEXED_UP_TO} AND late_control_id NOT NULL ORDER BY id"""

_OWED = "INDEXED BY message_ack_owed WHERE m.channel = ? AND m.ack = 'owed'"
#: message_ack_owed. (channel, after id, limit)
ACKS_OWED = f"SELECT {_MESSAGE} FROM message m {_OWED} AND m.id > ? ORDER BY m.id LIMIT ?"

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

#: primary key. The ids at which the clock had been set back: few.
CLOCK_STEPS = "SELECT id FROM clock_step ORDER BY id"

#: primary key: one probe of the search for the id where a time begins. (id)
RECEIVED_FROM = "SELECT id, received_at FROM message WHERE id >= ? ORDER BY id LIMIT 1"

#: primary key, both ends in one step each.
MESSAGE_IDS = "SELECT (SELECT min(id) FROM message), (SELECT max(id) FROM message)"

# -- deliveries ----------------------------------------------------------------------------------------------------

#: primary keys. (delivery id)
DELIVERY = f"{_DELIVERIES} WHERE d.id = ?"

#: primary keys; no row for an unknown delivery, NULLs for an empty body. (delivery id)
DELIVERY_BODY = """
SELECT coalesce(s.body, b.body), coalesce(s.sealed, b.sealed),
    CASE WHEN d.body_start IS NULL THEN 'delivery_body' ELSE 'message_body' END,
    CASE WHEN d.body_start IS NULL THEN d.id ELSE d.message_id END, coalesce(d.body_start, 0), d.body_length,
    l.run, l.layout
FROM delivery d LEFT JOIN message_body s ON s.message_id = d.message_id AND d.body_start IS NOT NULL
LEFT JOIN delivery_body b ON b.delivery_id = d.id LEFT JOIN large_body l ON l.id = d.id WHERE d.id = ?"""

#: primary keys, then delivery_state; no row where others hold the same bytes, or they stand elsewhere. (delivery id)
OWN_STRETCH = f"""
SELECT m.id, o.body_start, o.body_length, b.sealed, b.body
FROM delivery o CROSS JOIN message m ON m.id = o.message_id CROSS JOIN message_body b ON b.message_id = m.id
WHERE o.id = ? AND o.body_start >= b.length AND NOT EXISTS (
    SELECT 1 FROM delivery d INDEXED BY delivery_state
    WHERE {_OF_MESSAGE} AND d.id <> o.id AND d.body_start = o.body_start)"""

#: primary keys; no row for an unknown delivery, NULLs for no answer. (delivery id)
DELIVERY_ANSWER = """
SELECT coalesce(d.answer, a.answer), CASE WHEN d.answer IS NULL THEN a.sealed ELSE d.sealed END,
    CASE WHEN d.answer IS NULL THEN 'delivery_answer' ELSE 'delivery' END, d.id, 0, NULL, NULL, NULL
FROM delivery d LEFT JOIN delivery_answer a ON a.delivery_id = d.id WHERE d.id = ?"""

#: delivery_state; sorts what one message has. (message id)
DELIVERIES_OF = f"""
SELECT {_DELIVERY} FROM message m CROSS JOIN delivery d INDEXED BY delivery_state ON {_OF_MESSAGE}
WHERE m.id = ? ORDER BY d.id"""

#: delivery_open twice, merged without a sort. (channel, destination, after id) twice, limit
QUEUED = f"""
{_LANES} WHERE d.channel = ? AND d.destination = ? AND d.state = 'queued' AND {_OPEN} AND d.id > ?
UNION ALL
{_LANES} WHERE d.channel = ? AND d.destination = ? AND d.state = 'held' AND {_OPEN} AND d.id > ?
ORDER BY 1 LIMIT ?"""

#: delivery_open. (channel, destination, state, after id, limit)
OPEN_OF = f"""
{_LANES} WHERE d.channel = ? AND d.destination = ? AND d.state = ? AND {_OPEN} AND d.id > ? ORDER BY d.id LIMIT ?"""

#: primary key. (channel)
PAUSED = "SELECT destination, since FROM pause WHERE channel = ?"

#: delivery_open, covering.
OPEN_DELIVERIES = f"""
SELECT d.channel, d.destination, d.state, count(*) FROM delivery d INDEXED BY delivery_open
WHERE {_OPEN} GROUP BY d.channel, d.destination, d.state"""

#: delivery_open. (channel, destination, state)
OLDEST_OPEN = f"""
SELECT d.created_at FROM delivery d INDEXED BY delivery_open
WHERE d.channel = ? AND d.destination = ? AND d.state = ? AND {_OPEN} ORDER BY d.id LIMIT 1"""

# -- search --------------------------------------------------------------------------------------------------------

# Parameters: ids from and to, times from and to, then twice each (NULL: any) channel, state, delivery state,
# correlation id, then three times the hash of a patient and the control id.
_FILTER = f"""
AND m.id >= ? AND m.id < ? AND m.received_at >= ? AND m.received_at <= ?
AND (? IS NULL OR m.channel = ?) AND (? IS NULL OR m.state = ?)
AND (? IS NULL OR EXISTS (
    SELECT 1 FROM delivery e INDEXED BY delivery_state
    WHERE e.state = ? AND e.channel = m.channel AND e.message_id = m.id))
AND (? IS NULL OR m.correlation_id = ?)
AND (? IS NULL OR instr(m.patients, ?) OR EXISTS (
    SELECT 1 FROM patient f WHERE f.bucket = m.id >> {_BUCKET_BITS} AND f.hash = ? AND f.message_id = m.id))
AND (? IS NULL OR {_CONTROL_ID} = ? OR EXISTS (
    SELECT 1 FROM delivery e INDEXED BY delivery_control_id
    WHERE e.control_id = ? AND e.control_id <> '' AND e.message_id = m.id))"""

#: primary key, backwards. (filter, limit)
FIND_NEWEST = f"SELECT {_MESSAGE} FROM message m WHERE true {_FILTER} ORDER BY m.id DESC LIMIT ?"

#: message_state, backwards. (channel, state, filter, limit)
FIND_BY_STATE = f"""
SELECT {_MESSAGE} FROM message m INDEXED BY message_state
WHERE m.channel = ? AND m.state = ? {_FILTER} ORDER BY m.id DESC LIMIT ?"""

#: The condition of the partial index message_correlation_id, word for word; a message that is not in it has the id that
#: its correlation id ends in.
_GIVEN = "CAST(substr(correlation_id, -12) AS INTEGER) <> id"
_OWN_ID = "CAST(substr(?, -12) AS INTEGER)"

#: primary key: the message that a correlation id was made for. (correlation id, filter, limit)
FIND_OWN = f"SELECT {_MESSAGE} FROM message m WHERE m.id = {_OWN_ID} {_FILTER} LIMIT ?"

#: message_correlation_id, backwards. (correlation id, filter, limit)
FIND_BY_CORRELATION_ID = f"""
SELECT {_MESSAGE} FROM message m INDEXED BY message_correlation_id
WHERE m.correlation_id = ? AND {_GIVEN} {_FILTER} ORDER BY m.id DESC LIMIT ?"""

#: message_control_id, backwards. (control id, filter, limit)
FIND_BY_CONTROL_ID_IN = f"""
SELECT {_MESSAGE} FROM message m INDEXED BY message_control_id
WHERE m.control_id = ? AND m.control_id <> '' {_FILTER} ORDER BY m.id DESC LIMIT ?"""

#: primary key, backwards: of the few that are not in message_control_id. (control id, filter, limit)
FIND_BY_LATE_CONTROL_ID = f"""
SELECT {_MESSAGE} FROM message m WHERE m.late_control_id = ? {_FILTER} ORDER BY m.id DESC LIMIT ?"""

#: delivery_control_id, backwards; what goes out as it was received is not in it.
#: (control id, from id, to id, filter, limit)
FIND_BY_CONTROL_ID_OUT = f"""
SELECT {_MESSAGE} FROM delivery d INDEXED BY delivery_control_id CROSS JOIN message m ON m.id = d.message_id
WHERE d.control_id = ? AND d.control_id <> '' AND d.message_id >= ? AND d.message_id < ? {_FILTER}
GROUP BY d.message_id ORDER BY d.message_id DESC LIMIT ?"""

#: delivery_state, backwards. (delivery state, channel, from id, to id, filter, limit)
FIND_BY_DELIVERY_STATE = f"""
SELECT {_MESSAGE} FROM delivery d INDEXED BY delivery_state CROSS JOIN message m ON m.id = d.message_id
WHERE d.state = ? AND d.channel = ? AND d.message_id >= ? AND d.message_id < ? {_FILTER}
GROUP BY d.message_id ORDER BY d.message_id DESC LIMIT ?"""

#: primary key of patient, one step per bucket and one for the hash in it, newest first. (hash, from and to bucket)
PATIENT_BUCKETS = """
WITH RECURSIVE known (bucket, hash, first) AS (
    SELECT (SELECT max(p.bucket) FROM patient p WHERE p.bucket <= given.last), given.hash, given.first
    FROM (SELECT ? AS hash, ? AS first, ? AS last) given
    UNION ALL
    SELECT (SELECT max(p.bucket) FROM patient p WHERE p.bucket < k.bucket), k.hash, k.first
    FROM known k WHERE k.bucket > k.first
)
SELECT k.bucket FROM known k
WHERE k.bucket >= k.first AND EXISTS (SELECT 1 FROM patient q WHERE q.bucket = k.bucket AND q.hash = k.hash)"""

#: primary key of patient, backwards. (bucket, hash, from id, to id, filter, limit)
FIND_BY_PATIENT = f"""
SELECT {_MESSAGE} FROM patient q CROSS JOIN message m ON m.id = q.message_id
WHERE q.bucket = ? AND q.hash = ? AND q.message_id >= ? AND q.message_id < ? {_FILTER}
ORDER BY q.message_id DESC LIMIT ?"""

#: primary key, backwards: for the few messages whose hashes are not in patient. (hash, filter, limit)
FIND_BY_LATE_PATIENT = f"""
SELECT {_MESSAGE} FROM message m WHERE instr(m.patients, ?) {_FILTER} ORDER BY m.id DESC LIMIT ?"""

_TRACED = f"""
(SELECT id FROM message WHERE id = {_OWN_ID} AND correlation_id = ?
UNION ALL
SELECT id FROM message INDEXED BY message_correlation_id WHERE correlation_id = ? AND {_GIVEN}) traced
CROSS JOIN message m USING (id)"""
#: primary key and message_correlation_id; sorts what one correlation id has. (correlation id three times)
TRACE_MESSAGES = f"SELECT {_MESSAGE} FROM {_TRACED} ORDER BY m.id"

#: the same, then delivery_state. (correlation id three times)
TRACE_DELIVERIES = f"""
SELECT {_DELIVERY} FROM {_TRACED} CROSS JOIN delivery d INDEXED BY delivery_state ON {_OF_MESSAGE} ORDER BY d.id"""

# -- caches and idempotency keys -----------------------------------------------------------------------------------

#: the unique index of cache. (cache, key, now)
CACHE = "SELECT value, sealed FROM cache WHERE cache = ? AND key = ? AND expires_at > ?"

_KEY = (
    "k.scope, k.key, k.body_hash, k.channel, k.message_id, k.delivery_id, k.expires_at, k.status, k.code, k.answer,"
    " k.sealed"
)

#: the unique index of exchange_key. (scope, key, now)
EXCHANGE_KEY = f"SELECT {_KEY} FROM exchange_key k WHERE k.scope = ? AND k.key = ? AND k.expires_at > ?"

#: the unique index of exchange_key, which is read through once, as the store is opened. (limit)
KEY_HASHES = "SELECT key FROM exchange_key LIMIT ?"

#: the primary keys of key_member and exchange_key; sorts what one member has. (hash of the member, and whole; now)
EXCHANGE_KEYS = f"""
SELECT {_KEY} FROM key_member n CROSS JOIN exchange_key k ON k.id = n.key_id
WHERE n.member IN (?, ?) AND k.expires_at > ? ORDER BY n.key_id"""

#: exchange_key_expires_at: all that have not expired, once in a run for each member. (channel, now, member)
KEYS_WITHOUT = f"""
SELECT {_KEY} FROM exchange_key k INDEXED BY exchange_key_expires_at
WHERE k.channel = ? AND k.expires_at > ? AND instr(k.members, ?) = 0 ORDER BY k.expires_at"""

#: the unique index of exchange_key. (scope, key)
EXCHANGE_KEY_ID = "SELECT id, member_hashes FROM exchange_key WHERE scope = ? AND key = ?"

# -- at start ------------------------------------------------------------------------------------------------------

#: delivery_state.
INTERRUPTED = """
SELECT interrupted, count(*) FROM delivery INDEXED BY delivery_state WHERE state = 'sending' GROUP BY interrupted"""

#: delivery_state. (now)
RECOVER_INTERRUPTED = """
UPDATE delivery INDEXED BY delivery_state SET state = interrupted, cause = 'interrupted', may_be_duplicated = 1,
    settled_at = CASE interrupted WHEN 'queued' THEN NULL ELSE ? END
WHERE state = 'sending'"""

#: delivery_state. (message id)
QUEUED_UP_TO = "SELECT 1 FROM delivery INDEXED BY delivery_state WHERE state = 'queued' AND message_id <= ? LIMIT 1"

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

#: primary key. (id)
NOTE_CLOCK_STEP = "INSERT OR IGNORE INTO clock_step (id) VALUES (?)"

#: primary key, the last row: where the clock was.
LAST_RECEIVED = "SELECT received_at FROM message WHERE id = (SELECT max(id) FROM message)"

# -- removal -------------------------------------------------------------------------------------------------------

#: delivery_state, then primary keys; also those that a person gave up. (message id)
PLACE_HOLDERS = """
SELECT d.id FROM message m CROSS JOIN delivery d INDEXED BY delivery_state
ON d.channel = m.channel AND d.message_id = m.id AND d.state IN ('held', 'discarded')
WHERE m.id = ? AND d.body_start IS NULL AND NOT EXISTS (SELECT 1 FROM delivery_body b WHERE b.delivery_id = d.id)"""

#: cache_expires_at. (now, limit)
EXPIRED_CACHE = "SELECT id FROM cache WHERE expires_at <= ? ORDER BY expires_at LIMIT ?"

#: exchange_key_expires_at. (now, limit)
EXPIRED_KEYS = "SELECT id, member_hashes FROM exchange_key WHERE expires_at <= ? ORDER BY expires_at LIMIT ?"

#: primary key. (hash of the member, key id)
FORGET_MEMBER = "DELETE FROM key_member WHERE member = ? AND key_id = ?"

#: key_member_key_id: of a key that version 14 or an earlier one wrote. (key id)
FORGET_WHOLE_MEMBERS = "DELETE FROM key_member WHERE key_id = ? AND length(member) = 32"

# -- large bodies --------------------------------------------------------------------------------------------------

#: primary key. (run * 65536 + number of the part)
PART = "SELECT value, sealed FROM body_part WHERE id = ?"

#: primary key. (message or delivery id)
RUN_OF = "SELECT run FROM large_body WHERE id = ?"

#: primary key. (id, key, value)
PUT_PART = "INSERT INTO body_part (id, sealed, value) VALUES (?, ?, ?)"

#: primary key. (message or delivery id, run, layout)
PUT_LARGE_BODY = "INSERT OR REPLACE INTO large_body (id, run, layout) VALUES (?, ?, ?)"

#: primary key. (delivery id)
FORGET_LARGE_BODY = "DELETE FROM large_body WHERE id = ?"

#: The whole of a table that holds what is being written right now.
OPEN_RUNS = "SELECT run FROM open_run"

#: primary key. (run)
OPEN_RUN = "INSERT OR IGNORE INTO open_run (run) VALUES (?)"

#: primary key. (run)
CLOSE_RUN = "DELETE FROM open_run WHERE run = ?"

#: primary keys. (id)
DELETE_CACHE = "DELETE FROM cache WHERE id = ?"
DELETE_KEY = "DELETE FROM exchange_key WHERE id = ?"
