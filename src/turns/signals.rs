//! Wakes those who wait for something to happen in a session; nobody polls.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use crate::model::ids::{SessionId, Tick};

type Senders = Mutex<HashMap<Tick, watch::Sender<()>>>;

/// One bell a session, kept while somebody listens. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Signals {
    senders: Arc<Senders>,
}

impl Signals {
    /// Listens to a session from now on.
    pub fn listen(&self, session: SessionId) -> Listener {
        let session = session.tick();
        let mut senders = self.senders.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = senders
            .entry(session)
            .or_insert_with(|| watch::Sender::new(()));
        Listener {
            receiver: Some(sender.subscribe()),
            session,
            senders: Arc::clone(&self.senders),
        }
    }

    /// How many listen to a session.
    pub fn listeners(&self, session: SessionId) -> usize {
        let senders = self.senders.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = senders.get(&session.tick());
        sender.map_or(0, watch::Sender::receiver_count)
    }

    /// Wakes all who listen to a session.
    pub fn ring(&self, session: SessionId) {
        let senders = self.senders.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = senders.get(&session.tick()) {
            sender.send_replace(());
        }
    }
}

/// Listens to one session.
#[derive(Debug)]
pub struct Listener {
    receiver: Option<watch::Receiver<()>>,
    session: Tick,
    senders: Arc<Senders>,
}

impl Listener {
    /// Resolves when the bell has rung since the last call, or since the listener was made.
    pub async fn rung(&mut self) {
        if let Some(receiver) = &mut self.receiver
            && receiver.changed().await.is_err()
        {
            // The bell is kept while this listener lives, so this cannot happen; were it to, waiting on is safe.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut senders = self.senders.lock().unwrap_or_else(PoisonError::into_inner);
        self.receiver = None;
        if senders
            .get(&self.session)
            .is_some_and(|sender| sender.receiver_count() == 0)
        {
            senders.remove(&self.session);
        }
    }
}
