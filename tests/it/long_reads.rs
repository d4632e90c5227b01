//! Long reads: those of one tenant do not block others, and they yield to the checkpoint.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rusqlite::Connection;
use switchboard::model::names::TenantNo;
use switchboard::store::{LongRead, database_file, tenants};

use crate::database::{is_on_postgres, sqlite_only};
use crate::support::{Server, technician};

/// Long reads of one kind and one tenant at a time.
pub fn reads_of_a_tenant() -> usize {
    if is_on_postgres() { 1 } else { 2 }
}

/// Starts eight long reads of one kind for a tenant. Some of them run. Calls `check`, asserts that no
/// other read has started, and lets all of them end.
pub fn while_some_of_eight_run(
    server: &Server,
    kind: LongRead,
    tenant: TenantNo,
    check: impl FnOnce(),
) {
    let store = server.app.store.clone();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (begin, begun) = channel();
    let (release, released) = channel::<()>();
    let released = Arc::new(Mutex::new(released));
    let reads: Vec<_> = (0..8)
        .map(|number| {
            let (store, begin, released) = (store.clone(), begin.clone(), Arc::clone(&released));
            runtime.spawn(async move {
                let read = store.read_long(kind, Some(tenant), move |_| {
                    begin.send(()).unwrap();
                    released.lock().unwrap().recv().unwrap();
                    Ok(number)
                });
                read.await.unwrap()
            })
        })
        .collect();
    for _ in 0..reads_of_a_tenant() {
        begun.recv().unwrap();
    }
    check();
    assert!(begun.try_recv().is_err());
    for _ in 0..8 {
        release.send(()).unwrap();
    }
    let mut done: Vec<i32> = reads
        .into_iter()
        .map(|read| runtime.block_on(read).unwrap())
        .collect();
    done.sort_unstable();
    assert_eq!(done, (0..8).collect::<Vec<_>>());
}

#[test]
fn one_tenants_long_reads_leave_capacity_for_other_tenants_and_for_short_reads() {
    let server = Server::demo();
    while_some_of_eight_run(&server, LongRead::List, TenantNo(1), || {
        server.fabrikam().get("/whoami").expect(200);
        server.northwind().get("/whoami").expect(200);
        server.fabrikam().get("/agents?q=helper").expect(200);
    });
}

#[test]
fn a_long_read_yields_so_that_the_write_ahead_log_can_restart_and_then_restarts_itself() {
    sqlite_only!();
    let server = Server::demo();
    let store = server.app.store.clone();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let northwind = server.northwind();
    // Another process grows the log; the server notices its length at its own next commit.
    let other = Connection::open(database_file(server.folder())).unwrap();
    other.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
    other
        .execute_batch("CREATE TABLE ballast (bytes BLOB)")
        .unwrap();
    let log = format!("{}-wal", database_file(server.folder()).display());
    let length = || std::fs::metadata(&log).unwrap().len();
    let write = || {
        let ballast = "INSERT INTO ballast VALUES (randomblob(10485760))";
        other.execute(ballast, []).unwrap();
        northwind.session(technician());
    };

    let (begin, begun) = channel();
    let is_enough = Arc::new(AtomicBool::new(false));
    let (reads, is_over) = (store.clone(), Arc::clone(&is_enough));
    let first = runtime.spawn(async move {
        let read = reads.read_long(LongRead::List, Some(TenantNo(1)), move |reader| {
            begin.send(()).unwrap();
            while !is_over.load(Ordering::SeqCst) {
                tenants::all(reader)?;
            }
            Ok(tenants::all(reader)?.len())
        });
        read.await.unwrap()
    });
    begun.recv().unwrap();
    for _ in 0..7 {
        write();
    }
    let grown = length();
    assert!(grown > 64 << 20, "{grown}");
    begun.recv_timeout(Duration::from_secs(60)).unwrap();
    for _ in 0..6 {
        write();
    }
    assert!(length() <= grown, "the log was not begun again");
    is_enough.store(true, Ordering::SeqCst);
    assert_eq!(runtime.block_on(first).unwrap(), 3);
    // Other tenants' long reads, short reads and writes continue.
    server.fabrikam().get("/agents?q=helper").expect(200);
    server.fabrikam().get("/whoami").expect(200);
}
