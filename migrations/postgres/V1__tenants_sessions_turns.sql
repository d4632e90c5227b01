-- The twin of ../sqlite/V1__tenants_sessions_turns.sql, which gives the reasons.
-- Two rules hold for all twins. Integers and booleans are `bigint`, blobs are `bytea`, and texts sort by their bytes, as in SQLite. An index
-- names the row's number at its end, which every index of SQLite has implicitly: one range is one list, newest first.
-- What V5, V7 and V13 change in tables of this file is as they leave it.
CREATE TABLE tenants (
  tenant_no             bigint PRIMARY KEY,
  seq                   bigint NOT NULL UNIQUE,
  client_id             text COLLATE "C" NOT NULL UNIQUE,
  name                  text COLLATE "C" NOT NULL,
  entra_tenant_id       text COLLATE "C" UNIQUE,
  rate_limit_per_minute bigint CHECK (rate_limit_per_minute >= 0),
  retention_days        bigint CHECK (retention_days > 0),
  knowledge_version     bigint NOT NULL DEFAULT 0,
  created_at            bigint NOT NULL
);

CREATE TABLE agents (
  agent_id            bigint PRIMARY KEY,
  seq                 bigint NOT NULL,
  tenant_no           bigint NOT NULL REFERENCES tenants (tenant_no),
  name                text COLLATE "C" NOT NULL,
  description         text COLLATE "C",
  autonomy_type       text COLLATE "C" NOT NULL CHECK (autonomy_type IN ('CONVERSATIONAL', 'CHAINED_ACTIONS', 'AGENTIC')),
  audience            text COLLATE "C" NOT NULL CHECK (audience IN ('MSP', 'END_USER')),
  access              text COLLATE "C" NOT NULL CHECK (access IN ('ALL_USERS', 'ADMINS_ONLY', 'SPECIFIC_USERS')),
  allowed_users       text COLLATE "C" NOT NULL,
  state               text COLLATE "C" NOT NULL CHECK (state IN ('ENABLED', 'DISABLED')),
  custom_instructions text COLLATE "C",
  welcome_message     text COLLATE "C",
  suggested_prompts   text COLLATE "C" NOT NULL,
  managed_agent_key   text COLLATE "C" CHECK (managed_agent_key IN ('NEO_SUPPORT')),
  version             bigint NOT NULL,
  created_at          bigint NOT NULL,
  updated_at          bigint NOT NULL
);
CREATE UNIQUE INDEX agents_newest ON agents (tenant_no, seq);
CREATE UNIQUE INDEX agents_managed ON agents (tenant_no, managed_agent_key)
  WHERE managed_agent_key IS NOT NULL;

CREATE TABLE end_companies (
  tenant_no           bigint NOT NULL REFERENCES tenants (tenant_no),
  psa_company_id      text COLLATE "C" NOT NULL,
  seq                 bigint NOT NULL,
  psa_company_name    text COLLATE "C" NOT NULL,
  m365_tenant_id      text COLLATE "C",
  custom_instructions text COLLATE "C",
  custom_instructions_for_user_facing_chat text COLLATE "C",
  created_at          bigint NOT NULL,
  updated_at          bigint NOT NULL,
  PRIMARY KEY (tenant_no, psa_company_id)
);
CREATE UNIQUE INDEX end_companies_newest ON end_companies (tenant_no, seq);
CREATE INDEX end_companies_linked
  ON end_companies (tenant_no, m365_tenant_id, psa_company_id) WHERE m365_tenant_id IS NOT NULL;

CREATE TABLE channels (
  seq                       bigint PRIMARY KEY,
  id                        bytea NOT NULL,
  tenant_no                 bigint NOT NULL REFERENCES tenants (tenant_no),
  internal_name             text COLLATE "C" NOT NULL,
  audience                  text COLLATE "C" NOT NULL CHECK (audience IN ('MSP', 'END_USER')),
  transport                 text COLLATE "C" NOT NULL CHECK (transport IN ('TEAMS')),
  status                    text COLLATE "C" NOT NULL CHECK (status IN ('ACTIVE', 'DISCONNECTED')),
  bot_id                    text COLLATE "C",
  agent_id                  bigint NOT NULL,
  display_name              text COLLATE "C",
  description               text COLLATE "C",
  welcome_message           text COLLATE "C",
  color_icon_url            text COLLATE "C",
  outline_icon_url          text COLLATE "C",
  relay_prefix              text COLLATE "C",
  show_agent_progress_steps bigint NOT NULL,
  created_at                bigint NOT NULL,
  updated_at                bigint NOT NULL,
  deleted_at                bigint
);
CREATE UNIQUE INDEX channels_newest ON channels (tenant_no, seq);
CREATE UNIQUE INDEX channels_named ON channels (tenant_no, internal_name) WHERE deleted_at IS NULL;
CREATE INDEX channels_of_bot ON channels (tenant_no, bot_id, seq)
  WHERE deleted_at IS NULL AND bot_id IS NOT NULL;

