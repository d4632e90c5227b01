//! Filtered lists of sessions: one index answers them, or they take the room of long reads.

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::json;
use switchboard::model::names::TenantNo;
use switchboard::store::LongRead;

use crate::authority::{Authority, NEWCOMER};
use crate::long_reads::reads_of_a_tenant;
use crate::management::{flags, person};
use crate::support::{ApiClient, CONTOSO, DEMO, Server, from};

/// The filters that lists of sessions take, for Northwind's channel with this id.
fn filters(channel: &str) -> [String; 6] {
    [
        "agent_id=101".to_owned(),
        format!("channel_id={channel}"),
        "end_company_id=1001".to_owned(),
        "end_user_id=mia".to_owned(),
        "external_id=chat-1".to_owned(),
        "metadata.ticket=4711".to_owned(),
    ]
}

/// The combinations of two or three filters.
fn combined(filters: &[String; 6]) -> Vec<String> {
    let [agent, channel, company, user, external, pair] = filters;
    vec![
        format!("{agent}&{channel}"),
        format!("{agent}&{company}"),
        format!("{channel}&{company}"),
        format!("{agent}&{channel}&{company}"),
        format!("{user}&{external}"),
        format!("{external}&{pair}"),
        format!("{pair}&metadata.site=north"),
        format!("{user}&{pair}&metadata.site=north&{company}"),
    ]
}

#[test]
fn a_list_of_sessions_is_answered_by_one_index_or_takes_the_room_of_long_reads() {
    let authority = Authority::new();
    let [url, audience] = flags(&authority);
    let server = Server::with_world(DEMO, &[&url, &audience]);
    let mut body = from(CONTOSO);
    body["external_id"] = "chat-1".into();
    body["end_user"] = json!({ "id": "mia" });
    body["metadata"] = json!({ "ticket": "4711", "site": "north" });
    let routed = server.relay().create_session(body).expect(201);
    let channel_id = routed.data()["channel_id"].as_str().unwrap().to_owned();
    let filters = filters(&channel_id);
    let callers = [
        (server.northwind(), ""),
        (server.relay(), "client_id=northwind-it&"),
        (person(&server, &authority, NEWCOMER, "User"), ""),
    ];

    // Every list of sessions answers, whatever the filters.
    let [tenant, platform, user] = &callers;
    let found = |(client, prefix): &(ApiClient, &str), query: &str| {
        client
            .list_sessions(&format!("{prefix}{query}"))
            .expect(200)
            .ids()
    };
    for query in combined(&filters).iter().chain(&filters) {
        assert_eq!(found(tenant, query), [routed.id()], "{query}");
        assert_eq!(found(platform, query), [routed.id()], "{query}");
        assert_eq!(found(user, query), [""; 0], "{query}");
    }

    // All room of long reads is taken.
    let store = server.app.store.clone();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (begin, begun) = channel();
    let (release, released) = channel::<()>();
    let released = Arc::new(Mutex::new(released));
    let of_tenant = reads_of_a_tenant();
    let reads: Vec<_> = (0..2 * of_tenant)
        .map(|number| {
            let (store, begin, released) = (store.clone(), begin.clone(), Arc::clone(&released));
            let tenant = Some(TenantNo(if number < of_tenant { 1_000 } else { 1_001 }));
            runtime.spawn(async move {
                let read = store.read_long(LongRead::List, tenant, move |_| {
                    begin.send(()).unwrap();
                    released.lock().unwrap().recv().unwrap();
                    Ok(())
                });
                read.await.unwrap();
            })
        })
        .collect();
    for _ in 0..2 * of_tenant {
        begun.recv().unwrap();
    }
    // What one index answers needs no room.
    let archived = ["archived=false", "archived=true", "archived=all"];
    for query in archived.map(str::to_owned).iter().chain(&filters) {
        found(tenant, query);
    }
    for query in archived {
        found(platform, query);
        found(user, query);
    }
    // What may pass over many sessions waits for room, and is refused after a while.
    let all: Vec<String> = combined(&filters).into_iter().chain(filters).collect();
    thread::scope(|scope| {
        let queries = [&all[..8], &all, &all];
        for ((client, prefix), queries) in callers.iter().zip(queries) {
            for query in queries {
                scope.spawn(move || {
                    let refused = client.list_sessions(&format!("{prefix}{query}"));
                    assert_eq!(refused.expect(503).error()["code"], json!("overloaded"));
                });
            }
        }
    });
    for _ in 0..2 * of_tenant {
        release.send(()).unwrap();
    }
    for read in reads {
        runtime.block_on(read).unwrap();
    }
}
