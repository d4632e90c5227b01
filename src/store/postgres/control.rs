//! The connection that a node keeps for itself: it holds the node's number, looks at the version
//! of the configuration for all requests at once, and tells other nodes what has happened.

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use futures_util::future::poll_fn;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_postgres::types::{ToSql, Type as PgType};
use tokio_postgres::{AsyncMessage, Client};

use super::errors::describe;
use super::locks;
use super::pool::PoolMetrics;
use super::target::Target;
use crate::error::{Code, Result};
use crate::model::clock::Clock;
use crate::model::ids::{SessionId, Tick, Ticker};
use crate::store::OpenError;
use crate::store::long_reads::READER_WAIT;
use crate::text::counted;

/// Numbers of nodes. A number is the low bits of every tick of its node.
pub(super) const NODES: i64 = 16;
/// How long a node may be silent before the others take its turns over. It says that it lives three
/// times in this time.
const SILENCE: Duration = Duration::from_secs(30);
/// Another silence in milliseconds, for tests.
const SILENCE_OF_TESTS: &str = "SWITCHBOARD_TEST_NODE_SILENCE_MS";
/// How long the server may take for a heartbeat before the node connects again.
const BEAT_LIMIT: Duration = Duration::from_secs(10);
/// Requests that may wait for a look while there is no connection, before those that gave up are
/// forgotten.
const WAITING: usize = 1_024;
/// How often a node looks for nodes whose connection has ended.
const LOOK_FOR_DEAD: Duration = Duration::from_millis(250);
/// How long a node waits, after it has connected again, before it takes another one for dead by its
/// connection: after a restart of the server, all nodes connect again.
const PATIENCE: Duration = Duration::from_secs(3);
/// The pause after a failed attempt to connect.
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);
/// How long notifications are collected before they are sent.
const COLLECT: Duration = Duration::from_millis(1);
/// The channel of notifications, and sessions in one of them: a payload has fewer than 8,000 bytes.
const CHANNEL: &str = "switchboard";
const SESSIONS: usize = 200;

const VERSION: &str = "SELECT version FROM configuration_version WHERE one = 1";
const NOW: &str = "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint)";
const NOTIFY: &str = "SELECT pg_notify('switchboard', $1)";
/// The time of the server, in milliseconds: the clocks of the nodes may differ.
const JOIN: &str = "
INSERT INTO nodes (node_no, lease_no, address, public_url, version, started_at, seen_at)
SELECT $1, $2, $3, $4, $5, t.now, t.now FROM (SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint) AS now) t
ON CONFLICT (node_no) DO UPDATE SET lease_no = excluded.lease_no, address = excluded.address, public_url = excluded.public_url, version = excluded.version,
  started_at = excluded.started_at, seen_at = excluded.seen_at";
/// The number is another one if the server still held the former one when the node connected again.
const BEAT: &str = "
UPDATE nodes SET seen_at = CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint), node_no = $2
WHERE lease_no = $1 AND NOT EXISTS (SELECT 1 FROM nodes o WHERE o.node_no = $2 AND o.lease_no <> $1)";
const LIVE: &str = "SELECT count(*) FROM nodes";
/// Nodes whose connection has ended (a lock that this node can take), or that are silent.
const DEAD: &str = "
SELECT lease_no FROM nodes
WHERE node_no <> $1
  AND (seen_at < CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint) - $2
       OR ($3 AND pg_try_advisory_xact_lock_shared(21336, CAST(node_no AS integer))))";
/// Ends leases, and queues the turns again that their nodes ran. Turns that were queued, or
/// cancelled, and belonged to them belong to nobody. A turn that a node locked before it stood still
/// follows with the orphaned ones, when the server has ended the node's transaction.
const TAKE_OVER: &str = "
WITH ended AS (DELETE FROM nodes WHERE lease_no = ANY($1) RETURNING lease_no),
     requeued AS (UPDATE turns SET status = CASE WHEN status = 'RUNNING' THEN 'QUEUED' ELSE status END,
                                   started_at = CASE WHEN status = 'RUNNING' THEN NULL ELSE started_at END, owner_lease = NULL
                  WHERE seq IN (SELECT seq FROM turns WHERE terminal_tick IS NULL AND owner_lease = ANY($1)
                                FOR UPDATE SKIP LOCKED) RETURNING seq)
