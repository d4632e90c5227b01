//! One connection to the server, which one thread uses: transactions, prepared statements, and
//! what happens when the connection is lost.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join;
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};

use super::errors::is_connection_lost;
use super::session::type_of;
use super::target::Target;
use crate::error::{Code, Error, Result};
use crate::metrics::Counter;
use crate::store::long_reads::READER_WAIT;
use crate::store::sql::Value;

/// Begins a snapshot. Its statements cannot write.
pub(super) const BEGIN_READ: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
const BEGIN_SEARCH: &str =
    "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = '5s'";
const BEGIN_LIST: &str =
    "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = '20s'";
const SEARCH_LIMIT: Duration = Duration::from_secs(5);
/// Prepared statements that one connection keeps.
const STATEMENTS: usize = 512;
/// The pause after a failed attempt to connect.
const RECONNECT_PAUSE: Duration = Duration::from_millis(50);

/// A connection, and the runtime that drives it while its thread waits for an answer.
pub(in crate::store) struct Link {
    runtime: Runtime,
    target: Arc<Target>,
    client: RefCell<Option<Arc<Client>>>,
    statements: RefCell<HashMap<Box<str>, Statement>>,
    /// What begins the transaction. It is sent with the first statement.
    begin: Cell<Option<&'static str>>,
    is_in_transaction: Cell<bool>,
    /// When a long read ends, however many statements it has.
    deadline: Cell<Option<Instant>>,
    /// A statement has failed, so that the server commits nothing.
    has_failed: Cell<bool>,
    cursors: Cell<u64>,
    reconnects: Arc<Counter>,
}

impl Link {
    /// Rows that a cursor fetches at a time.
    pub(super) const FETCHED_ROWS: usize = 1_000;

    /// A link that connects when it is first used.
    ///
    /// # Errors
    /// The system has no resources for a runtime.
    pub(super) fn new(target: Arc<Target>, reconnects: Arc<Counter>) -> std::io::Result<Self> {
        Ok(Self {
            runtime: Builder::new_current_thread().enable_all().build()?,
            target,
            client: RefCell::new(None),
            statements: RefCell::default(),
            begin: Cell::new(None),
            deadline: Cell::new(None),
            is_in_transaction: Cell::new(false),
            has_failed: Cell::new(false),
            cursors: Cell::new(0),
            reconnects,
        })
    }

    /// Has the next statement begin a transaction with this text.
    pub(super) fn begin(&self, begin: &'static str) {
        self.begin.set(Some(begin));
        self.deadline.set(None);
        self.has_failed.set(false);
    }

    /// Has the next statement begin a snapshot, for up to `limit`: the server interrupts a statement
    /// that takes longer, and no further statement begins.
    pub(super) fn begin_read(&self, limit: Option<Duration>) {
        self.begin(match limit {
            None => BEGIN_READ,
            Some(limit) if limit <= SEARCH_LIMIT => BEGIN_SEARCH,
            Some(_) => BEGIN_LIST,
        });
        self.deadline.set(limit.map(|limit| Instant::now() + limit));
    }

    /// Has every statement be a transaction of its own.
    pub(super) fn begin_nothing(&self) {
        self.begin.set(None);
        self.deadline.set(None);
        self.has_failed.set(false);
    }

    /// Whether a statement of the transaction has failed.
    pub(super) fn has_failed(&self) -> bool {
        self.has_failed.get()
    }

    /// Ends the transaction, if one has begun.
    ///
    /// # Errors
    /// `overloaded` if the connection was lost: whether the change is stored is unknown.
    pub(super) fn end(&self, statement: &'static str) -> Result<()> {
        if self.begin.take().is_some() || !self.is_in_transaction.replace(false) {
            return Ok(());
        }
        self.batch(statement)
    }

    /// Rolls the transaction back. A connection that cannot is closed.
    pub(super) fn roll_back(&self) {
        if self.end("ROLLBACK").is_err() {
            self.disconnect();
        }
    }

    /// Closes the connection. The next statement opens another one.
    pub(super) fn disconnect(&self) {
        self.client.replace(None);
        self.statements.borrow_mut().clear();
        self.is_in_transaction.set(false);
    }

    /// Runs statements without parameters.
    pub(super) fn batch(&self, sql: &str) -> Result<()> {
        let client = self.client()?;
        let outcome = self.runtime.block_on(client.batch_execute(sql));
        outcome.map_err(|error| self.note(error))
    }

