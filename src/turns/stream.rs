//! A reader's position in the stream of a session's answers, and what the reader has still to see (contract, section 5).

use super::engine::Engine;
use super::live::LiveTurn;
use super::log::{Frame, News, first_tick, last_tick, news_after};
use crate::error::{Error, Refusal, Result};
use crate::model::ids::{SessionId, Tick, TurnId};
use crate::store::{Reader, Store, sessions, turns};

/// Before every event of a turn.
const FROM_START: Tick = Tick(-1);

/// Where a reader stands.
#[derive(Clone, Copy, Debug)]
enum Position {
    /// In this turn, after this cursor.
    Turn(TurnId, Tick),
    /// Between turns. The next event after this cursor says which turn is read.
    After(Tick),
    /// Ahead of all events, as after a crash. The next start after this cursor is read.
    NextStart(Tick),
}

/// What one look for events found.
#[derive(Default)]
pub struct Look {
    /// The reader moved on, so that another look can find more.
    pub moved: bool,
    /// New events, in order.
    pub frames: Vec<Frame>,
    /// The events begin a turn that the reader has seen nothing of.
    pub begins_turn: bool,
    /// The reader has seen everything that it asked for.
    pub is_over: bool,
}

impl Look {
    fn moved() -> Self {
        Self {
            moved: true,
            ..Self::default()
        }
    }
}

/// One reader of a session's stream.
pub struct StreamReader {
    store: Store,
    engine: Engine,
    session: SessionId,
    follows: bool,
    position: Position,
}

impl StreamReader {
    /// A reader that begins after the cursor `since`, or with the newest turn. `None` if there is nothing to read and
    /// nothing to wait for. A reader that `follows` goes on with later turns; one that `resumes` wants only an answer
    /// that is not stored yet.
    ///
    /// # Errors
    /// `validation_error` for a cursor ahead of an idle session.
    pub async fn open(
        store: &Store,
        engine: &Engine,
        session: SessionId,
        since: Option<Tick>,
        follows: bool,
        resumes: bool,
    ) -> Result<Option<Self>> {
        let newest_live = engine.live().of(session).and_then(|turn| turn.last_tick());
        let next_start = store.tick();
        let (position, is_idle) = store
            .read(move |reader| begin(reader, session, since, follows, newest_live, next_start))
            .await?;
        let position = position.filter(|_| follows || !(resumes && is_idle));
        Ok(position.map(|position| Self {
            store: store.clone(),
            engine: engine.clone(),
            session,
            follows,
            position,
        }))
    }

    /// The turn of the session that is being answered.
    pub fn live(&self) -> Option<std::sync::Arc<LiveTurn>> {
        self.engine.live().of(self.session)
    }

    /// Whether the reader follows the session and has seen all of its turns so far.
    pub fn is_between_turns(&self) -> bool {
        self.follows && matches!(self.position, Position::After(_))
    }

    /// Looks for events after the reader's position.
    ///
    /// # Errors
    /// `internal_error` if the session was deleted, and those of the read.
    pub async fn look(&mut self) -> Result<Look> {
        match self.position {
            Position::Turn(turn, after) => self.look_in_turn(turn, after).await,
            Position::After(after) => self.look_after(after).await,
            Position::NextStart(after) => self.look_for_start(after).await,
        }
    }

    async fn look_in_turn(&mut self, turn: TurnId, after: Tick) -> Result<Look> {
        if let Some(live) = self.live().filter(|live| live.id == turn) {
            return Ok(self.take(turn, after, live.after(after)));
        }
        let (is_settled, stored) = self
            .store
            .read(move |reader| {
                let is_settled = turns::is_settled(reader, turn)?.ok_or_else(deleted)?;
                Ok((is_settled, turns::log_of(reader, turn)?))
            })
            .await?;
        Ok(match stored {
            Some((log, content)) => {
                let news = news_after(&log, &content, after).map_err(unreadable)?;
                self.take(turn, after, news)
            }
            // A settled turn without a log has no further events; an unsettled one will have some.
            None if is_settled => self.finish_turn(after, Look::moved()),
            None => Look::default(),
        })
    }

