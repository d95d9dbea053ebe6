-- Version 1 of the embedded store. Times are seconds since the epoch; ids rise with time and are shared by messages and
-- deliveries. Bodies stand in tables of their own: listing and changing a row never reads or rewrites them.
-- Text that is no valid UTF-8 (bytes outside a message's charset) is stored as a blob; see engine/store/writer.py.

CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value NOT NULL
) WITHOUT ROWID;

CREATE TABLE message (
    id             INTEGER PRIMARY KEY,
    channel        TEXT NOT NULL,
    correlation_id TEXT NOT NULL,
    control_id     TEXT NOT NULL,
    message_type   TEXT NOT NULL,
    key            TEXT NOT NULL,
    state          TEXT NOT NULL,
    cause          TEXT NOT NULL,
    received_at    REAL NOT NULL,
    routed_at      REAL,
    ack            TEXT NOT NULL DEFAULT '',
    origin         TEXT NOT NULL  -- JSON
);
-- Ends in the id, as every index does: the messages of a channel and state in the order of commit 1.
CREATE INDEX message_state ON message (channel, state);
CREATE INDEX message_correlation_id ON message (correlation_id);
CREATE INDEX message_control_id ON message (control_id) WHERE control_id <> '';

CREATE TABLE message_body (
    message_id INTEGER PRIMARY KEY,
    body       BLOB NOT NULL  -- no row for an empty one
);

CREATE TABLE delivery (
    id                INTEGER PRIMARY KEY,
    message_id        INTEGER NOT NULL,
    channel           TEXT NOT NULL,
    destination       TEXT NOT NULL,
    key               TEXT NOT NULL,
    state             TEXT NOT NULL,
    cause             TEXT NOT NULL,
    attempts          INTEGER NOT NULL DEFAULT 0,
    next_at           REAL NOT NULL DEFAULT 0,
    control_id        TEXT NOT NULL,
    content_type      TEXT NOT NULL,
    interrupted       TEXT NOT NULL,  -- what `sending` becomes at start
    may_be_duplicated INTEGER NOT NULL DEFAULT 0,
    created_at        REAL NOT NULL,
    sent_at           REAL,
    settled_at        REAL,
    ack               TEXT,  -- of the partner's last answer; NULL when there was none
    condition         TEXT,
    location          TEXT,
    application_error TEXT
);
CREATE INDEX delivery_message_id ON delivery (message_id);
CREATE INDEX delivery_control_id ON delivery (control_id) WHERE control_id <> '';
-- The lanes of a destination, and what is counted. Finished rows are not in it.
CREATE INDEX delivery_open ON delivery (channel, destination, state)
    WHERE state IN ('queued', 'sending', 'held', 'parked', 'unknown');
-- The messages that have a delivery in a state, newest first; and what was interrupted by a crash.
CREATE INDEX delivery_state ON delivery (state, message_id) WHERE state <> 'delivered';

CREATE TABLE delivery_body (
    delivery_id INTEGER PRIMARY KEY,
    sealed      INTEGER NOT NULL,
    body        BLOB NOT NULL  -- no row for an empty one
);

CREATE TABLE delivery_answer (
    delivery_id INTEGER PRIMARY KEY,
    answer      BLOB NOT NULL
);

CREATE TABLE cache (
    id         INTEGER PRIMARY KEY,
    cache      TEXT NOT NULL,
    key        TEXT NOT NULL,
    value      BLOB NOT NULL,  -- sealed
    expires_at REAL NOT NULL,
    UNIQUE (cache, key)
);
CREATE INDEX cache_expires_at ON cache (expires_at);

CREATE TABLE exchange_key (
    id          INTEGER PRIMARY KEY,
    scope       TEXT NOT NULL,
    key         BLOB NOT NULL,  -- keyed hash
    body_hash   BLOB NOT NULL,
    channel     TEXT NOT NULL,
    message_id  INTEGER NOT NULL,
    delivery_id INTEGER NOT NULL,
    expires_at  REAL NOT NULL,
    status      INTEGER,
    code        TEXT,
    answer      BLOB NOT NULL,  -- sealed
    UNIQUE (scope, key)
);
CREATE INDEX exchange_key_expires_at ON exchange_key (expires_at);

CREATE TABLE key_member (
    member BLOB NOT NULL,  -- keyed hash of channel, member and value
    key_id INTEGER NOT NULL,
    PRIMARY KEY (member, key_id)
) WITHOUT ROWID;
CREATE INDEX key_member_key_id ON key_member (key_id);
