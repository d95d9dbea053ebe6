-- What a sender was told.

-- Application acks that are not decided yet and go out on a connection of their own.
CREATE INDEX message_ack_owed ON message (channel) WHERE ack = 'owed';

-- Acks that are more than a code: a partner's own answer, as its sender got it.
CREATE TABLE message_ack (
    message_id INTEGER PRIMARY KEY,
    sealed     INTEGER NOT NULL,
    answer     BLOB NOT NULL
);

CREATE TRIGGER message_without_ack AFTER DELETE ON message
BEGIN DELETE FROM message_ack WHERE message_id = OLD.id; END;
