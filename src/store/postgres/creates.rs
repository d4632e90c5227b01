//! Creates of sessions: all that wait are one statement, which takes only those whose decision is
//! still current.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{Builder, JoinHandle};
use std::time::Instant;

use tokio::sync::oneshot;

use super::link::Link;
use super::pool::PoolMetrics;
use super::target::Target;
use crate::error::{Code, Error, Result};
use crate::model::clock::Clock;
use crate::model::ids::{Id, SessionId, Ticker};
use crate::model::session::Session;
use crate::store::sessions::NewSession;
use crate::store::sql::Random;
use crate::store::writer_metrics::WriterMetrics;

/// Creates that may wait. Further ones are refused as `overloaded`.
const QUEUE: usize = 4_096;
/// Creates in one statement.
const GROUP: usize = 256;

/// A session that was decided at a version of the configuration.
struct Waiting {
    new: NewSession,
    version: i64,
    /// `None` if the configuration has changed since the decision.
    reply: oneshot::Sender<Result<Option<Session>>>,
}

/// The thread that creates sessions. It ends when the handle is dropped.
pub(super) struct Creates {
    queue: Option<SyncSender<Waiting>>,
    metrics: Arc<WriterMetrics>,
    thread: Option<JoinHandle<()>>,
}

impl Creates {
    pub(super) fn start(
        target: &Arc<Target>,
        clock: Clock,
        ticker: Ticker,
        metrics: &Arc<WriterMetrics>,
        pool_metrics: &PoolMetrics,
    ) -> io::Result<Self> {
        let (queue, waiting) = sync_channel(QUEUE);
        let writer = Writer {
            link: Link::new(Arc::clone(target), Arc::clone(&pool_metrics.connects))?,
            clock,
            ticker,
            random: Random::default(),
            metrics: Arc::clone(metrics),
        };
        let thread = Builder::new().name("creates".to_owned());
        let thread = thread.spawn(move || writer.run(&waiting))?;
        Ok(Self {
            queue: Some(queue),
            metrics: Arc::clone(metrics),
            thread: Some(thread),
        })
    }

    /// Queues a session that was decided at this version of the configuration.
    pub(super) fn submit(
        &self,
        new: NewSession,
        version: i64,
    ) -> Result<oneshot::Receiver<Result<Option<Session>>>> {
        let (reply, receiver) = oneshot::channel();
        let Some(queue) = &self.queue else {
            return Err(Error::internal("the writer has stopped"));
        };
        let waiting = Waiting {
            new,
            version,
            reply,
        };
        match queue.try_send(waiting) {
            Ok(()) => {
                self.metrics.submit();
                Ok(receiver)
            }
            Err(TrySendError::Full(_)) => Err(Code::Overloaded.into()),
            Err(TrySendError::Disconnected(_)) => Err(Error::internal("the writer has stopped")),
        }
    }
}

impl Drop for Creates {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != std::thread::current().id()
            && thread.join().is_err()
        {
            log::error!("the thread that creates sessions has panicked");
        }
    }
}

struct Writer {
    link: Link,
    clock: Clock,
    ticker: Ticker,
    random: Random,
    metrics: Arc<WriterMetrics>,
}

/// A row to insert, its reply, and the version of its decision.
struct Row {
    session: Session,
    metadata: String,
    version: i64,
    reply: oneshot::Sender<Result<Option<Session>>>,
}

/// The decision of a row counts only under the version that it was made at.
const INSERT: &str = "
INSERT INTO sessions (seq, id, tenant_no, agent_id, channel, show_agent_progress_steps, channel_seq, channel_id, psa_company_id,
                      inbound_m365_tenant_id, rule, created_by_kind, created_by_id, created_by_name, platform_tenant_no, metadata,
                      company_seq, created_at, updated_at)
SELECT seq, id, tenant_no, agent_id, channel, steps, channel_seq, channel_id, company, inbound, rule, by_kind, by_id, by_name,
       platform, metadata, company_seq, created_at, created_at
FROM unnest($1::bigint[], $2::bytea[], $3::bigint[], $4::bigint[], $5::text[], $6::bigint[], $7::bigint[], $8::bytea[], $9::text[],
            $10::text[], $11::text[], $12::text[], $13::text[], $14::text[], $15::bigint[], $16::text[], $17::bigint[], $18::bigint[],
            $19::bigint[])
     AS n (seq, id, tenant_no, agent_id, channel, steps, channel_seq, channel_id, company, inbound, rule, by_kind, by_id, by_name,
           platform, metadata, company_seq, created_at, version)
WHERE n.version = (SELECT c.version FROM configuration_version c WHERE c.one = 1)
RETURNING seq";

