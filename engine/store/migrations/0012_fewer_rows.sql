-- Fewer rows and fewer indexes for a message.

-- What is received and what is sent of it stand in one row, where they are written together: first what was received,
-- `length` bytes of it; NULL: nothing follows.
ALTER TABLE message_body ADD COLUMN length INTEGER;

-- Which stretch of its message's row a delivery's body is; NULL: it has a row of its own, or none.
ALTER TABLE delivery ADD COLUMN body_start INTEGER;
ALTER TABLE delivery ADD COLUMN body_length INTEGER;

-- The partner's last answer, unless it is so long that it stands in delivery_answer.
ALTER TABLE delivery ADD COLUMN sealed INTEGER NOT NULL DEFAULT 0;  -- of `answer`
ALTER TABLE delivery ADD COLUMN answer BLOB;

-- A channel's deliveries of a message are found state by state in delivery_state.
DROP INDEX delivery_message_id;

-- A correlation id that the engine made for a message ends in the id of that message, which is found by it.
DROP INDEX message_correlation_id;
CREATE INDEX message_correlation_id ON message (correlation_id)
    WHERE CAST(substr(correlation_id, -12) AS INTEGER) <> id;
