-- The twin of ../sqlite/V9__model_reasoning.sql, which gives the reasons.
ALTER TABLE agents ADD COLUMN show_reasoning bigint NOT NULL DEFAULT 0 CHECK (show_reasoning = 0 OR show_reasoning = 1);

CREATE TABLE unopened_models (
  endpoint   text COLLATE "C" NOT NULL,
  model      text COLLATE "C" NOT NULL,
  learned_at bigint NOT NULL,
  PRIMARY KEY (endpoint, model)
);
