-- Teams bots that call this server themselves: the conversations, what was received in them, and what has still to be said in them.
CREATE TABLE teams_conversations (
  conversation_no INTEGER PRIMARY KEY,                 -- a tick
  bot_id          TEXT NOT NULL,                       -- two bots share the id of a group's conversation
  directory       TEXT NOT NULL,                       -- the M365 tenant of the conversation; empty: the activity names none
  conversation_id TEXT NOT NULL,                       -- Teams' own; that of a channel's thread ends in ;messageid=
  kind            TEXT NOT NULL CHECK (kind IN ('personal', 'groupChat', 'channel')),
  tenant_no       INTEGER REFERENCES tenants (tenant_no), -- the acting MSP; NULL: nobody is responsible for the directory yet
  session_seq     INTEGER,                             -- NULL or no session's: the next message makes one
  channel_seq     INTEGER,                             -- the channel that routed the last activity
  service_url     TEXT NOT NULL,                       -- where replies go: the newest, since it may change
  reference       TEXT NOT NULL,                       -- JSON: what a reply names, as the newest activity has it
  owner_lease     INTEGER,                             -- the lease of the server that sends its deliveries; NULL: none does
  welcomed_at     INTEGER,                             -- NULL: the welcome was not said since the bot was installed
  uninstalled_at  INTEGER,                             -- nothing is sent while it is set
  refusal_code    TEXT,                                -- of the last activity that was refused
  refusal_message TEXT,
  refused_at      INTEGER,
  sent_at         INTEGER,                             -- when the last reply was accepted
  created_at      INTEGER NOT NULL,
  seen_at         INTEGER NOT NULL,
  UNIQUE (bot_id, directory, conversation_id)
) STRICT;
CREATE INDEX teams_conversations_of_channel ON teams_conversations (channel_seq) WHERE channel_seq IS NOT NULL; -- the channel's page
CREATE INDEX teams_conversations_of_tenant ON teams_conversations (tenant_no) WHERE tenant_no IS NOT NULL;      -- the tenant's deletion

-- What was acknowledged, so that an activity that is delivered again changes nothing. Rows go after some days.
CREATE TABLE teams_activities (
  conversation_no INTEGER NOT NULL REFERENCES teams_conversations (conversation_no) ON DELETE CASCADE,
  activity_id     TEXT NOT NULL,
  kind            TEXT NOT NULL CHECK (kind IN ('message', 'edit', 'delete', 'invoke', 'install')), -- an edit repeats the id of its message
  message_seq     INTEGER,                             -- the message that it became
  turn_seq        INTEGER,
  stamp           TEXT,                                -- the activity's own time: an edit older than the last one changes nothing
  received_at     INTEGER NOT NULL,
  PRIMARY KEY (conversation_no, activity_id, kind)
) STRICT;
CREATE INDEX teams_activities_oldest ON teams_activities (received_at);

-- The outbox: answers of turns and other texts, sent in the order of `seq` in each conversation.
CREATE TABLE teams_deliveries (
  seq              INTEGER PRIMARY KEY,                -- a tick
  conversation_no  INTEGER NOT NULL REFERENCES teams_conversations (conversation_no) ON DELETE CASCADE,
  tenant_no        INTEGER,                            -- the acting MSP, for whom it is sent
  kind             TEXT NOT NULL CHECK (kind IN ('ANSWER', 'TEXT')),
  turn_seq         INTEGER REFERENCES turns (seq) ON DELETE CASCADE, -- whose answer it is
  body             TEXT,                               -- what a TEXT says
  prompts          TEXT,                               -- JSON array of the prompts that a TEXT suggests
  reply_to         TEXT,                               -- the activity that it answers
  state            TEXT NOT NULL CHECK (state IN ('WAITING', 'SENDING', 'SENT', 'GIVEN_UP', 'CANCELLED')),
  stream_id        TEXT,                               -- of a streamed answer
  stream_sequence  INTEGER NOT NULL DEFAULT 0,
  parts_sent       INTEGER NOT NULL DEFAULT 0,         -- of an answer that is split
  sent_activity_id TEXT,                               -- as the connector named it: feedback refers to it
  attempts         INTEGER NOT NULL DEFAULT 0,
  next_at          INTEGER NOT NULL,                   -- not tried before
  last_error       TEXT,
  created_at       INTEGER NOT NULL,
  ended_at         INTEGER,
  CHECK (kind = 'ANSWER' OR body IS NOT NULL)
) STRICT;
CREATE INDEX teams_deliveries_waiting ON teams_deliveries (conversation_no) WHERE ended_at IS NULL;  -- what a conversation says next
CREATE INDEX teams_deliveries_due ON teams_deliveries (next_at) WHERE ended_at IS NULL;              -- which conversations have something to say
CREATE INDEX teams_deliveries_of_conversation ON teams_deliveries (conversation_no, sent_activity_id);  -- feedback; the conversation's deletion
CREATE INDEX teams_deliveries_of_turn ON teams_deliveries (turn_seq) WHERE turn_seq IS NOT NULL;     -- the turn's deletion, an edit
CREATE INDEX teams_deliveries_ended ON teams_deliveries (ended_at) WHERE ended_at IS NOT NULL;       -- rows go after some days
CREATE INDEX teams_deliveries_of_tenant ON teams_deliveries (tenant_no) WHERE tenant_no IS NOT NULL; -- the tenant's deletion
