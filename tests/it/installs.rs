//! Installs over HTTP: a bot serves a directory, a company is linked in the same transaction, and
//! of concurrent installs exactly one wins.

use std::thread;

use serde_json::{Value, json};
use switchboard::store::check;

use crate::support::{
    CONTOSO, FOURTH_COFFEE, SHARED_BOT, Server, TAILSPIN, WOODGROVE, channel, from, not_found,
};
use crate::wire::Reply;

/// The directory of Northwind's own people.
const NORTHWINDS_HOME: &str = "ab0de0a1-fa00-4c1a-9cab-ab0de000a1fa";
/// The directory of Fabrikam's own people.
const FABRIKAMS_HOME: &str = "ab0debe7-a000-4c1a-9cab-ab0de00be7a0";

/// The path of a channel's installs.
fn installs_of(channel: &str) -> String {
    format!("/channels/{channel}/installs")
}

pub fn directory(id: &str) -> Value {
    json!({ "end_client_tenant_id": id })
}

/// The body of an install that links a company.
fn linked(id: &str, company: &str) -> Value {
    json!({ "end_client_tenant_id": id, "psa_company_id": company })
}

/// Asserts the one refusal for a directory that is not available. The refusal names nobody.
#[track_caller]
pub fn assert_conflict(reply: &Reply) {
    assert_eq!(
        (reply.status, reply.error()),
        (
            409,
            json!({
                "code": "install_conflict",
                "message": "This M365 tenant cannot be installed for this bot. Ask the platform's operator.",
                "details": { "field": "end_client_tenant_id" },
            })
        )
    );
}

/// Asserts that the check of the file finds nothing.
#[track_caller]
fn assert_consistent(server: &Server) {
    let found = check::run(&server.app.store).unwrap();
    assert_eq!(found.damage, Vec::<String>::new());
}

/// Creates another white-label channel of Northwind.
fn another(server: &Server, name: &str, bot: Option<&str>) -> String {
    let body =
        json!({ "internal_name": name, "audience": "END_USER", "agent_id": 101, "bot_id": bot });
    server.northwind().post("/channels", body).expect(201).id()
}

#[test]
fn an_install_links_its_company_in_one_transaction_and_the_next_create_succeeds() {
    let server = Server::demo();
    let (northwind, relay) = (server.northwind(), server.relay());
    let channel = server.client_help_bot();
    let mut ask = from("New-Directory");
    ask["client_id"] = "northwind-it".into();
    // Before the install, a message reaches only the acting tenant's own channel of the bot.
    relay
        .create_session(ask.clone())
        .refused(409, "end_company_not_mapped");
    let waiting = "SELECT count(*) FROM unlinked_tenants WHERE m365_tenant_id = 'new-directory'";
    assert_eq!(server.stored::<i64>(waiting), 1);

    let made = northwind
        .post(&installs_of(&channel), linked("NEW-Directory", "1002"))
        .expect(201);
    let id = made.id();
    assert!(id.starts_with("ins_"));
    assert_eq!(
        made.header("location"),
        Some(format!("/public-api/channels/{channel}/installs/{id}").as_str())
    );
    assert_eq!(
        made.data(),
        json!({
            "id": id,
            "channel_id": channel,
            "end_client_tenant_id": "new-directory",
            "bot_id": SHARED_BOT,
            "psa_company_id": "1002",
            "created_at": "2025-11-24T16:00:00.000Z",
        })
    );
    assert_eq!(made.json()["meta"]["warnings"], json!([]));
    assert_eq!(server.stored::<i64>(waiting), 0);
    ask["client_id"] = "fabrikam-support".into();
    let session = relay.create_session(ask).expect(201).data();
    assert_eq!(session["resolution"]["rule"], "white_label_install");
    assert_eq!(session["client_id"], "northwind-it");
    assert_eq!(session["end_company_id"], "1002");
    assert_eq!(session["channel_id"], channel);
}

#[test]
fn repeating_an_install_on_its_channel_creates_no_second_one() {
    let server = Server::demo();
    let (northwind, relay) = (server.northwind(), server.relay());
    let path = installs_of(&server.client_help_bot());
    let again = northwind
        .post(&path, directory(&CONTOSO.to_uppercase()))
        .expect(200);
    assert_eq!(again.data()["id"], server.install_of(CONTOSO));
    assert_eq!(again.data()["psa_company_id"], "1001");
    assert_eq!(again.header("location"), None);
    northwind.post(&path, linked(CONTOSO, "1001")).expect(200);

    // A repeated install still links the named company.
    relay
        .create_session(from(TAILSPIN))
        .refused(409, "end_company_not_mapped");
    let linked = northwind.post(&path, linked(TAILSPIN, "1002")).expect(200);
    assert_eq!(linked.data()["psa_company_id"], "1002");
    relay.create_session(from(TAILSPIN)).expect(201);
    assert_eq!(northwind.get(&path).expect(200).ids().len(), 3);
}

