//! Admission: the router checks each call against the route table before any extractor runs.

use std::future::{Ready, ready};
use std::ops::Deref;
use std::sync::Arc;

use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderMap};
use actix_web::{FromRequest, HttpMessage, HttpRequest, web};

use super::body::{discard, is_discardable};
use super::call::{ActingTenant, Call};
use super::context::Context;
use super::reply_limiter::{RoomOf, reserve};
use crate::error::{Code, Error, Refusal, Result};
use crate::http::App;
use crate::model::caller::Who;
use crate::model::words::Role;

/// The callers that a route admits (contract, section 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Callers {
    /// Everyone. No credential is checked.
    Public,
    /// Every caller with a credential.
    Anyone,
    /// Every caller with a credential, except a VIEWER.
    CanSend,
    /// Every caller with a credential, except the token of one session.
    Member,
    /// Members, except a VIEWER.
    CanChat,
    /// Dashboard users.
    Person,
    /// Service accounts and ADMINs.
    CanManage,
    /// ADMINs only, so that a program cannot create an API key for itself.
    Admin,
    /// Platform service accounts.
    Platform,
}

impl Callers {
    /// Whether the route admits this caller.
    pub fn allow(self, who: &Who) -> bool {
        match self {
            Self::Public | Self::Anyone => true,
            Self::CanSend => !is_viewer(who),
            Self::Member => !is_session_token(who),
            Self::CanChat => !is_viewer(who) && !is_session_token(who),
            Self::Person => matches!(who, Who::DashboardUser { .. }),
            Self::CanManage => is_admin(who) || matches!(who, Who::ServiceAccount { .. }),
            Self::Admin => is_admin(who),
            Self::Platform => matches!(who, Who::ServiceAccount { platform: true, .. }),
        }
    }
}

fn is_admin(who: &Who) -> bool {
    matches!(
        who,
        Who::DashboardUser {
            role: Role::Admin,
            ..
        }
    )
}

fn is_viewer(who: &Who) -> bool {
    matches!(
        who,
        Who::DashboardUser {
            role: Role::Viewer,
            ..
        }
    )
}

fn is_session_token(who: &Who) -> bool {
    matches!(who, Who::EndUserSession { .. })
}

/// A caller that the route admits. The router checks every request to a route that is not public,
/// before any extractor runs, and stores the permit in the request for the handler.
#[derive(Clone, Debug)]
pub struct Permit(Arc<Call>);

impl Deref for Permit {
    type Target = Call;

    fn deref(&self) -> &Call {
        &self.0
    }
}

impl Permit {
    /// The call, for a closure that outlives the handler's borrow.
    pub fn shared(&self) -> Arc<Call> {
        Arc::clone(&self.0)
    }
}

/// What a row of the route table says about the admission of its calls.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// The callers that the route admits.
    pub callers: Callers,
    /// The tenant on which a platform call counts.
    pub tenant: ActingTenant,
    /// Whether the call ends access, and so goes on when its tenant has reached its limit.
    pub has_allowance: bool,
    /// The KiB of room for the reply that are reserved before the handler runs.
    pub reply_kib: u32,
}

impl Rules {
    /// The rules of a public page or file.
    pub const PUBLIC: Self = Self {
        callers: Callers::Public,
        tenant: ActingTenant::Own,
        has_allowance: false,
        reply_kib: 0,
    };
}

/// Admits a request to a route and stores the [`Permit`] in the request. The checks run in the
/// order of the contract (section 1, Order of checks): shutdown, credential, rate limit, role. Then
/// room for the reply is reserved, if the route has a large one.
///
/// # Errors
/// `shutting_down`, `unauthorized`, `rate_limited`, `forbidden`, `overloaded`.
pub(super) async fn admit(request: &mut ServiceRequest, rules: Rules) -> Result<()> {
    let mut permit = authorize(request, rules).await;
    if rules.reply_kib > 0 && permit.is_ok() {
        let reserved = Box::pin(reserve(request.request(), RoomOf::Changes, rules.reply_kib)).await;
        permit = reserved.and(permit);
    }
    if permit.is_err() && is_discardable(request.request()) {
        // The connection stays usable once the small body is read.
        Box::pin(discard(request.take_payload())).await;
    }
    let permit = permit?;
    if let Some(context) = request.extensions_mut().get_mut::<Context>() {
        context.permit = Some(permit);
    }
    Ok(())
}

/// Settles the counts of a call that its handler has answered: a forbidden call uses up no
/// allowance.
pub(super) fn settle<B>(response: &ServiceResponse<B>) {
    if response.status() != StatusCode::FORBIDDEN {
        return;
    }
    let extensions = response.request().extensions();
    let context = extensions.get::<Context>();
    if let Some(call) = context.and_then(|context| context.call.as_ref()) {
        call.release_allowance();
    }
}

/// The `Authorization` header. Two are refused, because a proxy could check one of them and this
/// server the other.
///
/// # Errors
/// `unauthorized` with the reason `malformed` if there are several.
pub(in crate::http) fn credential(headers: &HeaderMap) -> Result<Option<&[u8]>> {
    let mut credentials = headers.get_all(header::AUTHORIZATION);
    let credential = credentials.next().map(header::HeaderValue::as_bytes);
    match credentials.next() {
        None => Ok(credential),
        Some(_) => Err(Refusal::unauthorized(
            "malformed",
            "The request has several Authorization headers. Send one.",
        )
        .into()),
    }
}

async fn authorize(request: &ServiceRequest, rules: Rules) -> Result<Permit> {
    let app = request
        .app_data::<web::Data<App>>()
        .ok_or_else(|| Error::internal("the application's data is missing"))?;
    if app.is_draining() {
        return Err(Code::ShuttingDown.into());
    }
    let authenticated = app
        .authenticator
        .authenticate(&app.store, credential(request.headers())?)
        .await?;
    let limiter = Arc::clone(&app.limiter);
    let call = Arc::new(Call::new(authenticated, rules, limiter));
    if let Some(context) = request.extensions_mut().get_mut::<Context>() {
        context.call = Some(Arc::clone(&call));
    }
    call.admit()?;
    if !rules.callers.allow(&call.who) {
        return Err(Code::Forbidden.into());
    }
    Ok(Permit(call))
}

impl FromRequest for Permit {
    type Error = Error;
    type Future = Ready<Result<Self>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let extensions = request.extensions();
        let context = extensions.get::<Context>();
        let permit = context.and_then(|context| context.permit.clone());
        ready(permit.ok_or_else(|| Error::internal("the handler of a public route takes a permit")))
    }
}
