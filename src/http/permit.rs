//! The permission to act: who may make a call is a column of the route table, and decided before anything is looked up.

use std::future::{Future, Ready, ready};
use std::ops::Deref;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use actix_web::dev::Payload;
use actix_web::http::{Method, header};
use actix_web::{FromRequest, HttpMessage, HttpRequest, web};
use futures_util::future::Either;

use super::App;
use super::body::{discard, is_small};
use super::context::Context;
use crate::auth::Checked;
use crate::auth::rate_limit::Admission;
use crate::error::{Code, Error, Refusal, Result};
use crate::model::caller::{Caller, Who};
use crate::model::words::Role;
use crate::store::cache::Glimpse;

/// Which callers a call is for (contract, section 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Callers {
    /// Everyone: no credential is asked for.
    Public,
    /// Whoever has a credential.
    Anyone,
    /// Whoever has a credential, but a VIEWER.
    Sender,
    /// All but the tokens of one session.
    Member,
    /// Members who may do more than read.
    Chatter,
    /// People.
    Person,
    /// Service accounts and ADMINs.
    Keeper,
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
            Self::Sender => !is_viewer(who),
            Self::Member => !is_of_a_session(who),
            Self::Chatter => !is_viewer(who) && !is_of_a_session(who),
            Self::Person => matches!(who, Who::DashboardUser { .. }),
            Self::Keeper => is_admin(who) || matches!(who, Who::ServiceAccount { .. }),
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

/// Who may make the calls of one address, by method; the router keeps it there.
#[derive(Clone, Debug)]
pub(super) struct Admitted(pub(super) Vec<(Method, Callers)>);

/// A caller who may make this call.
pub struct Permit {
    caller: Rc<Caller>,
    glimpse: Option<Glimpse>,
}

impl Deref for Permit {
    type Target = Caller;

    fn deref(&self) -> &Caller {
        &self.caller
    }
}

impl Permit {
    /// What the caller was found under.
    pub fn glimpse(&self) -> Option<Glimpse> {
        self.glimpse
    }

    /// Credential, rate limit, role: in this order (contract, section 1, Order of checks).
    fn check(request: &HttpRequest) -> Result<Checked> {
        let app = app(request)?;
        if app.is_draining() {
            return Err(Code::ShuttingDown.into());
        }
        app.authenticator
            .check(&app.store, credential(request), true)
    }

    fn admit(request: &HttpRequest, caller: Caller, glimpse: Option<Glimpse>) -> Result<Self> {
        let app = app(request)?;
        let callers = callers_of(request)
            .ok_or_else(|| Error::internal("a route does not say who may call it"))?;
        let caller = Rc::new(caller);
        let admission = app.limiter.admit(
            caller.tenant.no,
            caller.rate_limit_per_minute,
            app.store.now(),
        );
        if let Some(context) = request.extensions_mut().get_mut::<Context>() {
            context.caller = Some(caller.clone());
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
        if let Some(context) = request.extensions_mut().get_mut::<Context>() {
            context.is_admitted = true;
        }
        Ok(Self { caller, glimpse })
    }
}

/// The row of the table that a request is for.
fn callers_of(request: &HttpRequest) -> Option<Callers> {
    let admitted = request.app_data::<Admitted>()?;
    let mut rows = admitted.0.iter();
    rows.find(|(method, _)| method == request.method())
        .map(|(_, callers)| *callers)
}

/// Resolves once it is settled that the caller may make this call, at once where nobody asks.
///
/// A handler's arguments are made side by side, each polled in its turn; a body behind a [`Permit`] is not looked at before
/// that is known (contract, section 1, Order of checks). Whatever the permit waits for wakes both.
pub(super) async fn settled(request: HttpRequest) {
    if callers_of(&request).is_none_or(|callers| callers == Callers::Public) {
        return;
    }
    std::future::poll_fn(|_| {
        let extensions = request.extensions();
        match extensions.get::<Context>() {
            Some(context) if !context.is_admitted => Poll::Pending,
            _ => Poll::Ready(()),
        }
    })
    .await;
}

fn app(request: &HttpRequest) -> Result<&web::Data<App>> {
    request
        .app_data::<web::Data<App>>()
        .ok_or_else(|| Error::internal("the application's data is missing"))
}

fn credential(request: &HttpRequest) -> Option<&[u8]> {
    let header = request.headers().get(header::AUTHORIZATION);
    header.map(header::HeaderValue::as_bytes)
}

impl FromRequest for Permit {
    type Error = Error;
    type Future = Either<Ready<Result<Self>>, Pin<Box<dyn Future<Output = Result<Self>>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let admitted = match Self::check(request) {
            Err(error) => Err(error),
            Ok(Checked::Caller(caller, glimpse)) => Self::admit(request, caller, glimpse),
            Ok(Checked::Waits(wait)) => {
                // Seldom: keys have to be fetched, or a user is seen for the first time.
                let request = request.clone();
                return Either::Right(Box::pin(async move {
                    let app = app(&request)?;
                    let caller = app
                        .authenticator
                        .caller_in_time(&app.store, credential(&request), wait)
                        .await?;
                    Self::admit(&request, caller, None)
                }));
            }
        };
        match admitted {
            Err(error) if is_small(request) => {
                let payload = payload.take();
                Either::Right(Box::pin(async move {
                    discard(payload).await;
                    Err(error)
                }))
            }
            admitted => Either::Left(ready(admitted)),
        }
    }
}
