//! Health and readiness (contract, section 10).

use actix_web::web;
use schemars::JsonSchema;
use serde::Serialize;

use super::App;
use super::edge::envelope::{Outcome, Reply};
use crate::error::Code;

/// The health of the server.
#[derive(Serialize, JsonSchema)]
pub(super) struct Health {
    /// Always `ok`.
    status: &'static str,
    /// The version of the server.
    version: &'static str,
    /// What holds the data: `sqlite` or `postgresql`.
    engine: &'static str,
    /// The servers that work on the database, with this one. Always 1 on SQLite.
    nodes: usize,
}

pub(super) async fn health(app: web::Data<App>) -> Outcome<Health> {
    Ok(Reply::ok(Health {
        status: "ok",
        version: env!("CARGO_PKG_VERSION"),
        engine: app.store.engine_name(),
        nodes: app.store.live_nodes(),
    }))
}

/// The readiness of the server.
#[derive(Serialize, JsonSchema)]
pub(super) struct Ready {
    /// Always `ready`. A server that is not ready answers 503.
    status: &'static str,
    /// What holds the data: `sqlite` or `postgresql`.
    engine: &'static str,
    /// The servers that work on the database, with this one. Always 1 on SQLite.
    nodes: usize,
}

pub(super) async fn ready(app: web::Data<App>) -> Outcome<Ready> {
    if app.is_draining() {
        return Err(Code::ShuttingDown.into());
    }
    app.store.check_writable().await?;
    Ok(Reply::ok(Ready {
        status: "ready",
        engine: app.store.engine_name(),
        nodes: app.store.live_nodes(),
    }))
}
