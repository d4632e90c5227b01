//! A database of a unit test, on the server of `SWITCHBOARD_TEST_POSTGRES`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::link::Link;
use super::session::Session;
use super::target::Target;

/// A database that the test has to itself. All its statements are one transaction.
pub(in crate::store) struct Scratch {
    server: String,
    name: String,
    link: Option<Link>,
}

impl Scratch {
    /// Creates a database with these tables.
    pub(in crate::store) fn with(tables: &str) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let server = std::env::var("SWITCHBOARD_TEST_POSTGRES").expect(
            "set SWITCHBOARD_TEST_POSTGRES to the URL of a PostgreSQL superuser, such as postgres://postgres@127.0.0.1:5432/postgres",
        );
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("switchboard_unit_{}_{number}", std::process::id());
        on_server(&server, &format!("CREATE DATABASE {name}"));
        let (place, _) = server.rsplit_once('/').unwrap();
        let link = link(&format!("{place}/{name}"));
        link.begin("BEGIN");
        link.execute("SELECT 1", &[]).unwrap();
        link.batch(tables).unwrap();
        Self {
            server,
            name,
            link: Some(link),
        }
    }

    pub(in crate::store) fn session(&self) -> Session<'_> {
        Session::of(self.link.as_ref().unwrap())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.link = None;
        let drop = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        on_server(&self.server, &drop);
    }
}

fn link(url: &str) -> Link {
    Link::new(Arc::new(Target::parse(url).unwrap()), Arc::default()).unwrap()
}

fn on_server(url: &str, sql: &str) {
    let link = link(url);
    link.begin_nothing();
    link.execute(sql, &[]).unwrap();
}
