//! The store's own SQL types: readers, write transactions, rows and values of any engine.
//!
//! One SQL text serves every engine. `?1` is the first parameter. Each parameter carries its static
//! type, so that an engine can prepare `?3 IS NULL OR state = ?3`.

mod matching;
mod values;

use std::cell::{Cell, RefCell};

pub(super) use self::matching::Keyset;
pub use self::values::{FromValue, Params, ToValue, Type, Value};
pub(super) use self::values::{ParamList, params};
use super::search_index::Index;
use super::{postgres, sqlite};
use crate::error::{Error, Result};
use crate::model::clock::Millis;
use crate::model::ids::{Id, Tick, Ticker};

/// Bytes after which a page ends early, unless a reader has another limit.
const PAGE_BYTES: usize = 8 * 1_024 * 1_024;

/// The rows of one page of a list.
#[derive(Debug)]
pub struct Rows<T> {
    /// The rows.
    pub rows: Vec<T>,
    /// More rows follow, although the page has fewer rows than the limit.
    pub ends_early: bool,
}

impl<T> Rows<T> {
    /// The rows, each replaced by what `change` makes of it.
    pub fn map<U>(self, change: impl FnMut(T) -> U) -> Rows<U> {
        Rows {
            rows: self.rows.into_iter().map(change).collect(),
            ends_early: self.ends_early,
        }
    }
}

impl<T> From<Vec<T>> for Rows<T> {
    fn from(rows: Vec<T>) -> Self {
        Self {
            rows,
            ends_early: false,
        }
    }
}

/// Whether a statement may write. An engine refuses to run a writing statement with `Read`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
}

/// Whether a visitor of rows continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Row,
    Stop,
}