#[test]
fn an_invalid_install_is_refused_by_field() {
    let server = Server::demo();
    let path = installs_of(&server.client_help_bot());
    let company = "must be 1 to 64 letters, digits, spaces and characters of ._-&/+,'()#@: and neither 'health' nor 'unlinked-tenants'";
    for (body, field, reason) in [
        (json!({}), "end_client_tenant_id", "is required"),
        (
            json!({ "end_client_tenant_id": 5 }),
            "end_client_tenant_id",
            "must be a string",
        ),
        (linked("d-1", ""), "psa_company_id", company),
        (linked("d-1", "health"), "psa_company_id", company),
    ] {
        server
            .northwind()
            .post(&path, body)
            .refused_field(field, reason);
    }
}

#[test]
fn only_channels_for_client_companies_have_installs() {
    let server = Server::demo();
    let northwind = server.northwind();
    let internal = northwind.get("/channels?audience=MSP").expect(200).ids();
    for id in ["d-1", CONTOSO, FABRIKAMS_HOME] {
        let refused = northwind.post(&installs_of(&internal[0]), directory(id));
        assert_eq!(
            (refused.status, refused.error()),
            (
                422,
                json!({ "code": "audience_mismatch", "message": "Only END_USER channels can be installed. Choose an END_USER channel." })
            )
        );
    }
    let none = northwind.get(&installs_of(&internal[0])).expect(200);
    assert_eq!(none.data(), json!([]));
}

#[test]
fn an_occupied_directory_is_refused_the_same_way_for_every_owner_and_before_other_checks() {
    let server = Server::demo();
    let northwind = server.northwind();
    let path = installs_of(&server.client_help_bot());
    let sibling = another(&server, "Sibling", None);
    server.import_tenant(
        "northwind-it",
        json!({ "channels": [{ "internal_name": "Sibling", "bot_id": SHARED_BOT }] }),
    );
    // Occupied by another tenant, by its own people, and by another channel of the same bot.
    for (path, id) in [
        (&path, WOODGROVE),
        (&path, FABRIKAMS_HOME),
        (&installs_of(&sibling), CONTOSO),
    ] {
        assert_conflict(&northwind.post(path, directory(&id.to_uppercase())));
        // The company is not even checked, so an unknown or linked one makes no difference.
        for company in ["NO-SUCH-COMPANY", "1003", "1002"] {
            assert_conflict(&northwind.post(path, linked(id, company)));
        }
    }
    // Another tenant's deleted channel still occupies its bot and directory.
    let fabrikam = server.fabrikam();
    let theirs = fabrikam
        .get("/channels?audience=END_USER")
        .expect(200)
        .ids();
    fabrikam
        .delete(&format!("/channels/{}", theirs[0]))
        .expect(204);
    assert_conflict(&northwind.post(&path, directory(WOODGROVE)));
    // A tenant may install its bot in the directory of its own people.
    northwind
        .post(&path, directory(NORTHWINDS_HOME))
        .expect(201);
    // A client may belong to two MSPs with different bots.
    let other = another(&server, "Other bot", Some("other"));
    northwind
        .post(&installs_of(&other), directory(WOODGROVE))
        .expect(201);
}

#[test]
fn a_directory_has_one_install_in_a_tenant_for_any_bot() {
    let server = Server::demo();
    let northwind = server.northwind();
    let first = server.client_help_bot();
    for (name, bot) in [("Other bot", Some("other")), ("No bot", None)] {
        let other = another(&server, name, bot);
        let refused = northwind.post(&installs_of(&other), linked(CONTOSO, "NO-SUCH-COMPANY"));
        assert_eq!(
            (refused.status, refused.error()),
            (
                409,
                json!({
                    "code": "company_already_bound",
                    "message": "The channel \"Client help bot\" already has an install for this M365 tenant. Remove that install first.",
                    "details": {
                        "field": "end_client_tenant_id", "channel_id": first, "install_id": server.install_of(CONTOSO),
                    },
                })
            )
        );
    }
}

