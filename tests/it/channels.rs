//! Channels over HTTP: create, change, list, delete, and the reasons for a refusal.

use std::thread;

use serde_json::{Value, json};

use crate::support::{
    CONTOSO, DEMO, FOURTH_COFFEE, SHARED_BOT, Server, TAILSPIN, TECHNICIAN_BOT, WOODGROVE, agent,
    channel, from, not_found, technician,
};

/// A channel without the fields that the server sets.
fn shown(mut channel: Value) -> Value {
    for given in ["id", "created_at", "updated_at"] {
        channel.as_object_mut().unwrap().remove(given).unwrap();
    }
    channel
}

/// A channel for Northwind's technicians.
fn internal(name: &str) -> Value {
    json!({ "internal_name": name, "audience": "MSP", "agent_id": 102 })
}

/// The channel with a bot.
fn of_bot(mut channel: Value, bot: &str) -> Value {
    channel["bot_id"] = bot.into();
    channel
}

/// The error for another tenant's bot.
fn bot_in_use() -> Value {
    json!({
        "code": "already_exists",
        "message": "This bot is already in use. Choose another bot.",
        "details": { "field": "bot_id" },
    })
}

/// The error for a second active channel of one bot.
fn second_internal() -> Value {
    json!({
        "code": "already_exists",
        "message": "This bot already has an ACTIVE MSP channel. Disconnect that channel first, or choose another bot.",
        "details": { "field": "bot_id" },
    })
}

#[test]
fn a_channel_is_created_with_defaults_and_read_back() {
    let server = Server::demo();
    let northwind = server.northwind();
    let made = northwind
        .post("/channels", internal("Night desk"))
        .expect(201);
    let channel = made.data();
    let path = format!("/channels/{}", made.id());
    assert!(made.id().starts_with("chn_"));
    assert_eq!(
        made.header("location"),
        Some(format!("/public-api{path}").as_str())
    );
    assert_eq!(channel["created_at"], "2025-11-24T16:00:00.000Z");
    assert_eq!(channel["updated_at"], "2025-11-24T16:00:00.000Z");
    assert_eq!(
        shown(channel.clone()),
        json!({
            "internal_name": "Night desk",
            "audience": "MSP",
            "transport": "TEAMS",
            "agent_id": 102,
            "status": "ACTIVE",
            "bot_id": null,
            "display_name": null,
            "description": null,
            "welcome_message": null,
            "color_icon_url": null,
            "outline_icon_url": null,
            "relay_prefix": null,
            "show_agent_progress_steps": true,
            "group_replies": "MENTIONED",
            "color_icon_uploaded": false,
            "outline_icon_uploaded": false,
        })
    );
    assert_eq!(northwind.get(&path).expect(200).data(), channel);
    assert_eq!(northwind.get("/channels").expect(200).data()[0], channel);
}

