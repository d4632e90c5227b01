-- What the management calls need beside: from where a change came, filters over the audit events, numbers that are never given twice,
-- and the time to an answer's first word.

ALTER TABLE audit_events ADD COLUMN remote TEXT;       -- the caller's address; NULL at the command line
CREATE INDEX audit_events_by_action ON audit_events (tenant_no, action);
CREATE INDEX audit_events_by_actor ON audit_events (tenant_no, actor_id);

-- The greatest number that the server gave to an agent: a deleted one's is not given again, since sessions remember it.
CREATE TABLE given_numbers (
  what  TEXT PRIMARY KEY CHECK (what IN ('agent')),
  last  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO given_numbers SELECT 'agent', coalesce(max(agent_id), 0) FROM agents WHERE agent_id < 4503599627370496;

ALTER TABLE api_keys ADD COLUMN own_expires_at INTEGER; -- as it was made: rotation ends a key sooner, and its successor not
UPDATE api_keys SET own_expires_at = expires_at;

ALTER TABLE turns ADD COLUMN first_word_at INTEGER;    -- NULL until then, and for an answer without words
CREATE INDEX turns_of_tenant ON turns (tenant_no);     -- with the row's seq behind it: a tenant's turns of a time, for its statistics

-- Channels and installs over the wire. Each index of channels ends in the row's seq: a list is one range, newest first.
CREATE INDEX channels_living ON channels (tenant_no) WHERE deleted_at IS NULL;
CREATE INDEX channels_of_agent ON channels (tenant_no, agent_id) WHERE deleted_at IS NULL; -- the filter; may an agent go
DROP INDEX channels_of_bot;
CREATE INDEX channels_of_bot ON channels (bot_id, tenant_no) -- rule b, the filter, and does another tenant carry this bot
  WHERE deleted_at IS NULL AND bot_id IS NOT NULL;
CREATE INDEX installs_of_directory ON installs (m365_tenant_id, tenant_no); -- may a tenant call this directory its home
CREATE INDEX end_companies_of_directory                -- the list of those that carry one M365 tenant, newest first
  ON end_companies (tenant_no, m365_tenant_id, seq) WHERE m365_tenant_id IS NOT NULL;
