//! The database of one test: the file of a data folder, or a database on a PostgreSQL server.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rusqlite::types::{FromSql, Value, ValueRef};
use rusqlite::{Connection as File, OpenFlags, TransactionBehavior};
use switchboard::model::clock::Clock;
use switchboard::store::postgres::{MIN_CONNECTIONS, Target};
use switchboard::store::{Store, database_file};
use tokio::runtime::Builder;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, NoTls};
use url::Url;

/// Which engine the tests run on: `sqlite`, which is the default, or `postgres`.
const ENGINE: &str = "SWITCHBOARD_TEST_ENGINE";
/// The URL of a superuser on the server of the PostgreSQL leg.
const SERVER: &str = "SWITCHBOARD_TEST_POSTGRES";

/// Whether the tests run on PostgreSQL.
pub fn is_on_postgres() -> bool {
    match env::var(ENGINE).as_deref() {
        Err(_) | Ok("" | "sqlite") => false,
        Ok("postgres") => true,
        Ok(other) => panic!("{ENGINE} is {other}; set it to sqlite or postgres"),
    }
}

/// Ends a test that opens or damages the SQLite file itself, if the tests run on PostgreSQL.
/// docs/testing.md lists these tests.
macro_rules! sqlite_only {
    () => {
        if crate::database::is_on_postgres() {
            return;
        }
    };
}
pub(crate) use sqlite_only;

/// The databases of one PostgreSQL server.
struct Server {
    url: Url,
    /// A database with the schema and no rows.
    template: String,
}

impl Server {
    /// The server of the environment. Without one, the test fails.
    fn get() -> &'static Self {
        static SERVERS: OnceLock<Result<Server, String>> = OnceLock::new();
        let server = SERVERS.get_or_init(Self::of_environment);
        server.as_ref().unwrap_or_else(|error| panic!("{error}"))
    }

    fn of_environment() -> Result<Self, String> {
        let url = env::var(SERVER).map_err(|_| {
            format!(
                "{SERVER} is not set; set it to the URL of a PostgreSQL superuser, such as postgres://postgres@127.0.0.1:5432/postgres"
            )
        })?;
        let url: Url = url.parse().map_err(|error| format!("{SERVER}: {error}"))?;
        let template = format!("switchboard_{:016x}", hash_of_migrations());
        let server = Self { url, template };
        server.make_template()?;
        Ok(server)
    }

    /// The URL of one of its databases.
    fn url_of(&self, database: &str) -> String {
        let mut url = self.url.clone();
        url.set_path(database);
        url.into()
    }

    /// Migrates the template, unless an earlier run has done it. Another run waits meanwhile.
    fn make_template(&self) -> Result<(), String> {
        let name = &self.template;
        let draft = format!("{name}_draft");
        let (exists, draft_url) = (
            format!("SELECT count(*) FROM pg_database WHERE datname = '{name}'"),
            self.url_of(&draft),
        );
        on(self.url.as_str(), async |client| {
            client.batch_execute("SELECT pg_advisory_lock(1)").await?;
            if client.query_one(&exists, &[]).await?.get::<_, i64>(0) > 0 {
                return Ok(());
            }
            let anew = [
                format!("DROP DATABASE IF EXISTS {draft} WITH (FORCE)"),
                format!("CREATE DATABASE {draft} TEMPLATE template0 ENCODING 'UTF8'"),
            ];
            for statement in anew {
                client.batch_execute(&statement).await?;
            }
            thread::scope(|scope| {
                let migrate = || drop(connect(&draft_url, Clock::System));
                scope.spawn(migrate).join().unwrap();
            });
            // With it, `check` compares every index with its table.
            let extend =
                async |client: &Client| client.batch_execute("CREATE EXTENSION amcheck").await;
            on(&draft_url, extend)?;
            let rename = format!("ALTER DATABASE {draft} RENAME TO {name}");
            client.batch_execute(&rename).await
        })
        .map_err(|error| format!("{SERVER}: {} cannot be used: {error:?}", self.url))
    }

    /// Creates a database with the schema. Returns its name.
    fn new_database(&self) -> String {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("switchboard_test_{}_{number}", process::id());
        self.run(&[
            // Of a former process with the same number.
            format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"),
            format!("CREATE DATABASE {name} TEMPLATE {}", self.template),
        ]);
        name
    }

    fn run(&self, statements: &[String]) {
        let done = on(self.url.as_str(), async |client| {
            for statement in statements {
                client.batch_execute(statement).await?;
            }
            Ok(())
        });
        done.unwrap_or_else(|error| panic!("{statements:?}: {error:?}"));
    }
}

