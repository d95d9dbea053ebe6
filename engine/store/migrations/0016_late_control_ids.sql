-- Control ids are put into their index many at a time: one at a time each would change a page of its own.

-- A message's control id while it stands in no index; control_id is empty then. NULL from then on, as in all messages
-- that were there before, and meta's patients_up_to counts for both.
ALTER TABLE message ADD COLUMN late_control_id TEXT;
