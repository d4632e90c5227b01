//! Reads the event stream of a session from any cursor: a state machine over live and stored turns
//! (contract, section 5).

use super::engine::Engine;
use super::live::LiveTurn;
use super::log::{EventBatch, ReasoningEvent, SseEvent, events_after, first_tick, last_tick};
use crate::error::{Error, Refusal, Result};
use crate::model::ids::{SessionId, Tick, TurnId};
use crate::store::{Reader, Store, sessions, turns};

/// A cursor before every event of a turn.
const FROM_START: Tick = Tick(-1);

/// The position of a reader.
#[derive(Clone, Copy, Debug)]
enum Position {
    /// In this turn, after this cursor.
    Turn(TurnId, Tick),
    /// Between turns. The next event after this cursor determines the turn.
    After(Tick),
    /// In a run of this turn that this node does not know: it was cut off, or another node has it.
    Resume(TurnId, Tick),
    /// Ahead of all events of a turn that runs. The next turn that starts after this cursor is read.
    NextStart(Tick),
}

/// The result of one step of a [`StreamReader`].
#[derive(Default)]
pub struct Step {
    /// Whether the position changed, so that another step may find more events.
    pub has_advanced: bool,
    /// The new events, in order. [`StreamReader::visible`] leaves out what the reader may not see.
    pub events: Vec<SseEvent>,
    /// Whether the events start a turn of which the reader has seen nothing.
    pub begins_turn: bool,
    /// Whether the reader has seen everything that it asked for.
    pub is_over: bool,
}

impl Step {
    fn advanced() -> Self {
        Self {
            has_advanced: true,
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
    reasoning: ReasoningFilter,
    position: Position,
}

/// Leaves out the reasoning that a reader may not see. The right to see a part begins with the
/// part, and its loss ends the part at once: a client accepts no piece without a start.
#[derive(Debug, Default)]
struct ReasoningFilter {
    is_shown: bool,
    part: Part,
}

/// What a reader has got of the part of reasoning at its position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Part {
    /// Perhaps its start: the reader's cursor may lie within the part.
    #[default]
    Unknown,
    /// Its start, and no end.
    Open,
    /// Nothing, or its end.
    Closed,
}

impl ReasoningFilter {
    fn filter(&mut self, mut events: Vec<SseEvent>) -> Vec<SseEvent> {
        events.retain_mut(|event| {
            let Some(kind) = event.reasoning else {
                return true;
            };
            let was_open = match (kind, self.part) {
                (ReasoningEvent::Start, _) | (_, Part::Unknown) => self.is_shown,
                (_, part) => part == Part::Open,
            };
            let is_open = was_open && self.is_shown && kind != ReasoningEvent::End;
            self.part = if is_open { Part::Open } else { Part::Closed };
            if was_open && !is_open && kind == ReasoningEvent::Delta {
                *event = event.as_reasoning_end();
            }
            was_open
        });
        events
    }
}

impl StreamReader {
    /// Opens a reader at the cursor `since`, or at the newest turn. `None` if there is nothing to
    /// read and nothing to wait for. A reader that `follows` continues with later turns. A reader
    /// that `resumes` wants only an answer that is not stored yet.
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
        engine.copy_running_turn(session).await?;
        let live = engine.live().get(session);
        let next_start = store.tick();
        let (position, is_idle) = store
            .read(move |reader| {
                first_position(reader, session, since, follows, live.as_deref(), next_start)
            })
            .await?;
        let position = position.filter(|_| follows || !(resumes && is_idle));
        Ok(position.map(|position| Self {
            store: store.clone(),
            engine: engine.clone(),
            session,
            follows,
            reasoning: ReasoningFilter::default(),
            position,
        }))
    }

    /// Sets whether the reader gets the model's reasoning from now on.
    pub fn show_reasoning(&mut self, shows_reasoning: bool) {
        self.reasoning.is_shown = shows_reasoning;
    }

    /// Leaves out what the reader may not see.
    pub fn visible(&mut self, events: Vec<SseEvent>) -> Vec<SseEvent> {
        self.reasoning.filter(events)
    }

    /// The session's running turn.
    pub fn live(&self) -> Option<std::sync::Arc<LiveTurn>> {
        self.engine.live().get(self.session)
    }

    /// Whether the reader follows the session and has seen all of its turns so far.
    pub fn is_between_turns(&self) -> bool {
        self.follows && matches!(self.position, Position::After(_))
    }

