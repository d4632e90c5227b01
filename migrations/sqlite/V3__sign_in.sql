-- Local sign-in: links that work once, and the tokens that they were exchanged for.
CREATE TABLE sign_in_codes (
  sha256     BLOB PRIMARY KEY,                         -- of the code; 256 random bits need no slow hash
  tenant_no  INTEGER NOT NULL REFERENCES tenants (tenant_no),
  role       TEXT NOT NULL CHECK (role IN ('ADMIN', 'USER', 'VIEWER')),
  created_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;                               -- a used code's row is gone
CREATE INDEX sign_in_codes_oldest ON sign_in_codes (expires_at);

CREATE TABLE sign_ins (
  jti        BLOB PRIMARY KEY,
  tenant_no  INTEGER NOT NULL REFERENCES tenants (tenant_no),
  role       TEXT NOT NULL CHECK (role IN ('ADMIN', 'USER', 'VIEWER')),
  created_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,
  ended_at   INTEGER                                   -- signed out
) STRICT, WITHOUT ROWID;
CREATE INDEX sign_ins_oldest ON sign_ins (expires_at);

-- Whoever demotes a user, and however, ends the session tokens that the user minted.
CREATE INDEX session_tokens_of_user ON session_tokens (tenant_no, minted_by_id) WHERE minted_by_kind = 'dashboard_user';
CREATE TRIGGER users_demoted AFTER UPDATE OF role ON users
WHEN instr('VIEWER USER ADMIN', NEW.role) < instr('VIEWER USER ADMIN', OLD.role)
BEGIN
  UPDATE session_tokens SET revoked_at = CAST(unixepoch('subsec') * 1000 AS INTEGER)
  WHERE tenant_no = NEW.tenant_no AND minted_by_kind = 'dashboard_user' AND minted_by_id = NEW.user_id AND revoked_at IS NULL;
END;
