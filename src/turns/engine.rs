//! Runs turns: takes them from the queue, has a responder answer them, and stores their streams.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Notify, mpsc, watch};

use super::answer::Answer;
use super::copies::{Copies, NodeKey};
use super::envelope::{Envelope, FinishMetadata};
use super::live::{LiveTurn, LiveTurns};
use super::log::SseEvent;
use super::queue::{Queue, QueuedSession};
use super::respond::{OVERLOADED, Responders, TurnRef};
use super::responder::{FinishReason, ResponderError};
use super::signals::Signals;
use crate::error::{Code, Error, Result};
use crate::knowledge::citations;
use crate::metrics::Counter;
use crate::model::answer::Chunk;
use crate::model::ids::{SessionId, TurnId};
use crate::model::names::TenantNo;
use crate::store::turns::{self, End, Settlement, Unsettled};
use crate::store::{Extent, Store, reasoning};

/// Worker threads for turns. Two are enough: a turn mostly waits.
const THREADS: usize = 2;
/// Capacity of the channel between a responder and the stream, in chunks.
const CHUNK_CAPACITY: usize = 64;
/// The delay before a turn that could not be read or stored is retried.
const RETRY_DELAY: Duration = Duration::from_millis(500);
/// The end of an answer by a model that did not see the pictures of the message.
const UNSEEN_IMAGES: &str = "\n\nNote: The assistant could not see the picture that you sent.";

/// Answers turns. Clones share one engine.
#[derive(Clone)]
pub struct Engine {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) store: Store,
    pub(super) signals: Signals,
    pub(super) live: LiveTurns,
    responders: Responders,
    /// What completes messages, if anything does.
    prepare: OnceLock<Arc<dyn Prepare>>,
    queue: Mutex<Queue>,
    /// `None` once the engine has stopped.
    pub(super) runtime: Mutex<Option<Runtime>>,
    /// The number of running turns. [`Engine::stop`] waits for it to become 0.
    pub(super) running: watch::Sender<usize>,
    pub(super) stopping: watch::Sender<bool>,
    counters: TurnCounters,
    /// Wakes the task that claims turns, on a node of several.
    pub(super) claims: Notify,
    /// The copies of turns that other nodes run.
    pub(super) copies: Option<Copies>,
}

/// The number of turns that have ended, by outcome.
#[derive(Debug, Default)]
pub struct TurnCounters {
    /// Turns with a complete answer.
    pub completed: Counter,
    /// Turns that failed.
    pub failed: Counter,
    /// Turns that were cancelled.
    pub cancelled: Counter,
}

impl TurnCounters {
    fn count(&self, end: &End) {
        let counter = match end {
            End::Completed { .. } => &self.completed,
            End::Failed { .. } => &self.failed,
            End::Cancelled => &self.cancelled,
        };
        counter.add(1);
    }
}

/// Completes a message before it is answered.
pub trait Prepare: Send + Sync {
    /// Returns when the message is complete. A turn that runs again calls it again.
    fn prepare(
        &self,
        session: SessionId,
        turn: TurnId,
    ) -> Pin<Box<dyn Future<Output = Result<()>> + Send + '_>>;
}

impl Engine {
    /// Completes the messages of all turns from now on, before they are answered.
    pub fn prepare_with(&self, prepare: Arc<dyn Prepare>) {
        drop(self.inner.prepare.set(prepare));
    }

    /// Creates an engine that runs up to `concurrency` turns at a time.
    ///
    /// # Errors
    /// The system cannot start the worker threads.
    pub fn new(
        store: Store,
        signals: Signals,
        responders: Responders,
        concurrency: usize,
        node_key: NodeKey,
    ) -> std::io::Result<Self> {
        let copies = store.node().map(|_| Copies::new(node_key));
        let copies = copies.transpose().map_err(std::io::Error::other)?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("turns")
            .enable_all()
            .build()?;
        let inner = Arc::new(Inner {
            store,
            signals,
            live: LiveTurns::default(),
            responders,
            prepare: OnceLock::new(),
            queue: Mutex::new(Queue::new(concurrency)),
            runtime: Mutex::new(Some(runtime)),
            running: watch::Sender::new(0),
            stopping: watch::Sender::new(false),
            counters: TurnCounters::default(),
            claims: Notify::new(),
            copies,
        });
        if let Some(node) = inner.store.node() {
            let weak = Arc::downgrade(&inner);
            node.listen(move |notice| {
                if let Some(inner) = weak.upgrade() {
                    inner.hear(&notice);
                }
            });
        }
        Ok(Self { inner })
    }

