//! Lists of sessions: scopes, filters, search and pagination.

use std::collections::BTreeSet;
use std::thread;

use serde_json::json;

use crate::support::{ApiClient, CONTOSO, DAY, MINUTE, Server, block_on, from, technician};
use crate::watchdog::until;

/// Reads a list to its end; returns every id, page by page.
fn walked(client: &ApiClient, query: &str, size: usize) -> Vec<Vec<String>> {
    let mut pages = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = client
            .list_sessions(&format!("{query}&page_size={size}{cursor}"))
            .expect(200);
        pages.push(page.ids());
        match page.next_cursor() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return pages,
        }
    }
}

#[test]
fn a_list_is_paged_to_its_end_without_a_gap_or_a_duplicate() {
    let server = Server::demo();
    let northwind = server.northwind();
    let count = 430;
    thread::scope(|scope| {
        for worker in 0..8 {
            let northwind = &northwind;
            scope.spawn(move || {
                for number in (worker..count).step_by(8) {
                    northwind
                        .session(json!({ "agent_id": 102, "title": format!("Session {number}") }));
                }
            });
        }
    });
    server.fabrikam().session(json!({ "agent_id": 202 }));
    let whole: Vec<String> = walked(&northwind, "", 200).concat();
    assert_eq!(whole.len(), count);
    assert_eq!(whole.iter().collect::<BTreeSet<_>>().len(), count);
    let mut newest_first = whole.clone();
    newest_first.sort_unstable_by(|one, other| other.cmp(one));
    assert_eq!(whole, newest_first, "ids grow in the order of creation");
    for size in [43, 61, 199] {
        let pages = walked(&northwind, "", size);
        assert!(
            pages[..pages.len() - 1]
                .iter()
                .all(|page| page.len() == size)
        );
        assert_eq!(pages.concat(), whole);
    }
    // Sessions that are created or deleted meanwhile shift nothing.
    let first = northwind.list_sessions("page_size=10").expect(200);
    northwind.session(technician());
    northwind.delete_session(&first.ids()[9]).expect(204);
    let second = northwind
        .list_sessions(&format!(
            "page_size=10&cursor={}",
            first.next_cursor().unwrap()
        ))
        .expect(200);
    assert_eq!(second.ids(), whole[10..20]);
}

#[test]
fn a_page_that_just_fits_is_the_last() {
    let server = Server::demo();
    let northwind = server.northwind();
    for _ in 0..4 {
        northwind.session(technician());
    }
    assert_eq!(walked(&northwind, "", 4).len(), 1);
    assert_eq!(walked(&northwind, "", 2).len(), 2);
    assert_eq!(walked(&northwind, "", 3).len(), 2);
}

#[test]
fn a_list_is_filtered() {
    let server = Server::demo();
    let (northwind, relay) = (server.northwind(), server.relay());
    let a = northwind.session(technician());
    let b = northwind.session(json!({ "agent_id": 100 }));
    let c = northwind.session(json!({ "agent_id": 101, "end_company_id": "1001" }));
    let d = northwind.session(json!({ "agent_id": 101, "end_company_id": "1002" }));
    let routed = relay.create_session(from(CONTOSO)).expect(201);
    let (e, channel) = (
        routed.id(),
        routed.data()["channel_id"].as_str().unwrap().to_owned(),
    );
    northwind.reset_session(&b).expect(200);
    northwind.reset_session(&c).expect(200);

    let lists = |query: &str| northwind.list_sessions(query).expect(200).ids();
    assert_eq!(lists(""), [&*e, &d, &a]);
    assert_eq!(lists("archived=false"), [&*e, &d, &a]);
    assert_eq!(lists("archived=true"), [&*c, &b]);
    assert_eq!(lists("archived=all"), [&*e, &d, &c, &b, &a]);
    assert_eq!(lists("agent_id=102"), [&*a]);
    assert_eq!(lists("agent_id=101&archived=all"), [&*e, &d, &c]);
    assert_eq!(lists("agent_id=201"), [""; 0]);
    assert_eq!(lists("end_company_id=1001"), [&*e]);
    assert_eq!(lists("end_company_id=1001&archived=all"), [&*e, &c]);
    assert_eq!(lists("end_company_id=1001&archived=true"), [&*c]);
    assert_eq!(lists("end_company_id=WOOD-01"), [""; 0]);
    assert_eq!(lists(&format!("channel_id={channel}")), [&*e]);
    assert_eq!(
        lists(&format!("channel_id={channel}&agent_id=102")),
        [""; 0]
    );
    assert_eq!(
        lists(&format!(
            "channel_id={channel}&end_company_id=1001&agent_id=101"
        )),
        [&*e]
    );
    assert_eq!(
        walked(&northwind, "archived=all", 2).concat(),
        [&*e, &d, &c, &b, &a]
    );
    assert_eq!(
        server
            .fabrikam()
            .list_sessions("archived=all")
            .expect(200)
            .ids(),
        [""; 0]
    );
    assert_eq!(
        server
            .fabrikam()
            .list_sessions(&format!("channel_id={channel}&archived=all"))
            .expect(200)
            .ids(),
        [""; 0]
    );

    for (query, field, reason) in [
        (
            "archived=yes",
            "archived",
            "must be one of false, true, all",
        ),
        ("archived=", "archived", "must be one of false, true, all"),
        (
            "agent_id=x",
            "agent_id",
            "must be a whole number from -9223372036854775808 to 9223372036854775807",
        ),
        (
            "agent_id=",
            "agent_id",
            "must be a whole number from -9223372036854775808 to 9223372036854775807",
        ),
        (
            "channel_id=x",
            "channel_id",
            "must be an id that begins with chn_",
        ),
        (
            "channel_id=",
            "channel_id",
            "must be an id that begins with chn_",
        ),
        (
            "end_company_id=a%3Bb",
            "end_company_id",
            "must be 1 to 64 letters, digits, spaces and characters of ._-&/+,'()#@: and neither 'health' nor 'unlinked-tenants'",
        ),
    ] {
        northwind.list_sessions(query).refused_field(field, reason);
    }
}

