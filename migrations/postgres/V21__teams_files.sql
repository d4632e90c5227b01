-- The twin of ../sqlite/V21__teams_files.sql, which gives the reasons.
CREATE TABLE teams_files (
  turn_seq     bigint NOT NULL REFERENCES turns (seq) ON DELETE CASCADE,
  place        bigint NOT NULL,
  bot_id       text COLLATE "C" NOT NULL,
  url          text COLLATE "C" NOT NULL,
  name         text COLLATE "C",
  content_type text COLLATE "C",
  PRIMARY KEY (turn_seq, place)
);
