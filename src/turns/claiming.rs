//! One node of several: claims turns, hears what other nodes do, and gives turns up that are no
//! longer its own.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::engine::Inner;
use super::queue::QueuedSession;
use crate::error::Result;
use crate::model::ids::Tick;
use crate::store::postgres::{Claim, Notice};

/// How often a node looks for turns, in case a notification was lost.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Cancelled turns that are claimed at a time when there is no free slot.
const CANCELLED: usize = 16;

impl Inner {
    /// Starts the task that claims turns. It ends with the engine.
    pub(super) fn start_claiming(self: &Arc<Self>) {
        let weak = Arc::downgrade(self);
        self.spawn(async move {
            while let Some(inner) = weak.upgrade() {
                if inner.is_stopping() {
                    return;
                }
                if let Err(error) = inner.claim_all().await {
                    log::debug!("turns could not be claimed: {error}");
                }
                // Notified or not: the next round looks again.
                let _ = timeout(LOOK_EVERY, inner.claims.notified()).await;
            }
        });
    }

    /// Claims turns as long as there are free slots and turns that wait.
    async fn claim_all(self: &Arc<Self>) -> Result<()> {
        let Some(node) = self.store.node() else {
            return Ok(());
        };
        loop {
            let (free, max_of_tenant) = {
                let queue = self.queue();
                (queue.free(), queue.max_of_tenant())
            };
            let limit = if free == 0 { CANCELLED } else { free };
            let claimed = node
                .claim(Claim {
                    lease: node.lease(),
                    limit,
                    only_cancelled: free == 0,
                    max_of_tenant: max_of_tenant * node.live_nodes(),
                })
                .await?;
            let count = claimed.len();
            for one in claimed {
                let queued = QueuedSession {
                    tenant: one.tenant,
                    session: one.session,
                };
                self.run_claimed(queued, !one.is_cancelled);
            }
            if count < limit || self.is_stopping() {
                return Ok(());
            }
        }
    }

    /// Runs a claimed turn. A turn that could not run is tried again: it is still this node's.
    fn run_claimed(self: &Arc<Self>, queued: QueuedSession, has_slot: bool) {
        let running = {
            let mut queue = self.queue();
            queue.start(queued, has_slot);
            queue.running()
        };
        self.running.send_replace(running);
        let inner = Arc::clone(self);
        self.spawn(async move {
            while inner.attempt(queued, has_slot).await && !inner.is_stopping() {}
            let running = {
                let mut queue = inner.queue();
                queue.end(queued.session);
                queue.running()
            };
            inner.running.send_replace(running);
            inner.claims.notify_one();
        });
    }

    /// Acts on what another node tells.
    pub(super) fn hear(self: &Arc<Self>, notice: &Notice) {
        match notice {
            Notice::Sessions(sessions) => {
                for session in sessions {
                    self.hear_of_session(*session);
                }
            }
            Notice::Turns => self.claims.notify_one(),
            Notice::Missed => {
                self.signals.notify_all();
                for (session, _) in self.live.own() {
                    self.hear_of_session(session.tick());
                }
                self.claims.notify_one();
            }
            Notice::LeaseLost => {
                for (_, live) in self.live.own() {
                    live.cancel();
                }
                self.claims.notify_one();
            }
        }
    }

    /// A session has changed on another node. If this node runs its turn, the turn may have been
    /// cancelled or deleted there.
    pub(super) fn hear_of_session(self: &Arc<Self>, session: Tick) {
        self.signals.notify_at(session);
        let Some((id, live)) = self.live.own_of(session) else {
            return;
        };
        let inner = Arc::clone(self);
        self.spawn(async move {
            let oldest = inner.oldest_unsettled(id).await;
            let goes_on =
                matches!(&oldest, Ok(Some(turn)) if turn.id != live.id || !turn.is_cancelled);
            if oldest.is_ok() && !goes_on {
                live.cancel();
            }
        });
    }

    /// Runs a task on the engine's threads. Nothing happens after the engine has stopped.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let runtime = self.runtime.lock();
        if let Ok(runtime) = runtime
            && let Some(runtime) = runtime.as_ref()
        {
            runtime.spawn(task);
        }
    }

    fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }
}
