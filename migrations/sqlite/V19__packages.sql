-- What a bot's app package in Teams is made of, and how a bot behaves in groups.

-- Pages about the MSP that a package must name. NULL: a page of this server takes the place.
ALTER TABLE tenants ADD COLUMN website_url TEXT;
ALTER TABLE tenants ADD COLUMN privacy_url TEXT;
ALTER TABLE tenants ADD COLUMN terms_url TEXT;

ALTER TABLE channels ADD COLUMN group_replies TEXT NOT NULL DEFAULT 'MENTIONED' CHECK (group_replies IN ('MENTIONED', 'ALWAYS'));

-- Uploaded icons. A channel without one has an icon that the server draws.
CREATE TABLE channel_icons (
  channel_seq INTEGER NOT NULL REFERENCES channels (seq) ON DELETE CASCADE,
  kind        TEXT NOT NULL CHECK (kind IN ('color', 'outline')),
  png         BLOB NOT NULL,
  PRIMARY KEY (channel_seq, kind)
) STRICT;

-- The number of the package that was made last, and what was in it: a package with other contents gets the next number, because Teams
-- takes an update only under a greater version.
CREATE TABLE channel_packages (
  channel_seq INTEGER PRIMARY KEY REFERENCES channels (seq) ON DELETE CASCADE,
  version     INTEGER NOT NULL,
  sha256      BLOB NOT NULL                            -- of all that is in the package but its version
) STRICT;

-- A session shows its channel's prefix, and a bot looks up how it behaves in groups, from what is kept of the channel.
DROP TRIGGER channels_changed;
CREATE TRIGGER channels_changed
AFTER UPDATE OF seq, id, tenant_no, audience, status, bot_id, agent_id, relay_prefix, show_agent_progress_steps, group_replies, deleted_at ON channels
BEGIN UPDATE configuration_version SET version = version + 1; END;
