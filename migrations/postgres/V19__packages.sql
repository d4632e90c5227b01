-- The twin of ../sqlite/V19__packages.sql, which gives the reasons.
ALTER TABLE tenants ADD COLUMN website_url text COLLATE "C";
ALTER TABLE tenants ADD COLUMN privacy_url text COLLATE "C";
ALTER TABLE tenants ADD COLUMN terms_url text COLLATE "C";

ALTER TABLE channels ADD COLUMN group_replies text COLLATE "C" NOT NULL DEFAULT 'MENTIONED'
  CHECK (group_replies IN ('MENTIONED', 'ALWAYS'));

CREATE TABLE channel_icons (
  channel_seq bigint NOT NULL REFERENCES channels (seq) ON DELETE CASCADE,
  kind        text COLLATE "C" NOT NULL CHECK (kind IN ('color', 'outline')),
  png         bytea NOT NULL,
  PRIMARY KEY (channel_seq, kind)
);

CREATE TABLE channel_packages (
  channel_seq bigint PRIMARY KEY REFERENCES channels (seq) ON DELETE CASCADE,
  version     bigint NOT NULL,
  sha256      bytea NOT NULL
);

DROP TRIGGER channels_changed ON channels;
CREATE TRIGGER channels_changed AFTER UPDATE OF seq, id, tenant_no, audience, status, bot_id, agent_id, relay_prefix, show_agent_progress_steps, group_replies, deleted_at ON channels
FOR EACH STATEMENT EXECUTE FUNCTION raise_configuration_version();
