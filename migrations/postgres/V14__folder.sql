-- The twin of ../sqlite/V14__folder.sql, which gives the reasons.
CREATE TABLE folder (
  one            bigint PRIMARY KEY CHECK (one = 1),
  environment    text COLLATE "C",
  in_use         bigint NOT NULL CHECK (in_use = 0 OR in_use = 1),
  last_tenant_no bigint NOT NULL
);
INSERT INTO folder VALUES (1, NULL, 0, 0);
