"""Named queries about what is kept: what is indexed late, the audit trail, what is old enough, and sealing again.

As in ``queries.py`` each names its index, and ``tests/store/test_query_plans.py`` asks the planner.
"""
# ruff: noqa: S608  # put together from this file's own words only

from __future__ import annotations

from engine.store.crypto import SHORT_HASH as _SHORT_HASH
from engine.store.stored import BUCKET_BITS as _BUCKET_BITS
from engine.store.stored import OF_MESSAGE as _OF_MESSAGE

# -- what is put into its index late -------------------------------------------------------------------------------

#: primary key. The last message whose hashes are in patient, and whose control id is in message_control_id.
INDEXED_UP_TO = "SELECT value FROM meta WHERE name = 'patients_up_to'"

#: primary key. The last of so many messages, and how many there are. (after id, limit)
TO_INDEX = "SELECT max(id), count(*) FROM (SELECT id FROM message WHERE id > ? ORDER BY id LIMIT ?)"

#: primary key; sorts. Messages of one patient, as most are. (after id, up to id)
INDEX_PATIENTS = f"""
INSERT OR IGNORE INTO patient (bucket, hash, message_id)
SELECT id >> {_BUCKET_BITS}, patients, id FROM message
WHERE id > ? AND id <= ? AND length(patients) = {_SHORT_HASH} ORDER BY 1, 2, 3"""

#: primary key; sorts. Messages of several patients. (after id, up to id)
INDEX_FURTHER_PATIENTS = f"""
INSERT OR IGNORE INTO patient (bucket, hash, message_id)
WITH RECURSIVE further (id, hashes) AS (
    SELECT id, patients FROM message WHERE id > ? AND id <= ? AND length(patients) > {_SHORT_HASH}
    UNION ALL SELECT id, substr(hashes, {_SHORT_HASH + 1}) FROM further WHERE length(hashes) > {_SHORT_HASH})
SELECT id >> {_BUCKET_BITS}, substr(hashes, 1, {_SHORT_HASH}), id FROM further ORDER BY 1, 2, 3"""

#: primary key. (bucket, hash, message id)
PUT_PATIENT = "INSERT OR IGNORE INTO patient (bucket, hash, message_id) VALUES (?, ?, ?)"

#: primary key. (after id, up to id)
INDEX_CONTROL_IDS = """
UPDATE message SET control_id = late_control_id, late_control_id = NULL
WHERE id > ? AND id <= ? AND late_control_id NOT NULL"""

#: primary key. (message id)
NOTE_INDEXED = "UPDATE meta SET value = ? WHERE name = 'patients_up_to'"

# -- the audit trail -----------------------------------------------------------------------------------------------

#: primary key.
AUDIT_HEAD = "SELECT purged_id, purged_hash, last_id, last_hash, seal FROM audit_head WHERE id = 1"

#: primary key, its last row.
AUDIT_END = "SELECT max(id), (SELECT last_id FROM audit_head WHERE id = 1) FROM audit"

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

# -- pruning -------------------------------------------------------------------------------------------------------

# An idempotency key stands for it: under its id, as most do, or another one.
_HAS_KEY = """
(EXISTS (SELECT 1 FROM exchange_key k WHERE k.id = m.id AND k.message_id = m.id)
OR EXISTS (SELECT 1 FROM exchange_key other WHERE other.message_id = m.id AND other.id <> other.message_id))"""

# Finished: what it owed is delivered or given up, long enough ago, its ack is not owed, and no idempotency key stands
# for it.
# Parameters: received before, settled before.
_FINISHED = f"""
m.received_at < ? AND NOT EXISTS (
    SELECT 1 FROM delivery d INDEXED BY delivery_state WHERE {_OF_MESSAGE}
    AND (d.state NOT IN ('delivered', 'discarded') OR coalesce(d.settled_at, d.created_at) >= ?)
) AND NOT {_HAS_KEY} AND m.ack <> 'owed'"""

# length() of a blob reads the row's header, not the value. Large bodies stand in parts, which have units of their own.
_SIZE = f"""
coalesce((SELECT length(b.body) FROM message_body b WHERE b.message_id = m.id), 0)
+ coalesce((SELECT length(c.answer) FROM message_ack c WHERE c.message_id = m.id), 0)
+ (SELECT coalesce(sum(coalesce(length(o.body), 0) + coalesce(length(d.answer), length(a.answer), 0)), 0)
    FROM delivery d INDEXED BY delivery_state
    LEFT JOIN delivery_body o ON o.delivery_id = d.id LEFT JOIN delivery_answer a ON a.delivery_id = d.id
    WHERE {_OF_MESSAGE})"""

