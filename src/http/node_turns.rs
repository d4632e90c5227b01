//! Gives the events of a running turn to the other nodes of the same database.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::edge::extract::path_id;
use super::edge::routing::PathRoutes;
use super::{App, Stage};
use crate::error::{Code, Error, Result};
use crate::model::clock::Clock;
use crate::model::ids::{SessionId, Tick, TurnId};
use crate::turns::copies::{COMPLETE, END, PATH, RESTART};
use crate::turns::live::LiveTurn;
use crate::turns::signals::Listener;

/// Copies that other nodes may have at a time.
const MAX_COPIES: usize = 4_096;
/// How often a copy without events gets a sign of life.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// A cursor before every event.
const FROM_START: Tick = Tick(-1);

/// The route, which only a node of several has.
pub(super) fn path_routes() -> PathRoutes {
    PathRoutes::public_get(PATH, web::get().to(give))
}

/// Limits the copies.
pub(super) fn limiter() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(MAX_COPIES))
}

/// A copy that another node receives.
struct Copy {
    app: web::Data<App>,
    session: SessionId,
    live: Arc<LiveTurn>,
    listener: Listener,
    after: Tick,
    generation: u64,
    is_complete: bool,
    is_over: bool,
    _permit: OwnedSemaphorePermit,
}

async fn give(app: web::Data<App>, request: HttpRequest) -> Result<HttpResponse> {
    let text = |name: &str| {
        let value = request.headers().get(name);
        value
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    };
    let session: SessionId = path_id(&request, "session_id")?;
    let now = Clock::System.now();
    if !app
        .node_key
        .verifies(text("x-switchboard-node"), session, now)
    {
        return Err(Code::Unauthorized.into());
    }
    let turn = TurnId::parse(text("x-switchboard-turn")).ok_or(Code::NotFound)?;
    let listener = app.signals.listen(session);
    let own = app.engine.live().own_of(session.tick());
    let (_, live) = own
        .filter(|(_, live)| live.id == turn)
        .ok_or(Code::NotFound)?;
    let permit = Arc::clone(&app.node_copies)
        .try_acquire_owned()
        .map_err(|_| Error::from(Code::Overloaded))?;
    let copy = Copy {
        session,
        live,
        listener,
        after: FROM_START,
        generation: 0,
        is_complete: false,
        is_over: false,
        _permit: permit,
        app,
    };
    Ok(HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, "text/event-stream"))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .streaming(stream::unfold(copy, |mut copy| async move {
            let bytes = copy.next().await?;
            Some((Ok::<_, Error>(bytes), copy))
        })))
}

impl Copy {
    async fn next(&mut self) -> Option<Bytes> {
        if self.is_over {
            return None;
        }
        loop {
            let bytes = self.take();
            if !bytes.is_empty() {
                return Some(bytes);
            }
            let is_running = self.app.engine.live().own_of(self.session.tick());
            let is_running = is_running.is_some_and(|(_, live)| Arc::ptr_eq(&live, &self.live));
            if !is_running || self.app.stage() == Stage::CutOff {
                // The turn was taken over, or its session deleted.
                return None;
            }
            let notified = timeout(KEEP_ALIVE, self.listener.notified()).await;
            if notified.is_err() {
                return Some(Bytes::from_static(b": alive\n\n"));
            }
        }
    }

    /// What is new since the last call.
    fn take(&mut self) -> Bytes {
        let mut bytes = BytesMut::new();
        let generation = self.live.generation();
        if generation != self.generation {
            if self.generation != 0 {
                bytes.extend_from_slice(RESTART);
            }
            self.generation = generation;
            self.after = FROM_START;
        }
        let batch = self.live.events_after(self.after);
        for event in &batch.events {
            bytes.extend_from_slice(&event.bytes);
            self.after = event.tick;
        }
        if batch.has_ended {
            bytes.extend_from_slice(END);
            self.is_over = true;
        } else if !self.is_complete && !batch.is_full() {
            bytes.extend_from_slice(COMPLETE);
            self.is_complete = true;
        }
        bytes.freeze()
    }
}
