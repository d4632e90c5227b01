//! The PostgreSQL engine: several nodes on one database.
//!
//! The steps of the store run on the threads of small pools, one connection each, so that no
//! thread that serves requests waits for the network.

mod check;
mod claims;
mod control;
pub(in crate::store) mod copy;
mod creates;
mod errors;
mod link;
mod locks;
mod migrations;
mod pool;
mod refusals;
#[cfg(test)]
pub(super) mod scratch;
pub mod search_texts;
mod session;
mod status;
mod target;
mod tls;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Builder;
use tokio::sync::oneshot;

pub(in crate::store) use self::check::{damage, take_time, unchecked_references};
pub use self::claims::{Claim, Claimed};
use self::control::Control;
pub use self::control::{NodeAddress, Notice};
use self::creates::Creates;
use self::link::Link;
use self::pool::Pool;
pub use self::pool::PoolMetrics;
pub(super) use self::session::{Row, Session};
pub(crate) use self::status::{Standby, Status};
pub use self::target::Target;
use super::closed::{Closed, NotifyOnDrop};
use super::long_reads::Limits;
use super::sessions::NewSession;
use super::sql::{Effects, Extent, Random, Reader, Session as Engine, Value, WriteTx};
use super::writer_metrics::WriterMetrics;
use super::{LongRead, OpenError, Sizes};
use crate::error::{Code, Error, Result};
use crate::model::clock::Clock;
use crate::model::ids::{SessionId, Tick, Ticker};
use crate::model::session::Session as ChatSession;

/// Connections of one node, unless the operator sets another number.
pub const CONNECTIONS: usize = 10;
/// The fewest connections of one node.
pub const MIN_CONNECTIONS: usize = 9;
/// Connections with a purpose of their own: creates, the configuration, control, and what a thread
/// waits for, such as the right to clean up.
const OTHER_CONNECTIONS: usize = 4;
/// Two lists and two searches leave at least one connection to short reads and changes.
pub(super) const LONG_READS: Limits = Limits {
    all: 2,
    of_tenant: 1,
};

/// How often an import that waits for another one looks.
const IMPORT_WAIT: Duration = Duration::from_millis(200);

/// The greatest tick of a session, whichever node it is of.
const LAST_TICK_OF_SESSION: &str = "SELECT last_tick FROM sessions WHERE seq = ?1";
const SET_LAST_TICK: &str = "UPDATE sessions SET last_tick = ?2 WHERE seq = ?1 AND last_tick < ?2";
const LAST_TICK: &str = "
SELECT greatest(
  (SELECT max(seq) FROM sessions), (SELECT max(seq) FROM messages), (SELECT max(seq) FROM turns),
  (SELECT last_tick FROM turn_logs ORDER BY turn_seq DESC LIMIT 1), (SELECT max(seq) FROM attachments),
  (SELECT max(seq) FROM channels), (SELECT max(seq) FROM installs), (SELECT max(seq) FROM api_keys),
  (SELECT max(seq) FROM knowledge_articles), (SELECT max(seq) FROM audit_events), (SELECT max(seq) FROM tenants),
  (SELECT max(seq) FROM agents), (SELECT max(seq) FROM end_companies), (SELECT max(seq) FROM users),
  (SELECT max(seq) FROM unlinked_tenants), (SELECT max(session_seq) FROM removed_sessions), 0) AS last";

/// One database: its pools of connections, and this program's place among its nodes.
pub(crate) struct Postgres {
    target: Arc<Target>,
    connections: usize,
    shared: Pool,
    configuration: Pool,
    creates: Creates,
    control: Control,
    metrics: Arc<WriterMetrics>,
    pool_metrics: Arc<PoolMetrics>,
    state: Arc<State>,
    /// Connections of threads that wait for a read.
    idle: Mutex<Vec<Link>>,
    closed: Closed,
    /// The last field: it is dropped after the threads and their connections have ended.
    _notify_closed: NotifyOnDrop,
}

/// A lock of the database, held by a connection of its own.
pub(super) struct HeldLock(Option<Link>);

impl Drop for HeldLock {
    fn drop(&mut self) {
        // On a thread of its own: a runtime must not be dropped within another one.
        let link = self.0.take();
        std::thread::spawn(move || drop(link));
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // On a thread of its own, for the same reason.
        let idle = std::mem::take(self.idle.get_mut().unwrap_or_else(PoisonError::into_inner));
        std::thread::spawn(move || drop(idle));
    }
}

/// What the changes of all threads share.
struct State {
    clock: Clock,
    ticker: Ticker,
    is_writable: AtomicBool,
}

