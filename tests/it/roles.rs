//! Roles: every route, by every kind of caller and for every kind of session.

use std::collections::BTreeSet;

use serde_json::json;
use switchboard::http::edge::admission::Callers;
use switchboard::http::edge::router;
use switchboard::model::caller::Who;
use switchboard::model::ids::{Id, Tick};
use switchboard::model::words::Role;

use crate::authority::{AUDIENCE, Authority};
use crate::management::person;
use crate::sign_in::signed_in;
use crate::support::{ApiClient, CONTOSO, DEMO, Server, WOODGROVE, from, technician};
use crate::wire::{Reply, Request};

/// The callers, in the order of every table here: ADMIN, USER, VIEWER, service account, platform,
/// session token, no credential.
const CALLERS: [&str; 7] = [
    "ADMIN",
    "USER",
    "VIEWER",
    "service account",
    "platform",
    "session's token",
    "nobody",
];

/// Every route and who may call it: a letter for each of [`CALLERS`] that may, a dot for the
/// others.
#[rustfmt::skip]
const ROUTES: &[(&str, &str, &str)] = &[
    ("GET",    "/health",                                                   "AUVSPTN"),
    ("GET",    "/ready",                                                    "AUVSPTN"),
    ("GET",    "/openapi.json",                                             "AUVSPTN"),
    ("GET",    "/docs",                                                     "AUVSPTN"),
    ("GET",    "/docs/guide",                                               "AUVSPTN"),
    ("GET",    "/docs/guide/{page}",                                        "AUVSPTN"),
    ("GET",    "/docs/{file}",                                              "AUVSPTN"),
    ("GET",    "/auth/config",                                              "AUVSPTN"),
    ("POST",   "/auth/exchange",                                            "AUVSPTN"),
    ("POST",   "/auth/sign-out",                                            "AUV...."),
    ("GET",    "/whoami",                                                   "AUVSPT."),
    ("GET",    "/tenant",                                                   "AUVSP.."),
    ("PATCH",  "/tenant",                                                   "A..SP.."),
    ("GET",    "/agents",                                                   "AUVSP.."),
    ("POST",   "/agents",                                                   "A..SP.."),
    ("GET",    "/agents/{agent_id}",                                        "AUVSP.."),
    ("PUT",    "/agents/{agent_id}",                                        "A..SP.."),
    ("DELETE", "/agents/{agent_id}",                                        "A..SP.."),
    ("GET",    "/channels",                                                  "AUVSP.."),
    ("POST",   "/channels",                                                  "A..SP.."),
    ("POST",   "/channels/install-events",                                   "....P.."),
    ("GET",    "/channels/{channel_id}",                                     "AUVSP.."),
    ("PATCH",  "/channels/{channel_id}",                                     "A..SP.."),
    ("DELETE", "/channels/{channel_id}",                                     "A..SP.."),
    ("GET",    "/channels/{channel_id}/app-package",                         "AUVSP.."),
    ("GET",    "/channels/{channel_id}/icons/{kind}",                        "AUVSP.."),
    ("PUT",    "/channels/{channel_id}/icons/{kind}",                        "A..SP.."),
    ("DELETE", "/channels/{channel_id}/icons/{kind}",                        "A..SP.."),
    ("GET",    "/channels/{channel_id}/teams",                               "AUVSP.."),
    ("GET",    "/channels/{channel_id}/installs",                            "AUVSP.."),
    ("POST",   "/channels/{channel_id}/installs",                            "A..SP.."),
    ("DELETE", "/channels/{channel_id}/installs/{install_id}",               "A..SP.."),
    ("GET",    "/end-companies",                                             "AUVSP.."),
    ("POST",   "/end-companies",                                             "A..SP.."),
    ("GET",    "/end-companies/health",                                      "AUVSP.."),
    ("GET",    "/end-companies/unlinked-tenants",                            "AUVSP.."),
    ("DELETE", "/end-companies/unlinked-tenants/{inbound_tenant_id}",        "A..SP.."),
    ("GET",    "/end-companies/{psa_company_id}",                            "AUVSP.."),
    ("PUT",    "/end-companies/{psa_company_id}",                            "A..SP.."),
    ("DELETE", "/end-companies/{psa_company_id}",                            "A..SP.."),
    ("GET",    "/knowledge-articles",                                       "AUVSP.."),
    ("POST",   "/knowledge-articles",                                       "A..SP.."),
    ("GET",    "/knowledge-articles/{article_id}",                          "AUVSP.."),
    ("PUT",    "/knowledge-articles/{article_id}",                          "A..SP.."),
    ("DELETE", "/knowledge-articles/{article_id}",                          "A..SP.."),
    ("GET",    "/api-keys",                                                 "A......"),
    ("POST",   "/api-keys",                                                 "A......"),
    ("POST",   "/api-keys/{key_id}/rotate",                                 "A......"),
    ("DELETE", "/api-keys/{key_id}",                                        "A......"),
    ("GET",    "/users",                                                    "A......"),
    ("POST",   "/users",                                                    "A......"),
    ("DELETE", "/users/{user_id}",                                          "A......"),
    ("PATCH",  "/users/{user_id}",                                          "A......"),
    ("GET",    "/tenants",                                                  "....P.."),
    ("POST",   "/tenants",                                                  "....P.."),
    ("GET",    "/tenants/{client_id}",                                      "....P.."),
    ("PATCH",  "/tenants/{client_id}",                                      "....P.."),
    ("GET",    "/stats",                                                    "A..SP.."),
    ("GET",    "/stats/active-users",                                       "A..SP.."),
    ("GET",    "/audit-events",                                             "A..SP.."),
    ("POST",   "/chat/sessions",                                            "AU.SP.."),
    ("GET",    "/chat/sessions",                                            "AUVSP.."),
    ("POST",   "/chat/sessions/resolve",                                    "AU.SP.."),
    ("GET",    "/chat/sessions/{session_id}",                               "AUVSPT."),
    ("PATCH",  "/chat/sessions/{session_id}",                               "AU.SP.."),
    ("DELETE", "/chat/sessions/{session_id}",                               "A..SP.."),
    ("POST",   "/chat/sessions/{session_id}/reset",                         "AU.SP.."),
    ("POST",   "/chat/sessions/{session_id}/messages",                      "AU.SPT."),
    ("GET",    "/chat/sessions/{session_id}/messages",                      "AUVSPT."),
    ("GET",    "/chat/sessions/{session_id}/turns/{chat_turn_id}",          "AUVSPT."),
    ("PATCH",  "/chat/sessions/{session_id}/messages/{message_id}",         "AU.SPT."),
    ("POST",   "/chat/sessions/{session_id}/messages/{message_id}/regenerate", "AU.SPT."),
    ("PUT",    "/chat/sessions/{session_id}/messages/{message_id}/feedback", "AU.SPT."),
    ("POST",   "/chat/sessions/{session_id}/cancel",                        "AU.SPT."),
    ("GET",    "/chat/sessions/{session_id}/events",                        "AUVSPT."),
    ("POST",   "/chat/sessions/{session_id}/attachments/upload-url",        "AU.SPT."),
    ("PUT",    "/chat/attachments/{attachment_id}",                         "AUVSPTN"),
    ("GET",    "/chat/attachments/{attachment_id}",                         "AUVSPTN"),
    ("POST",   "/sessions",                                                 "AU.SP.."),
    ("DELETE", "/sessions/{jti}",                                           "AU.SP.."),
];

