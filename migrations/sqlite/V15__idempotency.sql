-- An idempotency key works on each call that creates something, not on the creation of a session alone. A key belongs to an account and a
-- path, so that `account_id` now ends with the path.
ALTER TABLE idempotency_keys ADD COLUMN tenant_no INTEGER NOT NULL DEFAULT 0;  -- the tenant of the created thing, on which a repeat counts
ALTER TABLE idempotency_keys ADD COLUMN status INTEGER NOT NULL DEFAULT 201;   -- the first reply's status
ALTER TABLE idempotency_keys ADD COLUMN location TEXT;                         -- the path of the created thing; NULL for a session and a message

UPDATE idempotency_keys
SET account_id = account_id || ' /chat/sessions',
    tenant_no = coalesce((SELECT s.tenant_no FROM sessions s WHERE s.seq = idempotency_keys.session_seq), 0);

-- The deletion of a thing clears the reply that shows it.
CREATE INDEX idempotency_keys_of_thing ON idempotency_keys (tenant_no, location) WHERE location IS NOT NULL;
