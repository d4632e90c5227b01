-- The twin of ../sqlite/V6__search_removals.sql, which gives the reasons.
CREATE TABLE search_removals (
  message_seq bigint PRIMARY KEY,
  tenant_no   bigint NOT NULL REFERENCES tenants (tenant_no),
  content     text COLLATE "C" NOT NULL
);