impl Postgres {
    /// Opens a database, and migrates its schema.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub(super) fn open(
        target: &Target,
        clock: &Clock,
        connections: usize,
        is_server: bool,
    ) -> Result<(Self, Ticker), OpenError> {
        let target = Arc::new(target.clone());
        let ticker = Ticker::after(migrate(&target, is_server)?);
        let pool_metrics = Arc::<PoolMetrics>::default();
        let control = Control::start(&target, clock, &ticker, &pool_metrics, is_server)?;
        let metrics = Arc::new(WriterMetrics::new());
        let threads = |error: std::io::Error| OpenError(format!("cannot start a thread: {error}"));
        let pool = |name, size| Pool::start(name, size, &target, &pool_metrics).map_err(threads);
        let connections = connections.max(MIN_CONNECTIONS);
        let shared = connections - OTHER_CONNECTIONS;
        let creates = Creates::start(
            &target,
            clock.clone(),
            ticker.clone(),
            &metrics,
            &pool_metrics,
        );
        let closed = Closed::default();
        let engine = Self {
            connections,
            shared: pool("database", shared)?,
            configuration: pool("configuration", 1)?,
            creates: creates.map_err(threads)?,
            control,
            metrics,
            pool_metrics,
            state: Arc::new(State {
                clock: clock.clone(),
                ticker: ticker.clone(),
                is_writable: AtomicBool::new(true),
            }),
            idle: Mutex::default(),
            _notify_closed: closed.notify_on_drop(),
            closed,
            target,
        };
        Ok((engine, ticker))
    }

    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    pub(super) fn closed(&self) -> Closed {
        self.closed.clone()
    }

    /// The version of the configuration, as it is after this call has begun.
    pub(super) async fn version(&self) -> Result<i64> {
        self.control.version().await
    }

    /// The number of live nodes.
    pub(crate) fn live_nodes(&self) -> usize {
        self.control.live_nodes()
    }

    /// The lease under which this node runs turns.
    pub(crate) fn lease(&self) -> i64 {
        self.control.lease()
    }

    /// Waits until no other node can have taken this one for dead. If one has, [`Postgres::lease`]
    /// is another one by then.
    pub(crate) async fn is_sure_of_lease(&self) {
        self.control.is_sure_of_lease().await;
    }

    /// Joins the other nodes under an address.
    pub(crate) async fn join(&self, address: NodeAddress) {
        self.control.join(address).await;
    }

    /// Calls the listener with what other nodes tell.
    pub(crate) fn listen(&self, listener: impl Fn(Notice) + Send + Sync + 'static) {
        self.control.listen(Box::new(listener));
    }

    /// Tells other nodes that something has happened in a session.
    pub(crate) fn tell_of_session(&self, session: SessionId) {
        self.control.tell_of_session(session);
    }

    /// Tells other nodes that a turn waits.
    pub(crate) fn tell_of_turns(&self) {
        self.control.tell_of_turns();
    }

    /// Takes the lock of large imports, which may last minutes. Waits for another import, or returns
    /// `None`.
    ///
    /// # Errors
    /// `overloaded` if the server cannot be reached.
    pub(super) fn lock_for_import(&self, waits: bool) -> Result<Option<HeldLock>> {
        loop {
            let lock = self.try_lock(locks::IMPORT)?;
            if lock.is_some() || !waits {
                return Ok(lock);
            }
            std::thread::sleep(IMPORT_WAIT);
        }
    }

    /// Takes the right to clean up, unless another node has it.
    ///
    /// # Errors
    /// `overloaded` if the server cannot be reached.
    pub(super) fn clean_up_lock(&self) -> Result<Option<HeldLock>> {
        self.try_lock(locks::CLEAN_UP)
    }

    /// Takes a lock on a connection of its own, which holds it until it is dropped.
    fn try_lock(&self, lock: &str) -> Result<Option<HeldLock>> {
        let link = self.idle_link()?;
        link.begin_nothing();
        let rows = link.query(lock, &[])?;
        let is_mine = rows.first().is_some_and(|row| row.get(0));
        Ok(is_mine.then_some(HeldLock(Some(link))))
    }

    /// Leaves the other nodes: they take over what this one has not ended.
    pub(crate) async fn leave(&self) {
        self.control.leave().await;
    }

    /// Queues a read on one snapshot.
    pub(super) fn read<T: Send + 'static>(
        &self,
        step: impl FnOnce(&Reader<'_>) -> Result<T> + Send + 'static,
    ) -> Result<oneshot::Receiver<Result<T>>> {
        read_on(&self.shared, step, None)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Link>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A link for a thread that waits: one that is idle, or a new one.
    fn idle_link(&self) -> Result<Link> {
        let known = self.idle().pop();
        match known {
            Some(link) => Ok(link),
            None => Link::new(
                Arc::clone(&self.target),
                Arc::clone(&self.pool_metrics.connects),
            )
            .map_err(|error| Error::Internal(error.into())),
        }
    }

    /// Runs a read while the calling thread waits. The step can borrow from the caller.
    pub(super) fn read_now<T: Send>(
        &self,
        step: impl FnOnce(&Reader<'_>) -> Result<T> + Send,
    ) -> Result<T> {
        let link = self.idle_link()?;
        // On a thread of its own: the caller can be a thread of a runtime, which must not block.
        let read = move || {
            let outcome = read_with(&link, step, None);
            link.roll_back();
            (outcome, link)
        };
        let joined = std::thread::scope(|scope| scope.spawn(read).join());
        let (outcome, link) = joined.map_err(|_| Error::internal("a read panicked"))?;
        self.idle().push(link);
        outcome
    }

    /// Queues a read that can be long.
    pub(super) fn read_long<T: Send + 'static>(
        &self,
        kind: LongRead,
        step: impl FnOnce(&Reader<'_>) -> Result<T> + Send + 'static,
    ) -> Result<oneshot::Receiver<Result<T>>> {
        read_on(&self.shared, step, Some(kind.time_limit()))
    }

    /// Claims turns that wait.
    ///
    /// # Errors
    /// `overloaded` if the server does not answer.
    pub(crate) async fn claim(&self, claim: Claim) -> Result<Vec<Claimed>> {
        let (reply, receiver) = oneshot::channel();
        let ticker = self.state.ticker.clone();
        self.shared.submit(move |link, _| {
            link.begin_nothing();
            let claimed = claims::claim(link, claim);
            for one in claimed.iter().flatten() {
                ticker.pass(one.last_tick.max(one.session.tick()));
            }
            drop(reply.send(claimed));
        })?;
        super::reply_of(receiver).await
    }

    /// Queues a change.
    pub(super) fn submit<T: Send + 'static>(
        &self,
        extent: Extent,
        change: impl FnOnce(&mut WriteTx<'_>) -> Result<T> + Send + 'static,
    ) -> Result<oneshot::Receiver<Result<T>>> {
        let pool = match extent {
            Extent::Configuration | Extent::Alone => &self.configuration,
            Extent::Statement | Extent::NewSession | Extent::Key(_) | Extent::Session(_) => {
                &self.shared
            }
        };
        let (reply, receiver) = oneshot::channel();
        let (state, metrics) = (Arc::clone(&self.state), Arc::clone(&self.metrics));
        self.metrics.submit();
        let queued = pool.submit(move |link, is_late| {
            metrics.dequeue();
            if is_late {
                drop(reply.send(Err(Code::Overloaded.into())));
                return;
            }
            let started = Instant::now();
            let mut effects = Effects::default();
            let outcome = run_change(link, extent, &state, &mut effects, change);
            let has_committed = match &outcome {
                Ok(_) => true,
                Err(error) => !error.is(Code::StorageFull) && !error.is(Code::Overloaded),
            };
            metrics.record_commit(1, started.elapsed(), has_committed);
            state.is_writable.store(has_committed, Ordering::Relaxed);
            if outcome.is_ok() {
                for callback in effects.on_commit.drain(..) {
                    callback();
                }
            }
            drop(reply.send(outcome));
        });
        if queued.is_err() {
            self.metrics.dequeue();
        }
        queued.map(|()| receiver)
    }

    /// Queues a session that was decided at a version of the configuration. The result is `None` if
    /// that version is no longer the current one.
    pub(super) fn create(
        &self,
        new: NewSession,
        version: i64,
    ) -> Result<oneshot::Receiver<Result<Option<ChatSession>>>> {
        self.creates.submit(new, version)
    }

    pub(super) fn writer_metrics(&self) -> &WriterMetrics {
        &self.metrics
    }

    pub(crate) fn pool_metrics(&self) -> &PoolMetrics {
        &self.pool_metrics
    }

    /// The most connections of this node.
    pub(crate) fn connections(&self) -> usize {
        self.connections
    }

    /// Reads and changes that wait for a connection.
    pub(crate) fn waiting(&self) -> usize {
        self.shared.waiting() + self.configuration.waiting()
    }

    /// The size of the database at the last heartbeat.
    pub(super) fn sizes(&self) -> Sizes {
        Sizes {
            database: self.control.bytes(),
            log: None,
        }
    }

    pub(super) fn is_writable(&self) -> bool {
        self.state.is_writable.load(Ordering::Relaxed)
    }
}

/// Checks the server and migrates the schema. Returns the greatest tick.
fn migrate(target: &Target, is_server: bool) -> Result<Tick, OpenError> {
    let failed = |reason: String| OpenError(format!("cannot use {target}: {reason}"));
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| failed(error.to_string()))?;
    runtime.block_on(async {
        let shown = |error: tokio_postgres::Error| failed(target.explain(&error));
        let connected = target.connect().await;
        let (mut client, connection) = connected.map_err(|error| failed(error.to_string()))?;
        tokio::spawn(connection);
        target.check(&client, is_server).await?;
        migrations::run(&mut client, target).await?;
        let row = client.query_one(LAST_TICK, &[]).await.map_err(shown)?;
        Ok(Tick(row.try_get(0).map_err(shown)?))
    })
}

