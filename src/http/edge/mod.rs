//! Routing, admission, middleware, extractors and envelopes: what every request passes through.

pub mod admission;
pub(in crate::http) mod audited;
pub(in crate::http) mod body;
pub mod call;
pub(in crate::http) mod context;
mod cors;
pub mod cursor;
pub mod envelope;
pub mod extract;
pub(in crate::http) mod forwarded;
pub(in crate::http) mod middleware;
pub(in crate::http) mod once;
pub mod openapi;
pub(in crate::http) mod page;
pub(in crate::http) mod refusal_audit;
mod reply_body;
pub(in crate::http) mod reply_limiter;
pub mod router;
pub mod routing;
mod unknown_parameters;
