-- Ids of Microsoft directories. The server now reads every spelling of a GUID as the GUID with dashes, so stored GUIDs without dashes get
-- their dashes. Without this change, the staff of these companies would be refused. If two installs or tenants would become equal, the id
-- without dashes stays, and no request reaches it.
UPDATE end_companies
SET m365_tenant_id = substr(m365_tenant_id, 1, 8) || '-' || substr(m365_tenant_id, 9, 4) || '-' || substr(m365_tenant_id, 13, 4) || '-'
                     || substr(m365_tenant_id, 17, 4) || '-' || substr(m365_tenant_id, 21)
WHERE length(m365_tenant_id) = 32 AND ltrim(m365_tenant_id, '0123456789abcdef') = '';

UPDATE installs
SET m365_tenant_id = substr(m365_tenant_id, 1, 8) || '-' || substr(m365_tenant_id, 9, 4) || '-' || substr(m365_tenant_id, 13, 4) || '-'
                     || substr(m365_tenant_id, 17, 4) || '-' || substr(m365_tenant_id, 21)
WHERE length(m365_tenant_id) = 32 AND ltrim(m365_tenant_id, '0123456789abcdef') = ''
  AND NOT EXISTS (SELECT 1 FROM installs o WHERE (o.bot_id = installs.bot_id OR o.tenant_no = installs.tenant_no)
                    AND o.m365_tenant_id = substr(installs.m365_tenant_id, 1, 8) || '-' || substr(installs.m365_tenant_id, 9, 4) || '-'
                        || substr(installs.m365_tenant_id, 13, 4) || '-' || substr(installs.m365_tenant_id, 17, 4) || '-'
                        || substr(installs.m365_tenant_id, 21));

UPDATE tenants
SET entra_tenant_id = substr(entra_tenant_id, 1, 8) || '-' || substr(entra_tenant_id, 9, 4) || '-' || substr(entra_tenant_id, 13, 4) || '-'
                      || substr(entra_tenant_id, 17, 4) || '-' || substr(entra_tenant_id, 21)
WHERE length(entra_tenant_id) = 32 AND ltrim(entra_tenant_id, '0123456789abcdef') = ''
  AND NOT EXISTS (SELECT 1 FROM tenants o
                  WHERE o.entra_tenant_id = substr(tenants.entra_tenant_id, 1, 8) || '-' || substr(tenants.entra_tenant_id, 9, 4) || '-'
                        || substr(tenants.entra_tenant_id, 13, 4) || '-' || substr(tenants.entra_tenant_id, 17, 4) || '-'
                        || substr(tenants.entra_tenant_id, 21));

-- Nobody can link an id that names no organization, so none is offered for linking. The next refusal of a GUID writes its row again.
DELETE FROM unlinked_tenants
WHERE (length(m365_tenant_id) = 32 AND ltrim(m365_tenant_id, '0123456789abcdef') = '')
   OR m365_tenant_id IN ('9188040d-6c67-4c5b-b112-36a304b66dad', 'f8cdef31-a31e-4b4a-93e4-5f571e91255a', 'd6d49420-f39b-4df7-a1dc-d59a935871db',
                         'cab8a31a-1906-4287-a0d8-4eef66b95f6e', '00000000-0000-0000-0000-000000000000', 'ffffffff-ffff-ffff-ffff-ffffffffffff',
                         'common', 'organizations', 'consumers');