#: message_state, then delivery_state, primary keys and exchange_key_message_id.
#: (before twice, channel, state, after id, limit)
PRUNABLE = f"""
SELECT m.id, m.received_at, {_FINISHED}, {_SIZE} FROM message m INDEXED BY message_state
WHERE m.channel = ? AND m.state = ? AND m.id > ? ORDER BY m.id LIMIT ?"""

#: primary keys, then delivery_state and exchange_key_message_id. (before twice, message id, state)
MAY_PRUNE = f"SELECT 1 FROM message m WHERE {_FINISHED} AND m.id = ? AND m.state = ?"

#: delivery_state. (message id)
DELIVERY_IDS = f"""
SELECT d.id FROM message m CROSS JOIN delivery d INDEXED BY delivery_state ON {_OF_MESSAGE} WHERE m.id = ?"""

#: primary keys. (delivery id)
PRUNE_DELIVERY_BODY = "DELETE FROM delivery_body WHERE delivery_id = ?"
PRUNE_DELIVERY_ANSWER = "DELETE FROM delivery_answer WHERE delivery_id = ?"
EMPTY_DELIVERY = """
UPDATE delivery SET body_start = NULL, body_length = NULL, sealed = 0, answer = NULL WHERE id = ?"""
PRUNE_DELIVERY = "DELETE FROM delivery WHERE id = ?"

#: primary keys. (message id)
PRUNE_MESSAGE_BODY = "DELETE FROM message_body WHERE message_id = ?"
PRUNE_MESSAGE = "DELETE FROM message WHERE id = ?"

#: primary key. (bucket)
NOTE_BUCKET = "INSERT OR IGNORE INTO pruned_bucket (bucket) VALUES (?)"
END_BUCKET = "DELETE FROM pruned_bucket WHERE bucket = ?"
PRUNED_BUCKET = "SELECT min(bucket) FROM pruned_bucket"

#: primary keys of patient and message. (bucket, limit)
ORPHANED_PATIENTS = """
SELECT p.hash, p.message_id FROM patient p
WHERE p.bucket = ? AND NOT EXISTS (SELECT 1 FROM message m WHERE m.id = p.message_id) LIMIT ?"""

#: primary key. (bucket, hash, message id)
PRUNE_PATIENT = "DELETE FROM patient WHERE bucket = ? AND hash = ? AND message_id = ?"

#: primary key. (channel, state)
BODY_CURSOR = "SELECT after FROM body_cursor WHERE channel = ? AND state = ?"

#: primary key. (channel, state, id)
MOVE_BODY_CURSOR = "INSERT OR REPLACE INTO body_cursor (channel, state, after) VALUES (?, ?, ?)"

#: message_state, one range for each state. (channel, state, from id, up to id)
LEAVE_BODIES = """
INSERT OR IGNORE INTO body_left (message_id) SELECT m.id FROM message m INDEXED BY message_state
WHERE m.channel = ? AND m.state IN (?, 'received', 'failed') AND m.id > ? AND m.id <= ?
AND m.bodies_removed_at IS NULL"""

#: primary keys, then delivery_state and exchange_key_message_id. (after id, limit)
BODIES_LEFT = f"""
SELECT m.id, m.channel, m.state, m.received_at, (
    SELECT max(coalesce(d.settled_at, d.created_at)) FROM delivery d INDEXED BY delivery_state WHERE {_OF_MESSAGE}
), EXISTS (
    SELECT 1 FROM delivery d INDEXED BY delivery_state
    WHERE {_OF_MESSAGE} AND d.state NOT IN ('delivered', 'discarded')
) OR {_HAS_KEY} OR m.ack = 'owed', {_SIZE}
FROM body_left l CROSS JOIN message m ON m.id = l.message_id WHERE l.message_id > ? ORDER BY l.message_id LIMIT ?"""

#: primary key. (message id)
NOT_LEFT = "DELETE FROM body_left WHERE message_id = ?"
PRUNE_MESSAGE_ACK = "DELETE FROM message_ack WHERE message_id = ?"

