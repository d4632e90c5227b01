//! What is known of a request while it is served: its id, when it came, who sent it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use actix_web::{HttpMessage, HttpRequest};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::auth::rate_limit::Standing;
use crate::model::caller::Caller;
use crate::model::names::TenantNo;
use crate::store::audit::Event;

/// A request's own facts; kept in its extensions.
#[derive(Clone, Debug)]
pub struct Context {
    /// Names the request in replies and in the log.
    pub request_id: Uuid,
    /// When it came.
    pub started: Instant,
    /// From where.
    pub remote: Option<IpAddr>,
    /// Who sent it, once the credential has been checked.
    pub caller: Option<Arc<Caller>>,
    /// What its reply says of the rate limit.
    pub standing: Option<Standing>,
}

impl Context {
    /// The facts of a request; every request has them, since the door puts them there.
    pub fn of(request: &HttpRequest) -> Self {
        let found = request.extensions().get::<Self>().cloned();
        found.unwrap_or_else(|| Self {
            request_id: Uuid::new_v4(),
            started: Instant::now(),
            remote: None,
            caller: None,
            standing: None,
        })
    }

    /// Milliseconds since the request came.
    pub fn elapsed_ms(&self) -> f64 {
        (self.started.elapsed().as_secs_f64() * 1_000_000.0).round() / 1_000.0
    }

    /// An audit event of this request.
    pub fn event(
        &self,
        tenant: TenantNo,
        caller: &Caller,
        action: &'static str,
        target: Option<String>,
        details: Map<String, Value>,
    ) -> Event {
        Event {
            tenant,
            actor: caller.actor(),
            action,
            target,
            details,
            request_id: Some(self.request_id),
            remote: self.remote.map(|address| address.to_string()),
        }
    }
}

/// An audit event of a request.
pub fn event_of(
    request: &HttpRequest,
    caller: &Caller,
    action: &'static str,
    target: impl ToString,
) -> Event {
    let target = Some(target.to_string());
    Context::of(request).event(caller.tenant.no, caller, action, target, Map::new())
}