/// Changes with the schema, so that each version has a template of its own.
fn hash_of_migrations() -> u64 {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/postgres");
    let files = fs::read_dir(folder).unwrap().map(|entry| {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        (path, text)
    });
    let mut hasher = DefaultHasher::new();
    "amcheck".hash(&mut hasher);
    files.collect::<BTreeMap<_, _>>().hash(&mut hasher);
    hasher.finish()
}

/// Runs a step on a connection of its own, on a thread of its own: the caller can be a thread of a
/// runtime.
fn on<T: Send>(
    url: &str,
    step: impl AsyncFnOnce(&Client) -> Result<T, tokio_postgres::Error> + Send,
) -> Result<T, tokio_postgres::Error> {
    let run = || {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
            tokio::spawn(connection);
            step(&client).await
        })
    };
    thread::scope(|scope| scope.spawn(run).join().unwrap())
}

fn connect(url: &str, clock: Clock) -> Store {
    let target = Target::parse(url).unwrap();
    Store::connect(&target, clock, MIN_CONNECTIONS, true).unwrap()
}

/// The database of a data folder. On the PostgreSQL leg the folder stays empty, and the database is
/// on the server, from its first use until it is dropped.
pub struct Database {
    folder: PathBuf,
    name: OnceLock<String>,
}

impl Database {
    pub fn of(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            name: OnceLock::new(),
        }
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The URL on the PostgreSQL leg.
    pub fn url(&self) -> Option<String> {
        is_on_postgres().then(|| {
            let server = Server::get();
            server.url_of(self.name.get_or_init(|| server.new_database()))
        })
    }

    /// Opens the database in this process, as a server does.
    pub fn open(&self, clock: Clock) -> Store {
        self.try_open(clock).unwrap()
    }

    /// As [`Database::open`], for a file that may be damaged.
    pub fn try_open(&self, clock: Clock) -> Result<Store, String> {
        match self.url() {
            Some(url) => Ok(connect(&url, clock)),
            None => Store::open(&self.folder, clock).map_err(|error| error.to_string()),
        }
    }

    /// Has a command work on the database.
    pub fn name_to(&self, command: &mut Command) {
        command.env("SWITCHBOARD_DATA", &self.folder);
        if let Some(url) = self.url() {
            command.env("SWITCHBOARD_DATABASE", url).env(
                "SWITCHBOARD_DATABASE_CONNECTIONS",
                MIN_CONNECTIONS.to_string(),
            );
        }
    }

    /// Reads the rows of a query, on a separate connection.
    pub fn rows(&self, sql: &str) -> Vec<Row> {
        let Some(url) = self.url() else {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
            let file = File::open_with_flags(database_file(&self.folder), flags).unwrap();
            file.busy_timeout(Duration::from_secs(10)).unwrap();
            let mut statement = file.prepare(sql).unwrap();
            let columns = 0..statement.column_count();
            let rows = statement.query_map([], |row| {
                columns.clone().map(|column| row.get(column)).collect()
            });
            let rows: Result<_, _> = rows.unwrap().map(|row| row.map(Row)).collect();
            return rows.unwrap();
        };
        let rows = on(&url, async |client| client.query(sql, &[]).await);
        let rows = rows.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        rows.iter().map(Row::of_postgres).collect()
    }

    /// Reads one value, on a separate connection.
    pub fn stored<T: FromSql>(&self, sql: &str) -> T {
        self.rows(sql)[0].get(0)
    }

    /// The tables that have a column of this name.
    pub fn tables_with(&self, column: &str) -> Vec<String> {
        let sql = if is_on_postgres() {
            format!(
                "SELECT CAST(table_name AS text) FROM information_schema.columns
                 WHERE table_schema = 'public' AND column_name = '{column}' ORDER BY 1"
            )
        } else {
            format!(
                "SELECT m.name FROM sqlite_schema m JOIN pragma_table_info(m.name) c
                 WHERE m.type = 'table' AND c.name = '{column}' ORDER BY m.name"
            )
        };
        self.rows(&sql).iter().map(|row| row.get(0)).collect()
    }

