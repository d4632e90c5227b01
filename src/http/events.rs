//! Event streams of sessions, from any cursor and for any number of readers (contract, section 5).

use std::collections::VecDeque;
use std::time::Duration;

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use futures_util::stream;
use tokio::time::Instant;

use super::edge::admission::{Permit, credential};
use super::edge::extract::{FromQuery, Query, QueryString, path_id};
use super::sessions::find_in;
use super::{App, Stage};
use crate::error::{Error, Refusal, Result};
use crate::model::caller::Reach;
use crate::model::ids::{SessionId, Tick};
use crate::model::session::Cursor;
use crate::store::{reasoning, sessions};
use crate::turns::log::{DONE, SseEvent};
use crate::turns::signals::Listener;
use crate::turns::stream::StreamReader;

/// How often the server checks again that a reader may still read the session.
const ACCESS_CHECK_INTERVAL: Duration = Duration::from_secs(10);
/// Some clients read a text without a charset as Latin-1.
const CONTENT_TYPE: &str = "text/event-stream; charset=utf-8";
const KEEP_ALIVE: Bytes = Bytes::from_static(b": keep-alive\n\n");

/// Counts an open stream in the metrics until it is dropped.
struct StreamCount(web::Data<App>);

impl StreamCount {
    fn new(app: &web::Data<App>) -> Self {
        app.metrics.streams.add(1);
        Self(app.clone())
    }
}

impl Drop for StreamCount {
    fn drop(&mut self) {
        self.0.metrics.streams.add(-1);
    }
}

/// The stream of one reader.
struct EventStream {
    _count: StreamCount,
    app: web::Data<App>,
    credential: Option<Vec<u8>>,
    session: SessionId,
    reader: StreamReader,
    listener: Listener,
    /// Whether there may be events that the last read did not return.
    may_have_events: bool,
    pending: VecDeque<Bytes>,
    next_keep_alive: Instant,
    next_access_check: Instant,
    /// The stream ends after the pending bytes.
    is_over: bool,
}

pub(super) async fn stream_events(
    app: web::Data<App>,
    caller: Permit,
    request: HttpRequest,
    Query(query): Query<StreamQuery>,
) -> Result<HttpResponse> {
    let session: SessionId = path_id(&request, "session_id")?;
    let (follows, resumes) = (query.follows, query.resumes);
    let caller = caller.shared();
    let shows_reasoning = app
        .store
        .read(move |reader| {
            let session = find_in(reader, &caller, session, Reach::Read)?;
            reasoning::are_shown(reader, &caller, &session)
        })
        .await?;
    let since = since(&request, query.since.as_deref())?;
    // The listener is created before the first read, so that no event in between is missed.
    let listener = app.signals.listen(session);
    let opened = StreamReader::open(&app.store, &app.engine, session, since, follows, resumes);
    let Some(mut reader) = opened.await? else {
        return Ok(HttpResponse::NoContent().finish());
    };
    reader.show_reasoning(shows_reasoning);
    let now = Instant::now();
    let events = EventStream {
        _count: StreamCount::new(&app),
        credential: credential(request.headers())?.map(<[u8]>::to_vec),
        session,
        reader,
        listener,
        may_have_events: true,
        pending: VecDeque::new(),
        next_keep_alive: now + app.config.timeouts.heartbeat,
        next_access_check: now + ACCESS_CHECK_INTERVAL,
        is_over: false,
        app,
    };
    Ok(HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, CONTENT_TYPE))
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .insert_header(("x-accel-buffering", "no"))
        .insert_header(("x-vercel-ai-ui-message-stream", "v1"))
        .streaming(stream::unfold(Box::new(events), |mut events| async move {
            let next = events.next().await?;
            Some((next, events))
        })))
}

/// The query parameters of the stream.
pub(super) struct StreamQuery {
    since: Option<String>,
    follows: bool,
    resumes: bool,
}

impl FromQuery for StreamQuery {
    fn read(query: &QueryString) -> Result<Self> {
        Ok(Self {
            since: query.text("since").map(str::to_owned),
            follows: query.flag("follow")?,
            resumes: query.flag("resume")?,
        })
    }
}

