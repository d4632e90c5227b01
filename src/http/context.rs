//! What is known of a request while it is served: its id, when it came, who sent it.

use std::time::Instant;

use actix_web::{HttpMessage, HttpRequest};
use uuid::Uuid;

use crate::auth::rate_limit::Standing;

/// A request's own facts; kept in its extensions.
#[derive(Clone, Debug)]
pub struct Context {
    /// Names the request in replies and in the log.
    pub request_id: Uuid,
    /// When it came.
    pub started: Instant,
    /// Who sent it, for the log.
    pub caller: Option<String>,
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
            caller: None,
            standing: None,
        })
    }

    /// Milliseconds since the request came.
    pub fn elapsed_ms(&self) -> f64 {
        (self.started.elapsed().as_secs_f64() * 1_000_000.0).round() / 1_000.0
    }
}