#[test]
fn a_patch_of_a_channel_changes_sent_fields_and_null_restores_the_default() {
    let server = Server::demo();
    let northwind = server.northwind();
    let whole = json!({
        "internal_name": "Desk",
        "audience": "END_USER",
        "transport": "TEAMS",
        "agent_id": 101,
        "status": "DISCONNECTED",
        "bot_id": "Bot.1",
        "display_name": "Helper",
        "description": "Helps",
        "welcome_message": "Hi!",
        "color_icon_url": "https://x.example/c.png",
        "outline_icon_url": "https://x.example/o.png",
        "relay_prefix": "Northwind",
        "show_agent_progress_steps": false,
        "group_replies": "ALWAYS",
    });
    let made = northwind.post("/channels", whole.clone()).expect(201);
    let path = format!("/channels/{}", made.id());
    assert_eq!(shown(made.data()), {
        let mut whole = whole.clone();
        whole["bot_id"] = "bot.1".into();
        whole["color_icon_uploaded"] = false.into();
        whole["outline_icon_uploaded"] = false.into();
        whole
    });
    server.advance_clock(1_000);
    let changed = northwind.patch(
        &path,
        json!({ "display_name": "Other", "description": null, "status": null }),
    );
    let changed = changed.expect(200).data();
    assert_eq!(changed["created_at"], "2025-11-24T16:00:00.000Z");
    assert_eq!(changed["updated_at"], "2025-11-24T16:00:01.000Z");
    let mut expected = whole;
    expected["bot_id"] = "bot.1".into();
    expected["color_icon_uploaded"] = false.into();
    expected["outline_icon_uploaded"] = false.into();
    expected["display_name"] = "Other".into();
    expected["description"] = Value::Null;
    expected["status"] = "ACTIVE".into();
    assert_eq!(shown(changed.clone()), expected);

    // A change of nothing does not touch `updated_at`.
    server.advance_clock(1_000);
    let same = northwind.patch(
        &path,
        json!({ "bot_id": "BOT.1", "transport": null, "audience": "END_USER", "x": 1 }),
    );
    assert_eq!(same.expect(200).data(), changed);

    let reset = json!({
        "transport": null, "status": null, "bot_id": null, "display_name": null, "description": null, "welcome_message": null,
        "color_icon_url": null, "outline_icon_url": null, "relay_prefix": null, "show_agent_progress_steps": null, "group_replies": null,
    });
    let reset = northwind.patch(&path, reset).expect(200).data();
    assert_eq!(
        shown(reset.clone()),
        json!({
            "internal_name": "Desk",
            "audience": "END_USER",
            "transport": "TEAMS",
            "agent_id": 101,
            "status": "ACTIVE",
            "bot_id": null,
            "display_name": null,
            "description": null,
            "welcome_message": null,
            "color_icon_url": null,
            "outline_icon_url": null,
            "relay_prefix": null,
            "show_agent_progress_steps": true,
            "group_replies": "MENTIONED",
            "color_icon_uploaded": false,
            "outline_icon_uploaded": false,
        })
    );
    assert_eq!(northwind.get(&path).expect(200).data(), reset);
}

#[test]
fn an_invalid_channel_is_refused_by_field() {
    let server = Server::demo();
    let northwind = server.northwind();
    let only_teams = "must be one of TEAMS";
    let long = "x".repeat(201);
    for (field, value, reason) in [
        ("internal_name", Value::Null, "is required"),
        ("internal_name", json!(""), "must not be empty"),
        (
            "internal_name",
            json!(long),
            "must have at most 200 characters",
        ),
        ("audience", Value::Null, "is required"),
        ("audience", json!("ALL"), "must be one of MSP, END_USER"),
        ("agent_id", Value::Null, "is required"),
        ("agent_id", json!("102"), "must be a whole number"),
        ("agent_id", json!(102.5), "must be a whole number"),
        ("transport", json!("SLACK"), only_teams),
        ("transport", json!("PORTAL"), only_teams),
        ("transport", json!("EMAIL"), only_teams),
        ("transport", json!("teams"), only_teams),
        (
            "status",
            json!("OFF"),
            "must be one of ACTIVE, DISCONNECTED",
        ),
        (
            "bot_id",
            json!(""),
            "must be 1 to 64 characters of A-Z, a-z, 0-9, '.', '_' and '-'",
        ),
        ("bot_id", json!(5), "must be a string"),
        (
            "color_icon_url",
            json!("http://x.example/c.png"),
            "must be an absolute https URL without spaces, user name or password",
        ),
        (
            "outline_icon_url",
            json!("/o.png"),
            "must be an absolute https URL without spaces, user name or password",
        ),
        (
            "show_agent_progress_steps",
            json!("yes"),
            "must be true or false",
        ),
        ("display_name", json!("a\u{0}b"), "must not contain U+0000"),
    ] {
        let mut body = internal("A");
        body[field] = value;
        northwind
            .post("/channels", body)
            .refused_field(field, reason);
    }
    assert_eq!(northwind.get("/channels").expect(200).ids().len(), 2);
}

