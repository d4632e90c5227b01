//! Sign-in by a link, its configuration, and sign-out (contract, section 9).

use std::net::{IpAddr, Ipv4Addr};

use actix_web::{HttpRequest, web};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Map;

use super::App;
use super::edge::admission::Permit;
use super::edge::call::rate_limited;
use super::edge::context::{Context, event_of};
use super::edge::envelope::{NoContent, Outcome, Reply};
use super::edge::extract::Body;
use super::edge::once;
use crate::auth::sign_in;
use crate::config::EntraSignIn;
use crate::digest;
use crate::error::{Code, Refusal, Result};
use crate::input::fields::{Fields, FromFields};
use crate::model::caller::{Actor, Who};
use crate::model::clock::Timestamp;
use crate::model::words::CallerKind;
use crate::store::{Extent, audit, sign_ins};

/// The available sign-in methods.
#[derive(Serialize, JsonSchema)]
pub(super) struct Config {
    /// Whether sign-in by a link of this server is available.
    local: bool,
    /// The settings for sign-in with Microsoft Entra ID; null if it is not configured.
    entra: Option<EntraSignIn>,
}

pub(super) async fn config(app: web::Data<App>) -> Outcome<Config> {
    Ok(Reply::ok(Config {
        local: true,
        entra: app.config.entra_sign_in.clone(),
    }))
}

/// A local sign-in.
#[derive(Serialize, JsonSchema)]
pub(super) struct SignedIn {
    /// The token to send as the credential.
    token: String,
    /// When the token expires.
    expires_at: Timestamp,
}

/// The body of an exchange.
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
    let client = context.remote.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let now = app.store.now();
    let state = app
        .store
        .read(move |reader| sign_ins::code_state(reader, &sha256, now))
        .await?;
    // Only wrong codes make an address wait. Nobody can guess a valid code, so the server accepts a
    // valid code from any address.
    let refuse = |state| {
        if let Err(wait_s) = app.attempts.count_wrong(client) {
            return rate_limited(wait_s);
        }
        let (reason, message) = match state {
            sign_ins::CodeState::Expired => (
                "expired",
                "This link has expired. Request a new one; a link works for 15 minutes.",
            ),
            sign_ins::CodeState::Valid | sign_ins::CodeState::Unknown => (
                "unknown",
                "This link is unknown or was already used. Request a new one; a link works once.",
            ),
        };
        Refusal::unauthorized(reason, message)
    };
    if state != sign_ins::CodeState::Valid {
        return Err(refuse(state).into());
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
    // Another request exchanged the code between the check and the write.
    let new = signed_in.ok_or_else(|| refuse(sign_ins::CodeState::Unknown))?;
    let token = sign_in::sign(
        app.authenticator.signing(),
        new.jti,
        &new.client_id,
        new.role,
        new.created_at.div_euclid(1_000),
        new.expires_at.div_euclid(1_000),
    )?;
    let reply = Reply::ok(SignedIn {
        token,
        expires_at: Timestamp(new.expires_at),
    });
    Ok(reply.warning(once::ignored(&request)))
}

pub(super) async fn sign_out(
    app: web::Data<App>,
    caller: Permit,
    request: HttpRequest,
) -> Result<NoContent> {
    let Who::DashboardUser {
        sign_in: Some(jti), ..
    } = caller.who
    else {
        return Err(Refusal::new(Code::Forbidden)
            .saying("Only a local sign-in can be ended here. Sign out where you signed in.")
            .into());
    };
    let event = event_of(&request, &caller, "sign_in.end", jti);
    app.store
        .write(Extent::Configuration, move |tx| {
            sign_ins::end(tx, jti)?;
            audit::record(tx, &event)
        })
        .await?;
    Ok(NoContent)
}
