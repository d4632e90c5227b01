-- The directories of a company's staff. A company may have several; until now it had one, in end_companies.m365_tenant_id.
CREATE TABLE company_directories (
  tenant_no      INTEGER NOT NULL,
  m365_tenant_id TEXT NOT NULL,                        -- several companies may have it; chat is then refused
  company_seq    INTEGER NOT NULL,                     -- the company's row, and its id, which never changes: pinning reads both beside
  psa_company_id TEXT NOT NULL,                        --   the directory, without a look at end_companies
  position       INTEGER NOT NULL,                     -- the order in the company's list, from 0
  PRIMARY KEY (tenant_no, m365_tenant_id, company_seq),  -- pinning; a company never has a directory twice; the list filter, newest first
  FOREIGN KEY (tenant_no, psa_company_id) REFERENCES end_companies (tenant_no, psa_company_id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX company_directories_in_order ON company_directories (tenant_no, psa_company_id, position);  -- a company's list

INSERT INTO company_directories (tenant_no, m365_tenant_id, company_seq, psa_company_id, position)
SELECT tenant_no, m365_tenant_id, seq, psa_company_id, 0 FROM end_companies WHERE m365_tenant_id IS NOT NULL
ORDER BY tenant_no, m365_tenant_id, seq;

-- Kept answers hold a company only by its directories, so that these triggers replace those of end_companies.
CREATE TRIGGER company_directories_made AFTER INSERT ON company_directories
BEGIN UPDATE configuration_version SET version = version + 1; END;
CREATE TRIGGER company_directories_changed
AFTER UPDATE OF tenant_no, m365_tenant_id, company_seq, psa_company_id ON company_directories
BEGIN UPDATE configuration_version SET version = version + 1; END;
CREATE TRIGGER company_directories_removed AFTER DELETE ON company_directories
BEGIN UPDATE configuration_version SET version = version + 1; END;
DROP TRIGGER end_companies_made;
DROP TRIGGER end_companies_changed;
DROP TRIGGER end_companies_removed;

DROP INDEX end_companies_linked;
DROP INDEX end_companies_of_directory;
ALTER TABLE end_companies DROP COLUMN m365_tenant_id;