impl Writer {
    fn run(mut self, waiting: &Receiver<Waiting>) {
        while let Ok(first) = waiting.recv() {
            let mut group = vec![first];
            while group.len() < GROUP
                && let Ok(next) = waiting.try_recv()
            {
                group.push(next);
            }
            for _ in &group {
                self.metrics.dequeue();
            }
            let now = self.clock.now();
            let rows = group
                .into_iter()
                .filter_map(|one| self.row(one, now))
                .collect();
            self.insert_all(rows);
        }
    }

    /// The row of a session. A session without an id is answered here.
    fn row(&mut self, waiting: Waiting, now: i64) -> Option<Row> {
        let Waiting {
            mut new,
            version,
            reply,
        } = waiting;
        let random = match self.random.next() {
            Ok(random) => random,
            Err(error) => {
                drop(reply.send(Err(error)));
                return None;
            }
        };
        let id: SessionId = Id::new(self.ticker.next(now), random);
        let metadata = std::mem::take(&mut new.metadata_json);
        Some(Row {
            session: new.into_session(id, now),
            metadata,
            version,
            reply,
        })
    }

    /// Inserts rows in one statement. If it fails, each row is tried alone, so that one bad row
    /// fails no other.
    fn insert_all(&self, rows: Vec<Row>) {
        let started = Instant::now();
        let outcome = self.insert(&rows);
        self.metrics
            .record_commit(rows.len(), started.elapsed(), outcome.is_ok());
        match outcome {
            Ok(inserted) => {
                for row in rows {
                    let is_current = inserted.contains(&row.session.id.tick().0);
                    drop(row.reply.send(Ok(is_current.then_some(row.session))));
                }
            }
            Err(Error::Internal(_)) if rows.len() > 1 => {
                for row in rows {
                    self.insert_all(vec![row]);
                }
            }
            Err(error) => {
                let code = match &error {
                    Error::Refused(refusal) => Some(refusal.code),
                    Error::Internal(_) => None,
                };
                let mut first = Some(error);
                for row in rows {
                    let error = first.take().unwrap_or_else(|| match code {
                        Some(code) => code.into(),
                        None => Error::internal("a group of sessions was not stored"),
                    });
                    drop(row.reply.send(Err(error)));
                }
            }
        }
    }

    /// Inserts the rows that are current. Returns their ticks.
    fn insert(&self, rows: &[Row]) -> Result<Vec<i64>> {
        macro_rules! column {
            (|$row:ident| $value:expr) => {
                rows.iter()
                    .map(|row| {
                        let $row = &row.session;
                        $value
                    })
                    .collect::<Vec<_>>()
            };
        }
        let seq = column!(|s| s.id.tick().0);
        let id = column!(|s| s.id.as_bytes().as_slice());
        let tenant = column!(|s| s.internals.tenant.0);
        let agent = column!(|s| s.agent_id.0);
        let channel = column!(|s| s.channel.as_str());
        let steps = column!(|s| i64::from(s.show_agent_progress_steps));
        let channel_seq = column!(|s| s.channel_id.map(|channel| channel.tick().0));
        let channel_id = column!(|s| s
            .channel_id
            .as_ref()
            .map(|channel| channel.as_bytes().as_slice()));
        let company = column!(|s| s.end_company_id.as_ref().map(|company| company.as_str()));
        let inbound = column!(|s| s
            .internals
            .pinned_by
            .as_ref()
            .map(|inbound| inbound.as_str()));
        let rule = column!(|s| s.resolution.rule.as_str());
        let by_kind = column!(|s| s.created_by.kind.as_str());
        let by_id = column!(|s| s.created_by.id.as_str());
        let by_name = column!(|s| s.created_by.name.as_deref());
        let platform = column!(|s| s.internals.platform_tenant.map(|tenant| tenant.0));
        let company_seq = column!(|s| s.internals.company.map(|row| row.0));
        let created_at = column!(|s| s.created_at.0);
        let metadata: Vec<_> = rows.iter().map(|row| row.metadata.as_str()).collect();
        let version: Vec<_> = rows.iter().map(|row| row.version).collect();
        self.link.begin_nothing();
        let found = self.link.run_native(
            INSERT,
            &[
                &seq,
                &id,
                &tenant,
                &agent,
                &channel,
                &steps,
                &channel_seq,
                &channel_id,
                &company,
                &inbound,
                &rule,
                &by_kind,
                &by_id,
                &by_name,
                &platform,
                &metadata,
                &company_seq,
                &created_at,
                &version,
            ],
        )?;
        let ticks = found.iter().map(|row| row.try_get(0));
        Ok(ticks.collect::<Result<_, tokio_postgres::Error>>()?)
    }
}
