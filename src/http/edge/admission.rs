//! Admission: who may call is a column of the route table, and the router checks it before anything else runs.

use std::future::{Ready, ready};
use std::ops::Deref;
use std::sync::Arc;

use actix_web::dev::{Payload, ServiceRequest};
use actix_web::http::header;
use actix_web::{FromRequest, HttpMessage, HttpRequest, web};

use super::body::{discard, is_small};
use super::context::Context;
use crate::auth::rate_limit::Admission;
use crate::error::{Code, Error, Refusal, Result};
use crate::http::App;
use crate::model::caller::{Caller, Who};
use crate::model::words::Role;
use crate::store::cache::SnapshotVersion;

/// Which callers a call is for (contract, section 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Callers {
    /// Everyone: no credential is asked for.
    Public,
    /// Whoever has a credential.
    Anyone,
    /// Whoever has a credential, but a VIEWER.
    CanSend,
    /// All but the tokens of one session.
    Member,
    /// Members who may do more than read.
    CanChat,
    /// People.
    Person,
    /// Service accounts and ADMINs.
    CanManage,
    /// ADMINs alone: a program never makes itself a key.
    Admin,
    /// Service accounts of the platform.
    Platform,
}

impl Callers {
    /// Whether this caller is one of them.
    pub fn allow(self, who: &Who) -> bool {
        match self {
            Self::Public | Self::Anyone => true,
            Self::CanSend => !is_viewer(who),
            Self::Member => !is_of_a_session(who),
            Self::CanChat => !is_viewer(who) && !is_of_a_session(who),
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

fn is_of_a_session(who: &Who) -> bool {
    matches!(who, Who::EndUserSession { .. })
}

/// A caller who may make this call. The router admits every call of a route that is not public, before any extractor
/// runs, and hands the handler the permit.
#[derive(Clone)]
pub struct Permit {
    caller: Arc<Caller>,
    snapshot_version: Option<SnapshotVersion>,
}

impl Deref for Permit {
    type Target = Caller;

    fn deref(&self) -> &Caller {
        &self.caller
    }
}

impl Permit {
    /// The caller, for a step that outlives the handler's borrow.
    pub fn shared(&self) -> Arc<Caller> {
        Arc::clone(&self.caller)
    }

    /// The version of the configuration under which the credential was found.
    pub fn snapshot_version(&self) -> Option<SnapshotVersion> {
        self.snapshot_version
    }
}

/// Admits a request to a route: shutdown, credential, rate limit and role, in this order (contract, section 1, Order of
/// checks). The handler's [`Permit`] is put into the request.
///
/// # Errors
/// `shutting_down`, `unauthorized`, `rate_limited`, `forbidden`.
pub(super) async fn admit(request: &mut ServiceRequest, callers: Callers) -> Result<()> {
    let admitted = check(request, callers).await;
    if admitted.is_err() && is_small(request.request()) {
        // The connection can be kept once the small body is read.
        discard(request.take_payload()).await;
    }
    request.extensions_mut().insert(admitted?);
    Ok(())
}

async fn check(request: &ServiceRequest, callers: Callers) -> Result<Permit> {
    let app = request
        .app_data::<web::Data<App>>()
        .ok_or_else(|| Error::internal("the application's data is missing"))?;
    if app.is_draining() {
        return Err(Code::ShuttingDown.into());
    }
    let credential = request.headers().get(header::AUTHORIZATION);
    let (caller, snapshot_version) = app
        .authenticator
        .authenticate(&app.store, credential.map(header::HeaderValue::as_bytes))
        .await?;
    let caller = Arc::new(caller);
    let admission = app.limiter.admit(
        caller.tenant.no,
        caller.rate_limit_per_minute,
        app.store.now(),
    );
    if let Some(context) = request.extensions_mut().get_mut::<Context>() {
        context.caller = Some(Arc::clone(&caller));
        context.standing = match admission {
            Admission::Unlimited => None,
            Admission::Admitted(standing) | Admission::Refused(standing, _) => Some(standing),
        };
    }
    if let Admission::Refused(_, wait_s) = admission {
        let mut refusal = Refusal::new(Code::RateLimited);
        refusal.retry_after_s = Some(wait_s);
        return Err(refusal.into());
    }
    if !callers.allow(&caller.who) {
        return Err(Code::Forbidden.into());
    }
    Ok(Permit {
        caller,
        snapshot_version,
    })
}

impl FromRequest for Permit {
    type Error = Error;
    type Future = Ready<Result<Self>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let permit = request.extensions().get::<Self>().cloned();
        ready(permit.ok_or_else(|| Error::internal("a public route asks for a permit")))
    }
}
