//! Long reads of one tenant keep nobody else from reading, and end in time.

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use switchboard::model::names::TenantNo;

use crate::support::Server;

#[test]
fn one_tenants_long_reads_leave_room_for_another_and_for_every_short_one() {
    let server = Server::demo();
    let store = server.app.store.clone();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (begin, begun) = channel();
    let (release, released) = channel::<()>();
    let released = Arc::new(Mutex::new(released));
    let reads: Vec<_> = (0..8)
        .map(|number| {
            let (store, begin, released) = (store.clone(), begin.clone(), Arc::clone(&released));
            runtime.spawn(async move {
                let read = store.read_long(Some(TenantNo(1)), move |_| {
                    begin.send(number).unwrap();
                    released.lock().unwrap().recv().unwrap();
                    Ok(number)
                });
                read.await.unwrap()
            })
        })
        .collect();
    begun.recv().unwrap();
    begun.recv().unwrap();
    // Two of them are under way, and no third begins.
    server.fabrikam().gets("/whoami").expect(200);
    server.northwind().gets("/whoami").expect(200);
    server.fabrikam().gets("/agents?q=helper").expect(200);
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
