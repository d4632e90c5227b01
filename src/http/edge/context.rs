//! The context of a request: its id, its start time and its caller.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use actix_web::{HttpMessage, HttpRequest};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::admission::Permit;
use super::call::Call;
use crate::model::api_key;
use crate::model::caller::Caller;
use crate::model::names::TenantNo;
use crate::store::audit::Event;

/// The context of a request, stored in the request's extensions.
#[derive(Clone, Debug)]
pub(in crate::http) struct Context {
    /// Identifies the request in replies and in the log.
    pub request_id: Uuid,
    /// When the server received the request.
    pub started: Instant,
    /// The client's address.
    pub remote: Option<IpAddr>,
    /// The call with its caller, after the credential is checked.
    pub call: Option<Arc<Call>>,
    /// The caller's right to make the call, after admission.
    pub permit: Option<Permit>,
    /// What the audit event of a refusal says beside the route and the code.
    pub asked: Map<String, Value>,
}

impl Context {
    /// The context of a request. The middleware creates one for every request.
    pub(in crate::http) fn of(request: &HttpRequest) -> Self {
        let found = request.extensions().get::<Self>().cloned();
        found.unwrap_or_else(|| Self {
            request_id: Uuid::new_v4(),
            started: Instant::now(),
            remote: None,
            call: None,
            permit: None,
            asked: Map::new(),
        })
    }

    /// Remembers the ids that a request asks for, so that an audit event of its refusal can say so.
    /// An API key in the wrong field is left out.
    pub(in crate::http) fn remember<const N: usize>(
        request: &HttpRequest,
        asked: [(&str, Option<Value>); N],
    ) {
        let is_api_key = |id: &Value| {
            id.as_str()
                .is_some_and(|id| id.starts_with(api_key::PREFIX))
        };
        if let Some(context) = request.extensions_mut().get_mut::<Self>() {
            context.asked = asked
                .into_iter()
                .filter_map(|(name, id)| Some((name.to_owned(), id?)))
                .filter(|(_, id)| !is_api_key(id))
                .collect();
        }
    }

    /// Milliseconds since the server received the request.
    pub(in crate::http) fn elapsed_ms(&self) -> f64 {
        (self.started.elapsed().as_secs_f64() * 1_000_000.0).round() / 1_000.0
    }

    /// An audit event that this request caused.
    pub(in crate::http) fn event(
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

/// An audit event that a request caused, in the caller's tenant and without details.
pub(in crate::http) fn event_of(
    request: &HttpRequest,
    caller: &Caller,
    action: &'static str,
    target: impl ToString,
) -> Event {
    let target = Some(target.to_string());
    Context::of(request).event(caller.tenant.no, caller, action, target, Map::new())
}