#[test]
fn the_platform_lists_what_its_accounts_created_in_a_tenant() {
    let server = Server::demo();
    server.import_tenant(
        "relay-platform",
        json!({ "api_keys": [
            { "name": "Second relay", "key": "neo_sk_demo_relaytwo", "platform": true },
            { "name": "Reports", "key": "neo_sk_demo_reports0", "platform": false },
        ] }),
    );
    server.import_tenant("fabrikam-support", json!({ "api_keys": [{ "name": "Their relay", "key": "neo_sk_demo_theirs00", "platform": true }] }));
    let (relay, northwind) = (server.relay(), server.northwind());
    let (second, reports, theirs) = (
        server.with_credential("neo_sk_demo_relaytwo"),
        server.with_credential("neo_sk_demo_reports0"),
        server.with_credential("neo_sk_demo_theirs00"),
    );
    let routed = relay.session(from(CONTOSO));
    let own = northwind.session(technician());
    let foreign = theirs.session(from(CONTOSO));
    let home = relay.session(json!({ "managed_agent_key": "NEO_SUPPORT" }));
    let plain = reports.session(json!({ "managed_agent_key": "NEO_SUPPORT" }));

    for client in [&relay, &second] {
        assert_eq!(
            client
                .list_sessions("client_id=northwind-it")
                .expect(200)
                .ids(),
            [&*routed]
        );
        assert_eq!(client.list_sessions("").expect(200).ids(), [&*plain, &home]);
        assert_eq!(
            client
                .list_sessions("client_id=relay-platform")
                .expect(200)
                .ids(),
            [&*home]
        );
        assert_eq!(
            client
                .list_sessions("client_id=fabrikam-support")
                .expect(200)
                .ids(),
            [""; 0]
        );
        assert_eq!(
            client
                .list_sessions("client_id=northwind-it&agent_id=101&end_company_id=1001")
                .expect(200)
                .ids(),
            [&*routed]
        );
        assert_eq!(
            client
                .list_sessions("client_id=northwind-it&agent_id=102")
                .expect(200)
                .ids(),
            [""; 0]
        );
        client.list_sessions("client_id=no-such-tenant").not_found();
        for malformed in ["client_id=", "client_id=NOT%20A%20NAME"] {
            client.list_sessions(malformed).refused_field(
                "client_id",
                "must be 1 to 63 characters of a-z, 0-9 and '-', and must not start with '-'",
            );
        }
        client.read_session(&routed).expect(200);
        client.read_session(&own).not_found();
        client.read_session(&foreign).not_found();
    }
    assert_eq!(
        theirs
            .list_sessions("client_id=northwind-it")
            .expect(200)
            .ids(),
        [&*foreign]
    );
    theirs.read_session(&routed).not_found();
    assert_eq!(
        reports.list_sessions("").expect(200).ids(),
        [&*plain, &home]
    );
    reports.read_session(&routed).not_found();
    // For the MSP this is one of its own sessions.
    assert_eq!(
        northwind.list_sessions("").expect(200).ids(),
        [&*foreign, &own, &routed]
    );
    northwind.read_session(&routed).expect(200);
}

