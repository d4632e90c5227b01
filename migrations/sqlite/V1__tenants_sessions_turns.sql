-- Times are milliseconds since 1970 UTC; booleans are 0 or 1; M365 tenant ids and bot ids are stored in lower case.
-- Every noun has a `seq`: the first 60 bits of its time-ordered id (millisecond, then a counter), so that it is creation order,
-- a compact key for joins and the keyset of every list at once. The 16-byte `id` adds random bits; look-ups compare both.

CREATE TABLE tenants (
  tenant_no             INTEGER PRIMARY KEY,           -- internal name of the MSP: leads every key below
  seq                   INTEGER NOT NULL UNIQUE,
  client_id             TEXT NOT NULL UNIQUE,
  name                  TEXT NOT NULL,
  entra_tenant_id       TEXT UNIQUE,                   -- a directory signs in to one MSP only
  rate_limit_per_minute INTEGER CHECK (rate_limit_per_minute >= 0), -- NULL: the server's; 0: none
  retention_days        INTEGER CHECK (retention_days > 0),         -- NULL: for ever
  knowledge_version     INTEGER NOT NULL DEFAULT 0,    -- grows with every change of an article: what was built from them is stale
  created_at            INTEGER NOT NULL
) STRICT;

CREATE TABLE agents (
  agent_id            INTEGER PRIMARY KEY,             -- unique over the server, so a routed id names one agent
  seq                 INTEGER NOT NULL,
  tenant_no           INTEGER NOT NULL REFERENCES tenants (tenant_no),
  name                TEXT NOT NULL,
  description         TEXT,
  autonomy_type       TEXT NOT NULL CHECK (autonomy_type IN ('CONVERSATIONAL', 'CHAINED_ACTIONS', 'AGENTIC')),
  audience            TEXT NOT NULL CHECK (audience IN ('MSP', 'END_USER')),
  access              TEXT NOT NULL CHECK (access IN ('ALL_USERS', 'ADMINS_ONLY', 'SPECIFIC_USERS')),
  allowed_users       TEXT NOT NULL,                   -- JSON array of user ids, which need not be known yet
  state               TEXT NOT NULL CHECK (state IN ('ENABLED', 'DISABLED')),
  custom_instructions TEXT,
  welcome_message     TEXT,
  suggested_prompts   TEXT NOT NULL,                   -- JSON array of strings
  managed_agent_key   TEXT CHECK (managed_agent_key IN ('NEO_SUPPORT')),
  version             INTEGER NOT NULL,
  created_at          INTEGER NOT NULL,
  updated_at          INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX agents_newest ON agents (tenant_no, seq);                -- the list
CREATE UNIQUE INDEX agents_managed ON agents (tenant_no, managed_agent_key)  -- rule c
  WHERE managed_agent_key IS NOT NULL;

CREATE TABLE end_companies (
  tenant_no           INTEGER NOT NULL REFERENCES tenants (tenant_no),
  psa_company_id      TEXT NOT NULL,
  seq                 INTEGER NOT NULL,
  psa_company_name    TEXT NOT NULL,
  m365_tenant_id      TEXT,                            -- the link; several companies may carry one, chat is then refused
  custom_instructions TEXT,
  custom_instructions_for_user_facing_chat TEXT,
  created_at          INTEGER NOT NULL,
  updated_at          INTEGER NOT NULL,
  PRIMARY KEY (tenant_no, psa_company_id)
) STRICT;
CREATE UNIQUE INDEX end_companies_newest ON end_companies (tenant_no, seq);  -- the list
CREATE INDEX end_companies_linked                                            -- pinning: who carries this M365 tenant
  ON end_companies (tenant_no, m365_tenant_id, psa_company_id) WHERE m365_tenant_id IS NOT NULL;

CREATE TABLE channels (
  seq                       INTEGER PRIMARY KEY,
  id                        BLOB NOT NULL,
  tenant_no                 INTEGER NOT NULL REFERENCES tenants (tenant_no),
  internal_name             TEXT NOT NULL,
  audience                  TEXT NOT NULL CHECK (audience IN ('MSP', 'END_USER')),
  transport                 TEXT NOT NULL CHECK (transport IN ('TEAMS')),
  status                    TEXT NOT NULL CHECK (status IN ('ACTIVE', 'DISCONNECTED')),
  bot_id                    TEXT,
  agent_id                  INTEGER NOT NULL,          -- no foreign key: a deleted channel keeps the number of an agent that may go
  display_name              TEXT,
  description               TEXT,
  welcome_message           TEXT,
  color_icon_url            TEXT,
  outline_icon_url          TEXT,
  relay_prefix              TEXT,
  show_agent_progress_steps INTEGER NOT NULL,
  created_at                INTEGER NOT NULL,
  updated_at                INTEGER NOT NULL,
  deleted_at                INTEGER                    -- soft: its installs go on refusing what was routed through it
) STRICT;
CREATE UNIQUE INDEX channels_newest ON channels (tenant_no, seq);
CREATE UNIQUE INDEX channels_named ON channels (tenant_no, internal_name) WHERE deleted_at IS NULL;
CREATE INDEX channels_of_bot ON channels (tenant_no, bot_id, seq)            -- rule b
  WHERE deleted_at IS NULL AND bot_id IS NOT NULL;

CREATE TABLE installs (
  seq            INTEGER PRIMARY KEY,
  id             BLOB NOT NULL,
  tenant_no      INTEGER NOT NULL REFERENCES tenants (tenant_no),
  channel_seq    INTEGER NOT NULL REFERENCES channels (seq),
  bot_id         TEXT,                                 -- its channel's, kept here so that one index answers rule a
  m365_tenant_id TEXT NOT NULL,
  created_at     INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX installs_routed ON installs (bot_id, m365_tenant_id);    -- rule a: one per bot and directory on the server
CREATE UNIQUE INDEX installs_bound ON installs (tenant_no, m365_tenant_id);  -- one per MSP and directory, whichever bot
CREATE INDEX installs_of_channel ON installs (channel_seq, seq);

CREATE TABLE unlinked_tenants (                        -- who was refused for want of exactly one company, for the admin to link
  tenant_no      INTEGER NOT NULL REFERENCES tenants (tenant_no),
  m365_tenant_id TEXT NOT NULL,
  seq            INTEGER NOT NULL,
  channel_id     BLOB,
  bot_id         TEXT,
  attempts       INTEGER NOT NULL,
  first_seen_at  INTEGER NOT NULL,
  last_seen_at   INTEGER NOT NULL,
  PRIMARY KEY (tenant_no, m365_tenant_id)
) STRICT;
CREATE UNIQUE INDEX unlinked_tenants_newest ON unlinked_tenants (tenant_no, seq);
CREATE INDEX unlinked_tenants_stalest ON unlinked_tenants (tenant_no, last_seen_at); -- which row makes room at the limit

CREATE TABLE knowledge_articles (
  seq            INTEGER PRIMARY KEY,
  id             BLOB NOT NULL,
  tenant_no      INTEGER NOT NULL REFERENCES tenants (tenant_no),
  title          TEXT NOT NULL,
  body           TEXT NOT NULL,
  url            TEXT,
  audience       TEXT NOT NULL CHECK (audience IN ('MSP', 'END_USER')),
  psa_company_id TEXT,                                 -- NULL: shared by all of the MSP's companies
  agent_ids      TEXT NOT NULL,                        -- JSON array; empty: all agents
  created_at     INTEGER NOT NULL,
  updated_at     INTEGER NOT NULL,
  FOREIGN KEY (tenant_no, psa_company_id) REFERENCES end_companies (tenant_no, psa_company_id)
) STRICT;
CREATE UNIQUE INDEX knowledge_articles_newest ON knowledge_articles (tenant_no, seq);
CREATE UNIQUE INDEX knowledge_articles_titled ON knowledge_articles (tenant_no, title);
CREATE INDEX knowledge_articles_of_company ON knowledge_articles (tenant_no, psa_company_id);

CREATE TABLE users (                                   -- people who sign in through Entra ID
  tenant_no    INTEGER NOT NULL REFERENCES tenants (tenant_no),
  user_id      TEXT NOT NULL,                          -- the token's oid
  seq          INTEGER NOT NULL,
  name         TEXT,
  email        TEXT,
  role         TEXT NOT NULL CHECK (role IN ('ADMIN', 'USER', 'VIEWER')),
  last_seen_at INTEGER,
  PRIMARY KEY (tenant_no, user_id)
) STRICT;
CREATE UNIQUE INDEX users_newest ON users (tenant_no, seq);

CREATE TABLE api_keys (
  seq          INTEGER PRIMARY KEY,
  id           BLOB NOT NULL,
  tenant_no    INTEGER NOT NULL REFERENCES tenants (tenant_no),
  account_id   BLOB NOT NULL,                          -- the first key's id: rotation keeps the account
  name         TEXT NOT NULL,
  sha256       BLOB NOT NULL UNIQUE,                   -- of the whole key; 256 random bits need no slow hash
  hint         TEXT NOT NULL,
  platform     INTEGER NOT NULL,
  created_at   INTEGER NOT NULL,
  expires_at   INTEGER,
  last_used_at INTEGER,
  revoked_at   INTEGER
) STRICT;
CREATE UNIQUE INDEX api_keys_newest ON api_keys (tenant_no, seq);
CREATE INDEX api_keys_named ON api_keys (tenant_no, name);

CREATE TABLE sessions (
  seq                       INTEGER PRIMARY KEY,
  id                        BLOB NOT NULL,
  tenant_no                 INTEGER NOT NULL REFERENCES tenants (tenant_no), -- the acting MSP
  agent_id                  INTEGER NOT NULL,          -- no foreign key: sessions outlive their agent
  channel                   TEXT NOT NULL CHECK (channel IN ('DASHBOARD', 'TEAMS', 'API')),
  title                     TEXT,
  show_agent_progress_steps INTEGER NOT NULL,
  channel_seq               INTEGER,
  channel_id                BLOB,
  psa_company_id            TEXT,                      -- the pin; never changes
  inbound_m365_tenant_id    TEXT,                      -- the directory that a pinned session was routed by
  rule                      TEXT NOT NULL,
  created_by_kind           TEXT NOT NULL,
  created_by_id             TEXT NOT NULL,
  created_by_name           TEXT,
  platform_tenant_no        INTEGER,                   -- set when a platform account made it: that account's own MSP
  shared                    INTEGER NOT NULL DEFAULT 0,
  message_count             INTEGER NOT NULL DEFAULT 0,
  metadata                  TEXT NOT NULL,
  archived                  INTEGER NOT NULL DEFAULT 0,
  archived_at               INTEGER,
  created_at                INTEGER NOT NULL,
  updated_at                INTEGER NOT NULL,
  CHECK (archived = (archived_at IS NOT NULL))
) STRICT;
-- Each ends in the row's seq, as every index of SQLite does: one range is one list, newest first.
CREATE INDEX sessions_newest ON sessions (tenant_no, archived);
CREATE INDEX sessions_of_agent ON sessions (tenant_no, agent_id, archived);
CREATE INDEX sessions_of_channel ON sessions (tenant_no, channel_seq, archived) WHERE channel_seq IS NOT NULL;
CREATE INDEX sessions_of_company ON sessions (tenant_no, psa_company_id, archived) WHERE psa_company_id IS NOT NULL;
CREATE INDEX sessions_of_platform ON sessions (tenant_no, platform_tenant_no, archived) WHERE platform_tenant_no IS NOT NULL;
CREATE INDEX sessions_of_user ON sessions (tenant_no, created_by_id, archived) WHERE created_by_kind = 'dashboard_user';
CREATE INDEX sessions_shared ON sessions (tenant_no, archived) WHERE shared = 1;

CREATE TABLE messages (
  seq           INTEGER PRIMARY KEY,
  id            BLOB NOT NULL,
  session_seq   INTEGER NOT NULL REFERENCES sessions (seq) ON DELETE CASCADE,
  turn_seq      INTEGER NOT NULL,
  role          TEXT NOT NULL CHECK (role IN ('user', 'assistant')),
  content       TEXT NOT NULL,
  parts         TEXT,                                  -- JSON; NULL: one text part with the content
  finish_reason TEXT,
  rating        TEXT CHECK (rating IN ('UP', 'DOWN')),
  comment       TEXT,
  created_at    INTEGER NOT NULL
) STRICT;
CREATE INDEX messages_of_session ON messages (session_seq);

CREATE TABLE turns (
  seq                  INTEGER PRIMARY KEY,
  id                   BLOB NOT NULL,
  session_seq          INTEGER NOT NULL REFERENCES sessions (seq) ON DELETE CASCADE,
  tenant_no            INTEGER NOT NULL REFERENCES tenants (tenant_no),
  status               TEXT NOT NULL CHECK (status IN ('QUEUED', 'RUNNING', 'COMPLETED', 'FAILED', 'CANCELLED')),
  model_tier           TEXT NOT NULL CHECK (model_tier IN ('FAST', 'SMART')),
  client_message_id    TEXT,
  user_message_id      BLOB NOT NULL,
  assistant_message_id BLOB NOT NULL,                  -- made with the turn, so that an answer that runs again keeps it
  since_tick           INTEGER NOT NULL,               -- the cursor just before the turn's start: 0 for a session's first turn
  error_code           TEXT,
  error_message        TEXT,
  input_tokens         INTEGER,
  output_tokens        INTEGER,
  queued_at            INTEGER NOT NULL,
  started_at           INTEGER,
  finished_at          INTEGER,
  terminal_tick        INTEGER                         -- the cursor of its last envelope; NULL while its stream has still to be written
) STRICT;
CREATE INDEX turns_of_session ON turns (session_seq);
CREATE INDEX turns_unsettled ON turns (session_seq) WHERE terminal_tick IS NULL; -- the queue
CREATE INDEX turns_waiting ON turns (session_seq) WHERE status = 'QUEUED';
CREATE UNIQUE INDEX turns_deduplicated ON turns (session_seq, client_message_id) WHERE client_message_id IS NOT NULL;

CREATE TABLE turn_logs (                               -- a settled turn's envelopes, one unbroken run of the session's stream
  turn_seq    INTEGER PRIMARY KEY REFERENCES turns (seq) ON DELETE CASCADE,
  session_seq INTEGER NOT NULL,
  last_tick   INTEGER NOT NULL,
  log         TEXT NOT NULL                            -- JSON; deltas are joined, with the places where they were cut
) STRICT;
CREATE INDEX turn_logs_of_session ON turn_logs (session_seq, last_tick);     -- which run a cursor lies in or before

CREATE TABLE attachments (
  seq          INTEGER PRIMARY KEY,
  id           BLOB NOT NULL,
  session_seq  INTEGER NOT NULL REFERENCES sessions (seq) ON DELETE CASCADE,
  mime         TEXT NOT NULL,
  filename     TEXT,
  bytes        INTEGER,                                -- NULL until it was uploaded
  message_seq  INTEGER,                                -- NULL until a message carries it
  place        INTEGER,                                -- which of the message's files it is
  alt          TEXT,
  created_at   INTEGER NOT NULL
) STRICT;
CREATE INDEX attachments_of_session ON attachments (session_seq, message_seq); -- a page of messages; what waits
CREATE INDEX attachments_waiting ON attachments (created_at) WHERE message_seq IS NULL;
CREATE TABLE attachment_contents (                     -- apart, so that what is said of a file is read and changed without it
  attachment_seq INTEGER PRIMARY KEY REFERENCES attachments (seq) ON DELETE CASCADE,
  content        BLOB NOT NULL
) STRICT;

CREATE TABLE idempotency_keys (
  account_id  TEXT NOT NULL,
  key         TEXT NOT NULL,
  body_sha256 BLOB NOT NULL,
  session_seq INTEGER NOT NULL,
  reply       TEXT,                                    -- the first reply's data; NULL once its session was deleted
  created_at  INTEGER NOT NULL,
  PRIMARY KEY (account_id, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_keys_oldest ON idempotency_keys (created_at);
CREATE INDEX idempotency_keys_of_session ON idempotency_keys (session_seq);

CREATE TABLE session_tokens (
  jti            BLOB PRIMARY KEY,
  session_seq    INTEGER NOT NULL REFERENCES sessions (seq) ON DELETE CASCADE,
  tenant_no      INTEGER NOT NULL REFERENCES tenants (tenant_no),
  minted_by_kind TEXT NOT NULL,
  minted_by_id   TEXT NOT NULL,
  minted_by_key  INTEGER REFERENCES api_keys (seq),    -- revoking the key revokes the token
  end_user       TEXT,
  end_user_email TEXT,
  psa_company_id TEXT,                                 -- what the minter said; the session's own company rules
  created_at     INTEGER NOT NULL,
  expires_at     INTEGER NOT NULL,
  revoked_at     INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX session_tokens_of_session ON session_tokens (session_seq);
CREATE INDEX session_tokens_oldest ON session_tokens (expires_at);

CREATE TABLE audit_events (
  seq        INTEGER PRIMARY KEY,
  id         BLOB NOT NULL,
  tenant_no  INTEGER NOT NULL REFERENCES tenants (tenant_no),
  actor_kind TEXT NOT NULL,
  actor_id   TEXT NOT NULL,
  actor_name TEXT,
  action     TEXT NOT NULL,
  target     TEXT,
  details    TEXT NOT NULL,
  request_id BLOB,
  created_at INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX audit_events_newest ON audit_events (tenant_no, seq);

-- Search over messages and titles. The text stays in its own table; a background pass adds what is new, so that an append pays nothing.
CREATE VIRTUAL TABLE message_search USING fts5 (scope, words, content = '', tokenize = 'unicode61 remove_diacritics 2');
CREATE VIRTUAL TABLE title_search USING fts5 (scope, words, content = '', tokenize = 'unicode61 remove_diacritics 2');
-- What is deleted leaves the index at once, not at some later merge.
INSERT INTO message_search (message_search, rank) VALUES ('secure-delete', 1);
INSERT INTO title_search (title_search, rank) VALUES ('secure-delete', 1);
CREATE TABLE search_progress (
  what     TEXT PRIMARY KEY CHECK (what IN ('messages')),
  done_seq INTEGER NOT NULL                            -- every message up to this one is in the index
) STRICT, WITHOUT ROWID;
INSERT INTO search_progress VALUES ('messages', 0);
