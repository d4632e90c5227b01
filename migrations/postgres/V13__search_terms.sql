-- The twin of ../sqlite/V13__search_terms.sql, which gives the reasons.
CREATE TABLE search_rebuild (
  what     text COLLATE "C" PRIMARY KEY CHECK (what IN ('messages', 'titles')),
  from_seq bigint NOT NULL
);
INSERT INTO search_rebuild VALUES ('messages', 0), ('titles', 0);

DROP TABLE search_removals;
CREATE TABLE search_removals (
  message_seq bigint NOT NULL,
  part        bigint NOT NULL DEFAULT 0,
  is_last     bigint NOT NULL DEFAULT 1,
  tenant_no   bigint NOT NULL REFERENCES tenants (tenant_no),
  terms       text COLLATE "C" NOT NULL,
  PRIMARY KEY (message_seq, part)
);
ALTER TABLE removed_sessions ADD COLUMN indexed_from bigint NOT NULL DEFAULT 0;
