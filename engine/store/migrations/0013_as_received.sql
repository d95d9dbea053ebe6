-- Most messages go out under the MSH-10 they came with, which is found in message_control_id.

-- 1: a delivery's control id is its message's, and its own is empty.
ALTER TABLE delivery ADD COLUMN as_received INTEGER NOT NULL DEFAULT 0;
