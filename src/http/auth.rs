//! Signing in and out: links' codes for tokens, and what sign-in there is (contract, section 9).

use std::net::{IpAddr, Ipv4Addr};

use actix_web::{HttpRequest, web};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Map;

use super::App;
use super::edge::admission::Permit;
use super::edge::context::{Context, event_of};
use super::edge::envelope::{Gone, Outcome, Reply};
use super::edge::extract::Body;
use crate::auth::sign_in;
use crate::config::EntraSignIn;
use crate::digest;
use crate::error::{Code, Refusal, Result};
use crate::input::fields::{Fields, FromFields};
use crate::model::caller::{Actor, Who};
use crate::model::clock::Timestamp;
use crate::model::words::CallerKind;
use crate::store::{Extent, audit, sign_ins};

/// What sign-in there is.
#[derive(Serialize, JsonSchema)]
pub(super) struct Config {
    local: bool,
    entra: Option<EntraSignIn>,
}

pub(super) async fn config(app: web::Data<App>) -> Outcome<Config> {
    Ok(Reply::ok(Config {
        local: true,
        entra: app.config.entra_sign_in.clone(),
    }))
}

/// The reply of an exchange.
#[derive(Serialize, JsonSchema)]
pub(super) struct SignedIn {
    token: String,
    expires_at: Timestamp,
}

/// A body that exchanges a sign-in link's code.
pub(super) struct Exchange {
    code: Option<String>,
}

impl FromFields for Exchange {
    fn read(fields: &Fields<'_>) -> Self {
        Self {
            code: fields.required("code", fields.text("code", 1..=128)),
        }
    }
}

pub(super) async fn exchange(
    app: web::Data<App>,
    request: HttpRequest,
    body: Body<Exchange>,
) -> Outcome<SignedIn> {
    if app.is_draining() {
        return Err(Code::ShuttingDown.into());
    }
    let Exchange { code } = body.read()?;
    let sha256 = digest::sha256(code.unwrap_or_default());
    let context = Context::of(&request);
    let from = context.remote.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let now = app.store.now();
    if let Err(wait_s) = app.attempts.admit(from, now) {
        let mut refusal = Refusal::new(Code::RateLimited);
        refusal.retry_after_s = Some(wait_s);
        return Err(refusal.into());
    }
    let worth = app
        .store
        .read(move |reader| sign_ins::worth(reader, &sha256, now))
        .await?;
    let refused = |worth| {
        app.attempts.failed(from, now);
        let (reason, message) = match worth {
            sign_ins::Code::Expired => (
                "expired",
                "This link is too old. Ask for a new one; links work for 15 minutes.",
            ),
            sign_ins::Code::Good | sign_ins::Code::Unknown => (
                "unknown",
                "This link is not known, or was used before. Ask for a new one; each works once.",
            ),
        };
        Refusal::unauthorized(reason, message)
    };
    if worth != sign_ins::Code::Good {
        return Err(refused(worth).into());
    }
    let signed_in = app
        .store
        .write(Extent::Configuration, move |tx| {
            let Some(new) = sign_ins::exchange(tx, &sha256)? else {
                return Ok(None);
            };
            audit::record(
                tx,
                &audit::Event {
                    tenant: new.tenant,
                    actor: Actor {
                        kind: CallerKind::DashboardUser,
                        id: sign_in::id_of(new.role),
                        name: Some(sign_in::NAME.to_owned()),
                    },
                    action: "sign_in.create",
                    target: Some(new.jti.to_string()),
                    details: Map::new(),
                    request_id: Some(context.request_id),
                    remote: context.remote.map(|address| address.to_string()),
                },
            )?;
            Ok(Some(new))
        })
        .await?;
    // Somebody else exchanged it between the look and the change.
    let new = signed_in.ok_or_else(|| refused(sign_ins::Code::Unknown))?;
    let token = sign_in::sign(
        app.authenticator.signing(),
        new.jti,
        &new.client_id,
        new.role,
        new.created_at.div_euclid(1_000),
        new.expires_at.div_euclid(1_000),
    )?;
    Ok(Reply::ok(SignedIn {
        token,
        expires_at: Timestamp(new.expires_at),
    }))
}

pub(super) async fn sign_out(
    app: web::Data<App>,
    caller: Permit,
    request: HttpRequest,
) -> Result<Gone> {
    let Who::DashboardUser {
        sign_in: Some(jti), ..
    } = caller.who
    else {
        return Err(Refusal::new(Code::Forbidden)
            .saying("Only a local sign-in ends here. Sign out where you signed in.")
            .into());
    };
    let event = event_of(&request, &caller, "sign_in.end", jti);
    app.store
        .write(Extent::Configuration, move |tx| {
            sign_ins::end(tx, jti)?;
            audit::record(tx, &event)
        })
        .await?;
    Ok(Gone)
}
