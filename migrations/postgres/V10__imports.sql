-- The twin of ../sqlite/V10__imports.sql, which gives the reasons.
CREATE TABLE imports (
  import_id     bigint PRIMARY KEY,
  tenant_no     bigint REFERENCES tenants (tenant_no),
  state         text COLLATE "C" NOT NULL CHECK (state IN ('STAGING', 'APPLYING')),
  any_directory bigint NOT NULL CHECK (any_directory = 0 OR any_directory = 1),
  done_position bigint NOT NULL,
  created       bigint NOT NULL,
  updated       bigint NOT NULL,
  actor_kind    text COLLATE "C",
  actor_id      text COLLATE "C",
  actor_name    text COLLATE "C",
  started_at    bigint NOT NULL,
  CHECK (state = 'STAGING' OR tenant_no IS NOT NULL)
);
CREATE INDEX imports_of_tenant ON imports (tenant_no, state, import_id);

CREATE TABLE import_rows (
  import_id      bigint NOT NULL,
  psa_company_id text COLLATE "C" NOT NULL,
  position       bigint NOT NULL,
  draft          text COLLATE "C",
  PRIMARY KEY (import_id, psa_company_id)
);
CREATE INDEX import_rows_to_apply ON import_rows (import_id, position) WHERE draft IS NOT NULL;

CREATE TABLE import_holds (
  import_id      bigint NOT NULL,
  m365_tenant_id text COLLATE "C" NOT NULL,
  PRIMARY KEY (import_id, m365_tenant_id)
);

CREATE TRIGGER imports_made AFTER INSERT ON imports
REFERENCING NEW TABLE AS touched FOR EACH STATEMENT EXECUTE FUNCTION raise_configuration_version();
CREATE TRIGGER imports_changed AFTER UPDATE OF import_id, tenant_no, state ON imports
FOR EACH STATEMENT EXECUTE FUNCTION raise_configuration_version();
CREATE TRIGGER imports_removed AFTER DELETE ON imports
REFERENCING OLD TABLE AS touched FOR EACH STATEMENT EXECUTE FUNCTION raise_configuration_version();