/// The relation of a session to a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ownership {
    /// The caller created the session, or the token was minted for it.
    Own,
    /// Another member of the tenant created the session and shares it.
    Shared,
    /// Another member of the tenant created the session.
    Others,
    /// The session belongs to another tenant.
    Foreign,
}

const OWNERSHIPS: [Ownership; 4] = [
    Ownership::Own,
    Ownership::Shared,
    Ownership::Others,
    Ownership::Foreign,
];

/// A session route's statuses by caller and by [`OWNERSHIPS`]. No credential is always 401.
type Cells = [[u16; 4]; 6];

/// Reads.
const fn reads(done: u16) -> Cells {
    [
        [done, done, done, 404],
        [done, done, 404, 404],
        [done, done, 404, 404],
        [done, done, done, 404],
        [done, 404, 404, 404],
        [done, 404, 404, 404],
    ]
}

/// Writes for everyone that may chat in the session.
const fn writes(done: u16) -> Cells {
    [
        [done, done, done, 404],
        [done, 403, 404, 404],
        [403; 4],
        [done, done, done, 404],
        [done, 404, 404, 404],
        [done, 404, 404, 404],
    ]
}

/// Changes of a message whose author is whoever created the session, or the account that minted the
/// token.
const CHANGES_OF_MESSAGES: Cells = [
    [200, 403, 403, 404],
    [200, 403, 404, 404],
    [403; 4],
    [200, 403, 403, 404],
    [200, 404, 404, 404],
    [403, 404, 404, 404],
];