CREATE TABLE installs (
  seq            bigint PRIMARY KEY,
  id             bytea NOT NULL,
  tenant_no      bigint NOT NULL REFERENCES tenants (tenant_no),
  channel_seq    bigint NOT NULL REFERENCES channels (seq),
  bot_id         text COLLATE "C",
  m365_tenant_id text COLLATE "C" NOT NULL,
  created_at     bigint NOT NULL
);
CREATE UNIQUE INDEX installs_routed ON installs (bot_id, m365_tenant_id);
CREATE UNIQUE INDEX installs_bound ON installs (tenant_no, m365_tenant_id);
CREATE INDEX installs_of_channel ON installs (channel_seq, seq);

CREATE TABLE unlinked_tenants (
  tenant_no      bigint NOT NULL REFERENCES tenants (tenant_no),
  m365_tenant_id text COLLATE "C" NOT NULL,
  seq            bigint NOT NULL,
  channel_id     bytea,
  bot_id         text COLLATE "C",
  attempts       bigint NOT NULL,
  first_seen_at  bigint NOT NULL,
  last_seen_at   bigint NOT NULL,
  PRIMARY KEY (tenant_no, m365_tenant_id)
);
CREATE UNIQUE INDEX unlinked_tenants_newest ON unlinked_tenants (tenant_no, seq);
CREATE INDEX unlinked_tenants_stalest ON unlinked_tenants (tenant_no, last_seen_at);

CREATE TABLE knowledge_articles (
  seq            bigint PRIMARY KEY,
  id             bytea NOT NULL,
  tenant_no      bigint NOT NULL REFERENCES tenants (tenant_no),
  title          text COLLATE "C" NOT NULL,
  body           text COLLATE "C" NOT NULL,
  url            text COLLATE "C",
  audience       text COLLATE "C" NOT NULL CHECK (audience IN ('MSP', 'END_USER')),
  psa_company_id text COLLATE "C",
  agent_ids      text COLLATE "C" NOT NULL,
  created_at     bigint NOT NULL,
  updated_at     bigint NOT NULL,
  FOREIGN KEY (tenant_no, psa_company_id) REFERENCES end_companies (tenant_no, psa_company_id)
);
CREATE UNIQUE INDEX knowledge_articles_newest ON knowledge_articles (tenant_no, seq);
CREATE UNIQUE INDEX knowledge_articles_titled ON knowledge_articles (tenant_no, title);
CREATE INDEX knowledge_articles_of_company ON knowledge_articles (tenant_no, psa_company_id, seq);

CREATE TABLE users (
  tenant_no    bigint NOT NULL REFERENCES tenants (tenant_no),
  user_id      text COLLATE "C" NOT NULL,
  seq          bigint NOT NULL,
  name         text COLLATE "C",
  email        text COLLATE "C",
  role         text COLLATE "C" NOT NULL CHECK (role IN ('ADMIN', 'USER', 'VIEWER')),
  last_seen_at bigint,
  PRIMARY KEY (tenant_no, user_id)
);
CREATE UNIQUE INDEX users_newest ON users (tenant_no, seq);

CREATE TABLE api_keys (
  seq          bigint PRIMARY KEY,
  id           bytea NOT NULL,
  tenant_no    bigint NOT NULL REFERENCES tenants (tenant_no),
  account_id   bytea NOT NULL,
  name         text COLLATE "C" NOT NULL,
  sha256       bytea NOT NULL UNIQUE,
  hint         text COLLATE "C" NOT NULL,
  platform     bigint NOT NULL,
  created_at   bigint NOT NULL,
  expires_at   bigint,
  last_used_at bigint,
  revoked_at   bigint
);
CREATE UNIQUE INDEX api_keys_newest ON api_keys (tenant_no, seq);
CREATE INDEX api_keys_named ON api_keys (tenant_no, name, seq);