#: primary key of large_body, whose trigger gives its run up. (message or delivery id)
PRUNE_LARGE_BODY = "DELETE FROM large_body WHERE id = ?"

#: primary key. (now, origin, message id)
NOTE_BODIES_REMOVED = "UPDATE message SET bodies_removed_at = ?, origin = ?, sealed = 0 WHERE id = ?"

#: primary key. (run)
DROP_RUN = "INSERT OR IGNORE INTO dropped_run (run) VALUES (?)"
DROPPED_RUN = "SELECT min(run) FROM dropped_run"
END_DROPPED_RUN = "DELETE FROM dropped_run WHERE run = ?"

#: primary key. (from id, to id, limit)
DROPPED_PARTS = "SELECT id, length(value) FROM body_part WHERE id >= ? AND id < ? ORDER BY id LIMIT ?"

#: primary key. (id)
PRUNE_PART = "DELETE FROM body_part WHERE id = ?"

# -- sealing again -------------------------------------------------------------------------------------------------

#: primary key.
RESEAL = "SELECT value FROM meta WHERE name = 'reseal'"

#: primary key. (progress)
NOTE_RESEAL = "INSERT OR REPLACE INTO meta (name, value) VALUES ('reseal', ?)"

#: primary key.
END_RESEAL = "DELETE FROM meta WHERE name = 'reseal'"

#: primary key. Whether rows may be there that are not sealed and should be.
PLAIN = "SELECT 1 FROM meta WHERE name = 'plain'"

#: primary key.
NOTE_PLAIN = "INSERT OR REPLACE INTO meta (name, value) VALUES ('plain', 1)"

#: primary key.
END_PLAIN = "DELETE FROM meta WHERE name = 'plain'"

#: goes through the keys of the folder: a handful.
STORE_KEYS = "SELECT number, added_at, retired_at FROM store_key ORDER BY number"

#: goes through the keys of the folder. (number of the key in use)
OTHER_KEYS = "SELECT 1 FROM store_key WHERE number <> ? AND retired_at IS NULL"

#: goes through the keys of the folder. (now, number of the key in use)
RETIRE_KEYS = "UPDATE store_key SET retired_at = ?, hash_key = x'' WHERE number <> ? AND retired_at IS NULL"

#: primary keys, the last row.
LAST_MESSAGE = "SELECT max(id) FROM message"
LAST_DELIVERY = "SELECT max(id) FROM delivery"

#: primary key. (after id, up to id, limit)
SCAN_MESSAGES = """
SELECT id, sealed, origin LIKE '%"query":%' OR origin LIKE '%"headers":%', key, length(origin) FROM message
WHERE id > ? AND id <= ? ORDER BY id LIMIT ?"""
SCAN_DELIVERIES = """
SELECT id, key, sealed, answer IS NOT NULL, coalesce(length(answer), 0) FROM delivery
WHERE id > ? AND id <= ? ORDER BY id LIMIT ?"""

#: primary key. (message id)
ORIGIN = "SELECT sealed, origin, key FROM message WHERE id = ?"

#: primary key. (number of the key, origin, lane key, message id)
PUT_ORIGIN = "UPDATE message SET sealed = ?, origin = ?, key = ? WHERE id = ?"

#: primary key. (delivery id)
ANSWER = "SELECT sealed, answer, key FROM delivery WHERE id = ?"

#: primary key. (number of the key, answer, lane key, delivery id)
PUT_SEALED_ANSWER = "UPDATE delivery SET sealed = ?, answer = ?, key = ? WHERE id = ?"

# -- backups: these go through whole tables, beside the traffic or without any -------------------------------------

#: delivery_state.
UNFINISHED = "SELECT state, count(*) FROM delivery WHERE state IN ('queued', 'sending') GROUP BY state"

#: the whole of message, once, when a backup is put back.
UNROUTED_NUMBER = "SELECT state, count(*) FROM message WHERE state = 'received' GROUP BY state"

#: delivery_state.
HOLD_RESTORED = """
UPDATE delivery SET state = 'held', cause = 'restored', may_be_duplicated = 1 WHERE state IN ('queued', 'sending')"""

#: the whole of message, once, when a backup is put back. (now)
FAIL_RESTORED = "UPDATE message SET state = 'failed', cause = 'restored', routed_at = ? WHERE state = 'received'"