/// The cursor that the client sent. The header takes precedence over the query parameter.
fn since(request: &HttpRequest, query: Option<&str>) -> Result<Option<Tick>> {
    let header = request
        .headers()
        .get("Last-Event-Id")
        .map(|cursor| String::from_utf8_lossy(cursor.as_bytes()).into_owned());
    let (name, text) = match (&header, query) {
        (Some(cursor), _) => ("Last-Event-Id", cursor.as_str()),
        (None, Some(cursor)) => ("since", cursor),
        (None, None) => return Ok(None),
    };
    match Cursor::parse(text) {
        Some(cursor) => Ok(Some(cursor.0)),
        None => Err(Refusal::invalid(
            name,
            "is not a stream cursor; send a cursor from this stream or leave it out",
        )
        .into()),
    }
}

impl EventStream {
    /// The next bytes of the stream: events, or a keep-alive comment. An error breaks the
    /// connection.
    async fn next(&mut self) -> Option<Result<Bytes>> {
        loop {
            if let Some(bytes) = self.pending.pop_front() {
                return Some(Ok(bytes));
            }
            if self.is_over {
                return None;
            }
            if self.may_have_events {
                match self.read_events().await {
                    Ok(moved) => self.may_have_events = moved,
                    Err(error) => return self.fail(error),
                }
                if self.may_have_events {
                    continue;
                }
            }
            let now = Instant::now();
            if now >= self.next_access_check {
                self.next_access_check = now + ACCESS_CHECK_INTERVAL;
                if let Err(error) = self.check_access().await {
                    return self.fail(error);
                }
            }
            if now >= self.next_keep_alive {
                self.next_keep_alive = now + self.app.config.timeouts.heartbeat;
                return Some(Ok(KEEP_ALIVE));
            }
            let next_stage = match self.app.stage() {
                Stage::Serving => Stage::Draining,
                Stage::Draining if self.reader.live().is_some() => Stage::CutOff,
                // A turn may have ended since the last read. Its remaining events are still sent.
                Stage::Draining | Stage::CutOff => match self.read_events().await {
                    Ok(true) => continue,
                    Ok(false) => return self.end_at_shutdown(),
                    Err(error) => return self.fail(error),
                },
            };
            let until = self.next_access_check.min(self.next_keep_alive);
            tokio::select! {
                () = self.listener.notified() => self.may_have_events = true,
                // A keep-alive needs no read. An access check does read, in case a wake-up was
                // missed.
                () = tokio::time::sleep_until(until) => self.may_have_events = until == self.next_access_check,
                () = self.app.reaches(next_stage) => {}
            }
        }
    }

    fn fail(&mut self, error: Error) -> Option<Result<Bytes>> {
        self.is_over = true;
        Some(Err(error))
    }

    /// Ends the stream at a shutdown. A follower between turns has received every event and sees a
    /// regular end. A reader that waits for a turn sees an error, so that it does not take the end
    /// of the stream for an answer.
    fn end_at_shutdown(&mut self) -> Option<Result<Bytes>> {
        self.is_over = true;
        if self.reader.is_between_turns() {
            Some(Ok(DONE))
        } else {
            Some(Err(Error::internal("the server is shutting down")))
        }
    }

    /// Reads new events. Returns whether another read can find more.
    async fn read_events(&mut self) -> Result<bool> {
        let step = self.reader.advance().await?;
        if step.begins_turn {
            // The check runs before each turn, so that a reader who lost access sees nothing of the
            // turn.
            self.check_access().await?;
        }
        self.pending
            .extend(concatenated(self.reader.visible(step.events)));
        if step.is_over {
            self.pending.push_back(DONE);
            self.is_over = true;
        }
        Ok(step.has_advanced)
    }

    /// Checks that the credential is still valid and may still read the session, and whether the
    /// reader sees the model's reasoning.
    async fn check_access(&mut self) -> Result<()> {
        let (session, credential) = (self.session, self.credential.as_deref());
        let store = &self.app.store;
        let caller = self.app.authenticator.caller(store, credential).await?;
        let shows_reasoning = store
            .read(move |reader| {
                let session = sessions::within_reach(reader, &caller, session, Reach::Read)?;
                reasoning::are_shown(reader, &caller, &session)
            })
            .await?;
        self.reader.show_reasoning(shows_reasoning);
        Ok(())
    }
}

/// The bytes of all events, so that events that are available together are sent in one write.
fn concatenated(events: Vec<SseEvent>) -> Option<Bytes> {
    match events.as_slice() {
        [] => None,
        [event] => Some(event.bytes.clone()),
        events => {
            let length = events.iter().map(|event| event.bytes.len()).sum();
            let mut all = Vec::with_capacity(length);
            for event in events {
                all.extend_from_slice(&event.bytes);
            }
            Some(all.into())
        }
    }
}
