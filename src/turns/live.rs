//! Turns that are being answered: their events in memory, for any number of readers, until they are stored.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::log::{Frame, News};
use crate::model::ids::{SessionId, Tick, TurnId};

/// A turn that is being answered, or was just now.
#[derive(Debug)]
pub struct LiveTurn {
    /// The turn.
    pub id: TurnId,
    state: Mutex<State>,
    cancelled: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    frames: Vec<Frame>,
    has_ended: bool,
}

impl LiveTurn {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an event.
    pub fn push(&self, frame: Frame) {
        self.state().frames.push(frame);
    }

    /// Adds the terminal event.
    pub fn end(&self, frame: Frame) {
        let mut state = self.state();
        state.frames.push(frame);
        state.has_ended = true;
    }

    /// What there is behind a cursor, as much as a reader takes at one time.
    pub fn after(&self, after: Tick) -> News {
        let state = self.state();
        let from = state.frames.partition_point(|frame| frame.tick <= after);
        let mut news = News::default();
        for frame in &state.frames[from..] {
            if news.is_full() {
                return news;
            }
            news.add(frame.clone());
        }
        news.has_ended = state.has_ended;
        news
    }

    /// The cursor of its `start`, once it has one.
    pub fn first_tick(&self) -> Option<Tick> {
        self.state().frames.first().map(|frame| frame.tick)
    }

    /// The cursor of its newest event.
    pub fn last_tick(&self) -> Option<Tick> {
        self.state().frames.last().map(|frame| frame.tick)
    }

    /// Has the answer stop.
    pub fn cancel(&self) {
        self.cancelled.send_replace(true);
    }

    /// Resolves once the answer is to stop.
    pub async fn is_cancelled(&self) {
        let mut cancelled = self.cancelled.subscribe();
        // The sender lives as long as this turn, so that waiting cannot fail.
        let _ = cancelled.wait_for(|cancelled| *cancelled).await;
    }
}

/// All live turns, one a session at most. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct LiveTurns {
    turns: Arc<Mutex<HashMap<Tick, Arc<LiveTurn>>>>,
}

impl LiveTurns {
    fn turns(&self) -> MutexGuard<'_, HashMap<Tick, Arc<LiveTurn>>> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session's live turn.
    pub fn of(&self, session: SessionId) -> Option<Arc<LiveTurn>> {
        self.turns().get(&session.tick()).cloned()
    }

    /// Begins a session's turn.
    pub fn begin(&self, session: SessionId, id: TurnId) -> Arc<LiveTurn> {
        let turn = Arc::new(LiveTurn {
            id,
            state: Mutex::default(),
            cancelled: watch::Sender::new(false),
        });
        self.turns().insert(session.tick(), Arc::clone(&turn));
        turn
    }

    /// Forgets a session's turn, once it is stored.
    pub fn forget(&self, session: SessionId) {
        self.turns().remove(&session.tick());
    }
}