CREATE TABLE sessions (
  seq                       bigint PRIMARY KEY,
  id                        bytea NOT NULL,
  tenant_no                 bigint NOT NULL REFERENCES tenants (tenant_no),
  agent_id                  bigint NOT NULL,
  channel                   text COLLATE "C" NOT NULL CHECK (channel = 'DASHBOARD' OR channel = 'TEAMS' OR channel = 'API'),
  title                     text COLLATE "C",
  show_agent_progress_steps bigint NOT NULL,
  channel_seq               bigint,
  channel_id                bytea,
  psa_company_id            text COLLATE "C",
  inbound_m365_tenant_id    text COLLATE "C",
  rule                      text COLLATE "C" NOT NULL,
  created_by_kind           text COLLATE "C" NOT NULL,
  created_by_id             text COLLATE "C" NOT NULL,
  created_by_name           text COLLATE "C",
  platform_tenant_no        bigint,
  shared                    bigint NOT NULL DEFAULT 0,
  message_count             bigint NOT NULL DEFAULT 0,
  metadata                  text COLLATE "C" NOT NULL,
  archived                  bigint NOT NULL DEFAULT 0,
  archived_at               bigint,
  created_at                bigint NOT NULL,
  updated_at                bigint NOT NULL,
  CHECK ((archived = 1) = (archived_at IS NOT NULL) AND archived IN (0, 1))
);

CREATE INDEX sessions_newest ON sessions (tenant_no, archived, seq);
CREATE INDEX sessions_of_agent ON sessions (tenant_no, agent_id, archived, seq);
CREATE INDEX sessions_of_channel ON sessions (tenant_no, channel_seq, archived, seq) WHERE channel_seq IS NOT NULL;
CREATE INDEX sessions_of_company ON sessions (tenant_no, psa_company_id, archived, seq) WHERE psa_company_id IS NOT NULL;
CREATE INDEX sessions_of_platform ON sessions (tenant_no, platform_tenant_no, archived, seq) WHERE platform_tenant_no IS NOT NULL;
CREATE INDEX sessions_of_user ON sessions (tenant_no, created_by_id, archived, seq) WHERE created_by_kind = 'dashboard_user';
CREATE INDEX sessions_shared ON sessions (tenant_no, archived, seq) WHERE shared = 1;

CREATE TABLE messages (
  seq           bigint PRIMARY KEY,
  id            bytea NOT NULL,
  session_seq   bigint NOT NULL,
  turn_seq      bigint NOT NULL,
  role          text COLLATE "C" NOT NULL CHECK (role IN ('user', 'assistant')),
  content       text COLLATE "C" NOT NULL,
  parts         text COLLATE "C",
  finish_reason text COLLATE "C",
  rating        text COLLATE "C" CHECK (rating IN ('UP', 'DOWN')),
  comment       text COLLATE "C",
  created_at    bigint NOT NULL
);
CREATE INDEX messages_of_session ON messages (session_seq, seq);

CREATE TABLE turns (
  seq                  bigint PRIMARY KEY,
  id                   bytea NOT NULL,
  session_seq          bigint NOT NULL,
  tenant_no            bigint NOT NULL REFERENCES tenants (tenant_no),
  status               text COLLATE "C" NOT NULL CHECK (status = 'QUEUED' OR status = 'RUNNING' OR status = 'COMPLETED' OR status = 'FAILED' OR status = 'CANCELLED'),
  model_tier           text COLLATE "C" NOT NULL CHECK (model_tier IN ('FAST', 'SMART')),
  client_message_id    text COLLATE "C",
  user_message_id      bytea NOT NULL,
  assistant_message_id bytea NOT NULL,
  since_tick           bigint NOT NULL,
  error_code           text COLLATE "C",
  error_message        text COLLATE "C",
  input_tokens         bigint,
  output_tokens        bigint,
  queued_at            bigint NOT NULL,
  started_at           bigint,
  finished_at          bigint,
  terminal_tick        bigint
);
CREATE INDEX turns_of_session ON turns (session_seq, seq);
CREATE INDEX turns_unsettled ON turns (session_seq, seq) WHERE terminal_tick IS NULL;
CREATE INDEX turns_waiting ON turns (session_seq, seq) WHERE status = 'QUEUED';
CREATE UNIQUE INDEX turns_deduplicated ON turns (session_seq, client_message_id) WHERE client_message_id IS NOT NULL;