#[test]
fn the_platform_writes_in_sessions_it_created_in_other_tenants_but_never_deletes_them() {
    let server = Server::demo();
    let (relay, northwind) = (server.relay(), server.northwind());
    let routed = relay.session(from(CONTOSO));
    let own = northwind.session(technician());
    relay.append_text(&routed, "Hello").expect(202);
    relay
        .update_session(&routed, json!({ "title": "By the relay" }))
        .expect(200);
    relay
        .mint_token(json!({ "session_id": routed }))
        .expect(201);
    assert_eq!(
        relay
            .delete_session(&routed)
            .refused(403, "forbidden")
            .error(),
        json!({ "code": "forbidden", "message": "This credential does not permit this request. Ask an administrator for one that does." })
    );
    relay.reset_session(&routed).expect(200);
    relay.delete_session(&routed).refused(403, "forbidden");
    for reply in [
        relay.append_text(&own, "Hello"),
        relay.update_session(&own, json!({})),
        relay.messages(&own, ""),
        relay.reset_session(&own),
        relay.delete_session(&own),
        relay.mint_token(json!({ "session_id": own })),
    ] {
        reply.not_found();
    }
    northwind.delete_session(&routed).expect(204);
    relay.delete_session(&routed).not_found();
    let home = relay.session(json!({ "managed_agent_key": "NEO_SUPPORT" }));
    relay.delete_session(&home).expect(204);
}

#[test]
fn a_search_finds_words_of_titles_and_messages() {
    let server = Server::demo();
    let northwind = server.northwind();
    let titled = northwind.session(json!({ "agent_id": 102, "title": "Printer on floor 3" }));
    let said = northwind.session(json!({ "agent_id": 102, "title": "Something else" }));
    northwind
        .append_text(&said, "The PRINTER caf\u{e9} is on fire")
        .expect(202);
    let other = northwind.session(json!({ "agent_id": 100, "title": "Billing" }));
    let finds = |q: &str| northwind.list_sessions(&format!("q={q}")).expect(200).ids();
    assert_eq!(finds("printer"), [&*said, &titled]);
    assert_eq!(finds("Printer+fire"), [&*said]);
    assert_eq!(finds("fire+floor"), [""; 0]);
    // One word may be in the title and another in a message.
    assert_eq!(finds("something+fire"), [&*said]);
    assert_eq!(finds("cafe"), [&*said]);
    assert_eq!(finds("CAF%C3%89"), [&*said]);
    assert_eq!(finds("print"), [&*said, &titled]);
    assert_eq!(finds("print+fire"), [""; 0]);
    assert_eq!(finds(""), [&*other, &said, &titled]);
    assert_eq!(finds("billing&agent_id=102"), [""; 0]);
    assert_eq!(finds("billing&agent_id=100"), [&*other]);
    let page = northwind.list_sessions("q=printer&page_size=1").expect(200);
    assert_eq!(page.ids(), [&*said]);
    let rest = northwind
        .list_sessions(&format!(
            "q=printer&page_size=1&cursor={}",
            page.next_cursor().unwrap()
        ))
        .expect(200);
    assert_eq!(
        (rest.ids(), rest.next_cursor()),
        (vec![titled.clone()], None)
    );

    northwind
        .update_session(&titled, json!({ "title": "Scanner" }))
        .expect(200);
    assert_eq!(finds("printer"), [&*said]);
    assert_eq!(finds("scanner"), [&*titled]);
    northwind
        .update_session(&titled, json!({ "title": null }))
        .expect(200);
    assert_eq!(finds("scanner"), [""; 0]);
    northwind.reset_session(&said).expect(200);
    assert_eq!(finds("printer"), [""; 0]);
    assert_eq!(finds("printer&archived=true"), [&*said]);
    assert_eq!(finds("printer&archived=all"), [&*said]);
}

