-- The twin of ../sqlite/V18__authors.sql, which gives the reasons.
ALTER TABLE turns ADD COLUMN author_kind text COLLATE "C";
ALTER TABLE turns ADD COLUMN author_id text COLLATE "C";
ALTER TABLE turns ADD COLUMN author_name text COLLATE "C";
ALTER TABLE turns ADD COLUMN sent_by text COLLATE "C";
ALTER TABLE turns ADD COLUMN again_of bigint;
ALTER TABLE messages ADD COLUMN searched_name text COLLATE "C";
ALTER TABLE messages ADD COLUMN superseded_by bigint;
