//! A database of a test on the PostgreSQL server of `SWITCHBOARD_TEST_POSTGRES`.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::{Builder, Runtime};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};
use url::Url;

/// A new database. Dropping it drops the database.
pub struct Database {
    server: Connection,
    url: String,
    name: String,
}

/// A connection that the calling thread drives.
pub struct Connection {
    runtime: Runtime,
    client: Client,
}

impl Connection {
    fn to(url: &str) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let client = runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
            tokio::spawn(connection);
            client
        });
        Self { runtime, client }
    }

    fn batch(&self, sql: &str) {
        let done = self.runtime.block_on(self.client.batch_execute(sql));
        done.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }
}

impl Database {
    pub fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let server = std::env::var("SWITCHBOARD_TEST_POSTGRES").expect(
            "set SWITCHBOARD_TEST_POSTGRES to the URL of a PostgreSQL superuser, such as postgres://postgres@127.0.0.1:5432/postgres",
        );
        let mut url: Url = server.parse().unwrap();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("switchboard_copy_{}_{number}", std::process::id());
        let server = Connection::to(&server);
        server.batch(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"));
        server.batch(&format!(
            "CREATE DATABASE {name} ENCODING 'UTF8' TEMPLATE template0"
        ));
        url.set_path(&name);
        Self {
            server,
            url: url.into(),
            name,
        }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// Runs statements.
    pub fn batch(&self, sql: &str) {
        Connection::to(&self.url).batch(sql);
    }

    /// The first column of all rows. NULL is an empty text.
    pub fn query(&self, sql: &str) -> Vec<String> {
        let connection = Connection::to(&self.url);
        let found = connection
            .runtime
            .block_on(connection.client.simple_query(sql));
        let rows = found.unwrap().into_iter().filter_map(|message| {
            let SimpleQueryMessage::Row(row) = message else {
                return None;
            };
            Some(row.get(0).unwrap_or_default().to_owned())
        });
        rows.collect()
    }

    /// Runs a statement in a transaction that ends when the connection is dropped.
    pub fn lock(&self, sql: &str) -> Connection {
        let connection = Connection::to(&self.url);
        connection.batch("BEGIN");
        connection.batch(sql);
        connection
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.server
            .batch(&format!("DROP DATABASE {} WITH (FORCE)", self.name));
    }
}
