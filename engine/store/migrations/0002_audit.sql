-- The audit trail: append-only for everybody who goes through SQL, this engine included. Entries are chained by hash
-- (engine/store/chain.py); the head names the last entry and the last that was purged. The purge first moves the head,
-- then deletes what lies before it: a prefix, whose last hash stays, so that the chain can still be checked.

CREATE TABLE audit (
    id          INTEGER PRIMARY KEY,
    at          INTEGER NOT NULL,  -- milliseconds since the epoch: hashed as a whole number
    act         TEXT NOT NULL,
    who         TEXT NOT NULL,
    channel     TEXT NOT NULL,
    message_id  INTEGER,
    delivery_id INTEGER,
    facts       TEXT NOT NULL,     -- JSON: channels, destination, files, numbers, peer
    hash        BLOB NOT NULL
);
CREATE INDEX audit_act ON audit (act);
CREATE INDEX audit_who ON audit (who);
CREATE INDEX audit_channel ON audit (channel) WHERE channel <> '';
CREATE INDEX audit_message_id ON audit (message_id) WHERE message_id IS NOT NULL;

CREATE TABLE audit_head (
    id          INTEGER PRIMARY KEY CHECK (id = 1),
    purged_id   INTEGER NOT NULL,
    purged_hash BLOB NOT NULL,
    last_id     INTEGER NOT NULL,
    last_hash   BLOB NOT NULL,
    seal        BLOB NOT NULL      -- keyed hash of the columns before; empty before the first entry
);
INSERT INTO audit_head VALUES (1, 0, zeroblob(32), 0, zeroblob(32), x'');

CREATE TRIGGER audit_append BEFORE INSERT ON audit
WHEN NEW.id IS NOT (SELECT last_id + 1 FROM audit_head)
BEGIN SELECT raise(ABORT, 'the audit trail grows at its end only'); END;

CREATE TRIGGER audit_update BEFORE UPDATE ON audit
BEGIN SELECT raise(ABORT, 'the audit trail is never changed'); END;

CREATE TRIGGER audit_delete BEFORE DELETE ON audit
WHEN OLD.id > (SELECT purged_id FROM audit_head)
BEGIN SELECT raise(ABORT, 'the audit trail loses its purged entries only'); END;

CREATE TRIGGER audit_head_insert BEFORE INSERT ON audit_head
BEGIN SELECT raise(ABORT, 'the audit trail has one head'); END;

CREATE TRIGGER audit_head_delete BEFORE DELETE ON audit_head
BEGIN SELECT raise(ABORT, 'the audit trail keeps its head'); END;

CREATE TRIGGER audit_head_update BEFORE UPDATE ON audit_head
WHEN NEW.last_id < OLD.last_id
    OR NEW.purged_id < OLD.purged_id
    OR NEW.purged_id >= NEW.last_id AND NEW.purged_id > 0
    OR NEW.purged_id > OLD.purged_id AND NEW.purged_hash IS NOT (SELECT hash FROM audit WHERE id = NEW.purged_id)
    OR NEW.last_id > 0 AND NEW.last_hash IS NOT (SELECT hash FROM audit WHERE id = NEW.last_id)
BEGIN SELECT raise(ABORT, 'the head of the audit trail only moves forward'); END;
