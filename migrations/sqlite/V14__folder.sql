-- What a data folder remembers of itself.
CREATE TABLE folder (
  one            INTEGER PRIMARY KEY CHECK (one = 1),  -- there is one row
  environment    TEXT,                                 -- part of every API key; NULL: no server and no --env was there yet
  in_use         INTEGER NOT NULL CHECK (in_use = 0 OR in_use = 1), -- 1 from the start of a server to its end
  last_tenant_no INTEGER NOT NULL                      -- ever given, so that no tenant gets the number of a deleted one
) STRICT;
INSERT INTO folder SELECT 1, NULL, 0, coalesce(max(tenant_no), 0) FROM tenants;