    /// All rows of a statement.
    pub(super) fn query(&self, sql: &str, values: &[Value<'_>]) -> Result<Vec<Row>> {
        let parameters = parameters(values);
        self.run(sql, values, async |client, statement| {
            client.query(statement, &parameters).await
        })
    }

    /// Runs a statement. Returns the number of rows that it changed.
    pub(super) fn execute(&self, sql: &str, values: &[Value<'_>]) -> Result<usize> {
        let parameters = parameters(values);
        let changed = self.run(sql, values, async |client, statement| {
            client.execute(statement, &parameters).await
        })?;
        Ok(usize::try_from(changed).unwrap_or(usize::MAX))
    }

    /// Opens a cursor on the rows of a query. Returns its name.
    pub(super) fn open_cursor(&self, sql: &str, values: &[Value<'_>]) -> Result<String> {
        let number = self.cursors.replace(self.cursors.get() + 1);
        let cursor = format!("rows_{number}");
        let declare = format!("DECLARE {cursor} NO SCROLL CURSOR FOR {sql}");
        let types: Vec<_> = values.iter().map(type_of).collect();
        let declare = numbered(&declare);
        let parameters: Vec<_> = parameters(values).into_iter().zip(types).collect();
        self.first_or_next(async |client| client.query_typed(&declare, &parameters).await)?;
        Ok(cursor)
    }

    /// The next rows of a cursor: fewer than [`Link::FETCHED_ROWS`] at its end.
    pub(super) fn fetch(&self, cursor: &str) -> Result<Vec<Row>> {
        let fetch = format!("FETCH {} FROM {cursor}", Self::FETCHED_ROWS);
        self.first_or_next(async |client| client.query_typed(&fetch, &[]).await)
    }

    pub(super) fn close_cursor(&self, cursor: &str) -> Result<()> {
        self.batch(&format!("CLOSE {cursor}"))
    }

    /// Prepares a statement and runs it.
    fn run<T>(
        &self,
        sql: &str,
        values: &[Value<'_>],
        run: impl AsyncFn(&Client, &Statement) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T> {
        self.first_or_next(async |client| {
            let cached = self.statements.borrow().get(sql).cloned();
            let statement = match cached {
                Some(statement) => statement,
                None => {
                    let types: Vec<_> = values.iter().map(type_of).collect();
                    let statement = client.prepare_typed(&numbered(sql), &types).await?;
                    let mut statements = self.statements.borrow_mut();
                    if statements.len() >= STATEMENTS {
                        statements.clear();
                    }
                    statements.insert(sql.into(), statement.clone());
                    statement
                }
            };
            run(client, &statement).await
        })
    }

    /// Runs the first statement of a transaction, behind the one that begins it and in the same
    /// trip, or a later statement. Only the first one is repeated after the connection was lost,
    /// because nothing has happened before it.
    fn first_or_next<T>(
        &self,
        run: impl AsyncFn(&Client) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T> {
        if self.deadline.get().is_some_and(|end| Instant::now() > end) {
            return Err(Code::Overloaded.into());
        }
        let begin = self.begin.take();
        if begin.is_none() && self.has_failed() {
            // The transaction is over, perhaps with its connection: nothing may run without it.
            return Err(Code::Overloaded.into());
        }
        let deadline = Instant::now() + READER_WAIT;
        loop {
            if begin.is_some() || !self.is_in_transaction.get() {
                self.connect(deadline)?;
            }
            let client = self.client()?;
            let outcome = self.runtime.block_on(async {
                let Some(begin) = begin else {
                    return run(&client).await;
                };
                let (begun, outcome) = join(client.batch_execute(begin), run(&client)).await;
                begun.and(outcome)
            });
            match outcome {
                Ok(value) => {
                    if begin.is_some() {
                        self.is_in_transaction.set(true);
                    }
                    return Ok(value);
                }
                Err(error)
                    if begin.is_some()
                        && is_connection_lost(&error)
                        && Instant::now() < deadline => {}
                Err(error) => {
                    // The server is in the transaction all the same, unless the connection is lost.
                    self.is_in_transaction
                        .set(begin.is_some() || self.is_in_transaction.get());
                    return Err(self.note(error));
                }
            }
            self.disconnect();
        }
    }

    /// The open connection.
    fn client(&self) -> Result<Arc<Client>> {
        let client = self.client.borrow().clone();
        Ok(client.ok_or(Code::Overloaded)?)
    }

    /// Notes the failure of a statement.
    fn note(&self, error: tokio_postgres::Error) -> Error {
        self.has_failed.set(true);
        // A primary that has become a standby: another host may be the primary now.
        let is_demoted = error.code() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION);
        if is_demoted || is_connection_lost(&error) {
            self.disconnect();
        }
        error.into()
    }

    /// Connects if there is no connection, and tries again until the deadline.
    fn connect(&self, deadline: Instant) -> Result<()> {
        let is_open = self
            .client
            .borrow()
            .as_ref()
            .is_some_and(|client| !client.is_closed());
        if is_open {
            return Ok(());
        }
        self.disconnect();
        loop {
            let attempt = self.block_on(self.target.connect());
            match attempt {
                Ok((client, connection)) => {
                    self.runtime.spawn(connection);
                    self.block_on(Target::prepare(&client))?;
                    self.reconnects.add(1);
                    self.client.replace(Some(Arc::new(client)));
                    return Ok(());
                }
                Err(error) if Instant::now() >= deadline => {
                    log::warn!("{}: {error}", self.target);
                    return Err(Code::Overloaded.into());
                }
                Err(_) => std::thread::sleep(RECONNECT_PAUSE),
            }
        }
    }

    /// Waits on this thread, and drives the connection meanwhile.
    pub(super) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// All rows of a statement in PostgreSQL's own spelling.
    pub(super) fn run_native(
        &self,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>> {
        self.run(sql, &[], async |client, statement| {
            client.query(statement, parameters).await
        })
    }
}

fn parameters<'a>(values: &'a [Value<'a>]) -> Vec<&'a (dyn ToSql + Sync)> {
    values
        .iter()
        .map(|value| value as &(dyn ToSql + Sync))
        .collect()
}

/// The text with PostgreSQL's spelling of parameters: `$1` in place of `?1`. A question mark in a
/// string is no parameter.
fn numbered(sql: &str) -> String {
    let mut text = String::with_capacity(sql.len());
    let mut is_in_string = false;
    let mut rest = sql.chars().peekable();
    while let Some(c) = rest.next() {
        is_in_string ^= c == '\'';
        let is_parameter =
            c == '?' && !is_in_string && rest.peek().is_some_and(char::is_ascii_digit);
        text.push(if is_parameter { '$' } else { c });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_get_the_servers_spelling_and_strings_stay() {
        let sql = "SELECT '?1', x FROM t WHERE a = ?1 AND b = ?12 AND c = 'it''s ?2'";
        assert_eq!(
            numbered(sql),
            "SELECT '?1', x FROM t WHERE a = $1 AND b = $12 AND c = 'it''s ?2'"
        );
    }
}
