-- Who wrote the message of a turn. NULL in turns of earlier versions, which do not know. Beside the turn, so that the statistics of a time
-- read no message.
ALTER TABLE turns ADD COLUMN author_kind TEXT;         -- a word of the client's or one of our own, such as end_user
ALTER TABLE turns ADD COLUMN author_id TEXT;
ALTER TABLE turns ADD COLUMN author_name TEXT;
ALTER TABLE turns ADD COLUMN sent_by TEXT;             -- the account that sent the message in the author's name; NULL: the author did
ALTER TABLE turns ADD COLUMN again_of INTEGER;         -- the seq of the question's first turn; NULL in that turn itself
ALTER TABLE messages ADD COLUMN searched_name TEXT;    -- the author's name that the search index has beside the text; NULL: none
ALTER TABLE messages ADD COLUMN superseded_by INTEGER; -- the seq of the newest answer to the same question; NULL: it is this one
