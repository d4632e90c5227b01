-- A session belongs to a company's row, not to its `psa_company_id`: that id can be given to another company after a deletion. The row's
-- `seq` is never given twice, since every deletion is an audit event with a later one.
ALTER TABLE sessions ADD COLUMN company_seq INTEGER;   -- NULL: no company, or one that was gone when this column came

-- A company that is younger than the session is not the session's company: it only has the same id.
UPDATE sessions SET company_seq = (
  SELECT e.seq FROM end_companies e
  WHERE e.tenant_no = sessions.tenant_no AND e.psa_company_id = sessions.psa_company_id AND e.seq < sessions.seq)
WHERE psa_company_id IS NOT NULL;

-- Pinning reads the row beside the id, from the index alone.
DROP INDEX end_companies_linked;
CREATE INDEX end_companies_linked ON end_companies (tenant_no, m365_tenant_id, psa_company_id, seq) WHERE m365_tenant_id IS NOT NULL;
DROP TRIGGER end_companies_changed;
CREATE TRIGGER end_companies_changed AFTER UPDATE OF tenant_no, psa_company_id, seq, m365_tenant_id ON end_companies
BEGIN UPDATE configuration_version SET version = version + 1; END;
