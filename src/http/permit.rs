//! The permission to act, as a type in a handler's signature: who may call is decided before anything is looked up.

use std::future::{Ready, ready};
use std::marker::PhantomData;
use std::ops::Deref;

use actix_web::dev::Payload;
use actix_web::http::header;
use actix_web::{FromRequest, HttpMessage, HttpRequest, web};

use super::App;
use super::context::Context;
use crate::auth::rate_limit::Admission;
use crate::error::{Code, Error, Refusal, Result};
use crate::model::caller::{Caller, Who};
use crate::model::words::Role;

/// Which callers a call is for (contract, section 2).
pub trait Policy {
    /// Whether this one may.
    fn allows(caller: &Caller) -> bool;
}

macro_rules! policies {
    ($($(#[$doc:meta])* $name:ident: $rule:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub enum $name {}

        impl Policy for $name {
            fn allows(caller: &Caller) -> bool {
                let rule: fn(&Who) -> bool = $rule;
                rule(&caller.who)
            }
        }
    )*};
}

policies! {
    /// Whoever has a credential: `GET /whoami`, and reading the session that one is allowed to read.
    Anyone: |_| true;
    /// Whoever has a credential, but a VIEWER: sending messages.
    Sender: |who| !matches!(who, Who::DashboardUser { role: Role::Viewer, .. });
    /// All but the tokens of one session.
    Member: |who| !matches!(who, Who::EndUserSession { .. });
    /// Members who may do more than read.
    Chatter: |who| !matches!(who, Who::EndUserSession { .. } | Who::DashboardUser { role: Role::Viewer, .. });
    /// Service accounts and ADMINs.
    Keeper: |who| matches!(who, Who::ServiceAccount { .. } | Who::DashboardUser { role: Role::Admin, .. });
}

/// A caller who may make this call.
pub struct Permit<P> {
    caller: Caller,
    policy: PhantomData<P>,
}

impl<P> Deref for Permit<P> {
    type Target = Caller;

    fn deref(&self) -> &Caller {
        &self.caller
    }
}

impl<P: Policy> Permit<P> {
    /// Credential, rate limit, role: in this order (contract, section 1, Order of checks).
    fn check(request: &HttpRequest) -> Result<Self> {
        let app = request
            .app_data::<web::Data<App>>()
            .ok_or_else(|| Error::internal("the application's data is missing"))?;
        if app.is_draining() {
            return Err(Code::ShuttingDown.into());
        }
        let header = request.headers().get(header::AUTHORIZATION);
        let caller = app
            .authenticator
            .caller(&app.store, header.map(header::HeaderValue::as_bytes))?;
        let admission = app.limiter.admit(
            caller.tenant.no,
            caller.rate_limit_per_minute,
            app.store.now(),
        );
        if let Some(context) = request.extensions_mut().get_mut::<Context>() {
            let actor = caller.actor();
            context.caller = Some(format!(
                "{}/{}:{}",
                caller.tenant.client_id,
                actor.kind.as_str(),
                actor.id
            ));
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
        if !P::allows(&caller) {
            return Err(Code::Forbidden.into());
        }
        Ok(Self {
            caller,
            policy: PhantomData,
        })
    }
}

impl<P: Policy> FromRequest for Permit<P> {
    type Error = Error;
    type Future = Ready<Result<Self>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Self::check(request))
    }
}
