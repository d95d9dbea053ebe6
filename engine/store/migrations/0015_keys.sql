-- Fewer indexes for an idempotency key: each is a page of its own with every key that is opened.

-- A key has the id of its message, and is found by it, unless another one has that id.
DROP INDEX exchange_key_message_id;
CREATE INDEX exchange_key_message_id ON exchange_key (message_id) WHERE id <> message_id;

-- The members that stand in key_member, one behind the other: the first 16 bytes of each hash.
ALTER TABLE exchange_key ADD COLUMN member_hashes BLOB;  -- NULL: they stand there whole, and are found by the id

DROP INDEX key_member_key_id;
CREATE INDEX key_member_key_id ON key_member (key_id) WHERE length(member) = 32;