#[test]
fn audience_and_transport_never_change_and_a_field_without_default_cannot_be_reset() {
    let server = Server::demo();
    let northwind = server.northwind();
    let path = format!("/channels/{}", server.client_help_bot());
    for (body, field, reason) in [
        (json!({ "audience": "MSP" }), "audience", "cannot change"),
        (
            json!({ "audience": "MSP", "agent_id": 102, "bot_id": null }),
            "audience",
            "cannot change",
        ),
        (
            json!({ "transport": "SLACK" }),
            "transport",
            "must be one of TEAMS",
        ),
        (
            json!({ "audience": null }),
            "audience",
            "must not be null: it has no default",
        ),
        (
            json!({ "internal_name": null }),
            "internal_name",
            "must not be null: it has no default",
        ),
        (
            json!({ "agent_id": null }),
            "agent_id",
            "must not be null: it has no default",
        ),
    ] {
        northwind.patch(&path, body).refused_field(field, reason);
    }
}

#[test]
fn a_channels_agent_belongs_to_its_tenant_and_has_its_audience() {
    let server = Server::demo();
    let northwind = server.northwind();
    let made = northwind.post("/channels", internal("Desk")).expect(201);
    let path = format!("/channels/{}", made.id());
    for unknown in [201, 202, 987_654, -1, i64::MAX] {
        let mut body = internal("Other");
        body["agent_id"] = unknown.into();
        northwind.post("/channels", body).not_found();
        northwind
            .patch(&path, json!({ "agent_id": unknown }))
            .not_found();
    }
    let mismatch = |agent: &str, channel: &str| {
        json!({
            "code": "audience_mismatch",
            "message": format!("The agent's audience is {agent}, and the channel's is {channel}. Choose an agent with the channel's audience."),
            "details": { "field": "agent_id" },
        })
    };
    let mut body = internal("Other");
    body["agent_id"] = 101.into();
    let refused = northwind.post("/channels", body.clone());
    assert_eq!(
        (refused.status, refused.error()),
        (422, mismatch("END_USER", "MSP"))
    );
    body["audience"] = "END_USER".into();
    body["agent_id"] = 102.into();
    let refused = northwind.post("/channels", body);
    assert_eq!(
        (refused.status, refused.error()),
        (422, mismatch("MSP", "END_USER"))
    );
    let refused = northwind.patch(&path, json!({ "agent_id": 101 }));
    assert_eq!(
        (refused.status, refused.error()),
        (422, mismatch("END_USER", "MSP"))
    );
    // A disabled agent, or one that does not chat, may be bound; a chat request is refused.
    for agent in [103, 105, 100] {
        let changed = northwind.patch(&path, json!({ "agent_id": agent }));
        assert_eq!(changed.expect(200).data()["agent_id"], agent);
    }
}

#[test]
fn a_channel_name_is_unique_among_a_tenants_undeleted_channels() {
    let server = Server::demo();
    let northwind = server.northwind();
    let taken = json!({
        "code": "already_exists",
        "message": "A channel with this name already exists. Choose another name.",
        "details": { "field": "internal_name" },
    });
    let refused = northwind.post("/channels", internal("Technician bot"));
    assert_eq!((refused.status, refused.error()), (409, taken.clone()));
    let other = northwind
        .post("/channels", internal("Other"))
        .expect(201)
        .id();
    let path = format!("/channels/{other}");
    let refused = northwind.patch(&path, json!({ "internal_name": "Technician bot" }));
    assert_eq!((refused.status, refused.error()), (409, taken));
    // Other tenants have their own names, and the name of a deleted channel is free.
    server
        .fabrikam()
        .post(
            "/channels",
            json!({ "internal_name": "Other", "audience": "MSP", "agent_id": 202 }),
        )
        .expect(201);
    northwind.delete(&path).expect(204);
    northwind.post("/channels", internal("Other")).expect(201);
}

