//! The worker of the outbox: sends what conversations have to say, in order within each of them, and
//! tries again what failed.
//!
//! One task serves a conversation until it has nothing more to say. On PostgreSQL the task first
//! claims the conversation for the node's lease.

mod answer;
mod stream;

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout, timeout_at};

use super::connector::{Connector, Failure};
use crate::error::Result;
use crate::metrics::Counter;
use crate::model::clock::Millis;
use crate::model::ids::Tick;
use crate::store::teams::DeliveryState;
use crate::store::teams_outbox::{self, Delivery, Next};
use crate::store::{Extent, Store, WriteTx};
use crate::turns::engine::Engine;
use crate::turns::signals::Signals;

/// Conversations that are served at the same time. Most of them wait for a turn.
const MAX_CONVERSATIONS: usize = 8_192;
/// How often the worker looks for due deliveries that nobody told it of: on one node, and on one of
/// several, which another node does not tell.
const LOOK_EVERY: Duration = Duration::from_secs(5);
const LOOK_EVERY_OF_NODES: Duration = Duration::from_secs(1);
/// The shortest pause between two looks.
const LEAST_PAUSE: Duration = Duration::from_millis(20);
/// The pause after the store failed.
const STORE_PAUSE: Duration = Duration::from_millis(500);
/// How long a delivery is tried, in milliseconds: a day.
const GIVE_UP_AFTER: Millis = 24 * 60 * 60 * 1_000;
/// The first pause before another try, and the longest one, in milliseconds.
const FIRST_PAUSE: Millis = 1_000;
const LONGEST_PAUSE: Millis = 5 * 60 * 1_000;

/// The deliveries that have ended, and the tries that failed.
#[derive(Debug, Default)]
pub struct DeliveryCounters {
    /// Deliveries that were sent.
    pub sent: Counter,
    /// Deliveries that were given up.
    pub given_up: Counter,
    /// Deliveries that nobody wanted any longer.
    pub cancelled: Counter,
    /// Tries that failed and are made again.
    pub retries: Counter,
}

/// The worker. Clones share it.
#[derive(Clone)]
pub struct Deliverer {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    engine: Engine,
    signals: Signals,
    connector: Arc<Connector>,
    counters: DeliveryCounters,
    /// The conversations that tasks serve, and whether each was woken since its task looked.
    active: Mutex<HashMap<Tick, bool>>,
    /// The number of tasks. [`Deliverer::stop`] waits for it to become 0.
    tasks: watch::Sender<usize>,
    /// Wakes the worker: a delivery was added, or one is due at another time.
    look: Arc<Notify>,
    stopping: watch::Sender<bool>,
    has_started: watch::Sender<bool>,
    /// `None` once the worker has stopped.
    runtime: Mutex<Option<Runtime>>,
}

/// Where the worker has looked.
#[derive(Debug, Default)]
struct Place {
    /// The newest delivery that it has seen.
    newest: Option<Tick>,
    /// When it looks at all deliveries that are due.
    next_at: Option<Instant>,
}

/// How a try ended.
#[derive(Debug)]
enum Outcome {
    /// It was sent, and that is recorded.
    Sent,
    /// It ends in this state, for this reason.
    End(DeliveryState, Option<String>),
    /// It is tried again, after this time at least. It was due since this time.
    Retry(Failure, Millis),
    /// It stays as it is: the server stops, or another node has it.
    Leave,
}