CREATE TABLE turn_logs (
  turn_seq    bigint PRIMARY KEY REFERENCES turns (seq) ON DELETE CASCADE,
  session_seq bigint NOT NULL,
  last_tick   bigint NOT NULL,
  log         text COLLATE "C" NOT NULL
);
CREATE INDEX turn_logs_of_session ON turn_logs (session_seq, last_tick, turn_seq);

CREATE TABLE attachments (
  seq          bigint PRIMARY KEY,
  id           bytea NOT NULL,
  session_seq  bigint NOT NULL,
  mime         text COLLATE "C" NOT NULL,
  filename     text COLLATE "C",
  bytes        bigint,
  message_seq  bigint,
  place        bigint,
  alt          text COLLATE "C",
  created_at   bigint NOT NULL
);
CREATE INDEX attachments_of_session ON attachments (session_seq, message_seq, seq);
CREATE INDEX attachments_waiting ON attachments (created_at, seq) WHERE message_seq IS NULL;
CREATE TABLE attachment_contents (
  attachment_seq bigint PRIMARY KEY REFERENCES attachments (seq) ON DELETE CASCADE,
  content        bytea NOT NULL
);
-- Uncompressed, so that a slice of a file reads its own pieces alone.
ALTER TABLE attachment_contents ALTER COLUMN content SET STORAGE EXTERNAL;

CREATE TABLE idempotency_keys (
  account_id  text COLLATE "C" NOT NULL,
  key         text COLLATE "C" NOT NULL,
  body_sha256 bytea NOT NULL,
  session_seq bigint NOT NULL,
  reply       text COLLATE "C",
  created_at  bigint NOT NULL,
  PRIMARY KEY (account_id, key)
);
CREATE INDEX idempotency_keys_oldest ON idempotency_keys (created_at);
CREATE INDEX idempotency_keys_of_session ON idempotency_keys (session_seq);

CREATE TABLE session_tokens (
  jti            bytea PRIMARY KEY,
  session_seq    bigint NOT NULL REFERENCES sessions (seq) ON DELETE CASCADE,
  tenant_no      bigint NOT NULL REFERENCES tenants (tenant_no),
  minted_by_kind text COLLATE "C" NOT NULL,
  minted_by_id   text COLLATE "C" NOT NULL,
  minted_by_key  bigint REFERENCES api_keys (seq),
  end_user       text COLLATE "C",
  end_user_email text COLLATE "C",
  psa_company_id text COLLATE "C",
  created_at     bigint NOT NULL,
  expires_at     bigint NOT NULL,
  revoked_at     bigint
);
CREATE INDEX session_tokens_of_session ON session_tokens (session_seq);
CREATE INDEX session_tokens_oldest ON session_tokens (expires_at);

CREATE TABLE audit_events (
  seq        bigint PRIMARY KEY,
  id         bytea NOT NULL,
  tenant_no  bigint NOT NULL REFERENCES tenants (tenant_no),
  actor_kind text COLLATE "C" NOT NULL,
  actor_id   text COLLATE "C" NOT NULL,
  actor_name text COLLATE "C",
  action     text COLLATE "C" NOT NULL,
  target     text COLLATE "C",
  details    text COLLATE "C" NOT NULL,
  request_id bytea,
  created_at bigint NOT NULL
);
CREATE UNIQUE INDEX audit_events_newest ON audit_events (tenant_no, seq);

-- The words are the program's own terms, never what PostgreSQL's parser would make of the text, and the lexeme of the tenant. They are written
-- in the change that writes the text. A long text has several rows. New words go into the index at once (`fastupdate`), so that no search reads
-- a list of pending words, and no change has to empty that list.
CREATE TABLE message_search (
  seq         bigint NOT NULL,                         -- the message's
  part        bigint NOT NULL,
  session_seq bigint NOT NULL,
  words       tsvector NOT NULL,
  PRIMARY KEY (seq, part)
);
CREATE INDEX message_search_words ON message_search USING gin (words) WITH (fastupdate = off);
CREATE TABLE title_search (
  seq   bigint NOT NULL,                               -- the session's
  part  bigint NOT NULL,
  words tsvector NOT NULL,
  PRIMARY KEY (seq, part)
);
CREATE INDEX title_search_words ON title_search USING gin (words) WITH (fastupdate = off);
CREATE TABLE search_progress (
  what     text COLLATE "C" PRIMARY KEY CHECK (what IN ('messages')),
  done_seq bigint NOT NULL
);
INSERT INTO search_progress VALUES ('messages', 0);