#[test]
fn of_two_concurrent_creates_with_one_name_or_one_bot_exactly_one_wins() {
    let server = Server::demo();
    let at_once = |bodies: [Value; 2]| -> Vec<u16> {
        let mut statuses: Vec<u16> = thread::scope(|scope| {
            let makers = bodies.map(|body| {
                let northwind = server.northwind();
                scope.spawn(move || northwind.post("/channels", body).status)
            });
            makers
                .into_iter()
                .map(|maker| maker.join().unwrap())
                .collect()
        });
        statuses.sort_unstable();
        statuses
    };
    for number in 0..10 {
        let name = format!("Name {number}");
        assert_eq!(at_once([internal(&name), internal(&name)]), [201, 409]);
        let bot = format!("bot-{number}");
        let [one, other] =
            ["One", "Other"].map(|name| of_bot(internal(&format!("{name} {number}")), &bot));
        assert_eq!(at_once([one, other]), [201, 409]);
    }
}

#[test]
fn a_bot_has_one_active_channel_for_a_tenants_technicians() {
    let server = Server::demo();
    let northwind = server.northwind();
    let second = of_bot(internal("Second"), &TECHNICIAN_BOT.to_uppercase());
    let refused = northwind.post("/channels", second.clone());
    assert_eq!((refused.status, refused.error()), (409, second_internal()));

    // The second channel may exist while disconnected, and becomes active after the first is
    // deleted.
    let mut waiting = second;
    waiting["status"] = "DISCONNECTED".into();
    let waiting = northwind.post("/channels", waiting).expect(201).id();
    let path = format!("/channels/{waiting}");
    for active in [json!("ACTIVE"), Value::Null] {
        let refused = northwind.patch(&path, json!({ "status": active }));
        assert_eq!((refused.status, refused.error()), (409, second_internal()));
    }
    let free = northwind
        .patch(&path, json!({ "status": "ACTIVE", "bot_id": "free" }))
        .expect(200)
        .data();
    assert_eq!(
        (&free["status"], &free["bot_id"]),
        (&json!("ACTIVE"), &json!("free"))
    );
    let refused = northwind.patch(&path, json!({ "bot_id": TECHNICIAN_BOT }));
    assert_eq!((refused.status, refused.error()), (409, second_internal()));
    let first = northwind.get("/channels?q=technician").expect(200).ids();
    northwind
        .patch(
            &format!("/channels/{}", first[0]),
            json!({ "status": "DISCONNECTED" }),
        )
        .expect(200);
    northwind
        .patch(&path, json!({ "bot_id": TECHNICIAN_BOT }))
        .expect(200);
    northwind.delete(&path).expect(204);
    northwind
        .patch(
            &format!("/channels/{}", first[0]),
            json!({ "status": "ACTIVE" }),
        )
        .expect(200);

    // A bot may have several channels for client companies.
    for name in ["One", "Two"] {
        let body = json!({ "internal_name": name, "audience": "END_USER", "agent_id": 101, "bot_id": TECHNICIAN_BOT });
        northwind.post("/channels", body).expect(201);
    }
}