impl Deliverer {
    /// Prepares the worker, which `wake` tells of new deliveries. It sends nothing before
    /// [`Deliverer::start`].
    ///
    /// # Errors
    /// The system cannot start its thread.
    pub fn new(
        store: Store,
        engine: Engine,
        signals: Signals,
        connector: Arc<Connector>,
        wake: Arc<Notify>,
    ) -> io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("teams")
            .enable_all()
            .build()?;
        Ok(Self {
            inner: Arc::new(Inner {
                store,
                engine,
                signals,
                connector,
                counters: DeliveryCounters::default(),
                active: Mutex::default(),
                tasks: watch::Sender::new(0),
                look: wake,
                stopping: watch::Sender::new(false),
                has_started: watch::Sender::new(false),
                runtime: Mutex::new(Some(runtime)),
            }),
        })
    }

    /// Sends what waits, and from now on what is added.
    pub fn start(&self) {
        if self.inner.has_started.send_replace(true) {
            return;
        }
        let (weak, wake) = (Arc::downgrade(&self.inner), Arc::clone(&self.inner.look));
        self.inner.spawn(async move {
            let mut place = Place::default();
            while let Some(inner) = weak.upgrade() {
                if inner.is_stopping() {
                    return;
                }
                if let Err(error) = inner.look(&mut place).await {
                    log::debug!("teams: the outbox could not be read: {error}");
                    place.next_at = Some(Instant::now() + STORE_PAUSE);
                }
                drop(inner);
                let until = place.next_at.unwrap_or_else(Instant::now);
                // Woken or not: the next round looks again.
                let _ = timeout_at(until, wake.notified()).await;
            }
        });
    }

    /// Stops at once, for a server that is dropped.
    pub fn abort(&self) {
        self.inner.stopping.send_replace(true);
        if let Some(runtime) = self.inner.runtime().take() {
            runtime.shutdown_background();
        }
    }

    /// Serves no more answers whose turns still run, and waits up to `limit` for what is being sent.
    pub async fn stop(&self, limit: Duration) {
        self.inner.stopping.send_replace(true);
        self.inner.look.notify_one();
        let mut tasks = self.inner.tasks.subscribe();
        if timeout(limit, tasks.wait_for(|tasks| *tasks == 0))
            .await
            .is_err()
        {
            log::warn!(
                "teams: some deliveries were cut off; they are tried again after the next start"
            );
        }
        if let Some(runtime) = self.inner.runtime().take() {
            runtime.shutdown_background();
        }
    }

    /// The deliveries that have ended since the server started.
    pub fn counters(&self) -> &DeliveryCounters {
        &self.inner.counters
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Dropping a runtime blocks, and a thread of another runtime must not block.
        if let Some(runtime) = self.runtime().take() {
            runtime.shutdown_background();
        }
    }
}

