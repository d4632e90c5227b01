//! Copies a whole database from one engine to another, and compares the copy with the source.

mod checksum;
pub(in crate::store) mod tables;

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

use self::checksum::Checksum;
use self::tables::{Described, Table};
use super::OpenError;
use super::postgres::Target;
use super::postgres::copy::Server;
use super::sql::Value;
use super::sqlite::copy::Folder;
use crate::text::counted;

/// Rows between two reports of progress.
const REPORT_EVERY: u64 = 1_000;
/// Bytes of rows that one transaction of the target holds.
pub(in crate::store) const BATCH_BYTES: usize = 32 * 1_024 * 1_024;

/// A result of a copy. The error is a sentence for the operator.
pub(in crate::store) type Outcome<T> = Result<T, OpenError>;
/// What takes the rows of a table, one at a time.
pub(in crate::store) type Visit<'a> = dyn FnMut(&[Value<'_>]) -> Outcome<()> + 'a;
/// What gives the rows of a table to a visitor.
pub(in crate::store) type Fill<'a> = dyn FnMut(&mut Visit<'_>) -> Outcome<()> + 'a;

/// A side of a copy.
#[derive(Clone, Debug)]
pub enum Location {
    /// A data folder.
    Folder(PathBuf),
    /// A database on a PostgreSQL server.
    Server(Box<Target>),
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => folder.display().fmt(f),
            Self::Server(target) => target.fmt(f),
        }
    }
}

/// The progress of a copy, in rows or texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The rows are being copied.
    Copying {
        /// The rows that are written.
        done: u64,
        /// All rows of the source.
        total: u64,
    },
    /// The rows of the target are being read and compared.
    Comparing {
        /// The rows that are compared.
        done: u64,
        /// All rows.
        total: u64,
    },
    /// The target's search index is being built.
    Indexing {
        /// The texts that are indexed.
        done: u64,
        /// All messages and titles.
        total: u64,
    },
}

/// A copy that was compared with its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    /// The tables that were copied.
    pub tables: usize,
    /// Their rows.
    pub rows: u64,
    /// Texts with U+0000, which PostgreSQL cannot store. Each such character is U+FFFD in the copy.
    pub changed_texts: u64,
}

enum Database {
    Folder(Folder),
    Server(Server),
}

impl Database {
    fn describe(&self) -> Outcome<Vec<Described>> {
        match self {
            Self::Folder(folder) => folder.describe(),
            Self::Server(server) => server.describe(),
        }
    }

    fn count(&self, table: &Table) -> Outcome<u64> {
        match self {
            Self::Folder(folder) => folder.count(table),
            Self::Server(server) => server.count(table),
        }
    }

    /// Visits all rows of a table in the order of its key.
    fn each_row(&self, table: &Table, visit: &mut Visit<'_>) -> Outcome<()> {
        match self {
            Self::Folder(folder) => folder.each_row(table, visit),
            Self::Server(server) => server.each_row(table, visit),
        }
    }

    /// Replaces all rows of a table.
    fn load(&self, table: &Table, fill: &mut Fill<'_>) -> Outcome<()> {
        match self {
            Self::Folder(folder) => folder.load(table, fill),
            Self::Server(server) => server.load(table, fill),
        }
    }

    fn environment(&self) -> Outcome<Option<String>> {
        match self {
            Self::Folder(folder) => folder.environment(),
            Self::Server(server) => server.environment(),
        }
    }

    /// Whether another program has changed the source since the copy began.
    fn has_changed(&self) -> Outcome<bool> {
        match self {
            Self::Folder(folder) => folder.has_changed(),
            Self::Server(server) => server.has_changed(),
        }
    }

    fn add_mark(&self) -> Outcome<()> {
        match self {
            Self::Folder(folder) => folder.add_mark(),
            Self::Server(server) => server.add_mark(),
        }
    }

    /// The rows whose references name nothing.
    fn orphans(&self) -> Outcome<Vec<String>> {
        match self {
            Self::Folder(folder) => folder.orphans(),
            Self::Server(server) => server.orphans(),
        }
    }

