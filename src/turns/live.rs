//! The running turns: their events stay in memory, for any number of readers, until they are
//! stored.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::log::{EventBatch, SseEvent};
use crate::model::ids::{SessionId, Tick, TurnId};

/// A turn that is being answered, or has just ended.
#[derive(Debug)]
pub struct LiveTurn {
    /// The turn.
    pub id: TurnId,
    state: Mutex<State>,
    cancelled: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    events: Vec<SseEvent>,
    has_ended: bool,
}

impl LiveTurn {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an event.
    pub fn push(&self, event: SseEvent) {
        self.state().events.push(event);
    }

    /// Replaces all events: the answer starts again.
    pub fn restart(&self, event: SseEvent) {
        self.state().events = vec![event];
    }

    /// Adds the terminal event.
    pub fn end(&self, event: SseEvent) {
        let mut state = self.state();
        state.events.push(event);
        state.has_ended = true;
    }

    /// The events after a cursor, up to one batch.
    pub fn events_after(&self, after: Tick) -> EventBatch {
        let state = self.state();
        let from = state.events.partition_point(|event| event.tick <= after);
        let mut batch = EventBatch::default();
        for event in &state.events[from..] {
            if batch.is_full() {
                return batch;
            }
            batch.push(event.clone());
        }
        batch.has_ended = state.has_ended;
        batch
    }

    /// The cursor of the turn's `start`. `None` before the first event.
    pub fn first_tick(&self) -> Option<Tick> {
        self.state().events.first().map(|event| event.tick)
    }

    /// The cursor of the turn's newest event.
    pub fn last_tick(&self) -> Option<Tick> {
        self.state().events.last().map(|event| event.tick)
    }

    /// Asks the answer to stop.
    pub fn cancel(&self) {
        self.cancelled.send_replace(true);
    }

    /// Resolves when the turn is cancelled.
    pub async fn cancelled(&self) {
        let mut cancelled = self.cancelled.subscribe();
        // Waiting cannot fail: this turn owns the sender.
        let _ = cancelled.wait_for(|cancelled| *cancelled).await;
    }
}

/// All live turns, up to one per session. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct LiveTurns {
    turns: Arc<Mutex<HashMap<Tick, Arc<LiveTurn>>>>,
}

impl LiveTurns {
    fn turns(&self) -> MutexGuard<'_, HashMap<Tick, Arc<LiveTurn>>> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The live turn of a session.
    pub fn get(&self, session: SessionId) -> Option<Arc<LiveTurn>> {
        self.turns().get(&session.tick()).cloned()
    }

    /// Adds a session's turn, without events.
    pub fn insert(&self, session: SessionId, id: TurnId) -> Arc<LiveTurn> {
        let turn = Arc::new(LiveTurn {
            id,
            state: Mutex::default(),
            cancelled: watch::Sender::new(false),
        });
        self.turns().insert(session.tick(), Arc::clone(&turn));
        turn
    }

    /// Removes a session's turn. From then on its events are read from the store.
    pub fn remove(&self, session: SessionId) {
        self.turns().remove(&session.tick());
    }
}