    /// The turns that are running.
    pub fn live(&self) -> &LiveTurns {
        &self.inner.live
    }

    /// The number of running turns.
    pub fn running(&self) -> usize {
        *self.inner.running.borrow()
    }

    /// The turns that have ended since the server started.
    pub fn counters(&self) -> &TurnCounters {
        &self.inner.counters
    }

    /// Queues the sessions whose turns an earlier process did not finish. A node of several claims
    /// turns from now on.
    pub async fn recover(&self) -> Result<()> {
        let store = &self.inner.store;
        if store.node().is_some() {
            self.inner.start_claiming();
            return Ok(());
        }
        let unsettled = match store.write(Extent::Configuration, turns::recover).await {
            // The turns still run, and their answers are stored when there is room.
            Err(error) if error.is(Code::StorageFull) => store.read(turns::all_unsettled).await?,
            outcome => outcome?,
        };
        for (tenant, session) in unsettled {
            self.wake(tenant, session);
        }
        Ok(())
    }

    /// Queues a session that has a turn to run or to end.
    pub fn wake(&self, tenant: TenantNo, session: SessionId) {
        if let Some(node) = self.inner.store.node() {
            self.inner.claims.notify_one();
            if self.inner.queue().free() == 0 {
                node.tell_of_turns();
            }
            return;
        }
        self.inner.queue().push(QueuedSession { tenant, session });
        self.inner.dispatch();
    }

    /// Stops the answer that is running in a session. The caller has committed the new status
    /// already.
    pub fn cancel(&self, tenant: TenantNo, session: SessionId) {
        if self.inner.store.node().is_some() {
            // Since the commit, a later message may have its turn live already: that one goes on.
            self.inner.hear_of_session(session.tick());
            self.inner.claims.notify_one();
            return;
        }
        // The writer has committed nothing else yet, so that the live turn is one of the change.
        if let Some(live) = self.inner.live.get(session) {
            live.cancel();
        }
        let cancelled = QueuedSession { tenant, session };
        self.inner.queue().push_cancelled(cancelled);
        self.inner.dispatch();
    }

    /// Starts no more turns and waits up to `limit` for the running ones. Turns that have not ended
    /// then run again after the next start.
    pub async fn stop(&self, limit: Duration) {
        self.finish(limit).await;
        self.leave().await;
    }

    /// The first half of [`Engine::stop`]: the running turns end, and the node still has its lease.
    pub async fn finish(&self, limit: Duration) {
        self.inner.stopping.send_replace(true);
        let mut running = self.inner.running.subscribe();
        let ended = tokio::time::timeout(limit, running.wait_for(|running| *running == 0)).await;
        if ended.is_err() {
            log::warn!("some answers were cut off; they run again at the next start");
        }
    }

    /// The second half of [`Engine::stop`]: nothing runs any longer.
    pub async fn leave(&self) {
        let runtime = self
            .inner
            .runtime
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(runtime) = runtime {
            runtime.shutdown_background();
        }
        if let Some(node) = self.inner.store.node() {
            node.leave().await;
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Dropping a runtime blocks, and a thread of another runtime must not block.
        let runtime = self
            .runtime
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(runtime) = runtime {
            runtime.shutdown_background();
        }
    }
}

impl Inner {
    pub(super) fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends cancelled turns, and starts queued turns up to the concurrency limit.
    fn dispatch(self: &Arc<Self>) {
        let runtime = self.runtime.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(runtime) = runtime.as_ref() else {
            return;
        };
        loop {
            if *self.stopping.borrow() {
                return;
            }
            let next = {
                let mut queue = self.queue();
                let next = match queue.pop_cancelled() {
                    Some(cancelled) => Some((cancelled, false)),
                    None => queue.pop().map(|queued| (queued, true)),
                };
                self.running.send_replace(queue.running());
                next
            };
            let Some((queued, has_slot)) = next else {
                return;
            };
            let inner = Arc::clone(self);
            runtime.spawn(async move {
                let has_more = inner.attempt(queued, has_slot).await;
                let running = {
                    let mut queue = inner.queue();
                    queue.finish(queued, has_more);
                    queue.running()
                };
                inner.running.send_replace(running);
                inner.dispatch();
            });
        }
    }

