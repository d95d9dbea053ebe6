-- A body above a megabyte lies in parts, which are written in small units before the one that refers to them. A run of
-- parts serves a message and every delivery that holds what the message held.

CREATE TABLE body_part (
    id     INTEGER PRIMARY KEY,  -- number of the run * 65536 + number of the part
    sealed INTEGER NOT NULL,
    value  BLOB NOT NULL
);

CREATE TABLE large_body (
    id     INTEGER PRIMARY KEY,  -- of the message or delivery
    run    INTEGER NOT NULL,
    layout TEXT NOT NULL         -- JSON: [start, length] of the run, or [length] of what stands in the body's own row
);
CREATE INDEX large_body_run ON large_body (run);

-- Begun, and nothing refers to it yet: removed at start.
CREATE TABLE open_run (
    run INTEGER PRIMARY KEY
);

CREATE TRIGGER message_without_parts AFTER DELETE ON message
BEGIN DELETE FROM large_body WHERE id = OLD.id; END;

CREATE TRIGGER delivery_without_parts AFTER DELETE ON delivery
BEGIN DELETE FROM large_body WHERE id = OLD.id; END;

CREATE TRIGGER run_without_body AFTER DELETE ON large_body
WHEN NOT EXISTS (SELECT 1 FROM large_body WHERE run = OLD.run)
BEGIN DELETE FROM body_part WHERE id >= OLD.run * 65536 AND id < (OLD.run + 1) * 65536; END;
