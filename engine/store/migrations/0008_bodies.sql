-- Contents that are removed earlier than what is known of their messages, and large ones that are removed in units.

ALTER TABLE message ADD COLUMN bodies_removed_at REAL;  -- NULL: they are there

-- Up to which message of a channel and state contents were removed; what was passed by stands in body_left.
CREATE TABLE body_cursor (
    channel TEXT NOT NULL,
    state   TEXT NOT NULL,
    after   INTEGER NOT NULL,
    PRIMARY KEY (channel, state)
) WITHOUT ROWID;

-- Messages before the cursor of their channel whose contents are there still: they were unfinished, or may become
-- finished in another state.
CREATE TABLE body_left (
    message_id INTEGER PRIMARY KEY
);

CREATE TRIGGER message_not_left AFTER DELETE ON message
BEGIN DELETE FROM body_left WHERE message_id = OLD.id; END;

-- Runs that nothing refers to any more: their parts are removed a few at a time.
CREATE TABLE dropped_run (
    run INTEGER PRIMARY KEY
);

DROP TRIGGER run_without_body;
CREATE TRIGGER run_without_body AFTER DELETE ON large_body
WHEN NOT EXISTS (SELECT 1 FROM large_body WHERE run = OLD.run)
BEGIN INSERT OR IGNORE INTO dropped_run (run) VALUES (OLD.run); END;