#[test]
fn another_tenants_bot_is_refused_without_naming_the_tenant() {
    let server = Server::demo();
    let northwind = server.northwind();
    let theirs = "B07BE7A0-c0de-4bee-8ace-feed0be7a001";
    let own = northwind
        .post("/channels", internal("Own"))
        .expect(201)
        .id();
    let path = format!("/channels/{own}");
    for bot in [theirs, SHARED_BOT] {
        let refused = northwind.post("/channels", of_bot(internal("Theirs"), bot));
        assert_eq!((refused.status, refused.error()), (409, bot_in_use()));
        let refused = northwind.patch(&path, json!({ "bot_id": bot }));
        assert_eq!((refused.status, refused.error()), (409, bot_in_use()));
    }
    // The bot that the seed file shares stays, and all other fields can change.
    let shared = format!("/channels/{}", server.client_help_bot());
    northwind
        .patch(
            &shared,
            json!({ "display_name": "Helper", "bot_id": SHARED_BOT }),
        )
        .expect(200);
    northwind
        .patch(&shared, json!({ "bot_id": "another" }))
        .expect(200);
    let refused = northwind.patch(&shared, json!({ "bot_id": SHARED_BOT }));
    assert_eq!((refused.status, refused.error()), (409, bot_in_use()));

    // A deleted channel no longer occupies its bot.
    let fabrikam = server.fabrikam();
    let gone = fabrikam.get("/channels?q=engineer").expect(200).ids();
    fabrikam
        .delete(&format!("/channels/{}", gone[0]))
        .expect(204);
    northwind
        .patch(&path, json!({ "bot_id": theirs }))
        .expect(200);
    let refused = fabrikam.post(
        "/channels",
        json!({ "internal_name": "Engineer bot", "audience": "MSP", "agent_id": 202, "bot_id": theirs }),
    );
    assert_eq!((refused.status, refused.error()), (409, bot_in_use()));
}

#[test]
fn a_new_bot_checks_every_install_again() {
    let server = Server::demo();
    let northwind = server.northwind();
    // Fabrikam's bot serves Tailspin too. Its channel is deleted, but its install still occupies
    // both.
    server.import_tenant(
        "fabrikam-support",
        json!({
            "channels": [{ "internal_name": "Gone", "audience": "END_USER", "agent_id": 201, "bot_id": "gone",
                           "installs": [{ "end_client_tenant_id": TAILSPIN }] }],
        }),
    );
    let fabrikam = server.fabrikam();
    let gone = fabrikam.get("/channels?bot_id=gone").expect(200).ids();
    fabrikam
        .delete(&format!("/channels/{}", gone[0]))
        .expect(204);
    let id = server.client_help_bot();
    let path = format!("/channels/{id}");
    let conflict = |directory: &str| {
        json!({
            "code": "install_conflict",
            "message": "This M365 tenant cannot be installed for this bot. Ask the platform's operator.",
            "details": { "field": "bot_id", "end_client_tenant_id": directory },
        })
    };
    let refused = northwind.patch(&path, json!({ "bot_id": "GONE", "display_name": "x" }));
    assert_eq!((refused.status, refused.error()), (409, conflict(TAILSPIN)));
    assert_eq!(
        northwind.get(&path).expect(200).data()["display_name"],
        "Northwind helper"
    );

    // The check also finds a directory that has become another tenant's own.
    server.execute_sql(&format!(
        "UPDATE tenants SET entra_tenant_id = '{FOURTH_COFFEE}' WHERE client_id = 'relay-platform'"
    ));
    let refused = northwind.patch(&path, json!({ "bot_id": "fresh" }));
    assert_eq!(
        (refused.status, refused.error()),
        (409, conflict(FOURTH_COFFEE))
    );
    server.execute_sql(
        "UPDATE tenants SET entra_tenant_id = NULL WHERE client_id = 'relay-platform'",
    );

    // Otherwise the installs move along: the new bot is routed, the old one is not.
    northwind
        .patch(&path, json!({ "bot_id": "fresh" }))
        .expect(200);
    let relay = server.relay();
    let mut ask = from(CONTOSO);
    assert_eq!(
        relay.create_session(ask.clone()).expect(201).data()["resolution"]["rule"],
        "neo_support"
    );
    ask["bot_id"] = "Fresh".into();
    assert_eq!(
        relay.create_session(ask).expect(201).data()["channel_id"],
        id
    );
    let bots = northwind
        .get(&format!("{path}/installs"))
        .expect(200)
        .data();
    for install in bots.as_array().unwrap() {
        assert_eq!(install["bot_id"], "fresh");
    }
    // Without a bot the channel routes nothing and occupies nothing.
    northwind
        .patch(&path, json!({ "bot_id": null }))
        .expect(200);
    northwind
        .patch(&path, json!({ "bot_id": "fresh" }))
        .expect(200);
}