/// An engine's connection within a transaction.
#[derive(Clone, Copy)]
pub(super) enum Session<'a> {
    /// A connection to the SQLite file.
    Sqlite(sqlite::Session<'a>),
    /// A connection to the PostgreSQL server.
    Postgres(postgres::Session<'a>),
    /// No connection: the cache alone answers. The cell becomes true if it cannot.
    CacheOnly(&'a Cell<bool>),
}

impl Session<'_> {
    /// Visits the rows of a statement until `visit` returns [`Next::Stop`].
    fn query(
        self,
        access: Access,
        sql: &str,
        values: &[Value<'_>],
        mut visit: impl FnMut(&EngineRow<'_>) -> Result<Next>,
    ) -> Result<()> {
        match self {
            Self::Sqlite(session) => {
                session.query(access, sql, values, |row| visit(&EngineRow::Sqlite(*row)))
            }
            Self::Postgres(session) => {
                session.query(access, sql, values, |row| visit(&EngineRow::Postgres(row)))
            }
            Self::CacheOnly(missed) => Err(cache_miss(missed)),
        }
    }

    /// As [`Session::query`], for any number of rows: the engine never holds all of them.
    fn stream(
        self,
        sql: &str,
        values: &[Value<'_>],
        mut visit: impl FnMut(&EngineRow<'_>) -> Result<Next>,
    ) -> Result<()> {
        match self {
            Self::Postgres(session) => {
                session.stream(sql, values, |row| visit(&EngineRow::Postgres(row)))
            }
            Self::Sqlite(_) | Self::CacheOnly(_) => self.query(Access::Read, sql, values, visit),
        }
    }

    fn execute(self, sql: &str, values: &[Value<'_>]) -> Result<usize> {
        match self {
            Self::Sqlite(session) => session.execute(sql, values),
            Self::Postgres(session) => session.execute(sql, values),
            Self::CacheOnly(missed) => Err(cache_miss(missed)),
        }
    }
}

#[cold]
fn cache_miss(missed: &Cell<bool>) -> Error {
    missed.set(true);
    Error::internal("the cache does not have the answer")
}

/// A row of an engine's result.
enum EngineRow<'a> {
    Sqlite(sqlite::Row<'a>),
    Postgres(&'a postgres::Row),
}

impl EngineRow<'_> {
    fn column_count(&self) -> usize {
        match self {
            Self::Sqlite(row) => row.column_count(),
            Self::Postgres(row) => row.column_count(),
        }
    }

    fn is_named(&self, column: usize, name: &str) -> bool {
        match self {
            Self::Sqlite(row) => row.is_named(column, name),
            Self::Postgres(row) => row.is_named(column, name),
        }
    }

    /// The bytes of all texts and blobs of the row.
    fn bytes(&self) -> Result<usize> {
        match self {
            Self::Sqlite(row) => row.bytes(),
            Self::Postgres(row) => Ok(row.bytes()),
        }
    }

    #[inline(always)]
    fn value(&self, column: usize) -> Result<Value<'_>> {
        match self {
            Self::Sqlite(row) => row.value(column),
            Self::Postgres(row) => row.value(column),
        }
    }
}

/// One snapshot of the database. A reader cannot write: a statement that writes is an error.
pub struct Reader<'a> {
    session: Session<'a>,
    page_bytes: Cell<usize>,
}

impl<'a> Reader<'a> {
    /// Reads through an engine's session, which holds a transaction.
    pub(super) fn on(session: Session<'a>) -> Self {
        Self {
            session,
            page_bytes: Cell::new(PAGE_BYTES),
        }
    }

    /// Ends the pages that are read from now on after this number of bytes. The last row may exceed
    /// the limit.
    pub fn limit_pages(&self, bytes: usize) {
        self.page_bytes.set(bytes);
    }

    /// The kind of the engine's search index.
    pub(super) fn search_index(&self) -> Index {
        match self.session {
            Session::Sqlite(_) | Session::CacheOnly(_) => Index::Fts5,
            Session::Postgres(_) => Index::Tsvector,
        }
    }

    /// The first row, if any.
    pub(super) fn optional<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnOnce(&Row<'_>) -> Result<T>,
    ) -> Result<Option<T>> {
        first_row(self.session, Access::Read, sql, params, read)
    }

    /// The first row of a query that always returns one.
    ///
    /// # Errors
    /// `internal_error` if there is no row.
    pub(super) fn one<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnOnce(&Row<'_>) -> Result<T>,
    ) -> Result<T> {
        self.optional(sql, params, read)?.ok_or_else(no_row)
    }

    /// All rows.
    pub(super) fn all<T>(
        &self,
        sql: &str,
        params: impl Params,
        mut read: impl FnMut(&Row<'_>) -> Result<T>,
    ) -> Result<Vec<T>> {
        let columns = Columns::default();
        let values = params.values();
        let mut rows = Vec::new();
        self.session
            .query(Access::Read, sql, values.as_ref(), |row| {
                rows.push(read(&Row::of_list(row, &columns))?);
                Ok(Next::Row)
            })?;
        Ok(rows)
    }

    /// Visits all rows without collecting them.
    pub(super) fn each(
        &self,
        sql: &str,
        params: impl Params,
        mut visit: impl FnMut(&Row<'_>) -> Result<()>,
    ) -> Result<()> {
        let columns = Columns::default();
        let values = params.values();
        self.session.stream(sql, values.as_ref(), |row| {
            visit(&Row::of_list(row, &columns))?;
            Ok(Next::Row)
        })
    }

    /// The rows of a page. The page ends early after the bytes of [`Reader::limit_pages`].
    pub(super) fn page<T>(
        &self,
        sql: &str,
        params: impl Params,
        mut read: impl FnMut(&Row<'_>) -> Result<T>,
    ) -> Result<Rows<T>> {
        let columns = Columns::default();
        let values = params.values();
        let (mut part, mut bytes) = (Rows::from(Vec::new()), 0);
        self.session
            .query(Access::Read, sql, values.as_ref(), |row| {
                if bytes >= self.page_bytes.get() {
                    part.ends_early = true;
                    return Ok(Next::Stop);
                }
                bytes += row.bytes()?;
                part.rows.push(read(&Row::of_list(row, &columns))?);
                Ok(Next::Row)
            })?;
        Ok(part)
    }

    /// The first rows whose texts have up to `max_bytes` together. A first row with more is returned
    /// alone.
    pub(super) fn first_within<T>(
        &self,
        max_bytes: usize,
        sql: &str,
        params: impl Params,
        mut read: impl FnMut(&Row<'_>) -> Result<T>,
    ) -> Result<Rows<T>> {
        let values = params.values();
        let (mut part, mut bytes) = (Rows::from(Vec::new()), 0);
        self.session
            .query(Access::Read, sql, values.as_ref(), |row| {
                bytes += row.bytes()?;
                if bytes > max_bytes && !part.rows.is_empty() {
                    part.ends_early = true;
                    return Ok(Next::Stop);
                }
                part.rows.push(read(&Row::of(row))?);
                Ok(Next::Row)
            })?;
        Ok(part)
    }

    /// Up to `limit` bytes of a blob, from an offset. The engine does not read the rest.
    pub(super) fn blob_slice(
        &self,
        table: &str,
        column: &str,
        row: Tick,
        offset: u64,
        limit: usize,
    ) -> Result<Vec<u8>> {
        match self.session {
            Session::Sqlite(session) => session.blob_slice(table, column, row, offset, limit),
            Session::Postgres(session) => session.blob_slice(table, column, row, offset, limit),
            Session::CacheOnly(missed) => Err(cache_miss(missed)),
        }
    }
}

fn first_row<T>(
    session: Session<'_>,
    access: Access,
    sql: &str,
    params: impl Params,
    read: impl FnOnce(&Row<'_>) -> Result<T>,
) -> Result<Option<T>> {
    let (mut read, mut found) = (Some(read), None);
    let values = params.values();
    session.query(access, sql, values.as_ref(), |row| {
        if let Some(read) = read.take() {
            found = Some(read(&Row::of(row))?);
        }
        Ok(Next::Stop)
    })?;
    Ok(found)
}

fn no_row() -> Error {
    Error::internal("a query returned no row")
}

/// The rows that a change touches. Engines derive locks and savepoints from the extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// One writing statement, with nothing after it that can fail. The engine rolls back a failed
    /// statement by itself.
    Statement,
    /// A new session and its rows. Only unique indexes guard against concurrent changes.
    NewSession,
    /// A new session, or nothing if another call with the same idempotency key has made it. The
    /// number stands for the key: changes with the same number do not run concurrently.
    Key(i64),
    /// The rows of one session. Changes of the same session do not run concurrently.
    Session(Tick),
    /// Anything else. Changes with this extent do not run concurrently.
    Configuration,
    /// As [`Extent::Configuration`], for a change of very many rows: it has a transaction of its
    /// own.
    Alone,
}

/// One change's view of the write transaction. The change also sees the earlier changes of its
/// group.
pub struct WriteTx<'a> {
    reader: Reader<'a>,
    ticker: &'a Ticker,
    random: &'a mut Random,
    now: Millis,
    effects: &'a mut Effects,
    extent: Extent,
    is_rolled_back: bool,
}

/// The side effects of a group of changes: what happens after the commit.
#[derive(Default)]
pub(super) struct Effects {
    /// Callbacks that run after the commit.
    pub(super) on_commit: Vec<Box<dyn FnOnce() + Send>>,
    /// Deleted data must soon leave the write-ahead log.
    pub(super) scrub_log: bool,
}

impl<'a> WriteTx<'a> {
    /// A change of this extent in the transaction that `session` holds.
    pub(super) fn on(
        session: Session<'a>,
        extent: Extent,
        ticker: &'a Ticker,
        random: &'a mut Random,
        now: Millis,
        effects: &'a mut Effects,
    ) -> Self {
        Self {
            reader: Reader::on(session),
            ticker,
            random,
            now,
            effects,
            extent,
            is_rolled_back: false,
        }
    }

    /// Reads within the transaction.
    pub fn reader(&self) -> &Reader<'a> {
        &self.reader
    }

    /// Runs a statement. Returns the number of rows that it changed.
    pub(super) fn execute(&self, sql: &str, params: impl Params) -> Result<usize> {
        let values = params.values();
        self.reader.session.execute(sql, values.as_ref())
    }

    /// Runs a statement with `RETURNING`. Returns its first row, if any.
    pub(super) fn returning<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnOnce(&Row<'_>) -> Result<T>,
    ) -> Result<Option<T>> {
        first_row(self.reader.session, Access::Write, sql, params, read)
    }

    /// As [`WriteTx::returning`], for a statement that always returns a row.
    ///
    /// # Errors
    /// `internal_error` if there is no row.
    pub(super) fn returning_one<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnOnce(&Row<'_>) -> Result<T>,
    ) -> Result<T> {
        self.returning(sql, params, read)?.ok_or_else(no_row)
    }

    /// Has other changes of a session wait until this one ends, for a change whose extent does not
    /// name the session. On SQLite no other change runs meanwhile.
    pub(super) fn lock_session(&self, session: Tick) -> Result<()> {
        match self.reader.session {
            Session::Postgres(engine) => engine.lock_session(session),
            Session::Sqlite(_) | Session::CacheOnly(_) => Ok(()),
        }
    }

    /// The time at which the change runs.
    pub fn now(&self) -> Millis {
        self.now
    }

    /// Runs a callback after the change is on disk, whether or not the caller still waits.
    pub fn on_commit(&mut self, callback: impl FnOnce() + Send + 'static) {
        self.effects.on_commit.push(Box::new(callback));
    }

    /// Declares that this change deletes data that must soon leave the write-ahead log.
    pub fn scrub_log(&mut self) {
        self.effects.scrub_log = true;
    }

    /// Rolls this change back when it ends, although it succeeds: nothing of it is stored, what it
    /// put on [`WriteTx::on_commit`] is dropped, and its caller receives its result. A dry run is
    /// such a change.
    ///
    /// # Errors
    /// `internal_error` in a change of [`Extent::Statement`], which has no savepoint.
    pub fn roll_back(&mut self) -> Result<()> {
        if self.extent == Extent::Statement {
            return Err(Error::internal(
                "a change of one statement cannot be rolled back",
            ));
        }
        self.is_rolled_back = true;
        Ok(())
    }

    /// Whether the change asked for [`WriteTx::roll_back`].
    pub(super) fn is_rolled_back(&self) -> bool {
        self.is_rolled_back
    }

    /// A tick greater than any before it.
    pub fn tick(&mut self) -> Tick {
        self.ticker.next(self.now)
    }

    /// A new id, greater than any before it.
    ///
    /// # Errors
    /// `internal_error` if the system has no random bytes.
    pub fn new_id<K>(&mut self) -> Result<Id<K>> {
        let random = self.random.next()?;
        Ok(Id::new(self.tick(), random))
    }
}

/// Unpredictable numbers. One system call fetches 64 of them.
#[derive(Default)]
pub(super) struct Random(Vec<u64>);

impl Random {
    pub(super) fn next(&mut self) -> Result<u64> {
        if let Some(number) = self.0.pop() {
            return Ok(number);
        }
        let mut bytes = [0; 64 * size_of::<u64>()];
        getrandom::fill(&mut bytes).map_err(|error| Error::Internal(error.into()))?;
        let (numbers, _) = bytes.as_chunks();
        self.0
            .extend(numbers.iter().copied().map(u64::from_ne_bytes));
        self.next()
    }
}

/// A row whose columns are read by name.
///
/// Code reads a row in the order of its SELECT, so the search for a name starts after the column
/// that was read last. The rows of a list share a cache of column positions.
pub(super) struct Row<'a> {
    row: &'a EngineRow<'a>,
    /// The column after the one that was read last.
    next: Cell<usize>,
    /// How many columns were read.
    reads: Cell<usize>,
    columns: Option<&'a Columns>,
}

/// The names that were read from a list's rows, in the order of the reads, with their columns.
#[derive(Default)]
struct Columns(RefCell<Vec<(&'static str, usize)>>);

impl Columns {
    /// The column, if the `nth` read of an earlier row had the same name. Names are literals, so
    /// comparing their addresses is enough.
    #[inline]
    fn get(&self, nth: usize, name: &'static str) -> Option<usize> {
        let (cached, column) = *self.0.borrow().get(nth)?;
        std::ptr::eq(cached, name).then_some(column)
    }

    fn insert(&self, nth: usize, name: &'static str, column: usize) {
        let mut columns = self.0.borrow_mut();
        columns.truncate(nth);
        if columns.len() == nth {
            columns.push((name, column));
        }
    }
}

impl<'a> Row<'a> {
    fn of(row: &'a EngineRow<'a>) -> Self {
        Self {
            row,
            next: Cell::new(0),
            reads: Cell::new(0),
            columns: None,
        }
    }

    fn of_list(row: &'a EngineRow<'a>, columns: &'a Columns) -> Self {
        Self {
            columns: Some(columns),
            ..Self::of(row)
        }
    }

    /// The value of a column.
    ///
    /// # Errors
    /// `internal_error` if there is no such column or its value has another type.
    #[inline]
    pub(super) fn get<T: FromValue>(&self, name: &'static str) -> Result<T> {
        let column = self.column(name)?;
        // Two paths: a value that either engine may give would go through memory, at some 30
        // instructions a column.
        match self.row {
            EngineRow::Sqlite(row) => parsed(name, row.value(column)?),
            EngineRow::Postgres(row) => parsed_far(name, row, column),
        }
    }

    /// A text, without a copy; `None` for NULL.
    ///
    /// # Errors
    /// `internal_error` if there is no such column or its value is not text.
    fn text(&self, name: &'static str) -> Result<Option<&str>> {
        match self.row.value(self.column(name)?)? {
            Value::Text(text) => Ok(Some(text)),
            Value::Null(_) => Ok(None),
            value @ (Value::Integer(_) | Value::Blob(_)) => Err(unreadable(name, value)),
        }
    }

    /// Parses a column that holds JSON.
    ///
    /// # Errors
    /// `internal_error` if there is no such column or the JSON does not parse: only the server
    /// writes these columns.
    pub(super) fn json<T: serde::de::DeserializeOwned>(&self, name: &'static str) -> Result<T> {
        let value = self.row.value(self.column(name)?)?;
        let Value::Text(text) = value else {
            return Err(unreadable(name, value));
        };
        serde_json::from_str(text).map_err(|error| Error::Internal(error.into()))
    }

    #[inline(always)]
    fn column(&self, name: &'static str) -> Result<usize> {
        let nth = self.reads.replace(self.reads.get() + 1);
        let cached = self.columns.and_then(|columns| columns.get(nth, name));
        let column = match cached {
            Some(column) => column,
            None => self.find(nth, name)?,
        };
        self.next.set(column + 1);
        Ok(column)
    }

    fn find(&self, nth: usize, name: &'static str) -> Result<usize> {
        let next = self.next.get();
        let column = (next..self.row.column_count())
            .chain(0..next)
            .find(|column| self.row.is_named(*column, name))
            .ok_or_else(|| Error::internal(format!("a query has no column {name}")))?;
        if let Some(columns) = self.columns {
            columns.insert(nth, name, column);
        }
        Ok(column)
    }
}

#[inline(always)]
fn parsed<T: FromValue>(name: &'static str, value: Value<'_>) -> Result<T> {
    T::from_value(value).ok_or_else(|| unreadable(name, value))
}

/// As [`parsed`], outside the caller.
#[inline(never)]
fn parsed_far<T: FromValue>(name: &'static str, row: &postgres::Row, column: usize) -> Result<T> {
    parsed(name, row.value(column)?)
}

/// Names the type only: the value may be a person's text, which must not reach the log.
#[cold]
fn unreadable(name: &str, value: Value<'_>) -> Error {
    let kind = match value {
        Value::Null(_) => "NULL",
        Value::Integer(_) => "an integer",
        Value::Text(_) => "a text",
        Value::Blob(_) => "bytes",
    };
    Error::internal(format!(
        "column {name} holds {kind} that this version cannot read"
    ))
}
