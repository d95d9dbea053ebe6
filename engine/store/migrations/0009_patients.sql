-- Patient hashes come with their message, and are put into the table patient many at a time: one at a time each would
-- change a page of its own.

ALTER TABLE message ADD COLUMN patients BLOB;  -- its hashes, one behind the other

-- Hashes of messages up to this one stand in the table patient, those of later ones in their messages alone.
INSERT INTO meta (name, value) SELECT 'patients_up_to', coalesce(max(id), 0) FROM message;
