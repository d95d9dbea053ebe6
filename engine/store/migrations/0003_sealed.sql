-- What is stored is sealed, what is only compared is a keyed hash, and every search has its index.
-- `sealed` is the number of the key that sealed a row's value (store_key); 0: it is not sealed.

ALTER TABLE message ADD COLUMN sealed INTEGER NOT NULL DEFAULT 0;  -- of `origin`
ALTER TABLE message_body ADD COLUMN sealed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE delivery_answer ADD COLUMN sealed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE cache ADD COLUMN sealed INTEGER NOT NULL DEFAULT 1;
ALTER TABLE exchange_key ADD COLUMN sealed INTEGER NOT NULL DEFAULT 1;

-- Keys of cache entries become hashes; their values are sealed for the hashed place (functions of engine/store/ring.py).
UPDATE cache SET key = cache_key(cache, key), value = cache_value(cache, key, value);

CREATE TABLE store_key (
    number     INTEGER PRIMARY KEY,
    hash_key   BLOB NOT NULL,  -- the key of all hashes, sealed under this key; empty once it is retired
    added_at   REAL NOT NULL,
    retired_at REAL  -- since then no row is sealed with it
);

-- What this version finds may not be sealed yet: meta `plain` says so until the background has been through everything.
INSERT INTO meta (name, value) SELECT 'plain', 1 WHERE EXISTS (SELECT 1 FROM message);

-- Patient ids of a message as keyed hashes. Hashes are random and would hit a page of their own each; within a bucket
-- (some ten thousand ids that follow each other) they share few pages, and a search takes one step in each bucket.
CREATE TABLE patient (
    bucket     INTEGER NOT NULL,
    hash       BLOB NOT NULL,
    message_id INTEGER NOT NULL,
    PRIMARY KEY (bucket, hash, message_id)
) WITHOUT ROWID;

-- The first id after the clock was set back: ids rise with time only between two of these.
CREATE TABLE clock_step (
    id INTEGER PRIMARY KEY
);

DROP INDEX delivery_control_id;
CREATE INDEX delivery_control_id ON delivery (control_id, message_id) WHERE control_id <> '';
DROP INDEX delivery_state;
CREATE INDEX delivery_state ON delivery (state, channel, message_id);
