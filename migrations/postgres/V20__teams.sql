-- The twin of ../sqlite/V20__teams.sql, which gives the reasons.
CREATE TABLE teams_conversations (
  conversation_no bigint PRIMARY KEY,
  bot_id          text COLLATE "C" NOT NULL,
  directory       text COLLATE "C" NOT NULL,
  conversation_id text COLLATE "C" NOT NULL,
  kind            text COLLATE "C" NOT NULL CHECK (kind IN ('personal', 'groupChat', 'channel')),
  tenant_no       bigint REFERENCES tenants (tenant_no),
  session_seq     bigint,
  channel_seq     bigint,
  service_url     text COLLATE "C" NOT NULL,
  reference       text COLLATE "C" NOT NULL,
  owner_lease     bigint,
  welcomed_at     bigint,
  uninstalled_at  bigint,
  refusal_code    text COLLATE "C",
  refusal_message text COLLATE "C",
  refused_at      bigint,
  sent_at         bigint,
  created_at      bigint NOT NULL,
  seen_at         bigint NOT NULL,
  UNIQUE (bot_id, directory, conversation_id)
);
CREATE INDEX teams_conversations_of_channel ON teams_conversations (channel_seq, conversation_no) WHERE channel_seq IS NOT NULL;
CREATE INDEX teams_conversations_of_tenant ON teams_conversations (tenant_no, conversation_no) WHERE tenant_no IS NOT NULL;

CREATE TABLE teams_activities (
  conversation_no bigint NOT NULL REFERENCES teams_conversations (conversation_no) ON DELETE CASCADE,
  activity_id     text COLLATE "C" NOT NULL,
  kind            text COLLATE "C" NOT NULL CHECK (kind IN ('message', 'edit', 'delete', 'invoke', 'install')),
  message_seq     bigint,
  turn_seq        bigint,
  stamp           text COLLATE "C",
  received_at     bigint NOT NULL,
  PRIMARY KEY (conversation_no, activity_id, kind)
);
CREATE INDEX teams_activities_oldest ON teams_activities (received_at);

CREATE TABLE teams_deliveries (
  seq              bigint PRIMARY KEY,
  conversation_no  bigint NOT NULL REFERENCES teams_conversations (conversation_no) ON DELETE CASCADE,
  tenant_no        bigint,
  kind             text COLLATE "C" NOT NULL CHECK (kind IN ('ANSWER', 'TEXT')),
  turn_seq         bigint REFERENCES turns (seq) ON DELETE CASCADE,
  body             text COLLATE "C",
  prompts          text COLLATE "C",
  reply_to         text COLLATE "C",
  state            text COLLATE "C" NOT NULL CHECK (state IN ('WAITING', 'SENDING', 'SENT', 'GIVEN_UP', 'CANCELLED')),
  stream_id        text COLLATE "C",
  stream_sequence  bigint NOT NULL DEFAULT 0,
  parts_sent       bigint NOT NULL DEFAULT 0,
  sent_activity_id text COLLATE "C",
  attempts         bigint NOT NULL DEFAULT 0,
  next_at          bigint NOT NULL,
  last_error       text COLLATE "C",
  created_at       bigint NOT NULL,
  ended_at         bigint,
  CHECK (kind = 'ANSWER' OR body IS NOT NULL)
);
CREATE INDEX teams_deliveries_waiting ON teams_deliveries (conversation_no, seq) WHERE ended_at IS NULL;
CREATE INDEX teams_deliveries_due ON teams_deliveries (next_at, seq) WHERE ended_at IS NULL;
CREATE INDEX teams_deliveries_of_conversation ON teams_deliveries (conversation_no, sent_activity_id, seq);
CREATE INDEX teams_deliveries_of_turn ON teams_deliveries (turn_seq, seq) WHERE turn_seq IS NOT NULL;
CREATE INDEX teams_deliveries_ended ON teams_deliveries (ended_at, seq) WHERE ended_at IS NOT NULL;
CREATE INDEX teams_deliveries_of_tenant ON teams_deliveries (tenant_no, seq) WHERE tenant_no IS NOT NULL;