#[test]
fn a_company_is_linked_once_and_nothing_is_overwritten() {
    let server = Server::demo();
    let northwind = server.northwind();
    let path = installs_of(&server.client_help_bot());
    for company in ["NO-SUCH-COMPANY", "WOOD-01"] {
        let refused = northwind.post(&path, linked("d-1", company));
        assert_eq!((refused.status, refused.error()), (404, not_found()));
    }
    let refused = northwind.post(&path, linked("d-1", "1001"));
    assert_eq!(
        (refused.status, refused.error()),
        (
            409,
            json!({
                "code": "company_already_bound",
                "message": "This company is linked to another M365 tenant. Remove that link first, or send \"add_directory\": true to link this one too.",
                "details": { "field": "psa_company_id" },
            })
        )
    );
    // The refused calls installed nothing.
    assert_eq!(northwind.get(&path).expect(200).ids().len(), 3);
    let link: String = server
        .stored("SELECT m365_tenant_id FROM company_directories WHERE psa_company_id = '1001'");
    assert_eq!(link, CONTOSO);

    // A second company of a directory is linked as requested, and the reply warns of the effect.
    let several = northwind.post(&path, linked(CONTOSO, "1002")).expect(200);
    assert_eq!(several.data()["psa_company_id"], Value::Null);
    assert_eq!(
        several.json()["meta"]["warnings"],
        json!([
            "Several companies are now linked to this M365 tenant. Chat is refused until exactly one is linked."
        ])
    );
    server
        .relay()
        .create_session(from(CONTOSO))
        .refused(409, "end_company_not_mapped");
}

#[test]
fn of_many_concurrent_installs_of_one_directory_exactly_one_wins() {
    let server = Server::demo();
    let fabrikam = server.fabrikam();
    let theirs = fabrikam
        .get("/channels?audience=END_USER")
        .expect(200)
        .ids();
    let of_bots = [server.client_help_bot(), theirs[0].clone()];
    let in_tenant = ["b-1", "b-2"].map(|bot| another(&server, bot, Some(bot)));
    for number in 0..15 {
        let at_once = |channels: &[String; 2], id: &str| -> Vec<(u16, String)> {
            let mut told: Vec<(u16, String)> = thread::scope(|scope| {
                let askers: Vec<_> = channels
                    .iter()
                    .flat_map(|channel| [channel, channel])
                    .map(|channel| {
                        // The platform may install for either tenant.
                        let (relay, path) = (server.relay(), installs_of(channel));
                        scope.spawn(move || {
                            let reply = relay.post(&path, directory(id));
                            let code = reply.json()["error"]["code"].as_str().map(str::to_owned);
                            (reply.status, code.unwrap_or_default())
                        })
                    })
                    .collect();
                askers
                    .into_iter()
                    .map(|asker| asker.join().unwrap())
                    .collect()
            });
            told.sort();
            told
        };
        let outcome = |code: &str| {
            [(200, ""), (201, ""), (409, code), (409, code)]
                .map(|(status, code)| (status, code.to_owned()))
        };
        let between = at_once(&of_bots, &format!("between-{number}"));
        assert_eq!(between, outcome("install_conflict"));
        let within = at_once(&in_tenant, &format!("within-{number}"));
        assert_eq!(within, outcome("company_already_bound"));
    }
    let twice: i64 = server.stored(
        "SELECT count(*) FROM (SELECT 1 AS one FROM installs GROUP BY bot_id, m365_tenant_id HAVING count(*) > 1) AS twice",
    );
    assert_eq!(twice, 0);
    assert_consistent(&server);
}

#[test]
fn a_deleted_channels_install_yields_to_the_same_bot_of_the_same_tenant() {
    let server = Server::demo();
    let (northwind, relay) = (server.northwind(), server.relay());
    let (old, kept) = (server.client_help_bot(), server.install_of(CONTOSO));
    let successor = another(&server, "Successor", None);
    let living = relay.session(from(CONTOSO));
    northwind.delete(&format!("/channels/{old}")).expect(204);
    // The operator's seed file gives both MSPs the same bot.
    server.import_tenant(
        "northwind-it",
        json!({ "channels": [channel("Successor", "END_USER", SHARED_BOT, 101)] }),
    );
    relay
        .create_session(from(CONTOSO))
        .refused(409, "channel_disconnected");
    let made = northwind
        .post(&installs_of(&successor), directory(CONTOSO))
        .expect(201);
    assert_ne!(made.id(), kept);
    let session = relay.create_session(from(CONTOSO)).expect(201).data();
    assert_eq!(session["channel_id"], successor);
    // Sessions of the old install stay refused, and so do the old channel's other directories.
    relay
        .append_text(&living, "Hello?")
        .refused(409, "channel_disconnected");
    relay
        .create_session(from(FOURTH_COFFEE))
        .refused(409, "channel_disconnected");
    let left = northwind.get(&installs_of(&old)).expect(200).data();
    let left: Vec<&str> = left
        .as_array()
        .unwrap()
        .iter()
        .map(|install| install["end_client_tenant_id"].as_str().unwrap())
        .collect();
    assert_eq!(left, [TAILSPIN, FOURTH_COFFEE]);
    assert_consistent(&server);
}