/// Writes that a session token may not make.
const fn writes_without_token(done: u16) -> Cells {
    let mut cells = writes(done);
    cells[5] = [403; 4];
    cells
}

#[rustfmt::skip]
const OF_SESSIONS: &[(&str, &str, Cells)] = &[
    ("GET",    "/chat/sessions/{session_id}",                               reads(200)),
    ("PATCH",  "/chat/sessions/{session_id}",                               writes_without_token(200)),
    ("DELETE", "/chat/sessions/{session_id}", [
        [204, 204, 204, 404],
        [403; 4],
        [403; 4],
        [204, 204, 204, 404],
        // For sessions in other tenants. At home the platform is an ordinary service account.
        [403, 404, 404, 404],
        [403; 4],
    ]),
    ("POST",   "/chat/sessions/{session_id}/reset",                         writes_without_token(200)),
    ("POST",   "/chat/sessions/{session_id}/messages",                      writes(202)),
    ("GET",    "/chat/sessions/{session_id}/messages",                      reads(200)),
    ("GET",    "/chat/sessions/{session_id}/turns/{chat_turn_id}",          reads(200)),
    ("PATCH",  "/chat/sessions/{session_id}/messages/{message_id}",         CHANGES_OF_MESSAGES),
    // The question is being answered.
    ("POST",   "/chat/sessions/{session_id}/messages/{message_id}/regenerate", writes(409)),
    // Only answers can be rated, and there is none yet.
    ("PUT",    "/chat/sessions/{session_id}/messages/{message_id}/feedback", writes(400)),
    ("POST",   "/chat/sessions/{session_id}/cancel",                        writes(200)),
    // There is nothing to resume.
    ("GET",    "/chat/sessions/{session_id}/events",                        reads(204)),
    ("POST",   "/chat/sessions/{session_id}/attachments/upload-url",        writes(201)),
    ("POST",   "/sessions",                                                 writes_without_token(201)),
    ("DELETE", "/sessions/{jti}", [
        [204, 204, 204, 404],
        // A caller that may not revoke a token does not learn that it exists.
        [204, 404, 404, 404],
        [403; 4],
        [204, 204, 204, 404],
        [204, 404, 404, 404],
        [403; 4],
    ]),
];

/// A server with people of every role.
struct Stage {
    authority: Authority,
    server: Server,
}

impl Stage {
    fn new() -> Self {
        let authority = Authority::new();
        let url = format!("--entra-authority={}", authority.url());
        let server = Server::with_world(DEMO, &[&url, "--entra-audience", AUDIENCE]);
        Self { authority, server }
    }

    fn person(&self, oid: &str, role: &str) -> ApiClient {
        person(&self.server, &self.authority, oid, role)
    }

    /// The caller of a column; `guest` is the session of the session token.
    fn caller(&self, column: usize, guest: &str) -> ApiClient {
        match column {
            0 => self.person("adam", "Admin"),
            1 => self.person("ulla", "User"),
            2 => self.person("vera", "Viewer"),
            3 => self.server.northwind(),
            4 => self.server.relay(),
            5 => self.server.northwind().with_session_token(guest),
            _ => self.server.anonymous(),
        }
    }

    /// Another person's session at Northwind.
    fn others(&self) -> (ApiClient, String) {
        let other = self.person("otto", "User");
        let session = other.session(technician());
        (other, session)
    }

