-- Whether the people who talk to an agent see what its model thinks before it answers. Without it, thoughts stay out of white-label
-- sessions and away from session tokens.
ALTER TABLE agents ADD COLUMN show_reasoning INTEGER NOT NULL DEFAULT 0 CHECK (show_reasoning = 0 OR show_reasoning = 1);

-- The models whose answers begin within a thought: the chat template opens it, so the text has its end alone. A row is written when
-- an answer shows it, and kept, so that no later answer shows a thought as text, after a restart too.
CREATE TABLE unopened_models (
  endpoint   TEXT NOT NULL,                            -- the URL that answers: servers name different models alike
  model      TEXT NOT NULL,
  learned_at INTEGER NOT NULL,
  PRIMARY KEY (endpoint, model)
) STRICT;
