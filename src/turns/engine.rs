//! Runs turns: takes them from the durable queue, has them answered, and stores and ends their streams.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, watch};

use super::answer::Answer;
use super::envelope::{Envelope, FinishMetadata, StartMetadata};
use super::live::{LiveTurn, LiveTurns};
use super::log::Frame;
use super::queue::{Queue, Waiting};
use super::respond::{Responders, TurnRef};
use super::responder::Failure;
use super::signals::Signals;
use crate::error::{Error, Result};
use crate::metrics::Counter;
use crate::model::answer::Chunk;
use crate::model::ids::SessionId;
use crate::model::names::TenantNo;
use crate::store::turns::{self, End, Settlement, Unsettled};
use crate::store::{Extent, Store};

/// Threads that run turns; each turn is mostly waiting.
const THREADS: usize = 2;
/// Pieces that may wait between a responder and the stream.
const PIECES: usize = 64;
/// How long to wait before a turn that could not be stored, or read, is tried again.
const TRY_AGAIN: Duration = Duration::from_millis(500);

/// Answers turns. Clones share it.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    signals: Signals,
    live: LiveTurns,
    responders: Responders,
    queue: Mutex<Queue>,
    /// `None` once the engine has stopped.
    runtime: Mutex<Option<Runtime>>,
    /// How many turns run, for who waits for them to end.
    running: watch::Sender<usize>,
    stopping: watch::Sender<bool>,
    ended: Ended,
}

/// How many turns have ended, by how.
#[derive(Debug, Default)]
pub struct Ended {
    /// They were answered.
    pub completed: Counter,
    /// They failed.
    pub failed: Counter,
    /// They were called off.
    pub cancelled: Counter,
}

impl Ended {
    fn count(&self, end: &End) {
        let counter = match end {
            End::Completed { .. } => &self.completed,
            End::Failed { .. } => &self.failed,
            End::Cancelled => &self.cancelled,
        };
        counter.add(1);
    }
}

