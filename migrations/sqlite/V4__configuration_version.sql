-- Which state of the configuration this is. A server keeps what it looked up for every request beside the file, and uses it only
-- under the number that it was read at; the number grows in the very transaction of a change, whoever makes it, so a kept answer is
-- never older than the snapshot that a request reads.
CREATE TABLE configuration_version (
  one     INTEGER PRIMARY KEY CHECK (one = 1),         -- there is one row
  version INTEGER NOT NULL
) STRICT;
INSERT INTO configuration_version VALUES (1, 1);

-- Triggers are what differs between engines: PostgreSQL has them call one function that makes the same update.
-- Each names the columns that kept answers hold; what changes all the time beside them (an article's version, when a key or a person
-- was last there) is not among them. Whether somebody is unknown is never kept, so a person's first sight and a sign-in, of which
-- there are many, change nothing that is.
CREATE TRIGGER tenants_made AFTER INSERT ON tenants
BEGIN UPDATE configuration_version SET version = version + 1; END;
CREATE TRIGGER tenants_changed
AFTER UPDATE OF tenant_no, client_id, name, entra_tenant_id, rate_limit_per_minute ON tenants
BEGIN UPDATE configuration_version SET version = version + 1; END;
CREATE TRIGGER tenants_removed AFTER DELETE ON tenants
BEGIN UPDATE configuration_version SET version = version + 1; END;

CREATE TRIGGER agents_made AFTER INSERT ON agents
BEGIN UPDATE configuration_version SET version = version + 1; END;
CREATE TRIGGER agents_changed
AFTER UPDATE OF agent_id, tenant_no, name, autonomy_type, audience, access, allowed_users, state, managed_agent_key ON agents
BEGIN UPDATE configuration_version SET version = version + 1; END;
CREATE TRIGGER agents_removed AFTER DELETE ON agents
BEGIN UPDATE configuration_version SET version = version + 1; END;

CREATE TRIGGER end_companies_made AFTER INSERT ON end_companies
BEGIN UPDATE configuration_version SET version = version + 1; END;
CREATE TRIGGER end_companies_changed AFTER UPDATE OF tenant_no, psa_company_id, m365_tenant_id ON end_companies
BEGIN UPDATE configuration_version SET version = version + 1; END;
CREATE TRIGGER end_companies_removed AFTER DELETE ON end_companies
BEGIN UPDATE configuration_version SET version = version + 1; END;

CREATE TRIGGER channels_made AFTER INSERT ON channels
BEGIN UPDATE configuration_version SET version = version + 1; END;
CREATE TRIGGER channels_changed
AFTER UPDATE OF seq, id, tenant_no, audience, status, bot_id, agent_id, show_agent_progress_steps, deleted_at ON channels
BEGIN UPDATE configuration_version SET version = version + 1; END;
CREATE TRIGGER channels_removed AFTER DELETE ON channels
BEGIN UPDATE configuration_version SET version = version + 1; END;

CREATE TRIGGER installs_made AFTER INSERT ON installs
BEGIN UPDATE configuration_version SET version = version + 1; END;
CREATE TRIGGER installs_changed AFTER UPDATE OF tenant_no, channel_seq, bot_id, m365_tenant_id ON installs
BEGIN UPDATE configuration_version SET version = version + 1; END;
CREATE TRIGGER installs_removed AFTER DELETE ON installs
BEGIN UPDATE configuration_version SET version = version + 1; END;

CREATE TRIGGER api_keys_made AFTER INSERT ON api_keys
BEGIN UPDATE configuration_version SET version = version + 1; END;
CREATE TRIGGER api_keys_changed
AFTER UPDATE OF seq, id, tenant_no, account_id, name, sha256, hint, platform, created_at, expires_at, revoked_at ON api_keys
BEGIN UPDATE configuration_version SET version = version + 1; END;
CREATE TRIGGER api_keys_removed AFTER DELETE ON api_keys
BEGIN UPDATE configuration_version SET version = version + 1; END;

-- Each minute of a person's requests writes the name again, as it is.
CREATE TRIGGER users_changed AFTER UPDATE OF tenant_no, user_id, name, role ON users
WHEN (OLD.tenant_no, OLD.user_id, OLD.role) <> (NEW.tenant_no, NEW.user_id, NEW.role) OR OLD.name IS DISTINCT FROM NEW.name
BEGIN UPDATE configuration_version SET version = version + 1; END;
CREATE TRIGGER users_removed AFTER DELETE ON users
BEGIN UPDATE configuration_version SET version = version + 1; END;

CREATE TRIGGER sign_ins_changed AFTER UPDATE OF jti, tenant_no, role, ended_at ON sign_ins
BEGIN UPDATE configuration_version SET version = version + 1; END;
CREATE TRIGGER sign_ins_removed AFTER DELETE ON sign_ins
BEGIN UPDATE configuration_version SET version = version + 1; END;
