//! A data folder as a side of a copy.

use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, Statement};

use super::connection::{self, open_writer, prepare_reader, prepare_writer};
use super::errors::describe;
use super::folder::{self, FILE};
use super::session::{Row, Session};
use super::{GROUP, Sqlite, check, migrations, schema};
use crate::error::Error;
use crate::model::clock::Clock;
use crate::store::OpenError;
use crate::store::copy::tables::{ADD_MARK, Described, REMOVE_MARK, Table};
use crate::store::copy::{BATCH_BYTES, Fill, Outcome, Visit};
use crate::store::sql::{Reader, Session as Engine, Value};

const TABLES: &str = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name <> 'refinery_schema_history' ORDER BY name";
const COLUMNS: &str = "SELECT name, type, pk FROM pragma_table_xinfo(?1) ORDER BY cid";
const REFERENCES: &str = "SELECT DISTINCT \"table\" FROM pragma_foreign_key_list(?1)";
const VERSION: &str = "SELECT version FROM configuration_version WHERE one = 1";
const ENVIRONMENT: &str = "SELECT environment FROM folder WHERE one = 1";
/// Ticks that [`connection::last_tick`] does not look at: the clock of another PostgreSQL node can
/// be ahead.
const LAST_TICK_OF_OTHERS: &str = "
SELECT max(coalesce((SELECT max(last_tick) FROM sessions), 0), coalesce((SELECT max(last_tick) FROM turn_logs), 0),
           coalesce((SELECT max(terminal_tick) FROM turns), 0))";
const SET_INDEXED: &str = "UPDATE search_progress SET done_seq = ?1 WHERE what = 'messages'";
const SET_REBUILD: &str = "UPDATE search_rebuild SET from_seq = ?1 + 1";

/// A data folder that this program alone works on.
pub(in crate::store) struct Folder {
    /// It closes before the source's writer, which removes the write-ahead log.
    connection: Connection,
    path: PathBuf,
    /// The configuration's version in the snapshot of a source.
    version: i64,
    /// What keeps servers away: their lock, and of the source its open store.
    _held: Box<dyn Send>,
}

impl Folder {
    /// Opens a folder to read one snapshot of it.
    ///
    /// # Errors
    /// No data, a server that uses the folder, damage.
    pub(in crate::store) fn open_source(folder: &Path) -> Outcome<Self> {
        let path = folder.join(FILE);
        if !path.is_file() {
            return Err(OpenError(format!(
                "there is no data in {}; choose another folder",
                folder.display()
            )));
        }
        let (engine, _, lock) = Sqlite::open_to_serve(folder, &Clock::System, GROUP)?;
        if engine.lacks_log() {
            log::warn!("{}: {}", folder.display(), check::LACKS_LOG);
        }
        let failed = |error: rusqlite::Error| OpenError(describe(&path, &error));
        let open = || {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(&path, flags)?;
            prepare_reader(&connection)?;
            connection.execute_batch("BEGIN")?;
            let version = configuration_version(&connection)?;
            Ok((connection, version))
        };
        let (connection, version) = open().map_err(failed)?;
        let source = Self {
            connection,
            path,
            version,
            _held: Box::new((engine, lock)),
        };
        match check::damage(&source.reader())
            .map_err(|error| source.failed(&error))?
            .as_slice()
        {
            [] => Ok(source),
            [first, ..] => Err(OpenError(format!(
                "{} is damaged ({first}); restore it from a backup, then copy it",
                source.path.display()
            ))),
        }
    }

    /// Opens a folder to fill it, and creates it if it is missing.
    ///
    /// # Errors
    /// A server that uses the folder, a foreign file, a full disk.
    pub(in crate::store) fn open_target(folder: &Path) -> Outcome<Self> {
        let path = folder.join(FILE);
        folder::create(folder)?;
        let lock = folder::lock_for_serving(folder)?;
        drop(
            folder::open_private_file(&path)
                .map_err(|error| OpenError(format!("cannot open {}: {error}", path.display())))?,
        );
        let failed = |error: rusqlite::Error| OpenError(describe(&path, &error));
        let mut connection = open_writer(&path).map_err(failed)?;
        let version = migrations::check(&connection, &path)?;
        if version > 0 {
            schema::refuse_foreign(&connection, &path, version)?;
        }
        prepare_writer(&connection).map_err(failed)?;
        migrations::run(&mut connection, &path)?;
        let prepare = || {
            // The log stays short. It is synced when a part of it goes to the file.
            connection.pragma_update(None, "wal_autocheckpoint", 4_096)?;
            connection.pragma_update(None, "synchronous", "NORMAL")?;
            // Rows come in the order of their tables, and references are checked at the end. What a
            // trigger would write is copied.
            connection.pragma_update(None, "foreign_keys", "OFF")?;
            let setting = DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER;
            connection.set_db_config(setting, false).map(drop)
        };
        prepare().map_err(failed)?;
        Ok(Self {
            connection,
            path,
            version: 0,
            _held: Box::new(lock),
        })
    }

