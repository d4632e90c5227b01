//! The stream of a session's answers, from any cursor, for any number of readers (contract, section 5).

use std::collections::VecDeque;
use std::time::Duration;

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use futures_util::stream;
use tokio::time::Instant;

use super::edge::admission::Permit;
use super::edge::extract::{FromQuery, Query, QueryString, path_id};
use super::sessions::{find, find_in};
use super::{App, Stage};
use crate::error::{Error, Refusal, Result};
use crate::model::caller::Reach;
use crate::model::ids::{SessionId, Tick};
use crate::model::session::Cursor;
use crate::turns::log::{DONE, SseEvent};
use crate::turns::signals::Listener;
use crate::turns::stream::StreamReader;

/// How often a reader's right to read is looked at again.
const RECHECK: Duration = Duration::from_secs(10);
const COMMENT: Bytes = Bytes::from_static(b": keep-alive\n\n");

/// Counts a reader for as long as there is one.
struct Counted(web::Data<App>);

impl Counted {
    fn new(app: &web::Data<App>) -> Self {
        app.metrics.streams.add(1);
        Self(app.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.metrics.streams.add(-1);
    }
}

/// One reader.
struct Reading {
    _counted: Counted,
    app: web::Data<App>,
    credential: Option<Vec<u8>>,
    session: SessionId,
    reader: StreamReader,
    listener: Listener,
    /// Whether there may be something that the last look did not see.
    may_have_news: bool,
    waiting: VecDeque<Bytes>,
    next_comment: Instant,
    next_check: Instant,
    /// Nothing more comes.
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
    find(&app, &caller, session, Reach::Read).await?;
    let since = since(&request, query.since.as_deref())?;
    // Listening begins before the first look, so that nothing in between is missed.
    let listener = app.signals.listen(session);
    let opened = StreamReader::open(&app.store, &app.engine, session, since, follows, resumes);
    let Some(reader) = opened.await? else {
        return Ok(HttpResponse::NoContent().finish());
    };
    let now = Instant::now();
    let reading = Reading {
        _counted: Counted::new(&app),
        credential: request
            .headers()
            .get(header::AUTHORIZATION)
            .map(|credential| credential.as_bytes().to_vec()),
        session,
        reader,
        listener,
        may_have_news: true,
        waiting: VecDeque::new(),
        next_comment: now + app.config.timeouts.heartbeat,
        next_check: now + RECHECK,
        is_over: false,
        app,
    };
    Ok(HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, "text/event-stream"))
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .insert_header(("x-accel-buffering", "no"))
        .insert_header(("x-vercel-ai-ui-message-stream", "v1"))
        .streaming(stream::unfold(
            Box::new(reading),
            |mut reading| async move {
                let next = reading.next().await?;
                Some((next, reading))
            },
        )))
}

/// The parameters of the stream.
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

/// The cursor that the client sent; the header wins.
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
            "is no cursor of a stream; send one as it was given, or none",
        )
        .into()),
    }
}

impl Reading {
    /// The next bytes: events as they come, a comment now and then, an error to break the connection.
    async fn next(&mut self) -> Option<Result<Bytes>> {
        loop {
            if let Some(bytes) = self.waiting.pop_front() {
                return Some(Ok(bytes));
            }
            if self.is_over {
                return None;
            }
            if self.may_have_news {
                match self.look().await {
                    Ok(found) => self.may_have_news = found,
                    Err(error) => return self.break_off(error),
                }
                if self.may_have_news {
                    continue;
                }
            }
            let now = Instant::now();
            if now >= self.next_check {
                self.next_check = now + RECHECK;
                if let Err(error) = self.check_right().await {
                    return self.break_off(error);
                }
            }
            if now >= self.next_comment {
                self.next_comment = now + self.app.config.timeouts.heartbeat;
                return Some(Ok(COMMENT));
            }
            let next_stage = match self.app.stage() {
                Stage::Serving => Stage::Draining,
                Stage::Draining if self.reader.live().is_some() => Stage::CutOff,
                // A turn may have ended since the last look, and is shown to its end.
                Stage::Draining | Stage::CutOff => match self.look().await {
                    Ok(true) => continue,
                    Ok(false) => return self.end_at_shutdown(),
                    Err(error) => return self.break_off(error),
                },
            };
            let until = self.next_check.min(self.next_comment);
            tokio::select! {
                () = self.listener.notified() => self.may_have_news = true,
                // A comment alone needs no look; a check has one with it, should a notification ever be missed.
                () = tokio::time::sleep_until(until) => self.may_have_news = until == self.next_check,
                () = self.app.comes_to(next_stage) => {}
            }
        }
    }

    fn break_off(&mut self, error: Error) -> Option<Result<Bytes>> {
        self.is_over = true;
        Some(Err(error))
    }

    /// A follower between turns has had all that there is; whoever waits for a turn must not take the end for an answer.
    fn end_at_shutdown(&mut self) -> Option<Result<Bytes>> {
        self.is_over = true;
        if self.reader.is_between_turns() {
            Some(Ok(DONE))
        } else {
            Some(Err(Error::internal("the server shuts down")))
        }
    }

    /// Looks for events; whether another look can find more.
    async fn look(&mut self) -> Result<bool> {
        let step = self.reader.advance().await?;
        if step.begins_turn {
            // Always before a turn's start, so that a right that has ended shows nothing of the turn.
            self.check_right().await?;
        }
        self.waiting.extend(joined(step.events));
        if step.is_over {
            self.waiting.push_back(DONE);
            self.is_over = true;
        }
        Ok(step.has_advanced)
    }

    /// Checks that the credential still counts and still reaches the session.
    async fn check_right(&self) -> Result<()> {
        let (session, credential) = (self.session, self.credential.as_deref());
        let store = &self.app.store;
        let caller = self.app.authenticator.caller(store, credential).await?;
        store
            .read(move |reader| find_in(reader, &caller, session, Reach::Read))
            .await
            .map(drop)
    }
}

/// Several events that are there at once go out in one piece.
fn joined(events: Vec<SseEvent>) -> Option<Bytes> {
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
