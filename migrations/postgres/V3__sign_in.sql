-- The twin of ../sqlite/V3__sign_in.sql, which gives the reasons.
CREATE TABLE sign_in_codes (
  sha256     bytea PRIMARY KEY,
  tenant_no  bigint NOT NULL REFERENCES tenants (tenant_no),
  role       text COLLATE "C" NOT NULL CHECK (role IN ('ADMIN', 'USER', 'VIEWER')),
  created_at bigint NOT NULL,
  expires_at bigint NOT NULL
);
CREATE INDEX sign_in_codes_oldest ON sign_in_codes (expires_at);

CREATE TABLE sign_ins (
  jti        bytea PRIMARY KEY,
  tenant_no  bigint NOT NULL REFERENCES tenants (tenant_no),
  role       text COLLATE "C" NOT NULL CHECK (role IN ('ADMIN', 'USER', 'VIEWER')),
  created_at bigint NOT NULL,
  expires_at bigint NOT NULL,
  ended_at   bigint
);
CREATE INDEX sign_ins_oldest ON sign_ins (expires_at);

CREATE INDEX session_tokens_of_user ON session_tokens (tenant_no, minted_by_id) WHERE minted_by_kind = 'dashboard_user';

CREATE FUNCTION revoke_tokens_of_demoted_user() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  UPDATE session_tokens SET revoked_at = CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint)
  WHERE tenant_no = NEW.tenant_no AND minted_by_kind = 'dashboard_user' AND minted_by_id = NEW.user_id AND revoked_at IS NULL;
  RETURN NULL;
END $$;
CREATE TRIGGER users_demoted AFTER UPDATE OF role ON users
FOR EACH ROW WHEN (position(NEW.role IN 'VIEWER USER ADMIN') < position(OLD.role IN 'VIEWER USER ADMIN'))
EXECUTE FUNCTION revoke_tokens_of_demoted_user();