fn read_on<T: Send + 'static>(
    pool: &Pool,
    step: impl FnOnce(&Reader<'_>) -> Result<T> + Send + 'static,
    limit: Option<Duration>,
) -> Result<oneshot::Receiver<Result<T>>> {
    let (reply, receiver) = oneshot::channel();
    pool.submit(move |link, is_late| {
        if is_late {
            drop(reply.send(Err(Code::Overloaded.into())));
            return;
        }
        let outcome = read_with(link, step, limit);
        // The caller does not wait for the end of the snapshot.
        drop(reply.send(outcome));
        link.roll_back();
    })?;
    Ok(receiver)
}

/// Runs a read. The caller ends the snapshot.
fn read_with<T>(
    link: &Link,
    step: impl FnOnce(&Reader<'_>) -> Result<T>,
    limit: Option<Duration>,
) -> Result<T> {
    link.begin_read(limit);
    let reader = Reader::on(Engine::Postgres(Session::of(link)));
    catch_unwind(AssertUnwindSafe(|| step(&reader)))
        .unwrap_or_else(|_| Err(Error::internal("a read panicked")))
}

/// Begins the transaction of a change, with the locks of its extent.
fn begin_change(link: &Link, extent: Extent, ticker: &Ticker) -> Result<()> {
    match extent {
        Extent::Statement => link.begin_nothing(),
        Extent::NewSession => link.begin("BEGIN"),
        Extent::Key(key) => {
            link.begin("BEGIN");
            link.query(locks::KEY, &[Value::Integer(key)])?;
        }
        Extent::Configuration | Extent::Alone => link.begin(locks::BEGIN_CONFIGURATION),
        Extent::Session(seq) => {
            link.begin("BEGIN");
            Session::of(link).lock_session(seq)?;
            let key = [Value::Integer(seq.0)];
            // Only under the lock: another node may have used later ticks until now.
            let rows = link.query(LAST_TICK_OF_SESSION, &key)?;
            let last: Option<i64> = rows.first().map(|row| row.get(0));
            ticker.pass(Tick(last.unwrap_or_default()).max(seq));
        }
    }
    Ok(())
}

/// Runs one change in a transaction of its own.
fn run_change<T>(
    link: &Link,
    extent: Extent,
    state: &State,
    effects: &mut Effects,
    change: impl FnOnce(&mut WriteTx<'_>) -> Result<T>,
) -> Result<T> {
    let mut random = Random::default();
    let now = state.clock.now();
    if let Err(error) = begin_change(link, extent, &state.ticker) {
        link.roll_back();
        return Err(error);
    }
    let before = state.ticker.last();
    let mut tx = WriteTx::on(
        Engine::Postgres(Session::of(link)),
        extent,
        &state.ticker,
        &mut random,
        now,
        effects,
    );
    let outcome = catch_unwind(AssertUnwindSafe(|| change(&mut tx)))
        .unwrap_or_else(|_| Err(Error::internal("a change panicked")));
    let is_rolled_back = tx.is_rolled_back();
    let outcome = outcome.and_then(|result| {
        if link.has_failed() {
            return Err(Error::internal("a change went on after a failed statement"));
        }
        Ok(result)
    });
    if outcome.is_err() || is_rolled_back {
        effects.on_commit.clear();
        link.roll_back();
        return outcome;
    }
    if let Extent::Session(seq) = extent {
        let last = state.ticker.last();
        let values = [Value::Integer(seq.0), Value::Integer(last.0)];
        if last > before
            && let Err(error) = link.execute(SET_LAST_TICK, &values)
        {
            link.roll_back();
            return Err(error);
        }
    }
    link.end("COMMIT")?;
    outcome
}
