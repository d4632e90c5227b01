//! The database of several nodes, as the test sees it.

use std::env;
use std::process;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::Builder;
use tokio_postgres::{Client, Error, NoTls, Row};

/// How long a test waits for an expected state; only a failing test waits this long.
const TIMEOUT: Duration = Duration::from_secs(90);

/// The URL of a superuser on a server that the tests do not stop.
const SERVER: &str = "SWITCHBOARD_TEST_POSTGRES";

/// A database, which is dropped at the end if the test has made it.
pub struct Database {
    url: String,
    made: Option<String>,
}

fn on<T>(url: &str, step: impl AsyncFnOnce(&Client) -> Result<T, Error>) -> Result<T, Error> {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
        let driver = tokio::spawn(async { drop(connection.await) });
        let outcome = step(&client).await;
        drop(client);
        drop(driver.await);
        outcome
    })
}

impl Database {
    /// A database that exists.
    pub fn at(url: String) -> Self {
        Self { url, made: None }
    }

    /// Makes a database on the server of the environment. Without one, the test fails.
    pub fn make() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let server = env::var(SERVER).unwrap_or_else(|_| {
            panic!("set {SERVER} to the URL of a PostgreSQL superuser, such as postgres://postgres@127.0.0.1:5432/postgres")
        });
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("switchboard_nodes_{}_{number}", process::id());
        Self::at(server.clone()).run(&format!("CREATE DATABASE {name}"));
        let (place, _) = server.rsplit_once('/').expect("the URL names a database");
        Self {
            url: format!("{place}/{name}"),
            made: Some(server),
        }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// The port of the server.
    pub fn port(&self) -> u16 {
        let config: tokio_postgres::Config = self.url.parse().unwrap();
        config.get_ports().first().copied().unwrap_or(5432)
    }

    /// The same database through another port.
    pub fn url_at(&self, port: u16) -> String {
        let own = format!(":{}/", self.port());
        assert!(self.url.contains(&own), "the URL names a port");
        self.url.replacen(&own, &format!(":{port}/"), 1)
    }

    pub fn rows(&self, sql: &str) -> Vec<Row> {
        self.try_rows(sql)
            .unwrap_or_else(|error| panic!("{sql}: {error:?}"))
    }

    fn try_rows(&self, sql: &str) -> Result<Vec<Row>, Error> {
        on(&self.url, async |client| client.query(sql, &[]).await)
    }

    pub fn run(&self, sql: &str) {
        on(&self.url, async |client| client.batch_execute(sql).await)
            .unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    /// Takes a step while no change of a table is possible.
    pub fn while_locked(&self, table: &str, step: impl FnOnce() + Send) {
        let lock = format!("BEGIN; LOCK TABLE {table} IN SHARE MODE");
        on(&self.url, async |client| {
            client.batch_execute(&lock).await?;
            // A thread of its own may wait for other queries.
            thread::scope(|scope| scope.spawn(step).join().unwrap());
            client.batch_execute("ROLLBACK").await
        })
        .unwrap_or_else(|error| panic!("{lock}: {error:?}"));
    }

    /// Runs a change that may have to give way to others. Returns whether it is done.
    pub fn try_run(&self, sql: &str) -> bool {
        on(&self.url, async |client| client.batch_execute(sql).await).is_ok()
    }

    /// A number in the database.
    pub fn number(&self, sql: &str) -> i64 {
        self.rows(sql)[0].get(0)
    }

    /// Waits until a number in the database is this.
    pub fn until(&self, sql: &str, wanted: i64) {
        let deadline = Instant::now() + TIMEOUT;
        let ended = on(&self.url, async |client| {
            loop {
                let found: i64 = client.query_one(sql, &[]).await?.get(0);
                if found == wanted || Instant::now() > deadline {
                    return Ok(found);
                }
                client.query_one("SELECT pg_sleep(0.005)", &[]).await?;
            }
        });
        assert_eq!(ended.unwrap(), wanted, "{sql}");
    }

    /// The lease of the node at an address.
    pub fn lease_of(&self, address: &str) -> i64 {
        self.number(&format!(
            "SELECT coalesce(max(lease_no), 0) FROM nodes WHERE address = '{address}'"
        ))
    }

    /// Waits until no node has a lease any more; returns the time.
    pub fn until_lost(&self, lease: i64) -> Duration {
        let begun = Instant::now();
        self.until(
            &format!("SELECT count(*) FROM nodes WHERE lease_no = {lease}"),
            0,
        );
        begun.elapsed()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let Some(server) = &self.made else { return };
        let (_, name) = self.url.rsplit_once('/').unwrap_or_default();
        let drop_it = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
        if let Err(error) = on(server, async |client| client.batch_execute(&drop_it).await) {
            eprintln!("{drop_it}: {error}");
        }
    }
}