impl Engine {
    /// An engine that lets so many turns run at one time.
    ///
    /// # Errors
    /// The threads cannot be made.
    pub fn new(
        store: Store,
        signals: Signals,
        responders: Responders,
        concurrency: usize,
    ) -> std::io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("turns")
            .enable_all()
            .build()?;
        Ok(Self {
            inner: Arc::new(Inner {
                store,
                signals,
                live: LiveTurns::default(),
                responders,
                queue: Mutex::new(Queue::new(concurrency)),
                runtime: Mutex::new(Some(runtime)),
                running: watch::Sender::new(0),
                stopping: watch::Sender::new(false),
                ended: Ended::default(),
            }),
        })
    }

    /// Turns that are being answered.
    pub fn live(&self) -> &LiveTurns {
        &self.inner.live
    }

    /// How many turns run.
    pub fn running(&self) -> usize {
        *self.inner.running.borrow()
    }

    /// How many turns have ended since the start.
    pub fn ended(&self) -> &Ended {
        &self.inner.ended
    }

    /// Takes up what a dead process left.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub async fn recover(&self) -> Result<()> {
        let left = self
            .inner
            .store
            .write(Extent::Configuration, turns::recover)
            .await?;
        for (tenant, session) in left {
            self.wake(tenant, session);
        }
        Ok(())
    }

    /// A session has a turn to run, or to end.
    pub fn wake(&self, tenant: TenantNo, session: SessionId) {
        self.inner.queue().add(Waiting { tenant, session });
        self.inner.dispatch();
    }

    /// Stops the answer that is running in a session; its status is on disk already.
    pub fn cancel(&self, tenant: TenantNo, session: SessionId) {
        if let Some(live) = self.inner.live.of(session) {
            live.cancel();
        }
        self.wake(tenant, session);
    }

    /// Takes up no more turns, lets the running ones end for so long, and leaves the rest to the next start.
    pub async fn stop(&self, limit: Duration) {
        self.inner.stopping.send_replace(true);
        let mut running = self.inner.running.subscribe();
        let ended = tokio::time::timeout(limit, running.wait_for(|running| *running == 0)).await;
        if ended.is_err() {
            log::warn!("some answers were cut off; they run again at the next start");
        }
        let runtime = self
            .inner
            .runtime
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(runtime) = runtime {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // A runtime must not be waited for on a thread of another one.
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
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts as many turns as may run.
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
                let next = queue.take();
                self.running.send_replace(queue.running());
                next
            };
            let Some(waiting) = next else { return };
            let inner = Arc::clone(self);
            runtime.spawn(async move {
                // A task of its own, so that a panic ends one turn's try and not the queue's place.
                let turn = Arc::clone(&inner);
                let outcome = tokio::spawn(async move { turn.run_one(waiting).await }).await;
                let has_more = match outcome {
                    Ok(Ok(has_more)) => has_more,
                    Ok(Err(error)) => {
                        log::error!("a turn could not be run and is tried again: {error}");
                        tokio::time::sleep(TRY_AGAIN).await;
                        true
                    }
                    Err(error) => {
                        log::error!("a turn's try ended badly and is made again: {error}");
                        tokio::time::sleep(TRY_AGAIN).await;
                        true
                    }
                };
                let running = {
                    let mut queue = inner.queue();
                    queue.done(waiting, has_more);
                    queue.running()
                };
                inner.running.send_replace(running);
                inner.dispatch();
            });
        }
    }

    /// Runs a session's oldest turn, if it has one; whether it may have more.
    async fn run_one(&self, waiting: Waiting) -> Result<bool> {
        let session = waiting.session;
        let Some((turn, live)) = self.take_up(session, || {}).await? else {
            return Ok(false);
        };
        let outcome = self.answer(waiting, &turn, &live).await;
        self.live.forget(session);
        self.signals.ring(session);
        outcome.map(|()| true)
    }

    /// A session's oldest turn, live from now on; `meanwhile` is where a test does what is hard to do in time.
    async fn take_up(
        &self,
        session: SessionId,
        meanwhile: impl FnOnce(),
    ) -> Result<Option<(Unsettled, Arc<LiveTurn>)>> {
        let oldest = || {
            self.store
                .read(move |reader| turns::oldest_unsettled(reader, session))
        };
        let Some(turn) = oldest().await? else {
            return Ok(None);
        };
        meanwhile();
        let live = self.live.begin(session, turn.id);
        // Looked at again: a cancel that was stored before the turn was live could not reach it.
        match oldest().await {
            Ok(Some(turn)) => Ok(Some((turn, live))),
            outcome => {
                self.live.forget(session);
                outcome.map(|_| None)
            }
        }
    }

    async fn answer(&self, waiting: Waiting, turn: &Unsettled, live: &LiveTurn) -> Result<()> {
        let session = waiting.session;
        let started_at = self.store.now();
        let tick = || self.store.tick();
        let mut answer = Answer::new(live);
        answer.send(
            tick(),
            &Envelope::Start {
                message_id: turn.answer,
                message_metadata: StartMetadata {
                    chat_turn_id: turn.id,
                },
            },
        );
        let end = if turn.is_cancelled {
            End::Cancelled
        } else {
            answer.send(tick(), &Envelope::StartStep);
            self.signals.ring(session);
            let id = turn.id;
            // Nobody waits for this: a crash before it is on disk finds the turn waiting, which is as good.
            drop(self.store.write(Extent::Statement, move |tx| {
                turns::begin(tx, id, started_at)
            }));
            self.respond(waiting, turn, live, &mut answer).await
        };
        answer.close(tick);
        if let End::Completed { .. } = end {
            answer.send(tick(), &Envelope::FinishStep);
        }
        self.signals.ring(session);
        let (kept, log) = answer.finish();
        let settlement = Arc::new(Settlement {
            id: turn.id,
            session,
            tenant: waiting.tenant,
            answer: turn.answer,
            content: kept.content,
            parts: kept.parts,
            first_word_at: kept.first_word_at,
            end,
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
                    self.ended.count(&end);
                    live.end(Frame::of(tick, &terminal(&end)));
                    return Ok(());
                }
                // The session was deleted: nobody may read on.
                Ok(None) => return Ok(()),
                Err(error) => {
                    log::warn!("an answer waits for the disk: {error}");
                    tokio::time::sleep(TRY_AGAIN).await;
                }
            }
        }
    }

    /// Has the turn answered, and streams what is said.
    async fn respond(
        &self,
        waiting: Waiting,
        turn: &Unsettled,
        live: &LiveTurn,
        answer: &mut Answer<'_>,
    ) -> End {
        let session = waiting.session;
        let turn_ref = TurnRef {
            session,
            turn: turn.id,
            tier: turn.model_tier,
        };
        let (sender, mut chunks) = mpsc::channel::<Chunk>(PIECES);
        let responding = self.responders.respond(&self.store, turn_ref, sender);
        tokio::pin!(responding);
        let tick = || self.store.tick();
        let mut ended = None;
        loop {
            tokio::select! {
                biased;
                () = live.is_cancelled() => return End::Cancelled,
                chunk = chunks.recv() => match chunk {
                    Some(chunk) => {
                        answer.say(&chunk, tick);
                        // What has been said meanwhile goes out with it.
                        while let Ok(chunk) = chunks.try_recv() {
                            answer.say(&chunk, tick);
                        }
                        self.signals.ring(session);
                    }
                    None => break,
                },
                outcome = &mut responding, if ended.is_none() => ended = Some(outcome),
            }
        }
        let outcome = match ended {
            Some(outcome) => outcome,
            None => responding.await,
        };
        match outcome {
            Ok(answered) if answer.has_text() => End::Completed {
                finish_reason: answered.finish_reason.as_str(),
                usage: answered.usage,
            },
            Ok(_) => failed(
                turn,
                Failure {
                    code: "model_empty_reply",
                    message:
                        "The assistant gave no answer. Please ask again, perhaps in other words."
                            .to_owned(),
                    log: "the answer had no text".to_owned(),
                },
            ),
            Err(failure) => failed(turn, failure),
        }
    }
}

