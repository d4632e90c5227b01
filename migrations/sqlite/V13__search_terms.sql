-- The server cuts text into terms itself, so that case, accents and scripts without spaces are treated alike in every engine. The indexes get
-- these terms, joined by spaces. `ascii` separates terms at spaces and keeps every letter beyond ASCII.
DROP TABLE message_search;
DROP TABLE title_search;
CREATE VIRTUAL TABLE message_search USING fts5 (scope, words, content = '', tokenize = 'ascii');
CREATE VIRTUAL TABLE title_search USING fts5 (scope, words, content = '', tokenize = 'ascii');
INSERT INTO message_search (message_search, rank) VALUES ('secure-delete', 1), ('automerge', 0);
INSERT INTO title_search (title_search, rank) VALUES ('secure-delete', 1);

-- The server fills the new indexes in small changes, from the newest text to the oldest, between the changes of others. What is newer than
-- `search_progress` says is added as before.
CREATE TABLE search_rebuild (
  what     TEXT PRIMARY KEY CHECK (what IN ('messages', 'titles')),
  from_seq INTEGER NOT NULL                            -- what is older is not in the index yet; 0: everything is
) STRICT, WITHOUT ROWID;
INSERT INTO search_rebuild SELECT 'messages', CASE WHEN done_seq > 0 THEN done_seq + 1 ELSE 0 END FROM search_progress;
INSERT INTO search_rebuild SELECT 'titles', coalesce(max(seq) + 1, 0) FROM sessions;

-- The terms of deleted messages, as they are in the index. Those of the old index went with it. A long message has several parts, each of
-- which one change removes: a change that shortened one text would write the rest of it again.
DROP TABLE search_removals;
CREATE TABLE search_removals (
  message_seq INTEGER NOT NULL,
  part        INTEGER NOT NULL DEFAULT 0,
  is_last     INTEGER NOT NULL DEFAULT 1,              -- 1: nothing of the message is left after this part
  tenant_no   INTEGER NOT NULL REFERENCES tenants (tenant_no),
  terms       TEXT NOT NULL,
  PRIMARY KEY (message_seq, part)
) STRICT, WITHOUT ROWID;
UPDATE removed_sessions SET indexed_seq = 0;
ALTER TABLE removed_sessions ADD COLUMN indexed_from INTEGER NOT NULL DEFAULT 0; -- the session's messages from this one on are in the search index
