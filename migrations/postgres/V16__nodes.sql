-- The twin of ../sqlite/V16__nodes.sql, which gives the reasons.
CREATE TABLE nodes (
  node_no    bigint PRIMARY KEY CHECK (node_no BETWEEN 0 AND 15),
  lease_no   bigint NOT NULL UNIQUE,
  address    text COLLATE "C",
  public_url text COLLATE "C",
  version    text COLLATE "C" NOT NULL,
  started_at bigint NOT NULL,
  seen_at    bigint NOT NULL
);
ALTER TABLE turns ADD COLUMN owner_lease bigint;

CREATE TABLE signing_secret (
  one    bigint PRIMARY KEY CHECK (one = 1),
  secret bytea NOT NULL
);

CREATE TABLE min_reader (
  one     bigint PRIMARY KEY CHECK (one = 1),
  version bigint NOT NULL
);
INSERT INTO min_reader VALUES (1, 16);
ALTER TABLE sessions ADD COLUMN last_tick bigint NOT NULL DEFAULT 0;
