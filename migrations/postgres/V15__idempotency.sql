-- The twin of ../sqlite/V15__idempotency.sql, which gives the reasons.
ALTER TABLE idempotency_keys ADD COLUMN tenant_no bigint NOT NULL DEFAULT 0;
ALTER TABLE idempotency_keys ADD COLUMN status bigint NOT NULL DEFAULT 201;
ALTER TABLE idempotency_keys ADD COLUMN location text COLLATE "C";

CREATE INDEX idempotency_keys_of_thing ON idempotency_keys (tenant_no, location) WHERE location IS NOT NULL;
