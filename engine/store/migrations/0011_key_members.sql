-- The members of the request that a key is found by: names with line breaks between and around them. NULL: all of them.

ALTER TABLE exchange_key ADD COLUMN members TEXT;