SELECT (SELECT count(*) FROM ended) AS nodes, (SELECT count(*) FROM requeued) AS turns";
/// Turns whose owner lost its lease while it claimed them.
const ORPHANED: &str = "
SELECT DISTINCT owner_lease FROM turns t
WHERE terminal_tick IS NULL AND owner_lease IS NOT NULL AND NOT EXISTS (SELECT 1 FROM nodes n WHERE n.lease_no = t.owner_lease)";
const SIZE: &str = "SELECT pg_database_size(current_database())";

/// What another node has done, or what this one has lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Something has happened in these sessions.
    Sessions(Vec<Tick>),
    /// There may be turns that no node runs.
    Turns,
    /// This node was not told for a while: anything may have happened.
    Missed,
    /// The other nodes took this one for dead: it no longer owns the turns that it runs.
    LeaseLost,
}

type Listener = Box<dyn Fn(Notice) + Send + Sync>;

/// Where a node is reached.
#[derive(Clone, Debug, Default)]
pub struct NodeAddress {
    /// The host and port for other nodes; empty if they cannot reach it.
    pub host: String,
    /// The URL for browsers, if that is another place.
    pub public_url: Option<String>,
}

/// The control connection of one node. Dropping it ends the node.
pub(super) struct Control {
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

struct Shared {
    target: Arc<Target>,
    clock: Clock,
    /// The open connection.
    client: Mutex<Option<Arc<Client>>>,
    ticker: Ticker,
    metrics: Arc<PoolMetrics>,
    /// Requests that wait for the next look at the version.
    waiting: Mutex<Vec<oneshot::Sender<i64>>>,
    look: Notify,
    /// What the next notification tells.
    outgoing: Mutex<Outgoing>,
    notify: Notify,
    listener: OnceLock<Listener>,
    number: AtomicI64,
    lease: AtomicI64,
    /// Where the node is reached, once it has joined the others.
    address: OnceLock<NodeAddress>,
    join: Notify,
    has_joined: watch::Sender<bool>,
    is_leaving: AtomicBool,
    silence: Duration,
    /// Until when no other node takes this one for dead. None without a connection: the others may
    /// have noticed its end.
    sure_until: watch::Sender<Option<Instant>>,
    live: AtomicUsize,
    bytes: AtomicU64,
}

impl Control {
    /// Connects, and takes a free number: the lowest for a server, the highest for a command.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub(super) fn start(
        target: &Arc<Target>,
        clock: &Clock,
        ticker: &Ticker,
        metrics: &Arc<PoolMetrics>,
        is_server: bool,
    ) -> Result<Self, OpenError> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("control")
            .enable_all()
            .build()
            .map_err(|error: io::Error| OpenError(format!("cannot start a thread: {error}")))?;
        let shared = Arc::new(Shared {
            target: Arc::clone(target),
            clock: clock.clone(),
            ticker: ticker.clone(),
            client: Mutex::default(),
            metrics: Arc::clone(metrics),
            waiting: Mutex::default(),
            look: Notify::new(),
            outgoing: Mutex::default(),
            notify: Notify::new(),
            listener: OnceLock::new(),
            number: AtomicI64::new(-1),
            lease: AtomicI64::new(0),
            address: OnceLock::new(),
            join: Notify::new(),
            has_joined: watch::Sender::new(false),
            is_leaving: AtomicBool::new(false),
            silence: silence(),
            sure_until: watch::Sender::new(None),
            live: AtomicUsize::new(1),
            bytes: AtomicU64::new(0),
        });
        let first = runtime
            .block_on(shared.connect(is_server))
            .map_err(|error| OpenError(format!("cannot use {target}: {error}")))?;
        let run = Arc::clone(&shared);
        runtime.spawn(async move { run.run(first, is_server).await });
        Ok(Self {
            shared,
            runtime: Some(runtime),
        })
    }

    /// The version of the configuration, as it is after this call has begun. One look serves all
    /// calls that wait for it.
    ///
    /// # Errors
    /// `overloaded` if the server does not answer within 5 s.
    pub(super) async fn version(&self) -> Result<i64> {
        let (sender, receiver) = oneshot::channel();
        {
            let mut waiting = self.shared.waiting();
            if waiting.len() >= WAITING {
                waiting.retain(|sender| !sender.is_closed());
            }
            waiting.push(sender);
        }
        self.shared.look.notify_one();
        match timeout(READER_WAIT, receiver).await {
            Ok(Ok(version)) => Ok(version),
            Ok(Err(_)) | Err(_) => Err(Code::Overloaded.into()),
        }
    }

    /// Tells other nodes that something has happened in a session.
    pub(super) fn tell_of_session(&self, session: SessionId) {
        if self.has_others() {
            self.shared.outgoing().sessions.insert(session.tick().0);
            self.shared.notify.notify_one();
        }
    }

    /// Tells other nodes that a turn waits.
    pub(super) fn tell_of_turns(&self) {
        if self.has_others() {
            self.shared.outgoing().has_turns = true;
            self.shared.notify.notify_one();
        }
    }

    fn has_others(&self) -> bool {
        self.shared.live.load(Ordering::Relaxed) > 1
    }

    /// Calls the listener with what other nodes tell, from now on.
    pub(super) fn listen(&self, listener: Listener) {
        drop(self.shared.listener.set(listener));
    }

    /// Joins the nodes under an address. Waits until this node has a lease.
    pub(super) async fn join(&self, address: NodeAddress) {
        drop(self.shared.address.set(address));
        self.shared.join.notify_one();
        let mut has_joined = self.shared.has_joined.subscribe();
        // The sender lives as long as this value.
        let _ = has_joined.wait_for(|has_joined| *has_joined).await;
    }

    /// Ends the lease of this node, so that the others take over at once.
    pub(super) async fn leave(&self) {
        let client = self.shared.client().clone();
        let lease = self.shared.lease.load(Ordering::Acquire);
        let Some(client) = client.filter(|_| lease != 0) else {
            return;
        };
        self.shared.is_leaving.store(true, Ordering::Release);
        let leases = vec![lease];
        let left = timeout(READER_WAIT, client.query_one(TAKE_OVER, &[&leases])).await;
        if !matches!(left, Ok(Ok(_))) {
            log::warn!("this node could not end its lease; the others take over when they miss it");
            return;
        }
        let number = self.shared.number.load(Ordering::Acquire);
        let payload = format!("{number} nodes");
        drop(timeout(READER_WAIT, client.query_one(NOTIFY, &[&payload])).await);
    }

    /// The number of nodes that were alive at the last heartbeat, with this one.
    pub(super) fn live_nodes(&self) -> usize {
        self.shared.live.load(Ordering::Relaxed)
    }

    /// The lease under which this node runs turns.
    pub(super) fn lease(&self) -> i64 {
        self.shared.lease.load(Ordering::Acquire)
    }

    /// Waits until no other node can have taken this one for dead. If one has, the lease is another
    /// one by then.
    pub(super) async fn is_sure_of_lease(&self) {
        let is_sure = |until: &Option<Instant>| until.is_some_and(|until| Instant::now() < until);
        if !is_sure(&self.shared.sure_until.borrow()) {
            // The sender lives as long as this value.
            let _ = self.shared.sure_until.subscribe().wait_for(is_sure).await;
        }
    }

    /// The bytes of the database at the last heartbeat.
    pub(super) fn bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::Relaxed)
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let Some(runtime) = self.runtime.take() else {
            return;
        };
        // A runtime must not be dropped within another one.
        runtime.shutdown_background();
    }
}