#[test]
fn a_deleted_channel_does_not_exist_except_that_calls_it_routed_are_refused() {
    let server = Server::demo();
    let (northwind, relay) = (server.northwind(), server.relay());
    let session = relay.session(from(CONTOSO));
    let id = server.client_help_bot();
    let path = format!("/channels/{id}");
    let made = northwind.post(
        "/agents",
        json!({ "name": "Helper", "audience": "END_USER" }),
    );
    let agent = made.expect(201).data()["agent_id"].clone();
    northwind
        .patch(&path, json!({ "agent_id": agent }))
        .expect(200);
    let agent = format!("/agents/{agent}");
    northwind.delete(&agent).refused(409, "agent_in_use");
    northwind.delete(&path).expect(204);
    northwind.get(&path).not_found();
    northwind
        .patch(&path, json!({ "status": "ACTIVE" }))
        .not_found();
    northwind.delete(&path).not_found();
    northwind
        .post(
            &format!("{path}/installs"),
            json!({ "end_client_tenant_id": "d-1" }),
        )
        .not_found();
    assert_eq!(
        northwind
            .get("/channels?audience=END_USER")
            .expect(200)
            .ids(),
        Vec::<String>::new()
    );
    let refused = json!({
        "code": "channel_disconnected",
        "message": "This chat is not connected at the moment. Please contact your IT support.",
    });
    for directory in [CONTOSO, FOURTH_COFFEE, TAILSPIN] {
        let mut ask = from(directory);
        ask["client_id"] = "northwind-it".into();
        let reply = relay.create_session(ask);
        assert_eq!((reply.status, reply.error()), (409, refused.clone()));
    }
    let reply = relay.append_text(&session, "Still there?");
    assert_eq!((reply.status, reply.error()), (409, refused));
    assert_eq!(
        relay.read_session(&session).expect(200).data()["channel_id"],
        id
    );
    // Its agent can be deleted now.
    northwind.delete(&agent).expect(204);
}

#[test]
fn channels_are_listed_newest_first_by_page_and_filter() {
    let server = Server::with_world(DEMO, &[]);
    server.import_tenant(
        "northwind-it",
        json!({
            "agents": [agent(901, "MSP")],
            "channels": [
                channel("Alpha", "MSP", "bot-a", 901), channel("Beta", "END_USER", "bot-b", 101),
                channel("Gamma", "MSP", "bot-c", 901), channel("Delta", "MSP", "bot-d", 102),
            ],
        }),
    );
    let northwind = server.northwind();
    for (name, body) in [
        ("Alpha", json!({ "display_name": "Nights and beta days" })),
        ("Gamma", json!({ "status": "DISCONNECTED" })),
        ("Delta", json!({ "bot_id": null })),
    ] {
        let found = northwind
            .get(&format!("/channels?q={name}"))
            .expect(200)
            .ids();
        northwind
            .patch(&format!("/channels/{}", found[0]), body)
            .expect(200);
    }
    let names = |query: &str| -> Vec<String> {
        let list = northwind
            .get(&format!("/channels?{query}"))
            .expect(200)
            .data();
        let names = list.as_array().unwrap().iter();
        names
            .map(|channel| channel["internal_name"].as_str().unwrap().to_owned())
            .collect()
    };
    for (query, expected) in [
        (
            "",
            &[
                "Delta",
                "Gamma",
                "Beta",
                "Alpha",
                "Technician bot",
                "Client help bot",
            ][..],
        ),
        ("audience=END_USER", &["Beta", "Client help bot"]),
        (
            "audience=MSP",
            &["Delta", "Gamma", "Alpha", "Technician bot"],
        ),
        ("status=DISCONNECTED", &["Gamma"]),
        ("agent_id=901", &["Gamma", "Alpha"]),
        ("agent_id=901&status=ACTIVE", &["Alpha"]),
        ("agent_id=201", &[]),
        ("bot_id=BOT-A", &["Alpha"]),
        ("bot_id=bot-a&agent_id=102", &[]),
        (
            "bot_id=bot-a&agent_id=901&audience=MSP&q=NIGHTS",
            &["Alpha"],
        ),
        ("bot_id=bot-d", &[]),
        ("q=BETA", &["Beta", "Alpha"]),
        ("q=%25", &[]),
    ] {
        assert_eq!(names(query), expected, "{query}");
    }
    let mut walked = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = northwind
            .get(&format!("/channels?page_size=4{cursor}"))
            .expect(200);
        walked.extend(page.ids());
        match page.next_cursor() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(walked, northwind.get("/channels").expect(200).ids());
    assert_eq!(walked.len(), 6);
    let refusal = "is invalid or belongs to another list; start again without a cursor";
    server
        .fabrikam()
        .get(&format!("/channels?{}", &cursor[1..]))
        .refused_field("cursor", refusal);
    for (query, field, reason) in [
        ("audience=ALL", "audience", "must be one of MSP, END_USER"),
        ("status=x", "status", "must be one of ACTIVE, DISCONNECTED"),
        (
            "bot_id=",
            "bot_id",
            "must be 1 to 64 characters of A-Z, a-z, 0-9, '.', '_' and '-'",
        ),
        (
            "page_size=0",
            "page_size",
            "must be a whole number from 1 to 200",
        ),
        ("q=%00", "q", "must not contain U+0000"),
    ] {
        northwind
            .get(&format!("/channels?{query}"))
            .refused_field(field, reason);
    }
}

