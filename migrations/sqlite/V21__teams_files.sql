-- The files of messages from Teams that are still to be fetched. A message is acknowledged without them, and its turn fetches them before it
-- is answered: a row goes in the same transaction in which its file comes, or in which the person is told why it does not.
CREATE TABLE teams_files (
  turn_seq     INTEGER NOT NULL REFERENCES turns (seq) ON DELETE CASCADE,
  place        INTEGER NOT NULL,                       -- within the message, from 0
  bot_id       TEXT NOT NULL,                          -- whose token the service hosts get
  url          TEXT NOT NULL,                          -- empty: there is none that a bot can read
  name         TEXT,
  content_type TEXT,                                   -- as the activity has it
  PRIMARY KEY (turn_seq, place)
) STRICT;
