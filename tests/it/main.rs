//! Tests of Switchboard from outside the crate, one binary for all.

mod command_line;
mod layers;
mod openai_client;
mod process;
mod random;
mod resolver_cases;
mod resolver_model;
mod resolver_random_worlds;
mod resolver_small_worlds;
mod resolver_tally;
mod scripted_model;
mod world;
