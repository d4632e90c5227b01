-- The twin of ../sqlite/V8__company_rows.sql, which gives the reasons.
ALTER TABLE sessions ADD COLUMN company_seq bigint;

DROP INDEX end_companies_linked;
CREATE INDEX end_companies_linked ON end_companies (tenant_no, m365_tenant_id, psa_company_id, seq) WHERE m365_tenant_id IS NOT NULL;
DROP TRIGGER end_companies_changed ON end_companies;
CREATE TRIGGER end_companies_changed AFTER UPDATE OF tenant_no, psa_company_id, seq, m365_tenant_id ON end_companies
FOR EACH STATEMENT EXECUTE FUNCTION raise_configuration_version();
