//! Notifies readers that something has happened in a session, so that no reader polls the store.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::sync::watch;

use crate::model::ids::{SessionId, Tick};
use crate::store::Store;

type Senders = Mutex<HashMap<Tick, watch::Sender<()>>>;

/// One notification channel per session, which exists while the session has listeners. Clones share
/// the channels.
#[derive(Clone, Default)]
pub struct Signals {
    senders: Arc<Senders>,
    store: Arc<OnceLock<Store>>,
}

impl Signals {
    /// Creates a listener that receives every notification of a session from now on.
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

    /// The number of a session's listeners.
    pub fn listeners(&self, session: SessionId) -> usize {
        let senders = self.senders.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = senders.get(&session.tick());
        sender.map_or(0, watch::Sender::receiver_count)
    }

    /// Notifies all listeners of a session on this node.
    pub fn notify(&self, session: SessionId) {
        self.notify_at(session.tick());
    }

    /// As [`Signals::notify`], by the tick of the session.
    pub fn notify_at(&self, session: Tick) {
        let senders = self.senders.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = senders.get(&session) {
            sender.send_replace(());
        }
    }

    /// Notifies all listeners of all sessions on this node.
    pub fn notify_all(&self) {
        let senders = self.senders.lock().unwrap_or_else(PoisonError::into_inner);
        for sender in senders.values() {
            sender.send_replace(());
        }
    }

    /// Notifies all listeners of a session, on every node.
    pub fn announce(&self, session: SessionId) {
        self.notify(session);
        if let Some(store) = self.store.get()
            && let Some(node) = store.node()
        {
            node.tell_of_session(session);
        }
    }

    /// Has [`Signals::announce`] reach the other nodes of this store.
    pub fn reach_nodes(&self, store: Store) {
        drop(self.store.set(store));
    }
}

/// A listener of one session.
#[derive(Debug)]
pub struct Listener {
    receiver: Option<watch::Receiver<()>>,
    session: Tick,
    senders: Arc<Senders>,
}

impl Listener {
    /// Resolves when the session has been notified since the last call or, the first time, since
    /// the listener was created.
    pub async fn notified(&mut self) {
        if let Some(receiver) = &mut self.receiver
            && receiver.changed().await.is_err()
        {
            // The channel exists as long as this listener, so this cannot happen. Waiting forever
            // is safe all the same: every caller waits with a timeout too.
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