    /// Runs a session's turn. Returns whether the session may have more turns.
    pub(super) async fn attempt(self: &Arc<Self>, queued: QueuedSession, has_slot: bool) -> bool {
        // A task of its own, so that a panic ends this attempt and still frees the queue's slot.
        let turn = Arc::clone(self);
        let outcome = tokio::spawn(async move { turn.run(queued, has_slot).await }).await;
        match outcome {
            Ok(Ok(has_more)) => return has_more,
            Ok(Err(error)) => log::error!("a turn could not run; retrying: {error}"),
            Err(error) => log::error!("a turn failed unexpectedly; retrying: {error}"),
        }
        tokio::time::sleep(RETRY_DELAY).await;
        true
    }

    /// Runs a session's oldest unsettled turn if there is a slot for it, then ends the cancelled
    /// turns that follow, which takes no time. Returns whether the session may have more turns.
    async fn run(&self, queued: QueuedSession, has_slot: bool) -> Result<bool> {
        let session = queued.session;
        let mut may_answer = has_slot;
        loop {
            if !may_answer {
                match self.oldest_unsettled(session).await? {
                    None => return Ok(false),
                    Some(turn) if !turn.is_cancelled => return Ok(true),
                    Some(_) => {}
                }
            }
            may_answer = false;
            let Some((turn, live)) = self.begin_turn(session, || {}).await? else {
                return Ok(false);
            };
            let outcome = self.answer(queued, &turn, &live).await;
            self.live.remove(session, &live);
            self.signals.announce(session);
            outcome?;
            if turn.owner.is_some() {
                return Ok(false);
            }
        }
    }

    pub(super) async fn oldest_unsettled(&self, session: SessionId) -> Result<Option<Unsettled>> {
        self.store
            .read(move |reader| turns::oldest_unsettled(reader, session))
            .await
    }

    /// Makes a session's oldest unsettled turn live. A test uses `before_live` to force the race
    /// with a cancel.
    async fn begin_turn(
        &self,
        session: SessionId,
        before_live: impl FnOnce(),
    ) -> Result<Option<(Unsettled, Arc<LiveTurn>)>> {
        let lease = self.store.lease();
        let oldest = self.oldest_unsettled(session).await?;
        // Another node may have taken the turn over.
        let Some(turn) = oldest.filter(|turn| turn.owner == lease) else {
            return Ok(None);
        };
        before_live();
        let live = self.live.insert(session, turn.id);
        // Read again: a cancel that was committed before the turn was live could not reach it.
        match self.oldest_unsettled(session).await {
            Ok(Some(turn)) if turn.owner == lease => Ok(Some((turn, live))),
            outcome => {
                self.live.remove(session, &live);
                outcome.map(|_| None)
            }
        }
    }

    /// Waits until no other node can have taken the turn over. Returns whether this node still runs
    /// it: if not, no reader may see more of this run, because the other one has begun.
    async fn still_runs(&self, turn: &Unsettled) -> bool {
        let (Some(node), Some(lease)) = (self.store.node(), turn.owner) else {
            return true;
        };
        node.is_sure_of_lease().await;
        node.lease() == lease
    }

    /// Answers a turn, stores the answer, and ends the turn's stream.
    async fn answer(&self, queued: QueuedSession, turn: &Unsettled, live: &LiveTurn) -> Result<()> {
        let session = queued.session;
        let started_at = self.store.now();
        let tick = || self.store.tick();
        let keeps_reasoning = self.responders.may_reason()
            && self
                .store
                .read(move |reader| reasoning::are_kept(reader, session))
                .await?;
        if !self.still_runs(turn).await {
            return Ok(());
        }
        let mut answer = Answer::new(live, turn.answer, keeps_reasoning);
        answer.start(tick());
        let end = if turn.is_cancelled {
            End::Cancelled
        } else {
            answer.send(tick(), &Envelope::StartStep);
            self.signals.announce(session);
            let (id, lease) = (turn.id, turn.owner);
            // Not awaited: after a crash before this commit, the turn is still queued and runs
            // again all the same.
            drop(self.store.write(Extent::Statement, move |tx| {
                turns::begin(tx, id, started_at, lease)
            }));
            self.respond(session, turn, live, &mut answer).await?
        };
        if !self.still_runs(turn).await {
            return Ok(());
        }
        answer.close_part(tick);
        if let End::Completed { .. } = end {
            answer.send(tick(), &Envelope::FinishStep);
        }
        self.signals.notify(session);
        let (stored, log) = answer.finish();
        let settlement = Arc::new(Settlement {
            id: turn.id,
            session,
            tenant: queued.tenant,
            answer: turn.answer,
            content: stored.content,
            parts: stored.parts,
            first_word_at: stored.first_word_at,
            end,
            lease: turn.owner,
        });
        let log = Arc::new(log);
        loop {
            let (settlement, log) = (Arc::clone(&settlement), Arc::clone(&log));
            let settled = self
                .store
                .write(Extent::Session(session.tick()), move |tx| {
                    turns::settle(tx, &settlement, started_at, |tick, end| {
                        log.to_json(tick, &terminal(end))
                            .map_err(|error| Error::Internal(error.into()))
                    })
                })
                .await;
            match settled {
                Ok(Some((tick, end))) => {
                    self.counters.count(&end);
                    live.end(SseEvent::of(tick, &terminal(&end)));
                    return Ok(());
                }
                // The session was deleted, or another node has taken the turn over: no reader of this
                // run may see a terminal envelope.
                Ok(None) => return Ok(()),
                Err(error) => {
                    log::warn!("an answer could not be stored; retrying: {error}");
                    tokio::time::sleep(RETRY_DELAY).await;
                }
            }
        }
    }

