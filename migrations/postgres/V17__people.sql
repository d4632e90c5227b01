-- The twin of ../sqlite/V17__people.sql, which gives the reasons.
ALTER TABLE sessions ADD COLUMN external_id text COLLATE "C";
ALTER TABLE sessions ADD COLUMN external_bot_id text COLLATE "C";
ALTER TABLE sessions ADD COLUMN external_m365_tenant_id text COLLATE "C";
ALTER TABLE sessions ADD COLUMN end_user_id text COLLATE "C";
ALTER TABLE sessions ADD COLUMN end_user_name text COLLATE "C";
ALTER TABLE sessions ADD COLUMN end_user_email text COLLATE "C";

CREATE UNIQUE INDEX sessions_external ON sessions (tenant_no, external_id, created_by_kind, created_by_id)
  WHERE external_id IS NOT NULL AND archived_at IS NULL;
CREATE INDEX sessions_external_archived ON sessions (tenant_no, external_id, seq) WHERE external_id IS NOT NULL AND archived_at IS NOT NULL;
CREATE INDEX sessions_of_end_user ON sessions (tenant_no, end_user_id, archived, seq) WHERE end_user_id IS NOT NULL;

CREATE TABLE session_metadata (
  session_seq bigint NOT NULL REFERENCES sessions (seq) ON DELETE CASCADE,
  key         text COLLATE "C" NOT NULL,
  value       text COLLATE "C" NOT NULL,
  tenant_no   bigint NOT NULL,
  archived    bigint NOT NULL,
  PRIMARY KEY (session_seq, key)
);
CREATE INDEX session_metadata_newest ON session_metadata (tenant_no, key, value, archived, session_seq);
INSERT INTO session_metadata
SELECT s.seq, pair.key, pair.value, s.tenant_no, s.archived
FROM sessions s CROSS JOIN LATERAL json_each_text(CAST(s.metadata AS json)) pair WHERE s.metadata <> '{}';
