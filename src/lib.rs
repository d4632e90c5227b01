//! Switchboard decides which agent answers a chat, acting for which MSP and for which client company, and keeps it.
//!
//! A request goes straight through: [`http`] reads the route, the caller and the body; [`resolver`] or another rule
//! decides; [`store`] reads one snapshot and writes one transaction; [`http::envelope`] replies. Modules in reading order:

pub mod model;

pub mod error;

pub mod digest;

pub mod files;

pub mod limits;

pub mod metrics;

pub mod text;

pub mod resolver;

pub mod store;

pub mod outbound;

pub mod auth;

pub mod input;

pub mod knowledge;

pub mod turns;

pub mod http;

pub mod config;

pub mod cli;