    /// Lets a responder answer the turn, and streams the chunks. Returns how the turn ended.
    async fn respond(
        &self,
        session: SessionId,
        turn: &Unsettled,
        live: &LiveTurn,
        answer: &mut Answer<'_>,
    ) -> Result<End> {
        let turn_ref = TurnRef {
            session,
            turn: turn.id,
            tier: turn.model_tier,
        };
        let (sender, mut chunks) = mpsc::channel::<Chunk>(CHUNK_CAPACITY);
        if let Some(prepare) = self.prepare.get() {
            tokio::select! {
                biased;
                () = live.cancelled() => return Ok(End::Cancelled),
                prepared = prepare.prepare(session, turn.id) => prepared?,
            }
        }
        let responding = self.responders.respond(&self.store, turn_ref, sender);
        tokio::pin!(responding);
        let tick = || self.store.tick();
        let mut outcome = None;
        loop {
            tokio::select! {
                biased;
                () = live.cancelled() => return Ok(End::Cancelled),
                chunk = chunks.recv() => match chunk {
                    Some(chunk) => {
                        if !self.still_runs(turn).await {
                            return Ok(End::Cancelled);
                        }
                        answer.add_chunk(&chunk, tick);
                        // Chunks that have arrived in the meantime share one notification.
                        while let Ok(chunk) = chunks.try_recv() {
                            answer.add_chunk(&chunk, tick);
                        }
                        self.signals.notify(session);
                    }
                    None => break,
                },
                ended = &mut responding, if outcome.is_none() => outcome = Some(ended),
            }
        }
        let outcome = match outcome {
            Some(outcome) => outcome,
            None => responding.await,
        };
        if let Err(error) = &outcome
            && error.code == OVERLOADED
        {
            return Err(Code::Overloaded.into());
        }
        Ok(match outcome {
            Ok((completion, sources)) if answer.has_text() => {
                if completion.hides_images {
                    answer.add_chunk(&Chunk::Text(UNSEEN_IMAGES.to_owned()), tick);
                }
                for source in citations::cited(sources, answer.text()) {
                    answer.add_chunk(&source, tick);
                }
                End::Completed {
                    finish_reason: completion.finish_reason.as_str(),
                    usage: completion.usage,
                }
            }
            Ok((completion, _)) if completion.finish_reason == FinishReason::ContentFilter => {
                failed(
                    turn,
                    ResponderError::filtered("the content filter left no text".to_owned()),
                )
            }
            Ok(_) => failed(
                turn,
                ResponderError {
                    code: "model_empty_reply",
                    message:
                        "The assistant gave no answer. Please ask again, perhaps in other words."
                            .to_owned(),
                    log: "the answer had no text".to_owned(),
                },
            ),
            Err(error) => failed(turn, error),
        })
    }
}

/// Logs a responder's error and turns it into the turn's end.
fn failed(turn: &Unsettled, error: ResponderError) -> End {
    log::warn!(turn:% = turn.id, code = error.code; "{}", error.log);
    End::Failed {
        code: error.code.to_owned(),
        message: error.message,
    }
}

/// The envelope that ends a turn.
fn terminal(end: &End) -> Envelope<'_> {
    match end {
        End::Completed {
            finish_reason,
            usage,
        } => Envelope::Finish {
            finish_reason,
            message_metadata: usage.map(|usage| FinishMetadata { usage }),
        },
        End::Failed { message, .. } => Envelope::Error {
            error_text: message,
        },
        End::Cancelled => Envelope::Abort,
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::input::seed;
    use crate::model::author::{Author, Authorship};
    use crate::model::caller::Actor;
    use crate::model::clock::Clock;
    use crate::model::names::{AgentId, ClientId};
    use crate::model::session::Metadata;
    use crate::model::words::{CallerKind, ModelTier, Rule, SessionChannel};
    use crate::store::messages::NewMessage;
    use crate::store::sessions::NewSession;
    use crate::store::{WriteTx, import, messages, sessions, tenants};

    /// An engine that starts no turn by itself, and a session with one queued turn.
    struct Fixture {
        engine: Engine,
        queued: QueuedSession,
        _folder: tempfile::TempDir,
    }

    impl Fixture {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let store = Store::open(folder.path(), Clock::System).unwrap();
            let operator = Actor {
                kind: CallerKind::Operator,
                id: "test".to_owned(),
                name: None,
            };
            let demo = seed::parse(include_str!("../../fixtures/demo.json"), "demo").unwrap();
            let queued = store
                .write_now(move |tx| {
                    import::apply(tx, &demo, &operator)?.unwrap();
                    let client_id = ClientId::parse("northwind-it").unwrap();
                    let tenant = tenants::facts_by_client_id(tx.reader(), &client_id)?.unwrap();
                    let session = NewSession {
                        tenant: tenant.clone(),
                        agent_id: AgentId(102),
                        channel: SessionChannel::Api,
                        title: None,
                        show_agent_progress_steps: true,
                        channel_id: None,
                        relay_prefix: None,
                        company: None,
                        pinned_by: None,
                        rule: Rule::Selected,
                        created_by: operator,
                        platform_tenant: None,
                        external: None,
                        end_user: None,
                        metadata: Metadata::default(),
                        metadata_json: "{}".to_owned(),
                    };
                    let session = sessions::insert(tx, session)?.id;
                    let message = NewMessage {
                        session,
                        tenant: tenant.no,
                        authorship: Authorship {
                            author: Author::agent(AgentId(102), None),
                            is_given: false,
                            sent_by: None,
                        },
                        content: "Hello".to_owned(),
                        attachments: Vec::new(),
                        title: None,
                        model_tier: ModelTier::Fast,
                        client_message_id: None,
                    };
                    messages::append(tx, &message)?;
                    Ok(QueuedSession {
                        tenant: tenant.no,
                        session,
                    })
                })
                .unwrap();
            let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, b"test");
            let key = NodeKey::new(key);
            let engine =
                Engine::new(store, Signals::default(), Responders::new(None), 1, key).unwrap();
            engine.inner.stopping.send_replace(true);
            Self {
                engine,
                queued,
                _folder: folder,
            }
        }