fn failed(turn: &Unsettled, failure: Failure) -> End {
    log::warn!(turn:% = turn.id, code = failure.code; "{}", failure.log);
    End::Failed {
        code: failure.code.to_owned(),
        message: failure.message,
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
    use crate::model::caller::Actor;
    use crate::model::clock::Clock;
    use crate::model::names::{AgentId, ClientId};
    use crate::model::session::Metadata;
    use crate::model::words::{CallerKind, ModelTier, Rule, SessionChannel};
    use crate::store::messages::NewMessage;
    use crate::store::sessions::NewSession;
    use crate::store::{WriteTx, import, messages, sessions, tenants};

    /// An engine that takes nothing up by itself, and a session of its file with a turn that waits.
    struct Waits {
        engine: Engine,
        waiting: Waiting,
        _folder: tempfile::TempDir,
    }

    impl Waits {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let store = Store::open(folder.path(), Clock::System).unwrap();
            let operator = Actor {
                kind: CallerKind::Operator,
                id: "test".to_owned(),
                name: None,
            };
            let demo = seed::parse(include_str!("../../fixtures/demo.json"), "demo").unwrap();
            let waiting = store
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
                        company: None,
                        pinned_by: None,
                        rule: Rule::Selected,
                        created_by: operator,
                        platform_tenant: None,
                        metadata: Metadata::default(),
                        metadata_json: "{}".to_owned(),
                    };
                    let session = sessions::insert(tx, session)?.id;
                    let message = NewMessage {
                        session,
                        tenant: tenant.no,
                        content: "Hello".to_owned(),
                        attachments: Vec::new(),
                        title: None,
                        model_tier: ModelTier::Fast,
                        client_message_id: None,
                    };
                    messages::append(tx, &message)?;
                    Ok(Waiting {
                        tenant: tenant.no,
                        session,
                    })
                })
                .unwrap();
            let engine = Engine::new(store, Signals::default(), Responders::new(None), 1).unwrap();
            engine.inner.stopping.send_replace(true);
            Self {
                engine,
                waiting,
                _folder: folder,
            }
        }

        /// Changes the session as a call does, and then tells the engine, as a call does.
        fn is_called_off(&self, change: fn(&mut WriteTx<'_>, SessionId) -> Result<usize>) {
            let Waiting { tenant, session } = self.waiting;
            let store = &self.engine.inner.store;
            store.write_now(move |tx| change(tx, session)).unwrap();
            self.engine.cancel(tenant, session);
        }
    }

    #[test]
    fn a_turn_that_is_cancelled_just_before_it_is_live_begins_as_a_cancelled_one() {
        let waits = Waits::new();
        let inner = &waits.engine.inner;
        let (turn, live) = inner
            .take_up(waits.waiting.session, || waits.is_called_off(turns::cancel))
            .now_or_never()
            .unwrap()
            .unwrap()
            .unwrap();
        assert!(turn.is_cancelled);
        assert_eq!(live.id, turn.id);
    }

    #[test]
    fn a_turn_that_is_cancelled_just_after_it_is_live_is_told_so() {
        let waits = Waits::new();
        let inner = &waits.engine.inner;
        let (turn, live) = inner
            .take_up(waits.waiting.session, || {})
            .now_or_never()
            .unwrap()
            .unwrap()
            .unwrap();
        waits.is_called_off(turns::cancel);
        assert!(!turn.is_cancelled);
        assert_eq!(live.is_cancelled().now_or_never(), Some(()));
    }

    #[test]
    fn a_turn_whose_session_is_deleted_just_before_it_is_live_does_not_begin() {
        let waits = Waits::new();
        let inner = &waits.engine.inner;
        let taken = inner.take_up(waits.waiting.session, || {
            waits.is_called_off(|tx, session| sessions::delete(tx, session).map(|()| 1));
        });
        assert!(taken.now_or_never().unwrap().unwrap().is_none());
        assert!(inner.live.of(waits.waiting.session).is_none());
    }
}
