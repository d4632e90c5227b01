//! Switchboard decides which agent answers a chat, for which MSP and which client company, and
//! stores the conversation.
//!
//! A request passes the modules once. [`http`] routes the request, admits the caller and parses
//! the body. [`resolver`] or another rule decides. [`store`] reads one snapshot and writes one
//! transaction. `http` replies in the envelope. The modules below are in reading order.

pub mod model;

pub mod error;

pub mod digest;

pub mod files;

pub mod limits;

pub mod metrics;

pub mod text;

pub mod app_package;

pub mod terms;

pub mod resolver;

pub mod input;

pub mod store;

pub mod outbound;

pub mod auth;

pub mod knowledge;

pub mod turns;

pub mod teams;

pub mod http;

pub mod config;

pub mod cli;
