-- The twin of ../sqlite/V2__management.sql, which gives the reasons.
ALTER TABLE audit_events ADD COLUMN remote text COLLATE "C";
CREATE INDEX audit_events_by_action ON audit_events (tenant_no, action, seq);
CREATE INDEX audit_events_by_actor ON audit_events (tenant_no, actor_id, seq);

CREATE TABLE given_numbers (
  what  text COLLATE "C" PRIMARY KEY CHECK (what IN ('agent')),
  last  bigint NOT NULL
);
INSERT INTO given_numbers VALUES ('agent', 0);

ALTER TABLE api_keys ADD COLUMN own_expires_at bigint;

ALTER TABLE turns ADD COLUMN first_word_at bigint;
CREATE INDEX turns_of_tenant ON turns (tenant_no, seq);

CREATE INDEX channels_living ON channels (tenant_no, seq) WHERE deleted_at IS NULL;
CREATE INDEX channels_of_agent ON channels (tenant_no, agent_id, seq) WHERE deleted_at IS NULL;
DROP INDEX channels_of_bot;
CREATE INDEX channels_of_bot ON channels (bot_id, tenant_no, seq)
  WHERE deleted_at IS NULL AND bot_id IS NOT NULL;
CREATE INDEX installs_of_directory ON installs (m365_tenant_id, tenant_no, seq);
CREATE INDEX end_companies_of_directory
  ON end_companies (tenant_no, m365_tenant_id, seq) WHERE m365_tenant_id IS NOT NULL;