#[test]
fn a_deleted_channels_install_does_not_yield_to_another_bot_until_it_is_deleted() {
    let server = Server::demo();
    let (northwind, relay) = (server.northwind(), server.relay());
    let (old, install) = (server.client_help_bot(), server.install_of(CONTOSO));
    northwind.delete(&format!("/channels/{old}")).expect(204);
    let other = another(&server, "Other bot", Some("other"));
    // Otherwise messages to the old bot would reach an unrelated agent.
    let refused = northwind.post(&installs_of(&other), directory(CONTOSO));
    assert_eq!(
        (refused.status, refused.error()),
        (
            409,
            json!({
                "code": "company_already_bound",
                "message": "The deleted channel \"Client help bot\" already has an install for this M365 tenant. Remove that install first.",
                "details": { "field": "end_client_tenant_id", "channel_id": old, "install_id": install },
            })
        )
    );
    relay
        .create_session(from(CONTOSO))
        .refused(409, "channel_disconnected");
    northwind
        .delete(&format!("{}/{install}", installs_of(&old)))
        .expect(204);
    northwind
        .post(&installs_of(&other), directory(CONTOSO))
        .expect(201);

    // An old channel without a bot refused nobody, so its install yields at once.
    let mute = another(&server, "No bot", None);
    northwind
        .post(&installs_of(&mute), directory("d-1"))
        .expect(201);
    northwind.delete(&format!("/channels/{mute}")).expect(204);
    northwind
        .post(&installs_of(&other), directory("d-1"))
        .expect(201);
}

#[test]
fn a_deleted_install_disconnects_its_sessions_and_frees_its_directory() {
    let server = Server::demo();
    let (northwind, relay) = (server.northwind(), server.relay());
    let channel = server.client_help_bot();
    let path = format!("{}/{}", installs_of(&channel), server.install_of(CONTOSO));
    let session = relay.session(from(CONTOSO));
    relay.append_text(&session, "Hello").expect(202);
    northwind.delete(&path).expect(204);
    northwind.delete(&path).not_found();
    let refused = relay.append_text(&session, "Still there?");
    assert_eq!(
        (refused.status, refused.error()),
        (
            409,
            json!({
                "code": "channel_disconnected",
                "message": "This chat is not connected at the moment. Please contact your IT support.",
            })
        )
    );
    assert_eq!(
        relay.read_session(&session).expect(200).data()["end_company_id"],
        "1001"
    );
    let resolved = relay.create_session(from(CONTOSO)).expect(201).data();
    assert_eq!(resolved["resolution"]["rule"], "neo_support");
    // The company stays linked.
    let link: String = server
        .stored("SELECT m365_tenant_id FROM company_directories WHERE psa_company_id = '1001'");
    assert_eq!(link, CONTOSO);
    // After a new install the session continues.
    northwind
        .post(&installs_of(&channel), directory(CONTOSO))
        .expect(201);
    relay.append_text(&session, "And now?").expect(202);
    let install = server.install_of(CONTOSO);
    northwind
        .delete(&format!("{}/{install}", installs_of(&channel)))
        .expect(204);
    let theirs = server
        .fabrikam()
        .get("/channels?audience=END_USER")
        .expect(200)
        .ids();
    // The directory is Northwind's while its company is linked.
    let fabrikam = server.fabrikam();
    assert_conflict(&fabrikam.post(&installs_of(&theirs[0]), directory(CONTOSO)));
    northwind
        .put("/end-companies/1001", json!({ "tenant_id": null }))
        .expect(200);
    fabrikam
        .post(&installs_of(&theirs[0]), directory(CONTOSO))
        .expect(201);
}

#[test]
fn an_install_is_deleted_only_through_its_own_channel() {
    let server = Server::demo();
    let northwind = server.northwind();
    let (channel, install) = (server.client_help_bot(), server.install_of(CONTOSO));
    let other = another(&server, "Other", None);
    for path in [
        format!("{}/{install}", installs_of(&other)),
        format!("{}/x", installs_of(&channel)),
        format!(
            "{}/ins_019ab697-e807-7abc-8def-0123456789ab",
            installs_of(&channel)
        ),
        format!("/channels/x/installs/{install}"),
    ] {
        northwind.delete(&path).not_found();
    }
    let theirs = format!("{}/{install}", installs_of(&channel));
    server.fabrikam().delete(&theirs).not_found();
    server.fabrikam().get(&installs_of(&channel)).not_found();
    server
        .fabrikam()
        .post(&installs_of(&channel), directory("d-1"))
        .not_found();
    assert_eq!(server.install_of(CONTOSO), install);
}

