//! Integration tests of Switchboard, in one test binary.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a helper ends its test where something is not as expected, and no other crate uses it"
)]

mod agents;
mod articles;
mod attachments;
mod authority;
mod backups;
mod cache;
mod channels;
mod client_bodies;
mod client_timeouts;
mod clock_jumps;
mod codes;
mod command_line;
mod companies;
mod company_directories;
mod company_ids;
mod company_isolation;
mod company_rows;
mod concurrency;
mod crash;
mod credentials;
mod csv_import;
mod cuts;
mod damage;
mod dashboard;
mod demo;
mod directory_ids;
mod disk;
mod docs;
mod document;
mod drain;
mod dry_run_directories;
mod dry_runs;
mod entra;
mod entra_attacks;
mod envelope;
mod event_reader;
mod faults;
mod file_locks;
mod foreign_schema;
mod front_door;
mod fuzz;
mod guests;
mod health;
mod held_sockets;
mod history;
mod idempotency;
mod import_findings;
mod installs;
mod isolation;
mod isolation_plan;
mod large_imports;
mod large_replies;
mod layers;
mod log_book;
mod logs;
mod long_messages;
mod long_reads;
mod management;
mod messages;
mod methods;
mod metrics;
mod model_reasoning;
mod model_refusals;
mod model_setup;
mod model_sources;
mod model_streams;
mod model_turns;
mod openai_client;
mod platform_limit;
mod power_cut;
mod process;
mod psa_lists;
mod query_plans;
mod random;
mod rate_limit;
mod repeats;
mod reply_headers;
mod resolver_cases;
mod resolver_model;
mod resolver_random_worlds;
mod resolver_small_worlds;
mod resolver_tally;
mod retention;
mod roles;
mod scripted_model;
mod search_limits;
mod seed_file;
mod session_changes;
mod session_filters;
mod session_lists;
mod sessions;
mod shared_bots;
mod shim;
mod sign_in;
mod streams;
mod strict_seed;
mod support;
mod surroundings;
mod tenant_removal;
mod tokens;
mod turn_memory;
mod turn_shares;
mod upgrade;
mod watchdog;
mod wire;
mod world;
