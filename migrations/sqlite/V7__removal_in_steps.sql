-- A deletion removes the session's row at once, and nobody finds the session any longer. Its messages, turns and files can take hundreds of
-- megabytes: they are removed after it, a little at a time, between the changes of others.
CREATE TABLE removed_sessions (
  session_seq INTEGER PRIMARY KEY,
  tenant_no   INTEGER NOT NULL REFERENCES tenants (tenant_no),
  indexed_seq INTEGER NOT NULL                         -- the session's messages up to this one are in the search index
) STRICT;

-- So these rows outlive the session's row. PostgreSQL drops the three constraints.
PRAGMA writable_schema = ON;
UPDATE sqlite_schema SET sql = replace(sql, ' REFERENCES sessions (seq) ON DELETE CASCADE', '')
WHERE type = 'table' AND name IN ('messages', 'turns', 'attachments');
PRAGMA writable_schema = RESET;

-- Merging parts of the search index is a change of its own too. As a side effect of an insertion it held up everybody's writes.
INSERT INTO message_search (message_search, rank) VALUES ('automerge', 0);