        /// Commits a change of the session and then cancels its turn, in the order of an API call.
        fn change_and_cancel(&self, change: fn(&mut WriteTx<'_>, SessionId) -> Result<usize>) {
            let QueuedSession { tenant, session } = self.queued;
            let store = &self.engine.inner.store;
            store.write_now(move |tx| change(tx, session)).unwrap();
            self.engine.cancel(tenant, session);
        }
    }

    #[test]
    fn a_turn_that_is_cancelled_just_before_it_is_live_begins_as_a_cancelled_one() {
        let fixture = Fixture::new();
        let inner = &fixture.engine.inner;
        let (turn, live) = inner
            .begin_turn(fixture.queued.session, || {
                fixture.change_and_cancel(turns::cancel)
            })
            .now_or_never()
            .unwrap()
            .unwrap()
            .unwrap();
        assert!(turn.is_cancelled);
        assert_eq!(live.id, turn.id);
    }

    #[test]
    fn a_turn_that_is_cancelled_just_after_it_is_live_receives_the_cancel() {
        let fixture = Fixture::new();
        let inner = &fixture.engine.inner;
        let (turn, live) = inner
            .begin_turn(fixture.queued.session, || {})
            .now_or_never()
            .unwrap()
            .unwrap()
            .unwrap();
        fixture.change_and_cancel(turns::cancel);
        assert!(!turn.is_cancelled);
        assert_eq!(live.cancelled().now_or_never(), Some(()));
    }

    #[test]
    fn a_turn_whose_session_is_deleted_just_before_it_is_live_does_not_begin() {
        let fixture = Fixture::new();
        let inner = &fixture.engine.inner;
        let begun = inner.begin_turn(fixture.queued.session, || {
            fixture.change_and_cancel(|tx, session| sessions::delete(tx, session).map(|()| 1));
        });
        assert!(begun.now_or_never().unwrap().unwrap().is_none());
        assert!(inner.live.get(fixture.queued.session).is_none());
    }
}