#[test]
fn pages_of_a_search_over_many_sessions_make_up_the_whole_newest_first() {
    let server = Server::demo();
    let northwind = server.northwind();
    let mut wanted = Vec::new();
    for number in 0..330 {
        let (title, message) = match number % 3 {
            0 => ("common ground", None),
            1 => ("rare ground", Some("something common")),
            _ => ("common", Some("nothing")),
        };
        let session = northwind.session(json!({ "agent_id": 102, "title": title }));
        if let Some(message) = message {
            northwind.append_text(&session, message).expect(202);
        }
        if number % 3 < 2 {
            wanted.push(session);
        }
    }
    // The oldest session gets a new message, so that its words are both the newest and the oldest.
    northwind
        .append_text(&wanted[0], "common ground")
        .expect(202);
    wanted.reverse();
    let mut found = Vec::new();
    let mut cursor = String::new();
    loop {
        let query = format!("q=common+ground&page_size=37{cursor}");
        let page = northwind.list_sessions(&query).expect(200);
        found.extend(page.ids());
        match page.next_cursor() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(found, wanted);
}

#[test]
fn a_title_taken_from_the_first_message_is_found_until_it_is_changed() {
    let server = Server::demo();
    let northwind = server.northwind();
    let finds = |q: &str| northwind.list_sessions(&format!("q={q}")).expect(200).ids();
    let talk = northwind.session(technician());
    northwind
        .append_text(&talk, "Toner is low\nThe drum is fine")
        .expect(202);
    let link = northwind.session(technician());
    let address = format!("https://example.com/{}end", "x".repeat(300));
    northwind.append_text(&link, &address).expect(202);
    let title = northwind.read_session(&link).data()["title"].clone();
    let title = title.as_str().unwrap().to_owned();
    assert!(title.ends_with("x…"), "{title}");
    assert_eq!(finds("toner"), [&*talk]);
    // The title's last word is cut, so it is not a word of the message.
    let whole = format!("{}+example", title.trim_end_matches('…'));
    assert_eq!(finds(&whole), [&*link]);

    for session in [&talk, &link] {
        northwind
            .update_session(session, json!({ "title": "Renamed" }))
            .expect(200);
    }
    assert_eq!(finds("renamed"), [&*link, &talk]);
    // The message still contains the word.
    assert_eq!(finds("toner"), [&*talk]);
    assert_eq!(finds(&whole), [""; 0]);
    northwind
        .update_session(&talk, json!({ "title": null }))
        .expect(200);
    assert_eq!(finds("renamed"), [&*link]);
}

#[test]
fn any_text_is_a_harmless_query() {
    let server = Server::demo();
    let northwind = server.northwind();
    let session = northwind.session(json!({ "agent_id": 102, "title": "alpha t1 OR scope" }));
    northwind.append_text(&session, "beta").expect(202);
    for q in [
        "\"",
        "'",
        "\"\"",
        "*",
        "alpha*",
        "alpha NEAR beta",
        "NEAR(",
        "AND",
        "OR",
        "NOT alpha",
        "alpha AND",
        "-alpha",
        "^alpha",
        "scope:t1",
        "scope : \"t2\"",
        "words:alpha",
        "\" OR scope : \"t2",
        "{scope words}: alpha",
        "(",
        ")",
        "alpha\" AND \"",
        "\\",
        ";",
        "'; DROP TABLE sessions; --",
        "\u{1f600}",
        "\u{1e900}\u{1e901}",
        "\u{301}",
        "\u{200d}",
        "\u{feff}",
        "%",
        "_",
        "a\nb\tc",
        "\u{7f}",
        "\u{b2}",
        "1e999",
        "\u{fb01}",
        "\u{130}",
        "\u{d7ff}",
    ] {
        let query: String = form_urlencoded::Serializer::new(String::new())
            .append_pair("q", q)
            .finish();
        northwind.list_sessions(&query).expect(200);
        northwind.get(&format!("/agents?{query}")).expect(200);
    }
    // Text that looks like query syntax is searched literally.
    assert_eq!(
        northwind.list_sessions("q=OR").expect(200).ids(),
        [&*session]
    );
    assert_eq!(
        northwind.list_sessions("q=alpha*").expect(200).ids(),
        [&*session]
    );
    assert_eq!(
        northwind
            .list_sessions("q=gamma+OR+alpha")
            .expect(200)
            .ids(),
        [""; 0]
    );
}

#[test]
fn a_search_finds_only_what_the_caller_may_list() {
    let server = Server::demo();
    let (northwind, fabrikam, relay) = (server.northwind(), server.fabrikam(), server.relay());
    let ours = northwind.session(json!({ "agent_id": 102, "title": "zebra" }));
    let theirs = fabrikam.session(json!({ "agent_id": 202, "title": "zebra" }));
    let routed = relay.session(from(CONTOSO));
    for (client, session) in [(&northwind, &ours), (&fabrikam, &theirs), (&relay, &routed)] {
        client.append_text(session, "zebra crossing").expect(202);
    }
    assert_eq!(
        northwind.list_sessions("q=zebra").expect(200).ids(),
        [&*routed, &ours]
    );
    assert_eq!(
        fabrikam.list_sessions("q=zebra").expect(200).ids(),
        [&*theirs]
    );
    assert_eq!(relay.list_sessions("q=zebra").expect(200).ids(), [""; 0]);
    assert_eq!(
        relay
            .list_sessions("q=zebra&client_id=northwind-it")
            .expect(200)
            .ids(),
        [&*routed]
    );
    for leak in ["q=t1", "q=t2", "q=scope"] {
        assert_eq!(northwind.list_sessions(leak).expect(200).ids(), [""; 0]);
    }
}

#[test]
fn deleted_text_is_not_found_and_not_left_in_the_file() {
    let server = Server::demo();
    let northwind = server.northwind();
    let said = northwind.session(json!({ "agent_id": 102, "title": "xylophone" }));
    northwind.append_text(&said, "glockenspiel").expect(202);
    let unsearched = northwind.session(technician());
    assert_eq!(
        northwind.list_sessions("q=glockenspiel").expect(200).ids(),
        [&*said]
    );
    northwind
        .append_text(&unsearched, "marimbaphone")
        .expect(202);
    northwind.delete_session(&said).expect(204);
    northwind.delete_session(&unsearched).expect(204);
    for word in ["xylophone", "glockenspiel", "marimbaphone"] {
        assert_eq!(
            northwind
                .list_sessions(&format!("q={word}"))
                .expect(200)
                .ids(),
            [""; 0]
        );
    }
    until("no words are left to remove", || {
        let left = "SELECT (SELECT count(*) FROM search_removals) + (SELECT count(*) FROM removed_sessions)";
        server.stored::<i64>(left) == 0
    });
    for table in ["sessions", "messages", "turns", "session_tokens"] {
        assert_eq!(
            server.stored::<i64>(&format!("SELECT count(*) FROM {table}")),
            0,
            "{table}"
        );
    }
    let kept = northwind.session(json!({ "agent_id": 102, "title": "marimbaphone" }));
    assert_eq!(
        northwind.list_sessions("q=marimbaphone").expect(200).ids(),
        [&*kept]
    );
}

#[test]
fn messages_after_a_restart_are_found_though_the_newest_was_deleted() {
    let server = Server::demo();
    let kept = server
        .northwind()
        .session(json!({ "agent_id": 102, "title": "Kept" }));
    let deleted = server.northwind().session(technician());
    server
        .northwind()
        .append_text(&deleted, "bassoon")
        .expect(202);
    assert_eq!(
        server
            .northwind()
            .list_sessions("q=bassoon")
            .expect(200)
            .ids(),
        [&*deleted]
    );
    server.northwind().delete_session(&deleted).expect(204);
    // The clock stands still, as if it had been set back between the starts.
    let server = server.restarted();
    server.northwind().append_text(&kept, "zither").expect(202);
    assert_eq!(
        server
            .northwind()
            .list_sessions("q=zither")
            .expect(200)
            .ids(),
        [&*kept]
    );
    server.northwind().delete_session(&kept).expect(204);
    assert_eq!(
        server
            .northwind()
            .list_sessions("q=zither")
            .expect(200)
            .ids(),
        [""; 0]
    );
}

#[test]
fn maintenance_deletes_only_expired_data() {
    let server = Server::demo();
    let northwind = server.northwind();
    let first = northwind.create_session_once("k", technician()).expect(201);
    let minted = northwind
        .mint_token(json!({ "session_id": first.id(), "ttl_seconds": 60 }))
        .expect(201);
    let guest = server.with_credential(minted.data()["token"].as_str().unwrap());
    let cleans_up = || {
        block_on(server.app.store.purge_idempotency_keys());
        block_on(server.app.store.purge_session_tokens());
        ["idempotency_keys", "session_tokens"]
            .map(|table| server.stored::<i64>(&format!("SELECT count(*) FROM {table}")))
    };
    server.advance_clock(DAY - 1);
    assert_eq!(cleans_up(), [1, 1]);
    assert_eq!(
        northwind
            .create_session_once("k", technician())
            .expect(201)
            .id(),
        first.id()
    );
    server.advance_clock(1);
    assert_eq!(cleans_up(), [0, 1]);
    server.advance_clock(MINUTE);
    assert_eq!(cleans_up(), [0, 0]);
    assert_eq!(
        guest.get("/whoami").refused(401, "unauthorized").error()["details"]["reason"],
        "expired"
    );
}
