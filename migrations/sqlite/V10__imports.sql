-- Imports of more companies than one transaction may take. Their rows are staged here, in small changes that touch no configuration. Then they
-- are applied in small changes, between the requests of a server.
CREATE TABLE imports (
  import_id     INTEGER PRIMARY KEY,
  tenant_no     INTEGER REFERENCES tenants (tenant_no), -- NULL while rows are staged: the tenant may be new
  state         TEXT NOT NULL CHECK (state IN ('STAGING', 'APPLYING')),  -- after a crash, STAGING is dropped and APPLYING is finished
  any_directory INTEGER NOT NULL CHECK (any_directory = 0 OR any_directory = 1),  -- the links may be names, as of --any-tenant-id
  done_position INTEGER NOT NULL,                      -- the position of the last row that is applied
  created       INTEGER NOT NULL,                      -- what the audit event of the end says
  updated       INTEGER NOT NULL,
  actor_kind    TEXT,                                  -- NULL: no event, because that of a seed file is recorded at the beginning
  actor_id      TEXT,
  actor_name    TEXT,
  started_at    INTEGER NOT NULL,
  CHECK (state = 'STAGING' OR tenant_no IS NOT NULL)
) STRICT;
CREATE INDEX imports_of_tenant ON imports (tenant_no, state);  -- pinning: whether a directory is held

CREATE TABLE import_rows (
  import_id      INTEGER NOT NULL,                     -- no foreign key: rows are removed after their import, in small changes
  psa_company_id TEXT NOT NULL,
  position       INTEGER NOT NULL,                     -- the line of a list, or the place in a seed file
  draft          TEXT,                                 -- JSON: the fields to change; NULL: the row changes nothing
  PRIMARY KEY (import_id, psa_company_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX import_rows_to_apply ON import_rows (import_id, position) WHERE draft IS NOT NULL;

-- The directories whose companies the import changes: such a directory pins nobody while the import is applied, because the companies that
-- are linked to it during the import may be linked neither before nor after.
CREATE TABLE import_holds (
  import_id      INTEGER NOT NULL,
  m365_tenant_id TEXT NOT NULL,
  PRIMARY KEY (import_id, m365_tenant_id)
) STRICT, WITHOUT ROWID;

-- Rows and holds change only while their import is not APPLYING, so that these triggers are enough.
CREATE TRIGGER imports_made AFTER INSERT ON imports
BEGIN UPDATE configuration_version SET version = version + 1; END;
CREATE TRIGGER imports_changed AFTER UPDATE OF import_id, tenant_no, state ON imports
BEGIN UPDATE configuration_version SET version = version + 1; END;
CREATE TRIGGER imports_removed AFTER DELETE ON imports
BEGIN UPDATE configuration_version SET version = version + 1; END;