    /// A session with this relation to a caller, and a client that may write in it.
    fn session(&self, column: usize, ownership: Ownership) -> (ApiClient, String) {
        match (ownership, column) {
            (Ownership::Own, 0) => made_by(self.person("adam", "Admin")),
            (Ownership::Own, 1) => made_by(self.person("ulla", "User")),
            // Created while the person had another role.
            (Ownership::Own, 2) => made_by(self.person("vera", "User")),
            (Ownership::Own, 4) => {
                let relay = self.server.relay();
                let session = relay.session(from(CONTOSO));
                (relay, session)
            }
            (Ownership::Own, _) => made_by(self.server.northwind()),
            (Ownership::Shared, _) => {
                let (other, session) = self.others();
                other
                    .update_session(&session, json!({ "shared": true }))
                    .expect(200);
                (other, session)
            }
            (Ownership::Others, _) => self.others(),
            (Ownership::Foreign, _) => {
                let fabrikam = self.server.fabrikam();
                let session = fabrikam.session(json!({ "managed_agent_key": "NEO_SUPPORT" }));
                fabrikam
                    .update_session(&session, json!({ "shared": true }))
                    .expect(200);
                (fabrikam, session)
            }
        }
    }
}

fn made_by(client: ApiClient) -> (ApiClient, String) {
    let session = client.session(technician());
    (client, session)
}

const NO_UUID: &str = "019ab697-e807-7abc-8def-0123456789ab";

#[test]
fn every_route_admits_the_callers_in_this_files_table_and_nobody_else() {
    let stage = Stage::new();
    let guest = stage.server.northwind().session(technician());
    let routes: Vec<(String, &str)> = router::table()
        .iter()
        .map(|row| (row.method.to_string(), row.path))
        .collect();
    let mut named: Vec<(String, &str)> = ROUTES
        .iter()
        .map(|(method, path, _)| ((*method).to_owned(), *path))
        .collect();
    let mut known = routes;
    known.sort_unstable();
    named.sort_unstable();
    assert_eq!(
        named, known,
        "the table of this file names every route once"
    );

    for (method, path, who) in ROUTES {
        for (column, letter) in who.char_indices() {
            // Sign-out ends a credential, so each call gets a new one. Only a local sign-in can be
            // signed out.
            let caller = match (*path, column) {
                ("/auth/sign-out", 0) => signed_in(&stage.server, "northwind-it", Role::Admin),
                ("/auth/sign-out", 1) => signed_in(&stage.server, "northwind-it", Role::User),
                ("/auth/sign-out", 2) => signed_in(&stage.server, "northwind-it", Role::Viewer),
                _ => stage.caller(column, &guest),
            };
            // None of these resources exists, so an admitted call changes nothing.
            let target = path
                .replace("{file}", "page.js")
                .replace("{agent_id}", "987654")
                .replace("{session_id}", &format!("ses_{NO_UUID}"))
                .replace("{chat_turn_id}", &format!("trn_{NO_UUID}"))
                .replace("{message_id}", &format!("msg_{NO_UUID}"))
                .replace("{attachment_id}", &format!("att_{NO_UUID}"))
                .replace("{article_id}", &format!("art_{NO_UUID}"))
                .replace("{key_id}", &format!("key_{NO_UUID}"))
                .replace("{jti}", &format!("jti_{NO_UUID}"))
                .replace("{user_id}", "nobody")
                .replace("{client_id}", "no-such-tenant");
            let request = Request::new(method, target.clone());
            // An empty body: an admitted call gets 400, or 404 before that.
            let reply = caller.send(match *method {
                "POST" | "PUT" | "PATCH" => request.json(&json!({})),
                _ => request,
            });
            let cell = format!("{method} {path} by {}: {}", CALLERS[column], reply.text());
            if letter == '.' {
                let refused = if column == 6 { 401 } else { 403 };
                assert_eq!(reply.status, refused, "{cell}");
            } else if path.starts_with("/chat/attachments/") {
                // A link is admitted by its signature, and this one has none.
                assert_eq!(
                    (reply.status, signature_is_wrong(&reply)),
                    (403, true),
                    "{cell}"
                );
            } else {
                assert!(matches!(reply.status, 200 | 204 | 400 | 404), "{cell}");
            }
        }
    }
}

