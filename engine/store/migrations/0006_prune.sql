-- What a message leaves when it is removed: nothing that an idempotency key still stands for, and no patient's hash.

CREATE INDEX exchange_key_message_id ON exchange_key (message_id);

-- Buckets of the table patient in which hashes of removed messages may be left: swept in units of their own.
CREATE TABLE pruned_bucket (
    bucket INTEGER PRIMARY KEY
);