#[test]
fn installs_are_listed_newest_first_with_the_one_company_that_is_linked() {
    let server = Server::demo();
    let northwind = server.northwind();
    let path = installs_of(&server.client_help_bot());
    server.advance_clock(5);
    northwind.post(&path, linked("new", "1002")).expect(201);
    let list = northwind.get(&path).expect(200).data();
    let told: Vec<Value> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|install| {
            json!([
                install["end_client_tenant_id"],
                install["psa_company_id"],
                install["created_at"]
            ])
        })
        .collect();
    let first = "2025-11-24T16:00:00.000Z";
    assert_eq!(
        told,
        [
            json!(["new", "1002", "2025-11-24T16:00:00.005Z"]),
            json!([TAILSPIN, null, first]),
            json!([FOURTH_COFFEE, null, first]),
            json!([CONTOSO, "1001", first]),
        ]
    );
    let page = northwind.get(&format!("{path}?page_size=3")).expect(200);
    assert_eq!(page.json()["meta"]["pagination"]["has_more"], true);
    let cursor = page.next_cursor().unwrap();
    let rest = northwind
        .get(&format!("{path}?cursor={cursor}"))
        .expect(200);
    assert_eq!(rest.ids(), [server.install_of(CONTOSO)]);
    assert_eq!(rest.next_cursor(), None);
    let other = installs_of(&another(&server, "Other", None));
    northwind
        .get(&format!("{other}?cursor={cursor}"))
        .refused_field(
            "cursor",
            "is invalid or belongs to another list; start again without a cursor",
        );
}

#[test]
fn the_platform_installs_any_tenants_channel_and_the_reply_names_the_owner() {
    let server = Server::demo();
    let (northwind, relay) = (server.northwind(), server.relay());
    let channel = server.client_help_bot();
    let path = installs_of(&channel);
    assert_eq!(
        relay.get(&path).expect(200).data(),
        northwind.get(&path).expect(200).data()
    );
    // The company must belong to the channel's tenant.
    relay.post(&path, linked("d-1", "WOOD-01")).not_found();
    let id = relay.post(&path, linked("d-1", "1002")).expect(201).id();
    relay.post(&path, directory("d-1")).expect(200);
    relay.delete(&format!("{path}/{id}")).expect(204);
    let kept = server.install_of(TAILSPIN);
    northwind
        .post(&path, linked(TAILSPIN, "1002"))
        .refused(409, "company_already_bound");
    server.import_tenant(
        "northwind-it",
        json!({ "end_companies": [{ "psa_company_id": "1002", "tenant_id": null }] }),
    );
    northwind.post(&path, linked(TAILSPIN, "1002")).expect(200);
    northwind
        .post(&path, directory(WOODGROVE))
        .refused(409, "install_conflict");
    let told: String = server.stored(
        "SELECT string_agg(t.client_id || ' ' || e.actor_name || ' ' || e.action || ' ' || e.target || ' ' || e.details, '\n') FROM
         (SELECT * FROM audit_events WHERE action <> 'seed.import' ORDER BY seq) e JOIN tenants t ON t.tenant_no = e.tenant_no",
    );
    let post = |id: &str| format!(r#""end_client_tenant_id":"{id}","method":"POST""#);
    let route = r#""route":"/channels/{channel_id}/installs""#;
    let [bound, conflict] = [TAILSPIN, WOODGROVE].map(post);
    assert_eq!(
        told.lines().collect::<Vec<_>>(),
        [
            format!(
                r#"northwind-it Teams relay (demo) install.create {id} {{"channel_id":"{channel}","end_client_tenant_id":"d-1","psa_company_id":"1002"}}"#
            ),
            format!(
                r#"northwind-it Teams relay (demo) install.delete {id} {{"channel_id":"{channel}","end_client_tenant_id":"d-1"}}"#
            ),
            format!(
                r#"northwind-it PSA integration (demo) request.refused /public-api{path} {{"code":"company_already_bound",{bound},"psa_company_id":"1002",{route}}}"#
            ),
            format!(
                r#"northwind-it PSA integration (demo) install.link {kept} {{"channel_id":"{channel}","end_client_tenant_id":"{TAILSPIN}","psa_company_id":"1002"}}"#
            ),
            format!(
                r#"northwind-it PSA integration (demo) request.refused /public-api{path} {{"code":"install_conflict",{conflict},{route}}}"#
            ),
        ]
    );
}
