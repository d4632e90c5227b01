//! Tests of Switchboard from outside the crate, one binary for all.

mod codes;
mod command_line;
mod concurrency;
mod credentials;
mod envelope;
mod fuzz;
mod isolation;
mod layers;
mod log_book;
mod messages;
mod openai_client;
mod process;
mod query_plans;
mod random;
mod rate_limit;
mod resolver_cases;
mod resolver_model;
mod resolver_random_worlds;
mod resolver_small_worlds;
mod resolver_tally;
mod scripted_model;
mod sessions;
mod support;
mod tokens;
mod wire;
mod world;