#[test]
fn a_malformed_or_foreign_channel_id_is_not_found() {
    let server = Server::demo();
    let theirs = server.fabrikam().get("/channels").expect(200).ids();
    for caller in [server.northwind(), server.relay()] {
        for id in [
            theirs[0].as_str(),
            "x",
            "chn_",
            "0",
            "ses_019ab697-e807-7abc-8def-0123456789ab",
        ] {
            let path = format!("/channels/{id}");
            for reply in [
                caller.get(&path),
                caller.patch(&path, json!({ "display_name": "x" })),
                caller.delete(&path),
            ] {
                assert_eq!((reply.status, reply.error()), (404, not_found()), "{path}");
            }
        }
    }
    // The literal path segment is never read as a channel's id.
    let reply = server.northwind().get("/channels/install-events");
    assert_eq!(reply.expect(405).header("allow"), Some("POST, OPTIONS"));
}

#[test]
fn an_install_event_gives_the_relay_the_texts_of_an_active_channel() {
    let server = Server::demo();
    let (northwind, relay) = (server.northwind(), server.relay());
    let ask = |bot: &str, directory: &str| {
        let body = json!({ "bot_id": bot, "end_client_tenant_id": directory });
        relay
            .post("/channels/install-events", body)
            .expect(200)
            .data()
    };
    let silence = json!({ "matched": false, "display_name": null, "welcome_message": null, "relay_prefix": null });
    let path = format!("/channels/{}", server.client_help_bot());
    let greeting = json!({ "display_name": "Help", "welcome_message": "Welcome!" });
    northwind.patch(&path, greeting).expect(200);
    let said = json!({
        "matched": true, "display_name": "Help", "welcome_message": "Welcome!", "relay_prefix": "Northwind IT",
    });
    assert_eq!(
        ask(&SHARED_BOT.to_uppercase(), &CONTOSO.to_uppercase()),
        said
    );
    // A linked company makes no difference.
    assert_eq!(ask(SHARED_BOT, TAILSPIN), said);
    assert_eq!(
        ask(SHARED_BOT, WOODGROVE)["display_name"],
        "Fabrikam helpline"
    );
    assert_eq!(ask(SHARED_BOT, "elsewhere"), silence);
    assert_eq!(ask(TECHNICIAN_BOT, CONTOSO), silence);

    let nothing = json!({ "display_name": null, "welcome_message": null });
    northwind.patch(&path, nothing).expect(200);
    assert_eq!(
        ask(SHARED_BOT, CONTOSO),
        json!({ "matched": true, "display_name": null, "welcome_message": null, "relay_prefix": "Northwind IT" })
    );
    northwind
        .patch(
            &path,
            json!({ "display_name": "Help", "status": "DISCONNECTED" }),
        )
        .expect(200);
    assert_eq!(ask(SHARED_BOT, CONTOSO), silence);
    northwind
        .patch(&path, json!({ "status": "ACTIVE" }))
        .expect(200);
    assert_eq!(ask(SHARED_BOT, CONTOSO)["matched"], true);
    northwind.delete(&path).expect(204);
    assert_eq!(ask(SHARED_BOT, CONTOSO), silence);

    for (body, field, reason) in [
        (
            json!({ "bot_id": "b" }),
            "end_client_tenant_id",
            "is required",
        ),
        (
            json!({ "end_client_tenant_id": "d" }),
            "bot_id",
            "is required",
        ),
        (
            json!({ "bot_id": "", "end_client_tenant_id": "d" }),
            "bot_id",
            "must be 1 to 64 characters of A-Z, a-z, 0-9, '.', '_' and '-'",
        ),
    ] {
        relay
            .post("/channels/install-events", body)
            .refused_field(field, reason);
    }
    // Only the platform may call this, and admission comes before the body.
    for caller in [server.northwind(), server.fabrikam()] {
        caller
            .post("/channels/install-events", json!({}))
            .refused(403, "forbidden");
    }
}