impl Inner {
    fn runtime(&self) -> MutexGuard<'_, Option<Runtime>> {
        self.runtime.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn active(&self) -> MutexGuard<'_, HashMap<Tick, bool>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = self.runtime().as_ref() {
            runtime.spawn(task);
        }
    }

    fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Serves the conversations that have something new to say, and now and then all whose deliveries
    /// are due.
    async fn look(self: &Arc<Self>, place: &mut Place) -> Result<()> {
        let (now, lease) = (self.store.now(), self.store.lease());
        let looks_at_all = place.next_at.is_none_or(|at| Instant::now() >= at);
        // Several nodes commit in no order.
        let after = place.newest.filter(|_| !looks_at_all && lease.is_none());
        let (due, newest, next) = self
            .store
            .read(move |reader| {
                let next = teams_outbox::next_due(reader, now)?;
                if let Some(after) = after {
                    let added = teams_outbox::added(reader, after, MAX_CONVERSATIONS)?;
                    let newest = added.last().map_or(after, |(seq, _)| *seq);
                    let conversations = added.into_iter().map(|(_, conversation)| conversation);
                    return Ok((conversations.collect(), newest, next));
                }
                // What this node has is being served. It is looked at in case it is not.
                let own = lease.filter(|_| looks_at_all);
                let due = teams_outbox::due(reader, now, own, MAX_CONVERSATIONS)?;
                Ok((due, teams_outbox::newest(reader)?, next))
            })
            .await?;
        place.newest = Some(newest);
        let mut is_full = false;
        for conversation in due {
            // A task that looks anyway needs no second look.
            if !looks_at_all || !self.active().contains_key(&conversation) {
                is_full |= !self.serve(conversation);
            }
        }
        let longest = match lease {
            Some(_) => LOOK_EVERY_OF_NODES,
            None => LOOK_EVERY,
        };
        let until = next.map(|next| next.saturating_sub(self.store.now()));
        let until = until.map(|millis| Duration::from_millis(u64::try_from(millis).unwrap_or(0)));
        let pause = until.map_or(longest, |until| until.min(longest));
        let next_at = Instant::now()
            + if is_full {
                STORE_PAUSE
            } else {
                pause.max(LEAST_PAUSE)
            };
        place.next_at = Some(match place.next_at {
            Some(at) if !looks_at_all => at.min(next_at),
            Some(_) | None => next_at,
        });
        Ok(())
    }

    /// Begins a task for a conversation, or has its task look again. Returns whether there was room.
    fn serve(self: &Arc<Self>, conversation: Tick) -> bool {
        let tasks = {
            let mut active = self.active();
            if let Some(is_woken) = active.get_mut(&conversation) {
                *is_woken = true;
                return true;
            }
            if active.len() >= MAX_CONVERSATIONS {
                return false;
            }
            active.insert(conversation, false);
            active.len()
        };
        self.tasks.send_replace(tasks);
        let inner = Arc::clone(self);
        self.spawn(async move {
            loop {
                let serving = Arc::clone(&inner);
                // A task of its own, so that a panic ends this try only.
                let served = tokio::spawn(async move { serving.conversation(conversation).await });
                let failure = match served.await {
                    Ok(Ok(())) => None,
                    Ok(Err(error)) => Some(error.to_string()),
                    Err(error) => Some(error.to_string()),
                };
                if let Some(failure) = &failure {
                    log::warn!("teams: a conversation could not be served; retrying: {failure}");
                    tokio::time::sleep(STORE_PAUSE).await;
                }
                if inner.ends(conversation, failure.is_some()) {
                    return;
                }
            }
        });
        true
    }

    /// Whether the task of a conversation ends. A task that was woken, or failed, does not.
    fn ends(&self, conversation: Tick, has_failed: bool) -> bool {
        let tasks = {
            let mut active = self.active();
            let is_woken = active.get_mut(&conversation).is_some_and(std::mem::take);
            if (is_woken || has_failed) && !self.is_stopping() {
                return false;
            }
            active.remove(&conversation);
            active.len()
        };
        self.tasks.send_replace(tasks);
        true
    }

    /// Serves a conversation until it has nothing to say at this time.
    async fn conversation(&self, conversation: Tick) -> Result<()> {
        let lease = self.store.lease();
        if let Some(lease) = lease {
            let claim = move |tx: &mut WriteTx<'_>| teams_outbox::claim(tx, conversation, lease);
            if !self.store.write(Extent::Statement, claim).await? {
                return Ok(());
            }
        }
        let outcome = self.say_all(conversation, lease).await;
        if let Some(lease) = lease {
            let release =
                move |tx: &mut WriteTx<'_>| teams_outbox::release(tx, conversation, lease);
            self.store.write(Extent::Statement, release).await?;
        }
        outcome
    }

    async fn say_all(&self, conversation: Tick, lease: Option<i64>) -> Result<()> {
        loop {
            let next = self
                .store
                .read(move |reader| teams_outbox::next(reader, conversation))
                .await?;
            let Some(next) = next else {
                return Ok(());
            };
            if next.delivery.next_at > self.store.now() {
                // The worker looks again when it is due.
                self.look.notify_one();
                return Ok(());
            }
            let outcome = match next.conversation.uninstalled_at {
                Some(_) => Outcome::End(
                    DeliveryState::Cancelled,
                    Some("the bot was removed".to_owned()),
                ),
                None => self.say(&next, lease).await?,
            };
            if !self.record(&next, outcome, lease).await? {
                return Ok(());
            }
        }
    }

    /// Whether the conversation is still this node's. On one node it always is.
    async fn still_has(&self, lease: Option<i64>) -> bool {
        let (Some(node), Some(lease)) = (self.store.node(), lease) else {
            return true;
        };
        node.is_sure_of_lease().await;
        node.lease() == lease
    }

    /// Records how a try ended. Returns whether the conversation goes on.
    async fn record(&self, next: &Next, outcome: Outcome, lease: Option<i64>) -> Result<bool> {
        let seq = next.delivery.seq;
        match outcome {
            Outcome::Sent => {
                self.counters.sent.add(1);
                Ok(true)
            }
            Outcome::Leave => Ok(false),
            Outcome::End(state, reason) => self.end(next, state, reason, lease).await,
            Outcome::Retry(failure, since) => {
                let now = self.store.now();
                let pause = pause(&next.delivery, &failure);
                if now.saturating_add(pause) - since.max(next.delivery.created_at) >= GIVE_UP_AFTER
                {
                    let reason = Some(format!("{failure}; given up after a day"));
                    return self.end(next, DeliveryState::GivenUp, reason, lease).await;
                }
                let error = failure.to_string();
                log::debug!(conversation = next.conversation.no.0; "teams: a delivery failed and is tried again: {error}");
                self.counters.retries.add(1);
                let retry = move |tx: &mut WriteTx<'_>| {
                    teams_outbox::retry(tx, seq, now.saturating_add(pause), &error, lease)
                };
                self.store.write(Extent::Statement, retry).await?;
                // The worker computes again when the next one is due.
                self.look.notify_one();
                Ok(false)
            }
        }
    }

    async fn end(
        &self,
        next: &Next,
        state: DeliveryState,
        reason: Option<String>,
        lease: Option<i64>,
    ) -> Result<bool> {
        let seq = next.delivery.seq;
        match state {
            DeliveryState::GivenUp => {
                self.counters.given_up.add(1);
                log::warn!(
                    bot:% = next.conversation.bot.as_str(), conversation = next.conversation.no.0;
                    "teams: a message was given up: {}", reason.as_deref().unwrap_or_default()
                );
            }
            DeliveryState::Cancelled => self.counters.cancelled.add(1),
            DeliveryState::Waiting | DeliveryState::Sending | DeliveryState::Sent => {}
        }
        let end =
            move |tx: &mut WriteTx<'_>| teams_outbox::end(tx, seq, state, reason.as_deref(), lease);
        self.store.write(Extent::Statement, end).await?;
        Ok(true)
    }
}

