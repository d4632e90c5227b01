//! Several nodes on one database, and what breaks beneath them: nodes that die or stand still, the
//! network, the database server.
//!
//! `tests/nodes/run.sh` runs the same cases with large numbers.

mod book;
mod concurrency;
mod database;
mod failures;
mod group;
mod load;
mod primary;
mod proxy;
mod reader;
mod two_nodes;
mod upgrade;
