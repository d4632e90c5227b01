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
    /// Whether another node runs the turn, and this one has a copy of its events.
    pub is_copy: bool,
    state: Mutex<State>,
    cancelled: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    events: Vec<SseEvent>,
    has_ended: bool,
    /// How often the answer has started.
    generation: u64,
}

impl LiveTurn {
    fn new(id: TurnId, is_copy: bool) -> Self {
        Self {
            id,
            is_copy,
            state: Mutex::default(),
            cancelled: watch::Sender::new(false),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an event.
    pub fn push(&self, event: SseEvent) {
        self.state().events.push(event);
    }

    /// Replaces all events: the answer starts again.
    pub fn restart(&self, event: SseEvent) {
        let mut state = self.state();
        state.events = vec![event];
        state.generation += 1;
    }

    /// Drops all events of a copy: the answer starts again.
    pub fn clear(&self) {
        self.state().events.clear();
    }

    /// Notes that the last event of a copy was the terminal one.
    pub fn has_ended(&self) {
        self.state().has_ended = true;
    }

    /// Whether the terminal event is there.
    pub fn is_ended(&self) -> bool {
        self.state().has_ended
    }

    /// How often the answer has started.
    pub fn generation(&self) -> u64 {
        self.state().generation
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

type TurnsBySession = HashMap<Tick, (SessionId, Arc<LiveTurn>)>;

/// All live turns, up to one per session. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct LiveTurns {
    turns: Arc<Mutex<TurnsBySession>>,
}

impl LiveTurns {
    fn turns(&self) -> MutexGuard<'_, TurnsBySession> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The live turn of a session.
    pub fn get(&self, session: SessionId) -> Option<Arc<LiveTurn>> {
        self.turns()
            .get(&session.tick())
            .map(|(_, turn)| Arc::clone(turn))
    }

    /// Adds a session's turn, without events.
    pub fn insert(&self, session: SessionId, id: TurnId) -> Arc<LiveTurn> {
        let turn = Arc::new(LiveTurn::new(id, false));
        let mut turns = self.turns();
        turns.insert(session.tick(), (session, Arc::clone(&turn)));
        turn
    }

    /// A copy of a turn that another node runs, without events. No reader finds it yet.
    pub fn new_copy(&self, id: TurnId) -> Arc<LiveTurn> {
        Arc::new(LiveTurn::new(id, true))
    }

    /// Lets readers find a copy, unless this node runs a turn of the session itself.
    pub fn publish_copy(&self, session: SessionId, copy: &Arc<LiveTurn>) {
        let mut turns = self.turns();
        turns
            .entry(session.tick())
            .or_insert_with(|| (session, Arc::clone(copy)));
    }

    /// The turns that this node runs, with their sessions.
    pub fn own(&self) -> Vec<(SessionId, Arc<LiveTurn>)> {
        let turns = self.turns();
        let own = turns.values().filter(|(_, turn)| !turn.is_copy);
        own.cloned().collect()
    }

    /// The turn of a session, if this node runs it.
    pub fn own_of(&self, session: Tick) -> Option<(SessionId, Arc<LiveTurn>)> {
        let turns = self.turns();
        let found = turns.get(&session).filter(|(_, turn)| !turn.is_copy);
        found.cloned()
    }

    /// Removes a session's turn, unless another run or another turn is there already. From then on
    /// its events are read from the store.
    pub fn remove(&self, session: SessionId, removed: &Arc<LiveTurn>) {
        let mut turns = self.turns();
        let is_same = |(_, turn): &(SessionId, Arc<LiveTurn>)| Arc::ptr_eq(turn, removed);
        if turns.get(&session.tick()).is_some_and(is_same) {
            turns.remove(&session.tick());
        }
    }
}