    /// Whether a file of the folder, or a row of a table on the server, contains a text. Case does
    /// not count.
    pub fn holds(&self, text: &str) -> bool {
        let Some(url) = self.url() else {
            return fs::read_dir(&self.folder).unwrap().any(|entry| {
                let bytes = fs::read(entry.unwrap().path()).unwrap();
                bytes
                    .windows(text.len())
                    .any(|window| window.eq_ignore_ascii_case(text.as_bytes()))
            });
        };
        let tables = "SELECT CAST(tablename AS text) FROM pg_tables WHERE schemaname = 'public'";
        let found = on(&url, async |client| {
            for table in client.query(tables, &[]).await? {
                let table: String = table.get(0);
                // Bytes are in hexadecimal, of which a part cannot be looked for by its case.
                let rows = format!(
                    "SELECT 1 FROM {table} t WHERE CAST(t AS text) ILIKE $1 OR CAST(t AS text) LIKE $2"
                );
                let bytes: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
                let patterns = [text, bytes.as_str()].map(|part| format!("%{part}%"));
                if !client
                    .query(&rows, &[&patterns[0], &patterns[1]])
                    .await?
                    .is_empty()
                {
                    return Ok(true);
                }
            }
            Ok(false)
        });
        found.unwrap()
    }

    /// The secret that signs tokens.
    pub fn signing_secret(&self) -> Vec<u8> {
        match is_on_postgres() {
            true => self.stored("SELECT secret FROM signing_secret"),
            false => fs::read(self.folder.join("signing.secret")).unwrap(),
        }
    }

    /// Writes on a separate connection. Returns the number of rows that changed.
    pub fn execute_sql(&self, sql: &str) -> usize {
        self.try_sql(sql)
            .unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// Runs a step while another process holds the lock that changes of sessions need.
    pub fn while_locked<T: Send>(&self, step: impl FnOnce() -> T + Send) -> T {
        if let Some(url) = self.url() {
            let lock = "BEGIN; LOCK TABLE sessions IN ACCESS EXCLUSIVE MODE";
            let done = on(&url, async |client| {
                client.batch_execute(lock).await?;
                Ok(step())
            });
            return done.unwrap();
        }
        let mut file = File::open(database_file(&self.folder)).unwrap();
        let held = file.transaction_with_behavior(TransactionBehavior::Immediate);
        let done = step();
        held.unwrap().rollback().unwrap();
        done
    }

    /// Refuses statements of a kind on a table, as a fault of the engine would. PostgreSQL names the
    /// condition.
    pub fn refuse(&self, kind: &str, table: &str, condition: &str) {
        if !is_on_postgres() {
            self.execute_sql(&format!(
                "CREATE TRIGGER refused BEFORE {kind} ON {table} BEGIN SELECT RAISE(ABORT, 'refused'); END"
            ));
            return;
        }
        self.execute_sql(&format!(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE {condition}; END $$"
        ));
        self.execute_sql(&format!(
            "CREATE TRIGGER refused BEFORE {kind} ON {table} FOR EACH ROW EXECUTE FUNCTION refuse()"
        ));
    }

    /// Ends [`Database::refuse`].
    pub fn accept_again(&self, table: &str) {
        let drop = match is_on_postgres() {
            true => format!("DROP TRIGGER refused ON {table}"),
            false => "DROP TRIGGER refused".to_owned(),
        };
        self.execute_sql(&drop);
    }

    /// As [`Database::execute_sql`], for a statement that may be refused.
    pub fn try_sql(&self, sql: &str) -> Result<usize, String> {
        match self.url() {
            Some(url) => on(&url, async |client| client.execute(sql, &[]).await)
                .map(|rows| rows.try_into().unwrap())
                .map_err(|error| format!("{error:?}")),
            None => {
                let file = File::open(database_file(&self.folder)).unwrap();
                // No test cuts the power after such a change.
                file.pragma_update(None, "synchronous", "OFF").unwrap();
                file.execute(sql, []).map_err(|error| error.to_string())
            }
        }
    }
}

/// A row of either engine.
pub struct Row(Vec<Value>);

impl Row {
    fn of_postgres(row: &tokio_postgres::Row) -> Self {
        let values = row.columns().iter().enumerate().map(|(at, column)| {
            let value = match *column.type_() {
                Type::INT8 => row.get::<_, Option<i64>>(at).map(Value::Integer),
                Type::INT4 => row
                    .get::<_, Option<i32>>(at)
                    .map(|number| Value::Integer(number.into())),
                Type::BOOL => row
                    .get::<_, Option<bool>>(at)
                    .map(|is_so| Value::Integer(is_so.into())),
                Type::TEXT => row.get::<_, Option<String>>(at).map(Value::Text),
                Type::BYTEA => row.get::<_, Option<Vec<u8>>>(at).map(Value::Blob),
                ref other => panic!("a column of the type {other}"),
            };
            value.unwrap_or(Value::Null)
        });
        Self(values.collect())
    }

    pub fn get<T: FromSql>(&self, column: usize) -> T {
        T::column_result(ValueRef::from(&self.0[column])).unwrap()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Some(name) = self.name.get() {
            Server::get().run(&[format!("DROP DATABASE {name} WITH (FORCE)")]);
        }
    }
}
