//! Whether the server is alive, and whether it can work (contract, section 10).

use actix_web::web;
use schemars::JsonSchema;
use serde::Serialize;

use super::App;
use super::edge::envelope::{Outcome, Reply};
use crate::error::Code;

#[derive(Serialize, JsonSchema)]
pub(super) struct Health {
    status: &'static str,
    version: &'static str,
}

pub(super) async fn health() -> Outcome<Health> {
    Ok(Reply::ok(Health {
        status: "ok",
        version: env!("CARGO_PKG_VERSION"),
    }))
}

#[derive(Serialize, JsonSchema)]
pub(super) struct Ready {
    status: &'static str,
}

pub(super) async fn ready(app: web::Data<App>) -> Outcome<Ready> {
    if app.is_draining() {
        return Err(Code::ShuttingDown.into());
    }
    app.store.check_writable().await?;
    Ok(Reply::ok(Ready { status: "ready" }))
}