    /// Prepares what a server of the target needs besides the rows.
    fn complete(&self, report: &mut dyn FnMut(u64, u64)) -> Outcome<()> {
        match self {
            Self::Folder(folder) => folder.complete(),
            Self::Server(server) => server.complete(report),
        }
    }

    fn finish(self) -> Outcome<()> {
        match self {
            Self::Folder(folder) => folder.finish(),
            Self::Server(server) => server.finish(),
        }
    }
}

/// A copy. The target is marked from the beginning to [`Copy::finish`], so that nothing uses a copy
/// that has failed.
pub struct Copy {
    source: Database,
    target: Database,
    tables: Vec<Table>,
    from: String,
    to: Location,
}

impl Copy {
    /// Opens both sides, and marks the target as unfinished.
    ///
    /// # Errors
    /// A source that a server uses, or that has no data or another schema; a target that a server
    /// uses or that is not empty. The target is unchanged then.
    pub fn begin(from: &Location, to: &Location) -> Result<Self, OpenError> {
        let source = match from {
            Location::Folder(folder) => Database::Folder(Folder::open_source(folder)?),
            Location::Server(target) => Database::Server(Server::open_source(target)?),
        };
        let of = |location: &Location, error: OpenError| {
            OpenError(format!("cannot copy {location}: {}", error.0))
        };
        let tables = source.describe().and_then(tables::plan);
        let tables = tables.map_err(|error| of(from, error))?;
        let target = match to {
            Location::Folder(folder) => Database::Folder(Folder::open_target(folder)?),
            Location::Server(target) => Database::Server(Server::open_target(target)?),
        };
        let found = target.describe().and_then(tables::plan);
        let found = found.map_err(|error| of(to, error))?;
        tables::refuse_difference(&tables, &found).map_err(|error| of(from, error))?;
        refuse_rows(&target, &found, to)?;
        target.add_mark()?;
        Ok(Self {
            source,
            target,
            tables,
            from: from.to_string(),
            to: to.clone(),
        })
    }

    /// Copies all rows, compares the copy with the source, and prepares the target for a server.
    ///
    /// # Errors
    /// A sentence. The target stays marked.
    pub fn run(&self, report: &mut dyn FnMut(Progress)) -> Result<Copied, OpenError> {
        self.copy_and_compare(report)
            .map_err(|error| self.unfinished(&error))
    }

    /// The sentence of a copy that failed after the target was marked.
    pub fn unfinished(&self, error: &dyn fmt::Display) -> OpenError {
        let remedy = match &self.to {
            Location::Folder(_) => "remove it before you copy again",
            Location::Server(_) => "drop and create the database before you copy again",
        };
        OpenError(format!(
            "the copy of {} failed: {error}; {} is not complete and cannot be used: {remedy}",
            self.from, self.to
        ))
    }

    /// The signing secret in the source's database. A data folder has it in a file.
    ///
    /// # Errors
    /// The source cannot be read.
    pub fn secret(&self) -> Result<Option<Vec<u8>>, OpenError> {
        match &self.source {
            Database::Folder(_) => Ok(None),
            Database::Server(server) => server.secret(),
        }
    }

    /// Stores the signing secret in the target's database. A data folder has it in a file.
    ///
    /// # Errors
    /// The target cannot be written.
    pub fn set_secret(&self, secret: &[u8]) -> Result<(), OpenError> {
        match &self.target {
            Database::Folder(_) => Ok(()),
            Database::Server(server) => server.set_secret(secret),
        }
    }

    /// Removes the mark: the target is complete.
    ///
    /// # Errors
    /// The target cannot be written.
    pub fn finish(self) -> Result<(), OpenError> {
        self.target.finish()
    }

