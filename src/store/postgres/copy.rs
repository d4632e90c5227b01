//! A database on a PostgreSQL server as a side of a copy.

use std::pin::Pin;

use bytes::Bytes;
use futures_util::StreamExt;
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error};

use super::errors::describe;
use super::session::{Row, column_type};
use super::target::Target;
use super::{locks, migrations, search_texts};
use crate::model::names::TenantNo;
use crate::store::OpenError;
use crate::store::copy::tables::{ADD_MARK, Described, REMOVE_MARK, Table};
use crate::store::copy::{BATCH_BYTES, Fill, Outcome, Visit};
use crate::store::sql::Value;
use crate::store::turns::REQUEUE_RUNNING;
use crate::text::counted;

/// A copy takes as long as it takes.
const SETTINGS: &str = "SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0";
const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
const END: &str = "COMMIT";
const APPLIED: &str = "SELECT CAST(max(version) AS bigint) FROM refinery_schema_history";
/// Servers that hold their number, or that have said within 30 s that they live.
const SERVERS: &str = "
SELECT count(*) FROM nodes n
WHERE n.seen_at > CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint) - 30000
   OR EXISTS (SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database
              WHERE d.datname = current_database() AND l.locktype = 'advisory' AND l.granted
                AND CAST(l.classid AS bigint) = 21336 AND CAST(l.objid AS bigint) = n.node_no)";
/// The columns of all tables, with the place of each in the primary key, and the type of what is no
/// table.
const COLUMNS: &str = "
SELECT CAST(c.relname AS text) AS table_name, CAST(a.attname AS text) AS name, format_type(a.atttypid, NULL) AS type,
       array_position(CAST(i.indkey AS smallint[]), a.attnum) AS place
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary
WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p', 'f', 'm', 'S') AND c.relname <> 'refinery_schema_history'
ORDER BY c.relname, a.attnum";
const REFERENCES: &str = "
SELECT CAST(c.relname AS text) AS table_name, CAST(r.relname AS text) AS refers_to
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_class r ON r.oid = k.confrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE k.contype = 'f' AND n.nspname = current_schema()";
const UNCHECKED: &str = "
SELECT CAST(k.conname AS text) FROM pg_constraint k JOIN pg_namespace n ON n.oid = k.connamespace
WHERE n.nspname = current_schema() AND NOT k.convalidated";
const VERSION: &str = "SELECT version FROM configuration_version WHERE one = 1";
const ENVIRONMENT: &str = "SELECT environment FROM folder WHERE one = 1";
const SECRET: &str = "SELECT secret FROM signing_secret WHERE one = 1";
const SET_SECRET: &str = "INSERT INTO signing_secret (one, secret) VALUES (1, $1)";

/// Texts that one statement adds to the search index.
const TEXTS: i64 = 500;
const COUNT_TEXTS: &str = "
SELECT (SELECT count(*) FROM messages) + (SELECT count(*) FROM sessions WHERE coalesce(title, end_user_name) IS NOT NULL)";
const MESSAGES: &str = "
SELECT m.seq, s.tenant_no, m.session_seq, m.content FROM messages m JOIN sessions s ON s.seq = m.session_seq
WHERE m.seq > $1 ORDER BY m.seq LIMIT $2";
const TITLES: &str = "
SELECT seq, tenant_no, seq, coalesce(title || chr(10) || end_user_name, title, end_user_name)
FROM sessions WHERE seq > $1 AND coalesce(title, end_user_name) IS NOT NULL ORDER BY seq LIMIT $2";
const ADD_MESSAGES: &str = "
INSERT INTO message_search (seq, part, session_seq, words)
SELECT t.seq, r.part, t.session_seq, CAST(r.words AS tsvector) FROM unnest($1, $2, $3) AS t (seq, session_seq, words),
  unnest(string_to_array(t.words, chr(10))) WITH ORDINALITY AS r (words, part)";
const ADD_TITLES: &str = "
INSERT INTO title_search (seq, part, words)
SELECT t.seq, r.part, CAST(r.words AS tsvector) FROM unnest($1, $2, $3) AS t (seq, session_seq, words),
  unnest(string_to_array(t.words, chr(10))) WITH ORDINALITY AS r (words, part)";

/// A database, and one connection that this thread drives.
pub(in crate::store) struct Server {
    runtime: Runtime,
    client: Client,
    place: String,
    /// The configuration's version in the snapshot of a source.
    version: i64,
}

impl Server {
    /// Opens a database to read one snapshot of it.
    ///
    /// # Errors
    /// The server cannot be reached or used; a node serves the database.
    pub(in crate::store) fn open_source(target: &Target) -> Outcome<Self> {
        let mut source = Self::open(target)?;
        source.refuse_servers()?;
        source.batch(BEGIN)?;
        source.version = source.number(VERSION)?;
        Ok(source)
    }

    /// Opens a database to fill it.
    ///
    /// # Errors
    /// Those of [`Server::open_source`].
    pub(in crate::store) fn open_target(target: &Target) -> Outcome<Self> {
        let server = Self::open(target)?;
        server.refuse_servers()?;
        Ok(server)
    }