/// What this node tells the others next.
#[derive(Default)]
struct Outgoing {
    sessions: BTreeSet<i64>,
    has_turns: bool,
    /// Nodes have joined or left. The others look for turns too.
    has_nodes: bool,
}

/// An open connection, and what the server sends without being asked.
struct Connected {
    client: Arc<Client>,
    notices: mpsc::UnboundedReceiver<String>,
    /// When this node may take another one for dead by its connection.
    patient_at: Instant,
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Vec<oneshot::Sender<i64>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn client(&self) -> MutexGuard<'_, Option<Arc<Client>>> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn outgoing(&self) -> MutexGuard<'_, Outgoing> {
        self.outgoing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, notice: Notice) {
        if let Some(listener) = self.listener.get() {
            listener(notice);
        }
    }

    /// Opens the connection and takes a number.
    async fn connect(&self, is_server: bool) -> Result<Connected, String> {
        let shown = |error: tokio_postgres::Error| describe(&error);
        let connected = self.target.connect_raw().await;
        let (client, mut connection) = connected.map_err(|error| error.to_string())?;
        let (sender, notices) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
                match message {
                    Ok(AsyncMessage::Notification(told)) => {
                        drop(sender.send(told.payload().to_owned()));
                    }
                    Ok(_) => {}
                    Err(error) => {
                        log::warn!("the connection to the database ended: {}", describe(&error));
                        return;
                    }
                }
            }
        });
        Target::prepare(&client).await.map_err(shown)?;
        self.metrics.connects.add(1);
        let client = Arc::new(client);
        self.read_clock(&client).await.map_err(shown)?;
        let is_first = self.number.load(Ordering::Acquire) < 0;
        self.take_number(&client, is_server).await?;
        if is_first {
            // A command sees no server that a crash has ended.
            self.end_dead(&client, true).await.map_err(shown)?;
        }
        client
            .batch_execute(&format!("LISTEN {CHANNEL}"))
            .await
            .map_err(shown)?;
        *self.client() = Some(Arc::clone(&client));
        Ok(Connected {
            client,
            notices,
            // A program that starts has not lost its connection to a server that restarts.
            patient_at: Instant::now() + if is_first { Duration::ZERO } else { PATIENCE },
        })
    }

    /// Goes by the clock of the server, so that the times and ids of all nodes have one order.
    async fn read_clock(&self, client: &Client) -> Result<(), tokio_postgres::Error> {
        let Clock::Shifted(difference) = &self.clock else {
            return Ok(());
        };
        let before = Clock::System.now();
        let server: i64 = client.query_one(NOW, &[]).await?.get(0);
        let middle = before + (Clock::System.now() - before) / 2;
        difference.store(server - middle, Ordering::Relaxed);
        Ok(())
    }

    /// Takes the number that this node had, if it is free: after a restart of the server, all nodes
    /// keep theirs.
    async fn take_number(&self, client: &Client, is_server: bool) -> Result<(), String> {
        let former = self.number.load(Ordering::Acquire);
        let all = (0..NODES).map(|index| if is_server { index } else { NODES - 1 - index });
        for number in (former >= 0).then_some(former).into_iter().chain(all) {
            let parameter = i32::try_from(number).unwrap_or_default();
            let row = client
                .query_one(locks::NODE, &[&parameter])
                .await
                .map_err(|error| describe(&error))?;
            if row.get::<_, bool>(0) {
                self.number.store(number, Ordering::Release);
                self.ticker.set_node(number, NODES);
                return Ok(());
            }
        }
        Err(format!(
            "{NODES} servers and commands use this database already; end one of them"
        ))
    }

    /// Keeps the connection, and opens another one when it ends.
    async fn run(self: Arc<Self>, first: Connected, is_server: bool) {
        let mut next = Some(first);
        loop {
            let connected = match next.take() {
                Some(connected) => connected,
                None => match self.connect(is_server).await {
                    Ok(connected) => connected,
                    Err(error) => {
                        log::debug!("{}: {error}", self.target);
                        sleep(RECONNECT_PAUSE).await;
                        continue;
                    }
                },
            };
            let client = &connected.client;
            let ended = tokio::select! {
                ended = self.look_on(client) => ended,
                ended = self.notify_on(client) => ended,
                ended = self.live_on(client, connected.patient_at) => ended,
                ended = self.listen_on(client, connected.notices) => ended,
            };
            self.sure_until.send_replace(None);
            if let Err(error) = ended {
                log::warn!("{}: {}", self.target, describe(&error));
            }
        }
    }

    /// Looks at the version for all that wait, one look at a time.
    async fn look_on(&self, client: &Client) -> Result<(), tokio_postgres::Error> {
        let statement = client.prepare(VERSION).await?;
        loop {
            let waiting = std::mem::take(&mut *self.waiting());
            if waiting.is_empty() {
                self.look.notified().await;
                continue;
            }
            match client.query_one(&statement, &[]).await {
                Ok(row) => {
                    let version = row.get(0);
                    for waiting in waiting {
                        let _ = waiting.send(version);
                    }
                }
                Err(error) => {
                    // The next connection answers those who still wait.
                    self.waiting().extend(waiting);
                    return Err(error);
                }
            }
        }
    }

    /// Sends notifications, never within a change: a change that notifies takes a lock of the
    /// whole server when it commits.
    async fn notify_on(&self, client: &Client) -> Result<(), tokio_postgres::Error> {
        let statement = client.prepare(NOTIFY).await?;
        loop {
            self.notify.notified().await;
            sleep(COLLECT).await;
            let Outgoing {
                sessions,
                has_turns,
                has_nodes,
            } = std::mem::take(&mut *self.outgoing());
            let number = self.number.load(Ordering::Acquire);
            let sessions: Vec<i64> = sessions.into_iter().collect();
            let mut payloads: Vec<String> = sessions
                .chunks(SESSIONS)
                .map(|ticks| {
                    let ticks: Vec<String> = ticks.iter().map(|tick| format!("{tick:x}")).collect();
                    format!("{number} sessions {}", ticks.join(","))
                })
                .collect();
            if has_nodes {
                payloads.push(format!("{number} nodes"));
            } else if has_turns {
                payloads.push(format!("{number} turns"));
            }
            for payload in payloads {
                client.query_one(&statement, &[&payload]).await?;
                self.metrics.notifications_sent.add(1);
            }
        }
    }

    /// Hears what other nodes tell, until the connection ends.
    async fn listen_on(
        &self,
        client: &Client,
        mut notices: mpsc::UnboundedReceiver<String>,
    ) -> Result<(), tokio_postgres::Error> {
        // What was told while there was no connection is lost.
        self.tell(Notice::Missed);
        while let Some(payload) = notices.recv().await {
            let mut parts = payload.splitn(3, ' ');
            let from = parts.next().and_then(|number| number.parse().ok());
            if from == Some(self.number.load(Ordering::Acquire)) {
                continue;
            }
            self.metrics.notifications_received.add(1);
            match (parts.next(), parts.next()) {
                (Some("sessions"), Some(ticks)) => {
                    let ticks = ticks
                        .split(',')
                        .filter_map(|tick| i64::from_str_radix(tick, 16).ok());
                    self.tell(Notice::Sessions(ticks.map(Tick).collect()));
                }
                (Some("turns"), None) => self.tell(Notice::Turns),
                (Some("nodes"), None) => {
                    self.count_nodes(client).await?;
                    self.tell(Notice::Turns);
                }
                _ => log::debug!("an unknown notification: {payload}"),
            }
        }
        Ok(())
    }

    /// Joins the other nodes, says that this one lives, and ends the leases of dead ones.
    async fn live_on(
        &self,
        client: &Client,
        patient_at: Instant,
    ) -> Result<(), tokio_postgres::Error> {
        while self.address.get().is_none() {
            self.join.notified().await;
        }
        let mut beat = interval(self.silence / 3);
        let mut look = interval(LOOK_FOR_DEAD);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                _ = beat.tick() => match timeout(BEAT_LIMIT, self.beat(client)).await {
                    Ok(outcome) => outcome?,
                    Err(_) => {
                        log::warn!("{}: the server does not answer; connecting again", self.target);
                        return Ok(());
                    }
                },
                _ = look.tick() => {
                    let is_patient = Instant::now() > patient_at;
                    let looked = timeout(BEAT_LIMIT, self.end_dead(client, is_patient));
                    let Ok(ended) = looked.await else {
                        log::warn!("{}: the server does not answer; connecting again", self.target);
                        return Ok(());
                    };
                    ended?;
                }
            }
        }
    }

    /// Ends the leases of dead nodes. `is_patient` says whether a node whose connection has ended
    /// counts as dead.
    async fn end_dead(
        &self,
        client: &Client,
        is_patient: bool,
    ) -> Result<(), tokio_postgres::Error> {
        let number = self.number.load(Ordering::Acquire);
        let silence = i64::try_from(self.silence.as_millis()).unwrap_or(i64::MAX);
        let types = [PgType::INT8, PgType::INT8, PgType::BOOL];
        let values: [&(dyn ToSql + Sync); 3] = [&number, &silence, &is_patient];
        let parameters: Vec<_> = values.into_iter().zip(types).collect();
        let found = client.query_typed(DEAD, &parameters).await?;
        let leases: Vec<i64> = found.iter().map(|row| row.get(0)).collect();
        match leases.is_empty() {
            true => Ok(()),
            false => self.take_over(client, &leases).await,
        }
    }

    /// Says that this node lives, or takes a lease if it has none or lost it.
    async fn keep_lease(&self, client: &Client) -> Result<(), tokio_postgres::Error> {
        let (lease, number) = (
            self.lease.load(Ordering::Acquire),
            self.number.load(Ordering::Acquire),
        );
        // The others count from a later time, that of the server's answer.
        let sure_until = Instant::now() + self.silence;
        if lease == 0 || client.execute(BEAT, &[&lease, &number]).await? == 0 {
            self.take_lease(client).await?;
        }
        self.sure_until.send_replace(Some(sure_until));
        Ok(())
    }

    async fn take_lease(&self, client: &Client) -> Result<(), tokio_postgres::Error> {
        let number = self.number.load(Ordering::Acquire);
        let lease = self.ticker.next(self.clock.now()).0;
        let NodeAddress { host, public_url } = self.address.get().cloned().unwrap_or_default();
        let version = env!("CARGO_PKG_VERSION");
        client
            .execute(JOIN, &[&number, &lease, &host, &public_url, &version])
            .await?;
        let former = self.lease.swap(lease, Ordering::AcqRel);
        self.count_nodes(client).await?;
        self.tell_of_nodes();
        self.has_joined.send_replace(true);
        if former != 0 {
            log::warn!("this node was taken for dead; it continues under a new lease");
            self.metrics.leases_lost.add(1);
            self.tell(Notice::LeaseLost);
        }
        Ok(())
    }

    async fn beat(&self, client: &Client) -> Result<(), tokio_postgres::Error> {
        if self.is_leaving.load(Ordering::Acquire) {
            return Ok(());
        }
        self.keep_lease(client).await?;
        let bytes: i64 = client.query_one(SIZE, &[]).await?.get(0);
        self.read_clock(client).await?;
        self.bytes
            .store(bytes.try_into().unwrap_or_default(), Ordering::Relaxed);
        self.count_nodes(client).await?;
        let orphaned = client.query(ORPHANED, &[]).await?;
        let leases: Vec<i64> = orphaned.iter().map(|row| row.get(0)).collect();
        if !leases.is_empty() {
            self.take_over(client, &leases).await?;
        }
        Ok(())
    }

    async fn count_nodes(&self, client: &Client) -> Result<(), tokio_postgres::Error> {
        let live: i64 = client.query_one(LIVE, &[]).await?.get(0);
        let live = usize::try_from(live).unwrap_or(1).max(1);
        self.live.store(live, Ordering::Relaxed);
        Ok(())
    }

    async fn take_over(
        &self,
        client: &Client,
        leases: &[i64],
    ) -> Result<(), tokio_postgres::Error> {
        let row = client.query_one(TAKE_OVER, &[&leases]).await?;
        let (nodes, turns): (i64, i64) = (row.get("nodes"), row.get("turns"));
        if nodes > 0 {
            // The output of a command is about its own matter.
            let level = match self.address.get() {
                Some(_) => log::Level::Warn,
                None => log::Level::Debug,
            };
            let nodes = counted(nodes.unsigned_abs(), "node is", "nodes are");
            let turns = counted(turns.unsigned_abs(), "turn is", "turns are");
            log::log!(level, "{nodes} dead; {turns} queued again");
        }
        self.count_nodes(client).await?;
        self.tell(Notice::Turns);
        self.tell_of_nodes();
        Ok(())
    }

    /// Tells the other nodes, which this one may not know yet, that the nodes have changed.
    fn tell_of_nodes(&self) {
        self.outgoing().has_nodes = true;
        self.notify.notify_one();
    }
}

/// The silence of a dead node.
fn silence() -> Duration {
    let of_tests = std::env::var(SILENCE_OF_TESTS).ok();
    of_tests
        .and_then(|millis| millis.parse().ok())
        .map_or(SILENCE, Duration::from_millis)
}