    fn copy_and_compare(&self, report: &mut dyn FnMut(Progress)) -> Outcome<Copied> {
        let mut total = 0;
        for table in &self.tables {
            total += self.source.count(table)?;
        }
        let (mut done, mut changed_texts) = (0, 0);
        let mut checksums = Vec::with_capacity(self.tables.len());
        for table in &self.tables {
            let mut checksum = Checksum::default();
            self.target.load(table, &mut |put| {
                self.source.each_row(table, &mut |values| {
                    let values = self.replaced(table, values, &mut changed_texts);
                    let values: Vec<Value<'_>> = values.iter().map(Replaced::value).collect();
                    checksum.add(&values);
                    put(&values)?;
                    done += 1;
                    if done % REPORT_EVERY == 0 {
                        report(Progress::Copying { done, total });
                    }
                    Ok(())
                })
            })?;
            checksums.push(checksum);
        }
        if self.source.has_changed()? {
            return Err(OpenError(
                "another program has changed the source meanwhile; end it first".to_owned(),
            ));
        }
        self.compare(&checksums, total, report)?;
        self.target
            .complete(&mut |done, total| report(Progress::Indexing { done, total }))?;
        Ok(Copied {
            tables: self.tables.len(),
            rows: total,
            changed_texts,
        })
    }

    /// The values of a row as the target gets them.
    fn replaced<'a>(
        &self,
        table: &Table,
        values: &'a [Value<'a>],
        changed_texts: &mut u64,
    ) -> Vec<Replaced<'a>> {
        let takes_nul = matches!(self.target, Database::Folder(_));
        let columns = table.columns.iter().zip(values);
        columns
            .map(|(column, value)| match (column.replaced_by, *value) {
                (Some(replacement), _) => Replaced::Value(replacement),
                (None, Value::Text(text)) if !takes_nul && text.contains('\0') => {
                    *changed_texts += 1;
                    Replaced::Text(text.replace('\0', "\u{fffd}").into())
                }
                (None, value) => Replaced::Value(value),
            })
            .collect()
    }

    /// Reads the target again, and compares it with what was read from the source.
    fn compare(
        &self,
        checksums: &[Checksum],
        total: u64,
        report: &mut dyn FnMut(Progress),
    ) -> Outcome<()> {
        let mut done = 0;
        for (table, expected) in self.tables.iter().zip(checksums) {
            let mut found = Checksum::default();
            self.target.each_row(table, &mut |values| {
                found.add(values);
                done += 1;
                if done % REPORT_EVERY == 0 {
                    report(Progress::Comparing { done, total });
                }
                Ok(())
            })?;
            let rows = self.target.count(table)?;
            if rows != expected.rows || !found.equals(expected) {
                return Err(OpenError(format!(
                    "the table {} differs: the source has {}, the copy has {}",
                    table.name,
                    counted(expected.rows, "row", "rows"),
                    counted(rows, "row", "rows")
                )));
            }
        }
        match self.target.orphans()?.as_slice() {
            [] => Ok(()),
            [first, ..] => Err(OpenError(format!(
                "{first}; 'switchboard check' shows more of the source"
            ))),
        }
    }
}

/// A value as the target gets it.
enum Replaced<'a> {
    Value(Value<'a>),
    Text(Cow<'a, str>),
}

impl Replaced<'_> {
    fn value(&self) -> Value<'_> {
        match self {
            Self::Value(value) => *value,
            Self::Text(text) => Value::Text(text),
        }
    }
}

/// Refuses a target with rows that no migration made.
fn refuse_rows(target: &Database, tables: &[Table], to: &Location) -> Outcome<()> {
    let refused = |what: String| {
        Err(OpenError(format!(
            "{to} is not empty: {what}; copy into a new folder or database"
        )))
    };
    for table in tables {
        let rows = target.count(table)?;
        let own = u64::from(tables::SEEDED.contains(&table.name.as_str()));
        if rows > own {
            return refused(format!(
                "its table {} has {}",
                table.name,
                counted(rows, "row", "rows")
            ));
        }
    }
    if let Database::Server(server) = target
        && server.secret()?.is_some()
    {
        return refused("it has a signing secret".to_owned());
    }
    match target.environment()? {
        Some(environment) => refused(format!("it belongs to the environment {environment}")),
        None => Ok(()),
    }
}
