//! Searches: how long a search text may be, and the room that searches have apart from lists.

use serde_json::json;
use switchboard::error::Code;
use switchboard::http::edge::openapi;
use switchboard::model::names::TenantNo;
use switchboard::store::{LongRead, tenants};

use crate::authority::{Authority, NEWCOMER};
use crate::long_reads::while_some_of_eight_run;
use crate::management::{flags, person};
use crate::support::{ApiClient, DEMO, Server};
use crate::wire::Reply;

/// The lists that take `q` and that an administrator may read. The platform reads [`TENANTS`] too.
const LISTS: [&str; 8] = [
    "/agents",
    "/api-keys",
    "/audit-events",
    "/channels",
    "/chat/sessions",
    "/end-companies",
    "/knowledge-articles",
    "/users",
];
const TENANTS: &str = "/tenants";

fn search(client: &ApiClient, path: &str, q: &str) -> Reply {
    let query: String = form_urlencoded::Serializer::new(String::new())
        .append_pair("q", q)
        .finish();
    client.get(&format!("{path}?{query}"))
}

#[test]
fn every_list_refuses_a_search_text_with_too_many_characters_or_words() {
    let authority = Authority::new();
    let [url, audience] = flags(&authority);
    let server = Server::with_world(DEMO, &[&url, &audience]);
    let admin = person(&server, &authority, NEWCOMER, "Admin");
    let relay = server.relay();
    let lists = LISTS.map(|path| (&admin, path));
    let too_long = "must have at most 200 characters";
    let too_many = "must have at most 16 words";
    let refused = [
        ("x".repeat(201), too_long),
        ("\u{e9}".repeat(201), too_long),
        // The characters are counted first.
        ("word ".repeat(15_000 / 5), too_long),
        ("word ".repeat(17), too_many),
        // The index separates these words too.
        ("a.".repeat(100), too_many),
        ("a\u{3001}".repeat(17), too_many),
    ];
    let accepted = [
        "x".repeat(200),
        "\u{1f600}".repeat(200),
        "\u{5370}".repeat(200),
        "word ".repeat(16),
        "a.".repeat(16),
        " . ".repeat(60),
    ];
    for (client, path) in lists.into_iter().chain([(&relay, TENANTS)]) {
        for (q, reason) in &refused {
            search(client, path, q).refused_field("q", reason);
        }
        for q in &accepted {
            search(client, path, q).expect(200);
        }
    }
}

#[test]
fn the_document_says_how_long_a_search_text_may_be_in_every_list_that_takes_one() {
    let document = openapi::build();
    let mut documented: Vec<&str> = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        let parameters = methods["get"]["parameters"].as_array();
        let q = parameters
            .and_then(|parameters| parameters.iter().find(|parameter| parameter["name"] == "q"));
        if let Some(q) = q {
            assert_eq!(q["schema"], json!({ "type": "string", "maxLength": 200 }));
            documented.push(path.strip_prefix("/public-api").unwrap());
        }
    }
    documented.sort_unstable();
    documented.retain(|path| *path != TENANTS);
    assert_eq!(documented, LISTS);
}

#[test]
fn a_list_never_waits_for_searches_and_another_tenants_search_finds_room() {
    let server = Server::demo();
    let northwind = tenant_no(&server, "northwind-it");
    while_some_of_eight_run(&server, LongRead::Search, northwind, || {
        for path in ["/agents", "/channels", "/end-companies", "/chat/sessions"] {
            server.northwind().get(path).expect(200);
        }
        server.fabrikam().get("/agents?q=helper").expect(200);
    });
}

#[test]
fn a_search_that_takes_too_long_is_interrupted() {
    let server = Server::demo();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let endless = server.app.store.read_long(
        LongRead::Search,
        None,
        |reader| -> switchboard::error::Result<()> {
            loop {
                tenants::all(reader)?;
            }
        },
    );
    let outcome = runtime.block_on(endless);
    assert!(outcome.is_err_and(|error| error.is(Code::Overloaded)));
    // The connection goes on to serve other searches.
    server.northwind().get("/agents?q=helper").expect(200);
}

fn tenant_no(server: &Server, client_id: &str) -> TenantNo {
    let sql = format!("SELECT tenant_no FROM tenants WHERE client_id = '{client_id}'");
    TenantNo(server.stored(&sql))
}