#[test]
fn an_install_event_changes_nothing() {
    let server = Server::demo();
    let rows = || {
        server.stored::<String>(
            "SELECT (SELECT count(*) FROM installs) || ' ' || (SELECT count(*) FROM unlinked_tenants) || ' ' ||
                    (SELECT count(*) FROM audit_events)",
        )
    };
    let before = rows();
    for directory in [CONTOSO, TAILSPIN, "elsewhere"] {
        let body = json!({ "bot_id": SHARED_BOT, "end_client_tenant_id": directory });
        server
            .relay()
            .post("/channels/install-events", body)
            .expect(200);
    }
    assert_eq!(rows(), before);
}

#[test]
fn each_change_of_a_channel_is_an_audit_event() {
    let server = Server::demo();
    let northwind = server.northwind();
    let guest = northwind.with_session_token(&northwind.session(technician()));
    let before: i64 = server.stored("SELECT count(*) FROM audit_events");
    let id = northwind
        .post("/channels", internal("Audited"))
        .expect(201)
        .id();
    let path = format!("/channels/{id}");
    northwind
        .patch(&path, json!({ "internal_name": "Renamed", "bot_id": "b" }))
        .expect(200);
    northwind.patch(&path, json!({ "bot_id": "B" })).expect(200);
    northwind
        .patch(&path, json!({ "bot_id": SHARED_BOT }))
        .refused(409, "already_exists");
    northwind.delete(&path).expect(204);
    guest
        .post("/channels", internal("x"))
        .refused(403, "forbidden");
    assert_eq!(
        server.stored::<i64>("SELECT count(*) FROM audit_events"),
        before + 4
    );
    let events: String = server.stored(
        "SELECT string_agg(action || ' ' || target || ' ' || actor_kind || ' ' || details, '\n') FROM
         (SELECT * FROM audit_events ORDER BY seq DESC LIMIT 4) e",
    );
    assert_eq!(
        events.lines().rev().collect::<Vec<_>>(),
        [
            format!("channel.create {id} service_account {{}}"),
            format!(
                r#"channel.update {id} service_account {{"changed":{{"bot_id":{{"from":null,"to":"b"}},"internal_name":{{"from":"Audited","to":"Renamed"}}}}}}"#
            ),
            format!(r#"channel.delete {id} service_account {{"internal_name":"Renamed"}}"#),
            r#"request.refused /public-api/channels end_user_session {"code":"forbidden","method":"POST","route":"/channels"}"#.to_owned(),
        ]
    );
}
