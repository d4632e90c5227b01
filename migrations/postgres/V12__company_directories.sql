-- The twin of ../sqlite/V12__company_directories.sql, which gives the reasons.
CREATE TABLE company_directories (
  tenant_no      bigint NOT NULL,
  m365_tenant_id text COLLATE "C" NOT NULL,
  company_seq    bigint NOT NULL,
  psa_company_id text COLLATE "C" NOT NULL,
  position       bigint NOT NULL,
  PRIMARY KEY (tenant_no, m365_tenant_id, company_seq),
  FOREIGN KEY (tenant_no, psa_company_id) REFERENCES end_companies (tenant_no, psa_company_id) ON DELETE CASCADE
);
CREATE UNIQUE INDEX company_directories_in_order ON company_directories (tenant_no, psa_company_id, position);

CREATE TRIGGER company_directories_made AFTER INSERT ON company_directories
REFERENCING NEW TABLE AS touched FOR EACH STATEMENT EXECUTE FUNCTION raise_configuration_version();
CREATE TRIGGER company_directories_changed AFTER UPDATE OF tenant_no, m365_tenant_id, company_seq, psa_company_id ON company_directories
FOR EACH STATEMENT EXECUTE FUNCTION raise_configuration_version();
CREATE TRIGGER company_directories_removed AFTER DELETE ON company_directories
REFERENCING OLD TABLE AS touched FOR EACH STATEMENT EXECUTE FUNCTION raise_configuration_version();
DROP TRIGGER end_companies_made ON end_companies;
DROP TRIGGER end_companies_changed ON end_companies;
DROP TRIGGER end_companies_removed ON end_companies;

DROP INDEX end_companies_linked;
DROP INDEX end_companies_of_directory;
ALTER TABLE end_companies DROP COLUMN m365_tenant_id;
