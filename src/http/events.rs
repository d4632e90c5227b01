//! The stream of a session's answers, from any cursor, for any number of readers (contract, section 5).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use futures_util::stream;
use tokio::time::Instant;

use super::extract::{Query, path_id};
use super::permit::Permit;
use super::sessions::find;
use super::{App, Stage};
use crate::error::{Error, Refusal, Result};
use crate::model::caller::Reach;
use crate::model::ids::{SessionId, Tick, TurnId};
use crate::model::session::Cursor;
use crate::store::turns;
use crate::turns::log::{DONE, Frame, News, first_tick, last_tick, news_after};
use crate::turns::signals::Listener;

/// How often a reader's right to read is looked at again.
const RECHECK: Duration = Duration::from_secs(10);
const COMMENT: Bytes = Bytes::from_static(b": keep-alive\n\n");

/// Where a reader stands.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// Reading this turn, behind this cursor.
    Turn(TurnId, Tick),
    /// Between turns: the next event behind this cursor says which turn is read.
    Behind(Tick),
    /// Ahead of all events, as after a crash: the next start behind this cursor.
    NextStart(Tick),
}

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
    follows: bool,
    place: Place,
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
    query: Query,
) -> Result<HttpResponse> {
    let session: SessionId = path_id(&request, "session_id")?;
    let follows = query.flag("follow")?;
    let resumes = query.flag("resume")?;
    app.store
        .read(|reader| find(reader, &caller, session, Reach::Read))?;
    let since = since(&request, &query)?;
    // Listening begins before the first look, so that nothing in between is missed.
    let listener = app.signals.listen(session);
    let Some(place) = begin(&app, session, since, follows, resumes)? else {
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
        follows,
        place,
        listener,
        may_have_news: true,
        waiting: VecDeque::new(),
        next_comment: now + app.limits.patience.heartbeat,
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

/// The parameters of the stream, for the document.
pub(super) fn stream_query(query: &Query) {
    query.text("since");
    drop(query.flag("follow"));
    drop(query.flag("resume"));
}

/// The cursor that the client sent; the header wins.
fn since(request: &HttpRequest, query: &Query) -> Result<Option<Tick>> {
    let header = request
        .headers()
        .get("Last-Event-Id")
        .map(|cursor| String::from_utf8_lossy(cursor.as_bytes()).into_owned());
    let (name, text) = match (&header, query.text("since")) {
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

/// Where a reader begins; nothing, if there is nothing to read and nothing to wait for.
fn begin(
    app: &App,
    session: SessionId,
    since: Option<Tick>,
    follows: bool,
    resumes: bool,
) -> Result<Option<Place>> {
    let live = app.engine.live().of(session);
    let (place, is_idle) = app.store.read(|reader| {
        let is_idle = turns::oldest_unsettled(reader, session)?.is_none();
        let Some(since) = since else {
            let newest = turns::newest(reader, session)?;
            let place = match newest {
                Some(turn) => Some(Place::Turn(turn.id, Tick(-1))),
                None => follows.then_some(Place::Behind(Tick(-1))),
            };
            return Ok((place, is_idle));
        };
        if let Some(turn) = turns::of_since(reader, session, since)? {
            return Ok((Some(Place::Turn(turn.id, Tick(-1))), is_idle));
        }
        let (newest_since, newest_stored) = turns::newest_ticks(reader, session)?;
        let newest_live = live.as_ref().and_then(|turn| turn.last_tick());
        let newest_event = newest_live.map_or(newest_stored, |tick| tick.max(newest_stored));
        if since > newest_event.max(newest_since).max(Tick(0)) {
            if is_idle {
                return Err(
                    Refusal::invalid("since", "lies ahead of all that this session has").into(),
                );
            }
            return Ok((Some(Place::NextStart(app.store.tick())), is_idle));
        }
        let has_more = since < newest_event;
        let place = (has_more || !is_idle || follows).then_some(Place::Behind(since));
        Ok((place, is_idle))
    })?;
    Ok(place.filter(|_| follows || !(resumes && is_idle)))
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
                match self.look() {
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
                if let Err(error) = self.check_right() {
                    return self.break_off(error);
                }
            }
            if now >= self.next_comment {
                self.next_comment = now + self.app.limits.patience.heartbeat;
                return Some(Ok(COMMENT));
            }
            let next_stage = match self.app.stage() {
                Stage::Serving => Stage::Draining,
                Stage::Draining if self.app.engine.live().of(self.session).is_some() => {
                    Stage::CutOff
                }
                // A turn may have ended since the last look, and is shown to its end.
                Stage::Draining | Stage::CutOff => match self.look() {
                    Ok(true) => continue,
                    Ok(false) => return self.end_at_shutdown(),
                    Err(error) => return self.break_off(error),
                },
            };
            let until = self.next_check.min(self.next_comment);
            tokio::select! {
                () = self.listener.rung() => self.may_have_news = true,
                // A comment alone needs no look; a check has one with it, should ever a bell not have been heard.
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
        match self.place {
            Place::Behind(_) if self.follows => Some(Ok(DONE)),
            Place::Behind(_) | Place::Turn(..) | Place::NextStart(_) => {
                Some(Err(Error::internal("the server shuts down")))
            }
        }
    }

    /// Whether the credential still counts and still reaches the session.
    fn check_right(&self) -> Result<()> {
        let caller = self
            .app
            .authenticator
            .caller(&self.app.store, self.credential.as_deref())?;
        self.app
            .store
            .read(|reader| find(reader, &caller, self.session, Reach::Read))?;
        Ok(())
    }

    /// Looks for events where this reader stands; whether anything came of it.
    fn look(&mut self) -> Result<bool> {
        match self.place {
            Place::Turn(turn, after) => self.look_in_turn(turn, after),
            Place::Behind(after) => self.look_behind(after),
            Place::NextStart(after) => self.look_for_start(after),
        }
    }

    fn look_in_turn(&mut self, turn: TurnId, after: Tick) -> Result<bool> {
        let live = self
            .app
            .engine
            .live()
            .of(self.session)
            .filter(|live| live.id == turn);
        if let Some(live) = live {
            let news = live.after(after);
            return self.take(turn, after, news);
        }
        let (is_settled, stored) = self.app.store.read(|reader| {
            let is_settled = turns::is_settled(reader, turn)?
                .ok_or_else(|| Error::internal("the session was deleted"))?;
            Ok((is_settled, turns::log_of(reader, turn)?))
        })?;
        match stored {
            Some((log, said)) => {
                let news = news_after(&log, &said, after).map_err(unreadable)?;
                self.take(turn, after, news)
            }
            // A settled turn without a log has nothing more to say; an unsettled one will.
            None if is_settled => {
                self.finish_turn(after);
                Ok(true)
            }
            None => Ok(false),
        }
    }

    /// Takes up a turn's events; the terminal one ends the stream, or leads on to the next turn.
    fn take(&mut self, turn: TurnId, after: Tick, news: News) -> Result<bool> {
        let Some(last) = news.frames.last().map(|frame| frame.tick) else {
            // Nothing behind the terminal event: this turn has been read.
            if news.has_ended {
                self.finish_turn(after);
            }
            return Ok(news.has_ended);
        };
        if after == Tick(-1) {
            // Always before a turn's start, so that a right that has ended shows nothing of it.
            self.check_right()?;
        }
        self.waiting.extend(joined(news.frames));
        if news.has_ended {
            self.finish_turn(last);
        } else {
            self.place = Place::Turn(turn, last);
        }
        Ok(true)
    }

    fn finish_turn(&mut self, last: Tick) {
        if self.follows {
            self.place = Place::Behind(last);
        } else {
            self.waiting.push_back(DONE);
            self.is_over = true;
        }
    }

    fn look_behind(&mut self, after: Tick) -> Result<bool> {
        let live = self.app.engine.live().of(self.session);
        let stored = self.app.store.read(|reader| {
            find_deleted(reader, self.session)?;
            turns::log_after(reader, self.session, after)
        })?;
        if let Some(run) = stored {
            let is_from_start = first_tick(&run.log).map_err(unreadable)? > after;
            self.place = Place::Turn(run.id, if is_from_start { Tick(-1) } else { after });
            return Ok(true);
        }
        if let Some(live) = live
            && let (Some(first), Some(last)) = (live.first_tick(), live.last_tick())
            && (last > after || first > after)
        {
            self.place = Place::Turn(live.id, if first > after { Tick(-1) } else { after });
            return Ok(true);
        }
        Ok(false)
    }

    fn look_for_start(&mut self, after: Tick) -> Result<bool> {
        let live: Option<Arc<_>> = self.app.engine.live().of(self.session);
        if let Some(live) = live
            && live.first_tick().is_some_and(|first| first > after)
        {
            self.place = Place::Turn(live.id, Tick(-1));
            return Ok(true);
        }
        let stored = self.app.store.read(|reader| {
            find_deleted(reader, self.session)?;
            turns::log_after(reader, self.session, after)
        })?;
        if let Some(run) = stored {
            if first_tick(&run.log).map_err(unreadable)? > after {
                self.place = Place::Turn(run.id, Tick(-1));
                return Ok(true);
            }
            // It had begun before: the one behind it is the next to start.
            let last = last_tick(&run.log).map_err(unreadable)?.unwrap_or(after);
            self.place = Place::NextStart(last.max(after));
            return Ok(last > after);
        }
        Ok(false)
    }
}

fn find_deleted(reader: &crate::store::Reader<'_>, session: SessionId) -> Result<()> {
    match crate::store::sessions::by_id(reader, session)? {
        Some(_) => Ok(()),
        None => Err(Error::internal("the session was deleted")),
    }
}

fn unreadable(error: serde_json::Error) -> Error {
    Error::Internal(error.into())
}

/// Several events that are there at once go out in one piece.
fn joined(frames: Vec<Frame>) -> Option<Bytes> {
    match frames.as_slice() {
        [] => None,
        [frame] => Some(frame.bytes.clone()),
        frames => {
            let length = frames.iter().map(|frame| frame.bytes.len()).sum();
            let mut all = Vec::with_capacity(length);
            for frame in frames {
                all.extend_from_slice(&frame.bytes);
            }
            Some(all.into())
        }
    }
}