    fn open(target: &Target) -> Outcome<Self> {
        let failed =
            |error: &dyn std::fmt::Display| OpenError(format!("cannot use {target}: {error}"));
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| failed(&error))?;
        let client = runtime.block_on(async {
            let told = |error: Error| failed(&describe(&error));
            let connected = target.connect().await;
            let (mut client, connection) = connected.map_err(|error| failed(&error))?;
            tokio::spawn(connection);
            target.check(&client, false).await?;
            migrations::run(&mut client, target).await?;
            Target::prepare(&client).await.map_err(told)?;
            client.batch_execute(SETTINGS).await.map_err(told)?;
            Ok::<_, OpenError>(client)
        })?;
        let server = Self {
            runtime,
            client,
            place: target.to_string(),
            version: 0,
        };
        if server.number(APPLIED)? == migrations::newest() {
            return Ok(server);
        }
        Err(failed(
            &"it was written by a newer switchboard; copy with the newer version",
        ))
    }

    fn refuse_servers(&self) -> Outcome<()> {
        match self.number(SERVERS)? {
            0 => Ok(()),
            servers => Err(OpenError(format!(
                "{} on {}; stop them first (one that was killed counts for 30 s)",
                counted(servers, "server runs", "servers run"),
                self.place
            ))),
        }
    }

    /// Waits for an answer of the server.
    fn wait<T>(&self, answer: impl Future<Output = Result<T, Error>>) -> Outcome<T> {
        let answer = self.runtime.block_on(answer);
        answer.map_err(|error| self.failed(&describe(&error)))
    }

    fn failed(&self, error: &dyn std::fmt::Display) -> OpenError {
        OpenError(format!("{}: {error}", self.place))
    }

    fn batch(&self, sql: &str) -> Outcome<()> {
        self.wait(self.client.batch_execute(sql))
    }

    fn number(&self, sql: &str) -> Outcome<i64> {
        self.wait(async { self.client.query_one(sql, &[]).await?.try_get(0) })
    }

    pub(in crate::store) fn describe(&self) -> Outcome<Vec<Described>> {
        let columns = self.wait(self.client.query(COLUMNS, &[]))?;
        let references = self.wait(self.client.query(REFERENCES, &[]))?;
        let mut tables: Vec<Described> = Vec::new();
        let mut keys: Vec<Vec<(i32, String)>> = Vec::new();
        for row in &columns {
            let (table, column): (String, String) = (row.get("table_name"), row.get("name"));
            if tables.last().is_none_or(|last| last.name != table) {
                let own = references
                    .iter()
                    .filter(|row| row.get::<_, &str>("table_name") == table);
                tables.push(Described {
                    refers_to: own.map(|row| row.get("refers_to")).collect(),
                    columns: Vec::new(),
                    key: Vec::new(),
                    name: table,
                });
                keys.push(Vec::new());
            }
            if let (Some(table), Some(key)) = (tables.last_mut(), keys.last_mut()) {
                if let Some(place) = row.get("place") {
                    key.push((place, column.clone()));
                }
                table.columns.push((column, row.get("type")));
            }
        }
        for (table, mut key) in tables.iter_mut().zip(keys) {
            key.sort();
            table.key = key.into_iter().map(|(_, column)| column).collect();
        }
        Ok(tables)
    }

    pub(in crate::store) fn count(&self, table: &Table) -> Outcome<u64> {
        let rows = self.number(&table.count())?;
        Ok(u64::try_from(rows).unwrap_or_default())
    }

    pub(in crate::store) fn environment(&self) -> Outcome<Option<String>> {
        self.wait(async { self.client.query_one(ENVIRONMENT, &[]).await?.try_get(0) })
    }

    /// The rows come as fast as they are visited: the connection holds a few of them.
    pub(in crate::store) fn each_row(&self, table: &Table, visit: &mut Visit<'_>) -> Outcome<()> {
        let none = std::iter::empty::<&(dyn ToSql + Sync)>();
        let select = table.select();
        let rows = self.wait(self.client.query_raw(select.as_str(), none))?;
        let mut rows = Box::pin(rows);
        while let Some(row) = self.runtime.block_on(rows.next()) {
            let row = Row::of(row.map_err(|error| self.failed(&describe(&error)))?);
            let values = (0..row.column_count()).map(|column| row.value(column));
            let values = values.collect::<Result<Vec<_>, _>>();
            visit(&values.map_err(|error| self.failed(&error))?)?;
        }
        Ok(())
    }

    pub(in crate::store) fn load(&self, table: &Table, fill: &mut Fill<'_>) -> Outcome<()> {
        let into = format!(
            "COPY \"{}\" ({}) FROM STDIN (FORMAT binary)",
            table.name,
            table.column_list()
        );
        let columns = table.columns.iter();
        let types: Vec<Type> = columns.map(|column| column_type(column.kind)).collect();
        self.batch(&table.clear())?;
        let (mut batch, mut bytes) = (None, 0);
        fill(&mut |values| {
            let writer = match &mut batch {
                Some(writer) => writer,
                empty @ None => empty.insert(self.begin_batch(&into, &types)?),
            };
            self.write(writer, values)?;
            bytes += values.iter().map(Value::bytes).sum::<usize>();
            if bytes >= BATCH_BYTES {
                self.wait(writer.as_mut().finish())?;
                (batch, bytes) = (None, 0);
            }
            Ok(())
        })?;
        match batch {
            Some(mut writer) => self.wait(writer.as_mut().finish()).map(drop),
            None => Ok(()),
        }
    }

    fn begin_batch(&self, into: &str, types: &[Type]) -> Outcome<Pin<Box<BinaryCopyInWriter>>> {
        let sink = self.wait(self.client.copy_in::<_, Bytes>(into))?;
        Ok(Box::pin(BinaryCopyInWriter::new(sink, types)))
    }

    fn write(
        &self,
        writer: &mut Pin<Box<BinaryCopyInWriter>>,
        values: &[Value<'_>],
    ) -> Outcome<()> {
        let values: Vec<&(dyn ToSql + Sync)> = values
            .iter()
            .map(|value| value as &(dyn ToSql + Sync))
            .collect();
        let Err(error) = self.wait(writer.as_mut().write(&values)) else {
            return Ok(());
        };
        // The end of the batch tells why the server took no more.
        self.wait(writer.as_mut().finish())?;
        Err(error)
    }

    /// Whether a server has started, or a command has changed the configuration, since the snapshot
    /// began. A server raises the version at its start.
    pub(in crate::store) fn has_changed(&self) -> Outcome<bool> {
        self.batch(END)?;
        Ok(self.number(SERVERS)? > 0 || self.number(VERSION)? != self.version)
    }

    pub(in crate::store) fn add_mark(&self) -> Outcome<()> {
        // No other program opens the database meanwhile.
        self.batch(locks::MIGRATION)?;
        let marked = self.batch(ADD_MARK);
        self.batch(locks::END_MIGRATION)?;
        marked?;
        self.refuse_servers()
    }

    /// The server checks every reference as it takes the rows, unless somebody has told it not to.
    pub(in crate::store) fn orphans(&self) -> Outcome<Vec<String>> {
        let unchecked = self.wait(self.client.query(UNCHECKED, &[]))?;
        let unchecked = unchecked.iter().map(|row| row.get::<_, String>(0));
        Ok(unchecked
            .map(|name| format!("the reference {name} is not validated"))
            .collect())
    }

    /// Builds the search index, queues the turns that ran, and measures the tables for the planner.
    pub(in crate::store) fn complete(&self, report: &mut dyn FnMut(u64, u64)) -> Outcome<()> {
        let total = u64::try_from(self.number(COUNT_TEXTS)?).unwrap_or_default();
        let mut done = 0;
        for (select, add) in [(MESSAGES, ADD_MESSAGES), (TITLES, ADD_TITLES)] {
            let mut after = 0;
            while let Some((last, texts)) = self.index_after(select, add, after)? {
                after = last;
                done += texts;
                report(done, total);
            }
        }
        self.batch(REQUEUE_RUNNING)?;
        self.batch("ANALYZE")
    }

    /// Indexes the next texts. Returns the last one's number and how many there were.
    fn index_after(&self, select: &str, add: &str, after: i64) -> Outcome<Option<(i64, u64)>> {
        let rows = self.wait(self.client.query(select, &[&after, &TEXTS]))?;
        let numbers =
            |column: usize| -> Vec<i64> { rows.iter().map(|row| row.get(column)).collect() };
        let words =
            |row: &tokio_postgres::Row| search_texts::rows(TenantNo(row.get(1)), row.get(3));
        let words: Vec<String> = rows.iter().map(words).collect();
        let (texts, sessions) = (numbers(0), numbers(2));
        let Some(last) = texts.last().copied() else {
            return Ok(None);
        };
        let types = [Type::INT8_ARRAY, Type::INT8_ARRAY, Type::TEXT_ARRAY];
        self.wait(async {
            let add = self.client.prepare_typed(add, &types).await?;
            let values: [&(dyn ToSql + Sync); 3] = [&texts, &sessions, &words];
            self.client.execute(&add, &values).await
        })?;
        Ok(Some((last, u64::try_from(rows.len()).unwrap_or_default())))
    }

    /// The signing secret that the servers of the database share.
    pub(in crate::store) fn secret(&self) -> Outcome<Option<Vec<u8>>> {
        let row = self.wait(self.client.query_opt(SECRET, &[]))?;
        Ok(row.map(|row| row.get(0)))
    }

    pub(in crate::store) fn set_secret(&self, secret: &[u8]) -> Outcome<()> {
        self.wait(self.client.execute(SET_SECRET, &[&secret]))
            .map(drop)
    }

    /// Removes the mark.
    pub(in crate::store) fn finish(self) -> Outcome<()> {
        self.batch(REMOVE_MARK)
    }
}
