-- The twin of ../sqlite/V4__configuration_version.sql, which gives the reasons.
CREATE TABLE configuration_version (
  one     bigint PRIMARY KEY CHECK (one = 1),
  version bigint NOT NULL
);
INSERT INTO configuration_version VALUES (1, 1);

-- Once a statement: a row that one transaction updates many times gets slower with each time. An insertion or a deletion that touches no row
-- raises nothing, such as the cascade of a company without directories. A trigger of named columns has no table of the touched rows, so that
-- an update that finds no row raises the version too, which costs a few look-ups.
CREATE FUNCTION raise_configuration_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP <> 'UPDATE' THEN
    IF NOT EXISTS (SELECT FROM touched) THEN
      RETURN NULL;
    END IF;
  END IF;
  UPDATE configuration_version SET version = version + 1;
  RETURN NULL;
END $$;

CREATE TRIGGER tenants_made AFTER INSERT ON tenants
REFERENCING NEW TABLE AS touched FOR EACH STATEMENT EXECUTE FUNCTION raise_configuration_version();
CREATE TRIGGER tenants_changed AFTER UPDATE OF tenant_no, client_id, name, entra_tenant_id, rate_limit_per_minute ON tenants
FOR EACH STATEMENT EXECUTE FUNCTION raise_configuration_version();
CREATE TRIGGER tenants_removed AFTER DELETE ON tenants
REFERENCING OLD TABLE AS touched FOR EACH STATEMENT EXECUTE FUNCTION raise_configuration_version();

CREATE TRIGGER agents_made AFTER INSERT ON agents
REFERENCING NEW TABLE AS touched FOR EACH STATEMENT EXECUTE FUNCTION raise_configuration_version();
CREATE TRIGGER agents_changed AFTER UPDATE OF agent_id, tenant_no, name, autonomy_type, audience, access, allowed_users, state, managed_agent_key ON agents
FOR EACH STATEMENT EXECUTE FUNCTION raise_configuration_version();
CREATE TRIGGER agents_removed AFTER DELETE ON agents
REFERENCING OLD TABLE AS touched FOR EACH STATEMENT EXECUTE FUNCTION raise_configuration_version();

CREATE TRIGGER end_companies_made AFTER INSERT ON end_companies
REFERENCING NEW TABLE AS touched FOR EACH STATEMENT EXECUTE FUNCTION raise_configuration_version();
CREATE TRIGGER end_companies_changed AFTER UPDATE OF tenant_no, psa_company_id, m365_tenant_id ON end_companies
FOR EACH STATEMENT EXECUTE FUNCTION raise_configuration_version();
CREATE TRIGGER end_companies_removed AFTER DELETE ON end_companies
REFERENCING OLD TABLE AS touched FOR EACH STATEMENT EXECUTE FUNCTION raise_configuration_version();

CREATE TRIGGER channels_made AFTER INSERT ON channels
REFERENCING NEW TABLE AS touched FOR EACH STATEMENT EXECUTE FUNCTION raise_configuration_version();
CREATE TRIGGER channels_changed AFTER UPDATE OF seq, id, tenant_no, audience, status, bot_id, agent_id, show_agent_progress_steps, deleted_at ON channels
FOR EACH STATEMENT EXECUTE FUNCTION raise_configuration_version();
CREATE TRIGGER channels_removed AFTER DELETE ON channels
REFERENCING OLD TABLE AS touched FOR EACH STATEMENT EXECUTE FUNCTION raise_configuration_version();

CREATE TRIGGER installs_made AFTER INSERT ON installs
REFERENCING NEW TABLE AS touched FOR EACH STATEMENT EXECUTE FUNCTION raise_configuration_version();
CREATE TRIGGER installs_changed AFTER UPDATE OF tenant_no, channel_seq, bot_id, m365_tenant_id ON installs
FOR EACH STATEMENT EXECUTE FUNCTION raise_configuration_version();
CREATE TRIGGER installs_removed AFTER DELETE ON installs
REFERENCING OLD TABLE AS touched FOR EACH STATEMENT EXECUTE FUNCTION raise_configuration_version();

CREATE TRIGGER api_keys_made AFTER INSERT ON api_keys
REFERENCING NEW TABLE AS touched FOR EACH STATEMENT EXECUTE FUNCTION raise_configuration_version();
CREATE TRIGGER api_keys_changed AFTER UPDATE OF seq, id, tenant_no, account_id, name, sha256, hint, platform, created_at, expires_at, revoked_at ON api_keys
FOR EACH STATEMENT EXECUTE FUNCTION raise_configuration_version();
CREATE TRIGGER api_keys_removed AFTER DELETE ON api_keys
REFERENCING OLD TABLE AS touched FOR EACH STATEMENT EXECUTE FUNCTION raise_configuration_version();

CREATE TRIGGER users_changed AFTER UPDATE OF tenant_no, user_id, name, role ON users
FOR EACH ROW WHEN ((OLD.tenant_no, OLD.user_id, OLD.role) <> (NEW.tenant_no, NEW.user_id, NEW.role) OR OLD.name IS DISTINCT FROM NEW.name)
EXECUTE FUNCTION raise_configuration_version();
CREATE TRIGGER users_removed AFTER DELETE ON users
REFERENCING OLD TABLE AS touched FOR EACH STATEMENT EXECUTE FUNCTION raise_configuration_version();

CREATE TRIGGER sign_ins_changed AFTER UPDATE OF jti, tenant_no, role, ended_at ON sign_ins
FOR EACH STATEMENT EXECUTE FUNCTION raise_configuration_version();
CREATE TRIGGER sign_ins_removed AFTER DELETE ON sign_ins
REFERENCING OLD TABLE AS touched FOR EACH STATEMENT EXECUTE FUNCTION raise_configuration_version();
