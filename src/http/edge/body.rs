//! Request bodies, received within limits of size and time.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::error::PayloadError;
use actix_web::http::header;
use actix_web::{HttpMessage, HttpRequest};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::time::{Instant, timeout_at};

use crate::config::ClientTimeouts;
use crate::error::{Error, Refusal, Result};

/// Largest body, in bytes, that is read and discarded after a refusal so that the connection is
/// kept.
const DISCARD_LIMIT: u64 = 16 * 1_024;
/// How long to wait for such a body. Usually it arrives together with the request's head.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(1);

/// The request's `Content-Length`.
pub(in crate::http) fn declared_length(request: &HttpRequest) -> Option<u64> {
    let length = request.headers().get(header::CONTENT_LENGTH)?;
    length.to_str().ok()?.parse().ok()
}

/// Whether the declared body is small enough to be read and discarded.
pub(in crate::http) fn is_discardable(request: &HttpRequest) -> bool {
    declared_length(request).is_some_and(|bytes| (1..=DISCARD_LIMIT).contains(&bytes))
}

/// Reads and drops the body of a refused request, so that the framework keeps the connection.
pub(in crate::http) async fn discard(mut payload: Payload) {
    let rest = async { while let Some(Ok(_)) = payload.next().await {} };
    // If the body does not arrive in time, the framework closes the connection.
    let _ = tokio::time::timeout(DISCARD_TIMEOUT, rest).await;
}

/// Receives a body of up to `limit` bytes.
///
/// # Errors
/// `too_large()`, or `validation_error` if the body ends early, stalls or takes too long.
pub(in crate::http) async fn receive(
    mut payload: impl Stream<Item = Result<Bytes, PayloadError>> + Unpin,
    limit: usize,
    too_large: impl Fn() -> Error,
    timeouts: &ClientTimeouts,
) -> Result<Vec<u8>> {
    let invalid = |reason: String| Error::from(Refusal::invalid("body", reason));
    let too_slow = || {
        let reason = format!("was not received within {}", seconds(timeouts.body));
        Error::from(Refusal::invalid("body", reason))
    };
    let deadline = Instant::now() + timeouts.body;
    let mut content = Vec::new();
    loop {
        let next_chunk_by = Instant::now() + timeouts.body_silence;
        let chunk = match timeout_at(next_chunk_by.min(deadline), payload.next()).await {
            Ok(Some(Ok(chunk))) => chunk,
            Ok(None) => return Ok(content),
            Ok(Some(Err(_))) => return Err(invalid("ended before it was complete".to_owned())),
            Err(_) if next_chunk_by < deadline => {
                let reason = format!("stalled for {}", seconds(timeouts.body_silence));
                return Err(invalid(reason));
            }
            Err(_) => return Err(too_slow()),
        };
        if content.len() + chunk.len() > limit {
            return Err(too_large());
        }
        content.extend_from_slice(&chunk);
        if Instant::now() >= deadline {
            // A body that never pauses would otherwise escape the deadline.
            return Err(too_slow());
        }
    }
}

fn seconds(time: Duration) -> String {
    format!("{} s", time.as_secs_f64())
}

/// A chunked request body, shared between the handler, which reads it, and the middleware.
///
/// If a chunked body is dropped before its end, the framework reads the rest after the reply, for
/// as long as the client sends. If the body still exists when the reply is sent, the framework
/// closes the connection instead, as it does for a body with a `Content-Length`.
#[derive(Clone)]
pub(in crate::http) struct SharedPayload(Rc<RefCell<Payload>>);

impl SharedPayload {
    /// Shares the request's body, if it is chunked.
    pub(in crate::http) fn of(request: &mut ServiceRequest) -> Option<Self> {
        if !request.chunked().unwrap_or(false) {
            return None;
        }
        let shared = Self(Rc::new(RefCell::new(request.take_payload())));
        request.set_payload(Payload::Stream {
            payload: Box::pin(shared.clone()),
        });
        Some(shared)
    }

    /// Keeps the request body until the reply is sent.
    pub(in crate::http) fn keep_until_sent(
        self,
        reply: ServiceResponse<BoxBody>,
    ) -> ServiceResponse {
        reply.map_body(|_, body| {
            BoxBody::new(BodyWithPayload {
                body,
                _payload: self,
            })
        })
    }
}

impl Stream for SharedPayload {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_next(context)
    }
}

/// A response body that keeps the request body until it is sent.
struct BodyWithPayload {
    body: BoxBody,
    _payload: SharedPayload,
}

impl MessageBody for BodyWithPayload {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.body).poll_next(context)
    }
}
