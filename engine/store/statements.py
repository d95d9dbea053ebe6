"""What ``writer.py`` executes: a row that is written, or a change of one that is found by its id or its unique key.

Which earlier states a change may come from is read from the tables of ``delivery.py``.
"""
# ruff: noqa: S608  # put together from this file's own words only

from __future__ import annotations

from collections.abc import Iterable

from engine.delivery import DELIVERY_MOVES, MESSAGE_MOVES, DeliveryState, MessageState


def _is_one_of(states: Iterable[str]) -> str:
    """The condition that a row is in one of these. For a list of more than two words SQLite makes a table each time."""
    words = [f"'{state}'" for state in sorted(states)]
    pairs = [f"state IN ({', '.join(words[at : at + 2])})" for at in range(0, max(1, len(words)), 2)]
    return f"({' OR '.join(pairs)})"


def _may_become(state: DeliveryState) -> set[DeliveryState]:
    return {before for before, after in DELIVERY_MOVES.items() if state in after}


#: Nothing waits for anybody any more.
_FINISHED = {DeliveryState.DELIVERED, DeliveryState.DISCARDED}

INSERT_MESSAGE = """
INSERT INTO message
(id, channel, correlation_id, control_id, message_type, key, state, cause, received_at, routed_at, ack, origin, sealed,
    patients, late_control_id)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
INSERT_MESSAGE_BODY = "INSERT INTO message_body (message_id, sealed, body, length) VALUES (?, ?, ?, ?)"
ROUTE = {
    state: f"UPDATE message SET state = '{state}', cause = ?, routed_at = ? WHERE id = ? AND "
    + _is_one_of(before for before, after in MESSAGE_MOVES.items() if state in after)
    for state in MessageState
}
REOPEN = """
UPDATE message SET state = 'received', cause = '', routed_at = NULL
WHERE id = ? AND state = 'failed' AND bodies_removed_at IS NULL"""
# Undecided is ''; 'owed' is undecided too, and goes out on a connection of its own.
ACK_SENT = "UPDATE message SET ack = CASE WHEN ack IN ('', 'owed') THEN ? ELSE ack END WHERE id = ?"
DECIDE_ACK = "UPDATE message SET ack = ? WHERE id = ? AND ack IN ('', 'owed')"
CHANGE_MESSAGE_BODY = "UPDATE message_body SET sealed = ?, body = ? WHERE message_id = ?"
PUT_ACK = "INSERT OR IGNORE INTO message_ack (message_id, sealed, answer) VALUES (?, ?, ?)"

INSERT_DELIVERY = """
INSERT INTO delivery
(id, message_id, channel, destination, key, state, cause, control_id, content_type, interrupted, created_at,
 as_received, body_start, body_length, room)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, zeroblob(?))"""
# One that is on its way, or at its end, by the time it is written.
INSERT_BEGUN = """
INSERT INTO delivery
(id, message_id, channel, destination, key, state, cause, control_id, content_type, interrupted, created_at,
 as_received, body_start, body_length, room, sent_at, attempts, settled_at, next_at, may_be_duplicated,
 ack, condition, location, application_error, sealed, answer)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, zeroblob(?), ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
# A further attempt may begin without anything having been written about the one before.
SENDING = f"""
UPDATE delivery SET state = 'sending', sent_at = ?, attempts = ?, settled_at = NULL
WHERE id = ? AND {_is_one_of(_may_become(DeliveryState.SENDING) | {DeliveryState.SENDING})}"""
# What is on its way is not sent again by a person: it would go out twice.
REQUEUE = f"""
UPDATE delivery SET state = 'queued', cause = ?, next_at = 0, settled_at = NULL,
    may_be_duplicated = may_be_duplicated OR state IN ('delivered', 'unknown')
WHERE NOT EXISTS (SELECT 1 FROM message m WHERE m.id = message_id AND m.bodies_removed_at IS NOT NULL)
AND id = ? AND {_is_one_of(_may_become(DeliveryState.QUEUED) - {DeliveryState.SENDING})}"""


def _settle(state: DeliveryState, evidence: str) -> str:
    return f"""
UPDATE delivery SET state = '{state}', settled_at = CASE '{state}' WHEN 'queued' THEN NULL ELSE ? END,
    cause = ?, attempts = ?, next_at = ?, may_be_duplicated = may_be_duplicated OR ?,
    sent_at = COALESCE(?, sent_at), room = NULL{evidence}
WHERE id = ? AND {_is_one_of(_may_become(state))}"""


#: An answer goes with its evidence; one that a person gave, or another message, comes without.
_ANSWER, _EVIDENCE = ", sealed = ?, answer = ?", ", ack = ?, condition = ?, location = ?, application_error = ?"
SETTLE = {state: _settle(state, "") for state in DeliveryState}
SETTLE_WITH_ANSWER = {state: _settle(state, _ANSWER) for state in DeliveryState}
SETTLE_WITH_EVIDENCE = {state: _settle(state, _EVIDENCE + _ANSWER) for state in DeliveryState}
# As most end: taken at once, with an answer that says nothing else.
DELIVERED = f"""
UPDATE delivery SET state = 'delivered', settled_at = ?, cause = '', attempts = 1, next_at = 0, sent_at = ?,
    ack = ?, condition = NULL, location = NULL, application_error = NULL, sealed = ?, answer = ?, room = NULL
WHERE id = ? AND {_is_one_of(_may_become(DeliveryState.DELIVERED))}"""
READDRESS = f"""
UPDATE delivery SET destination = ? WHERE id = ? AND {_is_one_of(set(DeliveryState) - _FINISHED)}"""
NAME_DELIVERY = "UPDATE delivery SET control_id = ?, as_received = 0, content_type = ? WHERE id = ?"
PUT_ANSWER = "INSERT OR REPLACE INTO delivery_answer (delivery_id, sealed, answer) VALUES (?, ?, ?)"
DELETE_ANSWER = "DELETE FROM delivery_answer WHERE delivery_id = ?"
OWN_BODY = "UPDATE delivery SET body_start = NULL, body_length = NULL WHERE id = ?"
PUT_BODY = "INSERT OR REPLACE INTO delivery_body (delivery_id, sealed, body) VALUES (?, ?, ?)"

PAUSE = "INSERT OR IGNORE INTO pause (channel, destination, since) VALUES (?, ?, ?)"
RESUME = "DELETE FROM pause WHERE channel = ? AND destination = ?"

CACHE_PUT = """
INSERT INTO cache (cache, key, sealed, value, expires_at) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (cache, key) DO UPDATE
SET sealed = excluded.sealed, value = excluded.value, expires_at = excluded.expires_at"""
CACHE_FORGET = "DELETE FROM cache WHERE cache = ? AND key = ?"
OPEN_KEY = """
INSERT INTO exchange_key
(id, scope, key, body_hash, channel, message_id, delivery_id, expires_at, members, member_hashes, answer)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, x'') ON CONFLICT DO NOTHING"""
CLOSE_KEY = "UPDATE exchange_key SET status = ?, code = ?, sealed = ?, answer = ? WHERE scope = ? AND key = ?"
INSERT_MEMBER = "INSERT INTO key_member (member, key_id) VALUES (?, ?)"
