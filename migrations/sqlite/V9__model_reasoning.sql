-- Whether the people who talk to an agent see what its model thinks before it answers. If not, white-label sessions and session tokens get
-- no thoughts.
ALTER TABLE agents ADD COLUMN show_reasoning INTEGER NOT NULL DEFAULT 0 CHECK (show_reasoning = 0 OR show_reasoning = 1);

-- The models whose answers begin within a thought: the chat template opens the thought, so the text only has its end. The server writes a
-- row when an answer shows this, so that no later answer shows a thought as text, even after a restart.
CREATE TABLE unopened_models (
  endpoint   TEXT NOT NULL,                            -- the URL that answers: servers name different models alike
  model      TEXT NOT NULL,
  learned_at INTEGER NOT NULL,
  PRIMARY KEY (endpoint, model)
) STRICT;