    /// Reads the next batch of events and moves the position after it.
    ///
    /// # Errors
    /// `internal_error` if the session was deleted, `overloaded` if no connection to the
    /// store becomes free.
    pub async fn advance(&mut self) -> Result<Step> {
        match self.position {
            Position::Turn(turn, after) => self.advance_in_turn(turn, after).await,
            Position::After(after) => self.find_turn_after(after).await,
            Position::Resume(turn, since) => self.resume(turn, since).await,
            Position::NextStart(after) => self.find_start_after(after).await,
        }
    }

    async fn advance_in_turn(&mut self, turn: TurnId, after: Tick) -> Result<Step> {
        if let Some(live) = self.live().filter(|live| live.id == turn) {
            return Ok(self.take(turn, after, live.events_after(after)));
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
                let batch = events_after(&log, &content, after).map_err(damaged_log)?;
                self.take(turn, after, batch)
            }
            // A settled turn without a log has no more events. An unsettled turn will have some.
            None if is_settled => self.finish_turn(after, Step::advanced()),
            None => {
                self.engine.copy_turn(self.session);
                Step::default()
            }
        })
    }

    /// Takes a batch of a turn's events. After the terminal event the stream ends, or a follower
    /// waits for the next turn.
    fn take(&mut self, turn: TurnId, after: Tick, batch: EventBatch) -> Step {
        let Some(last) = batch.events.last().map(|event| event.tick) else {
            // The reader has seen the terminal event already.
            return if batch.has_ended {
                self.finish_turn(after, Step::advanced())
            } else {
                Step::default()
            };
        };
        let step = Step {
            events: batch.events,
            begins_turn: after == FROM_START,
            ..Step::advanced()
        };
        if batch.has_ended {
            return self.finish_turn(last, step);
        }
        self.position = Position::Turn(turn, last);
        step
    }

    fn finish_turn(&mut self, last: Tick, step: Step) -> Step {
        self.position = Position::After(last);
        Step {
            is_over: !self.follows,
            ..step
        }
    }

    /// Goes on after a cursor if it lies in the run of the turn that this node gets to know. A run
    /// that was cut off gave the cursor otherwise, and the turn is read from its new start.
    async fn resume(&mut self, turn: TurnId, since: Tick) -> Result<Step> {
        if let Some(live) = self.live().filter(|live| live.id == turn)
            && let (Some(first), Some(last)) = (live.first_tick(), live.last_tick())
        {
            // A run of this node has begun after the reader came.
            let is_other_run = !live.is_copy || first > since;
            if !is_other_run && last < since && !live.is_ended() {
                // The other node sends the rest in a moment.
                return Ok(Step::default());
            }
            let is_same_run = !is_other_run && last >= since;
            self.position = Position::Turn(turn, if is_same_run { since } else { FROM_START });
            return Ok(Step::advanced());
        }
        let (is_settled, stored) = self
            .store
            .read(move |reader| {
                let is_settled = turns::is_settled(reader, turn)?.ok_or_else(deleted)?;
                Ok((is_settled, turns::log_of(reader, turn)?))
            })
            .await?;
        let Some((log, _)) = stored.filter(|_| is_settled) else {
            self.engine.copy_turn(self.session);
            return Ok(Step::default());
        };
        let first = first_tick(&log).map_err(damaged_log)?;
        let last = last_tick(&log).map_err(damaged_log)?;
        let is_same_run = first <= since && last.is_some_and(|last| since <= last);
        self.position = Position::Turn(turn, if is_same_run { since } else { FROM_START });
        Ok(Step::advanced())
    }

    async fn find_turn_after(&mut self, after: Tick) -> Result<Step> {
        let live = self.live();
        if let Some(run) = self.stored_after(after).await? {
            let is_from_start = first_tick(&run.log).map_err(damaged_log)? > after;
            let from = if is_from_start { FROM_START } else { after };
            self.position = Position::Turn(run.id, from);
            return Ok(Step::advanced());
        }
        if let Some(live) = live
            && let (Some(first), Some(last)) = (live.first_tick(), live.last_tick())
            && (last > after || first > after)
        {
            let from = if first > after { FROM_START } else { after };
            self.position = Position::Turn(live.id, from);
            return Ok(Step::advanced());
        }
        self.engine.copy_turn(self.session);
        Ok(Step::default())
    }

    async fn find_start_after(&mut self, after: Tick) -> Result<Step> {
        if let Some(live) = self.live()
            && live.first_tick().is_some_and(|first| first > after)
        {
            self.position = Position::Turn(live.id, FROM_START);
            return Ok(Step::advanced());
        }
        let Some(run) = self.stored_after(after).await? else {
            self.engine.copy_turn(self.session);
            return Ok(Step::default());
        };
        if first_tick(&run.log).map_err(damaged_log)? > after {
            self.position = Position::Turn(run.id, FROM_START);
            return Ok(Step::advanced());
        }
        // The turn began before the cursor: the turn after it is the next to start.
        let last = last_tick(&run.log).map_err(damaged_log)?.unwrap_or(after);
        self.position = Position::NextStart(last.max(after));
        Ok(Step {
            has_advanced: last > after,
            ..Step::default()
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

/// The first position of a reader, and whether the session has no unsettled turn.
fn first_position(
    reader: &Reader<'_>,
    session: SessionId,
    since: Option<Tick>,
    follows: bool,
    live: Option<&LiveTurn>,
    next_start: Tick,
) -> Result<(Option<Position>, bool)> {
    let unsettled = turns::oldest_unsettled(reader, session)?;
    let is_idle = unsettled.is_none();
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
    let newest_live = live.and_then(LiveTurn::last_tick);
    let newest_event = newest_live.map_or(newest_stored, |tick| tick.max(newest_stored));
    if since > newest_event.max(newest_since).max(Tick(0)) {
        let Some(unsettled) = unsettled else {
            return Err(Refusal::invalid("since", "is ahead of all events of this session").into());
        };
        let runs_here = live.is_some_and(|live| {
            live.id == unsettled.id && !live.is_copy && live.first_tick().is_some()
        });
        let position = match runs_here {
            true => Position::NextStart(next_start),
            false => Position::Resume(unsettled.id, since),
        };
        return Ok((Some(position), is_idle));
    }
    let has_more = since < newest_event;
    let position = (has_more || !is_idle || follows).then_some(Position::After(since));
    Ok((position, is_idle))
}

fn deleted() -> Error {
    Error::internal("the session was deleted")
}

fn damaged_log(error: serde_json::Error) -> Error {
    Error::Internal(error.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::turns::envelope::Envelope;

    /// The events that a reader gets whose right is `rights` at each of them, by their kinds.
    fn read(rights: &[bool], envelopes: &[Envelope<'_>]) -> Vec<String> {
        let mut filter = ReasoningFilter::default();
        let mut read = Vec::new();
        for (at, (is_shown, envelope)) in rights.iter().zip(envelopes).enumerate() {
            filter.is_shown = *is_shown;
            let tick = Tick(i64::try_from(at).unwrap());
            for event in filter.filter(vec![SseEvent::of(tick, envelope)]) {
                assert_eq!(event.tick, tick);
                let text = String::from_utf8(event.bytes.to_vec()).unwrap();
                let json: serde_json::Value =
                    serde_json::from_str(text.split_once("data: ").unwrap().1).unwrap();
                let field = |name: &str| json[name].as_str().unwrap_or_default().to_owned();
                read.push(format!("{} {}", field("type"), field("id")));
            }
        }
        read
    }

    #[test]
    fn a_right_that_changes_amid_a_part_counts_from_the_next_and_its_loss_ends_the_part() {
        let part = |id| {
            [
                Envelope::ReasoningStart { id },
                Envelope::ReasoningDelta { id, delta: "A" },
                Envelope::ReasoningDelta { id, delta: "B" },
                Envelope::ReasoningDelta { id, delta: "C" },
                Envelope::ReasoningEnd { id },
            ]
        };
        let envelopes = [part("1"), part("3")].concat();
        let rights = |text: &str| -> Vec<bool> { text.chars().map(|c| c == 'y').collect() };
        let granted = read(&rights("nnyyyyyyyy"), &envelopes);
        assert_eq!(granted[0], "reasoning-start 3");
        assert_eq!(granted.len(), 5);
        let withdrawn = ["reasoning-start 1", "reasoning-delta 1", "reasoning-end 1"];
        assert_eq!(read(&rights("yynnnnnnnn"), &envelopes), withdrawn);
        assert_eq!(read(&rights("yynyynnnnn"), &envelopes), withdrawn);
        let at_the_end = read(&rights("yyyynnnnnn"), &envelopes);
        assert_eq!(at_the_end.last().unwrap(), "reasoning-end 1");
        assert_eq!(at_the_end.len(), 5);
        // A cursor within a part.
        let rest = ["reasoning-delta 1", "reasoning-end 1"];
        assert_eq!(read(&[true, true], &envelopes[3..]), rest);
        assert!(read(&[false, true, false], &envelopes[2..]).is_empty());
    }
}
