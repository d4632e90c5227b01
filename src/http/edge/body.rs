//! What a client sends, taken in within limits of size and time.

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

/// Bytes of a body that is taken in although its request is refused, since the connection can be kept then.
const SMALL: u64 = 16 * 1_024;
/// How long it is waited for: it has mostly come with its head.
const SMALL_WAIT: Duration = Duration::from_secs(1);

/// The bytes that a request says its body has.
pub(in crate::http) fn declared_length(request: &HttpRequest) -> Option<u64> {
    let length = request.headers().get(header::CONTENT_LENGTH)?;
    length.to_str().ok()?.parse().ok()
}

/// Whether a request says of its body that it is small.
pub(in crate::http) fn is_small(request: &HttpRequest) -> bool {
    declared_length(request).is_some_and(|bytes| (1..=SMALL).contains(&bytes))
}

/// Takes in the body of a request that is refused without it, for the framework to keep the connection.
pub(in crate::http) async fn discard(mut payload: Payload) {
    let rest = async { while let Some(Ok(_)) = payload.next().await {} };
    // One that does not come is not waited for; the connection ends then.
    let _ = tokio::time::timeout(SMALL_WAIT, rest).await;
}

/// A body of at most so many bytes, if it comes in time.
///
/// # Errors
/// `too_large`, or `validation_error` for a body that breaks off, falls silent or takes too long.
pub(in crate::http) async fn receive(
    mut payload: impl Stream<Item = Result<Bytes, PayloadError>> + Unpin,
    most: usize,
    too_large: impl Fn() -> Error,
    timeouts: &ClientTimeouts,
) -> Result<Vec<u8>> {
    let refused = |reason: String| Error::from(Refusal::invalid("body", reason));
    let whole_by = Instant::now() + timeouts.body;
    let mut content = Vec::new();
    loop {
        let more_by = Instant::now() + timeouts.body_silence;
        let chunk = match timeout_at(more_by.min(whole_by), payload.next()).await {
            Ok(Some(Ok(chunk))) => chunk,
            Ok(None) => return Ok(content),
            Ok(Some(Err(_))) => return Err(refused("ended before all of it had come".to_owned())),
            Err(_) if more_by < whole_by => {
                let reason = format!("stopped coming for {}", seconds(timeouts.body_silence));
                return Err(refused(reason));
            }
            Err(_) => {
                let reason = format!("did not come whole within {}", seconds(timeouts.body));
                return Err(refused(reason));
            }
        };
        if content.len() + chunk.len() > most {
            return Err(too_large());
        }
        content.extend_from_slice(&chunk);
        if Instant::now() >= whole_by {
            // A body that never pauses must not take for ever either.
            let reason = format!("did not come whole within {}", seconds(timeouts.body));
            return Err(refused(reason));
        }
    }
}

fn seconds(time: Duration) -> String {
    format!("{} s", time.as_secs_f64())
}

/// A chunked body, as its handler reads it; the door holds on to it too.
///
/// The framework reads on behind the reply for the end of a chunked body that nobody holds, for as long as the client
/// likes. One that is still held when the reply has gone ends the connection instead, as a body of told length does.
#[derive(Clone)]
pub(in crate::http) struct Held(Rc<RefCell<Payload>>);

impl Held {
    /// Takes hold of a request's body, if it is a chunked one.
    pub(in crate::http) fn of(request: &mut ServiceRequest) -> Option<Self> {
        if !request.chunked().unwrap_or(false) {
            return None;
        }
        let held = Self(Rc::new(RefCell::new(request.take_payload())));
        request.set_payload(Payload::Stream {
            payload: Box::pin(held.clone()),
        });
        Some(held)
    }

    /// Holds on until the reply has gone.
    pub(in crate::http) fn until_the_end_of(
        self,
        reply: ServiceResponse<BoxBody>,
    ) -> ServiceResponse {
        reply.map_body(|_, body| BoxBody::new(Holding { body, _held: self }))
    }
}

impl Stream for Held {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_next(context)
    }
}

/// A reply's body that holds on to its request's.
struct Holding {
    body: BoxBody,
    _held: Held,
}

impl MessageBody for Holding {
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