fn signature_is_wrong(reply: &Reply) -> bool {
    reply.error()["message"]
        .as_str()
        .is_some_and(|message| message.contains("link"))
}

#[test]
fn every_session_route_answers_by_the_callers_relation_to_the_session() {
    let of_sessions = router::table()
        .iter()
        .filter(|row| {
            row.path.contains("{session_id}")
                || row.path == "/sessions"
                || row.path.contains("{jti}")
        })
        .count();
    assert_eq!(
        OF_SESSIONS.len(),
        of_sessions,
        "every route of a session is walked"
    );
    let stage = Stage::new();
    let mut walked = 0;
    for (method, path, cells) in OF_SESSIONS {
        for (column, name) in CALLERS.iter().enumerate() {
            for (place, ownership) in OWNERSHIPS.into_iter().enumerate() {
                // Each cell gets its own session, so that no cell's changes affect another.
                let (writer, session) = stage.session(column, ownership);
                let guest = match ownership {
                    Ownership::Own => session.clone(),
                    Ownership::Shared | Ownership::Others | Ownership::Foreign => {
                        stage.server.northwind().session(technician())
                    }
                };
                let caller = stage.caller(column, &guest);
                let request = ask(method, path, &writer, &session);
                let target = request.target.clone();
                let reply = caller.send(request);
                let expected = cells.get(column).map_or(401, |cells| cells[place]);
                assert_eq!(
                    reply.status,
                    expected,
                    "{method} {target} by {} of a session that is {ownership:?}: {}",
                    name,
                    reply.text()
                );
                walked += 1;
            }
        }
    }
    assert_eq!(walked, OF_SESSIONS.len() * 28);
}

/// A request that succeeds for a caller that may do everything in a session.
fn ask(method: &str, path: &str, writer: &ApiClient, session: &str) -> Request {
    let mut path = path.replace("{session_id}", session);
    if path.contains("{chat_turn_id}") || path.contains("{message_id}") {
        let said = writer.append_text(session, "Hello").expect(202).data();
        path = path
            .replace("{chat_turn_id}", said["chat_turn_id"].as_str().unwrap())
            .replace("{message_id}", said["user_message_id"].as_str().unwrap());
    }
    if path.contains("{jti}") {
        let minted = writer
            .mint_token(json!({ "session_id": session }))
            .expect(201);
        path = path.replace("{jti}", minted.data()["jti"].as_str().unwrap());
    }
    let request = Request::new(method, format!("/public-api{path}"));
    match method {
        "POST" | "PUT" | "PATCH" => request.json(&json!({
            "session_id": session, "message": "Hello", "content_type": "image/png", "rating": "UP", "title": "Renamed",
        })),
        _ => request,
    }
}

#[test]
fn at_home_the_platform_is_a_service_account_like_any_other() {
    let stage = Stage::new();
    let relay = stage.server.relay();
    let session = relay.session(json!({ "managed_agent_key": "NEO_SUPPORT" }));
    relay.delete_session(&session).expect(204);
    let elsewhere = relay.session(from(WOODGROVE));
    relay.delete_session(&elsewhere).refused(403, "forbidden");
}

#[test]
fn a_viewer_reads_what_it_created_under_another_role_and_writes_nothing() {
    let stage = Stage::new();
    let (before, session) = stage.session(2, Ownership::Own);
    before.append_text(&session, "Hello").expect(202);
    let viewer = stage.caller(2, &session);
    viewer.read_session(&session).expect(200);
    viewer
        .append_text(&session, "Hello?")
        .refused(403, "forbidden");
}

