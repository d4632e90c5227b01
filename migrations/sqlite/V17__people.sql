-- Who talks in a session, and the client's own name for it. All of it is NULL in a session that a client creates without it, which then
-- has no entry in these indexes.
ALTER TABLE sessions ADD COLUMN external_id TEXT;              -- the client's own id of the conversation
ALTER TABLE sessions ADD COLUMN external_bot_id TEXT;          -- the bot and the M365 tenant of the call that gave the external id: a later
ALTER TABLE sessions ADD COLUMN external_m365_tenant_id TEXT;  -- call with this id gets the session only if it has the same
ALTER TABLE sessions ADD COLUMN end_user_id TEXT;              -- NULL: nobody, or several people
ALTER TABLE sessions ADD COLUMN end_user_name TEXT;
ALTER TABLE sessions ADD COLUMN end_user_email TEXT;

-- An account has one open session of an external id in a tenant. `archived` is a column of other indexes, which SQLite would prefer to these.
CREATE UNIQUE INDEX sessions_external ON sessions (tenant_no, external_id, created_by_kind, created_by_id)
  WHERE external_id IS NOT NULL AND archived_at IS NULL;
CREATE INDEX sessions_external_archived ON sessions (tenant_no, external_id) WHERE external_id IS NOT NULL AND archived_at IS NOT NULL;
CREATE INDEX sessions_of_end_user ON sessions (tenant_no, end_user_id, archived) WHERE end_user_id IS NOT NULL;

-- The pairs of `sessions.metadata`, for the filter of the list. A session without metadata has no row.
CREATE TABLE session_metadata (
  session_seq INTEGER NOT NULL REFERENCES sessions (seq) ON DELETE CASCADE,
  key         TEXT NOT NULL,
  value       TEXT NOT NULL,
  tenant_no   INTEGER NOT NULL,                        -- the session's, as is the next one
  archived    INTEGER NOT NULL,
  PRIMARY KEY (session_seq, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX session_metadata_newest ON session_metadata (tenant_no, key, value, archived, session_seq);
INSERT INTO session_metadata
SELECT s.seq, pair.key, pair.value, s.tenant_no, s.archived FROM sessions s, json_each(s.metadata) pair WHERE s.metadata <> '{}';

-- A repeat of a create gets the first reply, in which a client of this version looks for the new fields.
UPDATE idempotency_keys SET reply = json_set(reply, '$.external_id', NULL, '$.end_user', NULL)
WHERE account_id LIKE '% /chat/sessions' AND reply IS NOT NULL;
