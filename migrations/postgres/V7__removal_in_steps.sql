-- The twin of ../sqlite/V7__removal_in_steps.sql, which gives the reasons.
CREATE TABLE removed_sessions (
  session_seq bigint PRIMARY KEY,
  tenant_no   bigint NOT NULL REFERENCES tenants (tenant_no),
  indexed_seq bigint NOT NULL
);
