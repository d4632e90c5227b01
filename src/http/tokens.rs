//! Session tokens: credentials for end users, valid for one session (contract, section 8).

use actix_web::{HttpRequest, web};
use schemars::JsonSchema;
use serde::Serialize;

use super::App;
use super::edge::admission::Permit;
use super::edge::context::event_of;
use super::edge::envelope::{NoContent, Outcome, Reply};
use super::edge::extract::{Body, path_id};
use super::edge::once;
use super::sessions::{add_end_user, find, platform_client_id};
use crate::auth::session_token::{self, NewClaims};
use crate::error::{Code, Error, Refusal, Result};
use crate::input::fields::{Fields, FromFields};
use crate::input::people::{MAX_EMAIL_CHARS, end_user_or_name};
use crate::model::caller::{Reach, Who};
use crate::model::clock::{Timestamp, rfc3339};
use crate::model::ids::{SessionId, TokenId};
use crate::model::session::EndUser;
use crate::store::Extent;
use crate::store::audit;
use crate::store::sessions;
use crate::store::tokens::{self, NewToken};

const DEFAULT_TTL_SECONDS: i64 = 3_600;

/// The body of a mint.
pub(super) struct TokenRequest {
    session_id: Option<String>,
    client_id: Option<String>,
    end_user: Option<EndUser>,
    end_user_email: Option<String>,
    end_company_id: Option<String>,
    allowed_agent_ids: Option<Vec<i64>>,
    ttl_seconds: i64,
}

impl FromFields for TokenRequest {
    fn read(fields: &Fields<'_>) -> Self {
        Self {
            session_id: fields.required("session_id", fields.text("session_id", 1..=128)),
            client_id: fields.text("client_id", 0..=usize::MAX).value(),
            end_user: end_user_or_name(fields, "end_user"),
            end_user_email: fields.text("end_user_email", 1..=MAX_EMAIL_CHARS).value(),
            end_company_id: fields.text("end_company_id", 1..=64).value(),
            allowed_agent_ids: fields.integers("allowed_agent_ids", 1_000).value(),
            ttl_seconds: fields
                .integer("ttl_seconds", 60..=86_400)
                .value()
                .unwrap_or(DEFAULT_TTL_SECONDS),
        }
    }
}

impl TokenRequest {
    /// The person whom the token is for. Who is known by an address alone has it as the id.
    fn person(&self) -> Option<EndUser> {
        let email = self.end_user_email.clone();
        match self.end_user.clone() {
            Some(user) => Some(EndUser {
                email: user.email.or(email),
                ..user
            }),
            None => email.map(|email| EndUser {
                id: email.clone(),
                name: None,
                email: Some(email),
            }),
        }
    }
}

/// A new session token.
#[derive(Serialize, JsonSchema)]
pub(super) struct Minted {
    /// The token. It cannot be shown again.
    token: String,
    /// The id of the token, with which it can be revoked.
    jti: TokenId,
    /// The session that the token is valid for.
    session_id: SessionId,
    /// When the token expires.
    expires_at: Timestamp,
}

pub(super) async fn mint(
    app: web::Data<App>,
    caller: Permit,
    request: HttpRequest,
    body: Body<TokenRequest>,
) -> Outcome<Minted> {
    let requested = body.read()?;
    let named = platform_client_id(&caller, requested.client_id.as_deref())?;
    let id = requested
        .session_id
        .as_deref()
        .and_then(SessionId::parse)
        .ok_or(Code::NotFound)?;
    let session = find(&app, &caller, id, Reach::Write).await?;
    if named.is_some_and(|client_id| client_id != session.client_id) {
        return Err(Code::NotFound.into());
    }
    if requested
        .allowed_agent_ids
        .as_ref()
        .is_some_and(|allowed| !allowed.contains(&session.agent_id.0))
    {
        return Err(Refusal::new(Code::AgentNotAllowed)
            .saying("allowed_agent_ids does not contain the session's agent. Add the agent, or leave out the list.")
            .with("field", "allowed_agent_ids")
            .into());
    }
    let person = requested.person();
    let end_user = requested
        .end_user
        .map(|user| user.display_name().to_owned());
    let now = app.store.now();
    let (iat, exp) = (now / 1_000, now / 1_000 + requested.ttl_seconds);
    let new = NewToken {
        session: id,
        tenant: session.internals.tenant,
        minted_by: caller.actor(),
        minted_by_key: match &caller.who {
            Who::ServiceAccount { key, .. } => Some(key.tick()),
            Who::DashboardUser { .. } | Who::EndUserSession { .. } => None,
        },
        end_user: end_user.clone(),
        end_user_email: person.as_ref().and_then(|person| person.email.clone()),
        company: requested.end_company_id,
        expires_at: exp * 1_000,
    };
    let mut event = event_of(&request, &caller, "session_token.mint", "");
    event.tenant = new.tenant;
    let expires_at = rfc3339(new.expires_at);
    let jti = app
        .store
        .write(Extent::Session(id.tick()), move |tx| {
            let session = match person {
                Some(person) => sessions::fill_end_user(tx, id, person)?,
                None => sessions::by_id(tx.reader(), id)?.ok_or(Code::NotFound)?,
            };
            let jti = tokens::insert(tx, &new)?;
            add_end_user(&mut event, &session);
            event.target = Some(jti.to_string());
            let details = &mut event.details;
            details.insert("session_id".to_owned(), id.to_string().into());
            details.insert("expires_at".to_owned(), expires_at.into());
            audit::record(tx, &event)?;
            Ok(jti)
        })
        .await?;
    let token = session_token::sign(
        app.authenticator.signing(),
        &NewClaims {
            jti,
            session_id: id,
            client_id: &session.client_id,
            end_company_id: session.end_company_id.as_ref(),
            end_user: end_user.as_deref(),
            iat,
            exp,
        },
    )?;
    let minted = Minted {
        token,
        jti,
        session_id: id,
        expires_at: Timestamp(exp * 1_000),
    };
    let reply = Reply::created(format_args!("/sessions/{jti}"), minted);
    Ok(reply.warning(once::ignored(&request)))
}

pub(super) async fn revoke(
    app: web::Data<App>,
    caller: Permit,
    request: HttpRequest,
) -> Result<NoContent> {
    let jti: TokenId = path_id(&request, "jti")?;
    let revoker = caller.shared();
    let token = app.store.read(move |reader| {
        let token = tokens::by_jti(reader, jti)?.ok_or(Code::NotFound)?;
        let session = sessions::within_reach(reader, &revoker, token.session, Reach::Write);
        let session = session.map_err(|error| match error {
            // A caller that may not revoke the token does not learn that it exists.
            Error::Refused(_) => Code::NotFound.into(),
            Error::Internal(_) => error,
        })?;
        revoker.act_in(token.tenant.no, token.tenant.rate_limit_per_minute)?;
        Ok((token, session))
    });
    let (token, revoked_in) = token.await?;
    let mut event = event_of(&request, &caller, "session_token.revoke", jti);
    event.tenant = token.tenant.no;
    let session = token.session.to_string().into();
    event.details.insert("session_id".to_owned(), session);
    add_end_user(&mut event, &revoked_in);
    app.store
        .write(Extent::Session(token.session.tick()), move |tx| {
            if tokens::revoke(tx, jti)? {
                audit::record(tx, &event)?;
            }
            Ok(())
        })
        .await?;
    Ok(NoContent)
}