    /// Takes a turn's events. The terminal event ends the stream, or leads on to the next turn.
    fn take(&mut self, turn: TurnId, after: Tick, news: News) -> Look {
        let Some(last) = news.frames.last().map(|frame| frame.tick) else {
            // Nothing after the terminal event: the turn has been read.
            return if news.has_ended {
                self.finish_turn(after, Look::moved())
            } else {
                Look::default()
            };
        };
        let look = Look {
            frames: news.frames,
            begins_turn: after == FROM_START,
            ..Look::moved()
        };
        if news.has_ended {
            return self.finish_turn(last, look);
        }
        self.position = Position::Turn(turn, last);
        look
    }

    fn finish_turn(&mut self, last: Tick, look: Look) -> Look {
        self.position = Position::After(last);
        Look {
            is_over: !self.follows,
            ..look
        }
    }

    async fn look_after(&mut self, after: Tick) -> Result<Look> {
        let live = self.live();
        if let Some(run) = self.stored_after(after).await? {
            let is_from_start = first_tick(&run.log).map_err(unreadable)? > after;
            let from = if is_from_start { FROM_START } else { after };
            self.position = Position::Turn(run.id, from);
            return Ok(Look::moved());
        }
        if let Some(live) = live
            && let (Some(first), Some(last)) = (live.first_tick(), live.last_tick())
            && (last > after || first > after)
        {
            let from = if first > after { FROM_START } else { after };
            self.position = Position::Turn(live.id, from);
            return Ok(Look::moved());
        }
        Ok(Look::default())
    }

    async fn look_for_start(&mut self, after: Tick) -> Result<Look> {
        if let Some(live) = self.live()
            && live.first_tick().is_some_and(|first| first > after)
        {
            self.position = Position::Turn(live.id, FROM_START);
            return Ok(Look::moved());
        }
        let Some(run) = self.stored_after(after).await? else {
            return Ok(Look::default());
        };
        if first_tick(&run.log).map_err(unreadable)? > after {
            self.position = Position::Turn(run.id, FROM_START);
            return Ok(Look::moved());
        }
        // The turn began before the cursor: the turn after it is the next to start.
        let last = last_tick(&run.log).map_err(unreadable)?.unwrap_or(after);
        self.position = Position::NextStart(last.max(after));
        Ok(Look {
            moved: last > after,
            ..Look::default()
        })
    }

    /// The first stored turn that has events after a cursor.
    async fn stored_after(&self, after: Tick) -> Result<Option<turns::StoredRun>> {
        let session = self.session;
        self.store
            .read(move |reader| {
                sessions::by_id(reader, session)?.ok_or_else(deleted)?;
                turns::log_after(reader, session, after)
            })
            .await
    }
}

/// Where a reader begins, and whether the session has no turn to answer.
fn begin(
    reader: &Reader<'_>,
    session: SessionId,
    since: Option<Tick>,
    follows: bool,
    newest_live: Option<Tick>,
    next_start: Tick,
) -> Result<(Option<Position>, bool)> {
    let is_idle = turns::oldest_unsettled(reader, session)?.is_none();
    let Some(since) = since else {
        let position = match turns::newest(reader, session)? {
            Some(turn) => Some(Position::Turn(turn.id, FROM_START)),
            None => follows.then_some(Position::After(FROM_START)),
        };
        return Ok((position, is_idle));
    };
    if let Some(turn) = turns::of_since(reader, session, since)? {
        return Ok((Some(Position::Turn(turn.id, FROM_START)), is_idle));
    }
    let (newest_since, newest_stored) = turns::newest_ticks(reader, session)?;
    let newest_event = newest_live.map_or(newest_stored, |tick| tick.max(newest_stored));
    if since > newest_event.max(newest_since).max(Tick(0)) {
        if is_idle {
            return Err(Refusal::invalid("since", "is ahead of all events of this session").into());
        }
        return Ok((Some(Position::NextStart(next_start)), is_idle));
    }
    let has_more = since < newest_event;
    let position = (has_more || !is_idle || follows).then_some(Position::After(since));
    Ok((position, is_idle))
}

fn deleted() -> Error {
    Error::internal("the session was deleted")
}

fn unreadable(error: serde_json::Error) -> Error {
    Error::Internal(error.into())
}
