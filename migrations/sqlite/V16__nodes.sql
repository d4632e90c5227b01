-- What several servers of one database share. One server has its file alone, so that SQLite leaves these tables empty: they are here to keep
-- the schemas of both engines equal.

-- The servers that run. The number is the low bits of what a server counts time in, so that two servers never make the same id.
CREATE TABLE nodes (
  node_no    INTEGER PRIMARY KEY CHECK (node_no BETWEEN 0 AND 15),
  lease_no   INTEGER NOT NULL UNIQUE,                  -- never given twice: a server whose lease is over stores nothing
  address    TEXT,                                     -- where other servers reach it; NULL: they do not
  public_url TEXT,                                     -- where browsers reach it, if that is another place
  version    TEXT NOT NULL,                            -- of its program
  started_at INTEGER NOT NULL,
  seen_at    INTEGER NOT NULL
) STRICT;
ALTER TABLE turns ADD COLUMN owner_lease INTEGER;      -- the lease of the server that runs it; NULL: none does

-- What session tokens are signed with, if no file says so. On SQLite the data folder has it in a file.
CREATE TABLE signing_secret (
  one    INTEGER PRIMARY KEY CHECK (one = 1),          -- there is one row
  secret BLOB NOT NULL
) STRICT;

-- The oldest program that may use this schema. A migration that only adds leaves it, so that the release before runs beside the new one.
CREATE TABLE min_reader (
  one     INTEGER PRIMARY KEY CHECK (one = 1),         -- there is one row
  version INTEGER NOT NULL                             -- the newest schema version that such a program knows
) STRICT;

ALTER TABLE sessions ADD COLUMN last_tick INTEGER NOT NULL DEFAULT 0; -- the greatest tick in the session, whichever server it is of