#[test]
fn access_restricts_only_people_in_every_role() {
    let stage = Stage::new();
    stage.server.import_tenant(
        "northwind-it",
        json!({ "agents": [
            { "agent_id": 501, "name": "For admins", "autonomy_type": "CONVERSATIONAL", "access": "ADMINS_ONLY" },
            { "agent_id": 502, "name": "For Ulla", "autonomy_type": "CONVERSATIONAL", "access": "SPECIFIC_USERS", "allowed_users": ["ulla"] },
        ] }),
    );
    // The statuses of a create with the agent for admins, and with the agent for Ulla.
    for (column, statuses) in [(0, [201, 403]), (1, [403, 201]), (3, [201, 201])] {
        let caller = stage.caller(column, "");
        for (agent, status) in [501, 502].into_iter().zip(statuses) {
            let reply = caller
                .create_session(json!({ "agent_id": agent }))
                .expect(status);
            if status == 403 {
                reply.refused(403, "agent_access_denied");
            } else if column < 3 {
                assert_eq!(reply.data()["channel"], "DASHBOARD");
            }
        }
    }
    // A person that loses access can no longer write in existing sessions.
    let ulla = stage.caller(1, "");
    let session = ulla.session(json!({ "agent_id": 502 }));
    ulla.append_text(&session, "Hello").expect(202);
    stage.server.import_tenant(
        "northwind-it",
        json!({ "agents": [{ "agent_id": 502, "allowed_users": ["otto"] }] }),
    );
    ulla.append_text(&session, "Hello?")
        .refused(403, "agent_access_denied");
    ulla.read_session(&session).expect(200);
}

#[test]
fn people_list_the_sessions_that_they_may_read() {
    let stage = Stage::new();
    let own: Vec<String> = (0..3)
        .map(|column| stage.session(column, Ownership::Own).1)
        .collect();
    let (_, shared) = stage.session(0, Ownership::Shared);
    let (_, others) = stage.session(0, Ownership::Others);
    let (_, foreign) = stage.session(0, Ownership::Foreign);
    let of_program = stage.server.northwind().session(technician());
    let lists = |column: usize| -> BTreeSet<String> {
        stage
            .caller(column, "")
            .list_sessions("")
            .expect(200)
            .ids()
            .into_iter()
            .collect()
    };
    let of = |sessions: &[&String]| -> BTreeSet<String> {
        sessions.iter().map(|session| (*session).clone()).collect()
    };
    let all = of(&[&own[0], &own[1], &own[2], &shared, &others, &of_program]);
    assert!(!all.contains(&foreign));
    assert_eq!(lists(0), all);
    assert_eq!(lists(1), of(&[&own[1], &shared]));
    assert_eq!(lists(2), of(&[&own[2], &shared]));
    assert_eq!(lists(3), all);
    assert_eq!(lists(4), BTreeSet::new());
}

/// One of each of [`CALLERS`] with a credential.
fn one_of_each() -> [Who; 6] {
    let user = |role| Who::DashboardUser {
        id: "somebody".to_owned(),
        name: None,
        role,
        sign_in: None,
    };
    let account = |platform| Who::ServiceAccount {
        key: Id::new(Tick(1), 0),
        account: Id::new(Tick(1), 0),
        name: "A program".to_owned(),
        platform,
    };
    [
        user(Role::Admin),
        user(Role::User),
        user(Role::Viewer),
        account(false),
        account(true),
        Who::EndUserSession {
            jti: Id::new(Tick(1), 0),
            session: Id::new(Tick(1), 0),
            end_user: None,
        },
    ]
}

/// A route's line in section 2 of the contract.
fn contract_line(row: &router::Row) -> String {
    let mut line = format!("| `{} {}` |", row.method, row.path);
    for who in one_of_each() {
        let may = row.callers.allow(&who);
        line += if may { " yes |" } else { " - |" };
    }
    let is_public = row.callers == Callers::Public;
    line + if is_public { " yes |" } else { " - |" }
}

#[test]
fn the_contract_shows_who_may_call_what() {
    let contract = include_str!("../../docs/contract.md");
    let (_, section) = contract.split_once("### Who may call what").unwrap();
    let (section, _) = section.split_once("\n### ").unwrap();
    let shown: BTreeSet<&str> = section
        .lines()
        .filter(|line| line.starts_with("| `"))
        .collect();
    let expected: BTreeSet<String> = router::table().iter().map(contract_line).collect();
    let expected: BTreeSet<&str> = expected.iter().map(String::as_str).collect();
    assert_eq!(shown, expected);
}