    fn reader(&self) -> Reader<'_> {
        Reader::on(Engine::Sqlite(Session::of(&self.connection)))
    }

    fn failed(&self, error: &dyn std::fmt::Display) -> OpenError {
        OpenError(format!("{}: {error}", self.path.display()))
    }

    /// Runs what can fail with SQLite's own errors.
    fn run<'a, T>(
        &'a self,
        step: impl FnOnce(&'a Connection) -> rusqlite::Result<T>,
    ) -> Outcome<T> {
        step(&self.connection).map_err(|error| self.failed(&Error::from(error)))
    }

    pub(in crate::store) fn describe(&self) -> Outcome<Vec<Described>> {
        self.run(|connection| {
            let mut tables = connection.prepare(TABLES)?;
            let names = tables.query_map([], |row| row.get(0))?;
            names
                .map(|name| describe_table(connection, name?))
                .collect()
        })
    }

    pub(in crate::store) fn count(&self, table: &Table) -> Outcome<u64> {
        self.run(|connection| connection.query_row(&table.count(), [], |row| row.get(0)))
    }

    pub(in crate::store) fn environment(&self) -> Outcome<Option<String>> {
        self.run(|connection| connection.query_row(ENVIRONMENT, [], |row| row.get(0)))
    }

    pub(in crate::store) fn each_row(&self, table: &Table, visit: &mut Visit<'_>) -> Outcome<()> {
        let failed = |error: Error| self.failed(&format!("table {}: {error}", table.name));
        let mut statement = self.run(|connection| connection.prepare(&table.select()))?;
        let mut rows = statement.raw_query();
        while let Some(row) = rows.next().map_err(|error| failed(error.into()))? {
            let row = Row::of(row);
            let values = (0..table.columns.len()).map(|column| row.value(column));
            let values = values.collect::<Result<Vec<_>, _>>().map_err(failed)?;
            visit(&values)?;
        }
        Ok(())
    }

    pub(in crate::store) fn load(&self, table: &Table, fill: &mut Fill<'_>) -> Outcome<()> {
        let places: Vec<String> = (1..=table.columns.len())
            .map(|nth| format!("?{nth}"))
            .collect();
        let insert = format!(
            "INSERT INTO \"{}\" ({}) VALUES ({})",
            table.name,
            table.column_list(),
            places.join(", ")
        );
        self.run(|connection| connection.execute_batch("BEGIN IMMEDIATE"))?;
        self.run(|connection| connection.execute(&table.clear(), []))?;
        let mut statement = self.run(|connection| connection.prepare(&insert))?;
        let mut bytes = 0;
        fill(&mut |values| {
            self.run(|_| insert_row(&mut statement, values))?;
            bytes += values.iter().map(Value::bytes).sum::<usize>();
            if bytes >= BATCH_BYTES {
                bytes = 0;
                self.run(|connection| connection.execute_batch("COMMIT; BEGIN IMMEDIATE"))?;
            }
            Ok(())
        })?;
        self.run(|connection| connection.execute_batch("COMMIT"))
    }

    /// Whether a command has changed the configuration since the snapshot began.
    pub(in crate::store) fn has_changed(&self) -> Outcome<bool> {
        self.run(|connection| {
            connection.execute_batch("COMMIT")?;
            Ok(configuration_version(connection)? != self.version)
        })
    }

    pub(in crate::store) fn add_mark(&self) -> Outcome<()> {
        self.run(|connection| connection.execute_batch(ADD_MARK))
    }

    pub(in crate::store) fn orphans(&self) -> Outcome<Vec<String>> {
        check::orphans(&self.reader()).map_err(|error| self.failed(&error))
    }

    /// Has the next server build the search index, and continue after every tick of the source.
    pub(in crate::store) fn complete(&self) -> Outcome<()> {
        self.run(|connection| {
            let others: i64 = connection.query_row(LAST_TICK_OF_OTHERS, [], |row| row.get(0))?;
            let last = connection::last_tick(connection)?.0.max(others);
            connection.execute(SET_INDEXED, [last])?;
            connection.execute(SET_REBUILD, [last]).map(drop)
        })
    }

    /// Removes the mark, after all rows are on disk.
    pub(in crate::store) fn finish(self) -> Outcome<()> {
        self.run(|connection| {
            connection.pragma_update(None, "synchronous", "FULL")?;
            connection.execute_batch(REMOVE_MARK)?;
            connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        })?;
        let folder = self.path.parent().unwrap_or(Path::new("."));
        crate::files::sync_names(folder).map_err(|error| self.failed(&error))
    }
}

fn configuration_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row(VERSION, [], |row| row.get(0))
}

fn describe_table(connection: &Connection, name: String) -> rusqlite::Result<Described> {
    let mut columns = Vec::new();
    let mut key = Vec::new();
    let mut statement = connection.prepare_cached(COLUMNS)?;
    let mut rows = statement.query([&name])?;
    while let Some(row) = rows.next()? {
        let (column, place): (String, i64) = (row.get("name")?, row.get("pk")?);
        if place > 0 {
            key.push((place, column.clone()));
        }
        columns.push((column, row.get("type")?));
    }
    key.sort();
    let mut statement = connection.prepare_cached(REFERENCES)?;
    let refers_to = statement.query_map([&name], |row| row.get(0))?;
    Ok(Described {
        columns,
        key: key.into_iter().map(|(_, column)| column).collect(),
        refers_to: refers_to.collect::<rusqlite::Result<_>>()?,
        name,
    })
}

fn insert_row(statement: &mut Statement<'_>, values: &[Value<'_>]) -> rusqlite::Result<()> {
    for (index, value) in values.iter().enumerate() {
        statement.raw_bind_parameter(index + 1, value)?;
    }
    statement.raw_execute().map(drop)
}
