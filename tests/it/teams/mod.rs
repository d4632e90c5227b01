//! Teams bots without a relay: what they send, against a fake of the connector.

mod connector;
mod deliveries;
mod files;
mod formats;
mod kills;
mod outbox;
mod scenes;
mod streams;