/// The pause before another try, in milliseconds: twice as long after each failure, and as long as
/// the connector asks for at least.
fn pause(delivery: &Delivery, failure: &Failure) -> Millis {
    let doublings = u32::try_from(delivery.attempts.clamp(0, 16)).unwrap_or(0);
    let pause = (FIRST_PAUSE << doublings).min(LONGEST_PAUSE);
    // Conversations that failed together are not tried together.
    let spread = delivery
        .seq
        .0
        .wrapping_mul(31)
        .wrapping_add(delivery.attempts * 17);
    let pause = pause + pause * spread.rem_euclid(64) / 256;
    let asked = match failure {
        Failure::Refused(refused) => refused.retry_after.unwrap_or_default(),
        Failure::Unanswered(_) | Failure::NotCalled(_) | Failure::Forbidden(_) => Duration::ZERO,
    };
    pause.max(Millis::try_from(asked.as_millis()).unwrap_or(LONGEST_PAUSE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::teams::DeliveryKind;
    use crate::teams::connector::Refused;

    #[test]
    fn each_pause_is_about_twice_as_long_and_never_shorter_than_the_connector_asks() {
        let delivery = |attempts| Delivery {
            seq: Tick(12),
            kind: DeliveryKind::Text,
            turn: None,
            body: None,
            prompts: Vec::new(),
            reply_to: None,
            stream: None,
            parts_sent: 0,
            attempts,
            next_at: 0,
            created_at: 0,
        };
        let cut = Failure::Unanswered("cut".to_owned());
        for (attempts, least) in [
            (0, 1_000),
            (1, 2_000),
            (5, 32_000),
            (9, 300_000),
            (70, 300_000),
        ] {
            let pause = pause(&delivery(attempts), &cut);
            assert!(
                (least..=least * 5 / 4).contains(&pause),
                "{attempts}: {pause}"
            );
        }
        let busy = Failure::Refused(Refused {
            status: 429,
            code: String::new(),
            message: String::new(),
            retry_after: Some(Duration::from_secs(90)),
        });
        assert_eq!(pause(&delivery(0), &busy), 90_000);
    }
}
