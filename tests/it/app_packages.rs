//! The app package of a channel's bot over HTTP: what is in it, its icons, its version, and the
//! pages that it leads to.

use std::io::{Cursor, Read};

use serde_json::{Value, json};

use crate::support::{ApiClient, DEMO, Server, TECHNICIAN_BOT, technician};
use crate::wire::{Reply, Request};

const PUBLIC_URL: &str = "https://chat.example.net/neo";

fn demo() -> Server {
    Server::with_world(DEMO, &["--public-url", PUBLIC_URL])
}

/// The files of a package in their order.
fn unpacked(reply: &Reply) -> Vec<(String, Vec<u8>)> {
    let mut zip = zip::ZipArchive::new(Cursor::new(&reply.body)).unwrap();
    (0..zip.len())
        .map(|index| {
            let mut file = zip.by_index(index).unwrap();
            let mut content = Vec::new();
            file.read_to_end(&mut content).unwrap();
            (file.name().unwrap().into_owned(), content)
        })
        .collect()
}

fn manifest(client: &ApiClient, channel: &str) -> Value {
    let reply = client.get(&format!("/channels/{channel}/app-package"));
    serde_json::from_slice(&unpacked(&reply.expect(200))[0].1).unwrap()
}

fn put_icon(client: &ApiClient, channel: &str, kind: &str, png: &[u8]) -> Reply {
    let request = Request::new("PUT", format!("/channels/{channel}/icons/{kind}"));
    client.send(request.header("content-type", "image/png").bytes(png))
}

fn get_icon(client: &ApiClient, channel: &str, kind: &str) -> Vec<u8> {
    let icon = client
        .get(&format!("/channels/{channel}/icons/{kind}"))
        .expect(200);
    assert_eq!(icon.header("content-type"), Some("image/png"));
    icon.body
}

/// A picture of one color, with one pixel of nothing.
fn picture(side: u32, pixel: [u8; 4]) -> Vec<u8> {
    let mut pixels = vec![pixel; (side * side) as usize];
    pixels[0] = [0; 4];
    switchboard::app_package::png::encode(side, &pixels).unwrap()
}

#[test]
fn a_package_has_a_manifest_with_all_that_teams_demands_and_two_icons() {
    let server = demo();
    let northwind = server.northwind();
    let channel = server.client_help_bot();
    let reply = northwind
        .get(&format!("/channels/{channel}/app-package"))
        .expect(200);
    assert_eq!(reply.header("content-type"), Some("application/zip"));
    assert_eq!(
        reply.header("content-disposition"),
        Some("attachment; filename=\"northwind-helper.zip\"")
    );
    let files = unpacked(&reply);
    let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["manifest.json", "color.png", "outline.png"]);
    assert_eq!(files[1].1, get_icon(&northwind, &channel, "color"));
    assert_eq!(files[2].1, get_icon(&northwind, &channel, "outline"));

    let mut manifest: Value = serde_json::from_slice(&files[0].1).unwrap();
    let color = manifest["accentColor"].take();
    assert!(color.as_str().unwrap().starts_with('#'), "{color}");
    let guid = &channel["chn_".len()..];
    let page = format!("{PUBLIC_URL}/pages/{channel}");
    let scopes = ["personal", "team", "groupChat"];
    assert_eq!(
        manifest,
        json!({
            "$schema": "https://developer.microsoft.com/en-us/json-schemas/teams/v1.19/MicrosoftTeams.schema.json",
            "manifestVersion": "1.19",
            "version": "1.0.1",
            "id": guid,
            "developer": {
                "name": "Northwind IT", "websiteUrl": page, "privacyUrl": format!("{page}/privacy"), "termsOfUseUrl": format!("{page}/terms"),
            },
            "name": { "short": "Northwind helper", "full": "Northwind helper" },
            "description": manifest["description"],
            "icons": { "color": "color.png", "outline": "outline.png" },
            "accentColor": null,
            "bots": [{
                "botId": "b07fab1e-c0de-4bee-8ace-facade0fb075",
                "scopes": scopes,
                "isNotificationOnly": false,
                "supportsFiles": true,
                "commandLists": [{
                    "scopes": scopes,
                    "commands": [
                        { "title": "/new", "description": "Start a new conversation" },
                        { "title": "/reset", "description": "Forget this conversation and start again" },
                    ],
                }],
            }],
            "permissions": ["identity", "messageTeamMembers"],
            "validDomains": ["chat.example.net"],
        })
    );
    // The platform, which sets up bots, gets the same.
    let named = format!("/channels/{channel}/app-package?client_id=northwind-it");
    assert_eq!(server.relay().get(&named).expect(200).body, reply.body);
    let icon = format!("/channels/{channel}/icons/color?client_id=northwind-it");
    assert_eq!(server.relay().get(&icon).expect(200).body, files[1].1);
    // The same package is the same bytes, also after a restart.
    let server = server.restarted();
    let again = server
        .northwind()
        .get(&format!("/channels/{channel}/app-package"));
    assert_eq!(again.expect(200).body, reply.body);
}

#[test]
fn the_version_grows_with_each_change_of_what_is_in_the_package() {
    let server = demo();
    let (northwind, channel) = (server.northwind(), server.client_help_bot());
    let path = format!("/channels/{channel}");
    let version = || manifest(&northwind, &channel)["version"].clone();
    let change = |fields: Value| northwind.patch(&path, fields).expect(200);
    assert_eq!(version(), "1.0.1");
    // What is not in the package changes nothing.
    change(json!({ "welcome_message": "Welcome!", "group_replies": "ALWAYS" }));
    assert_eq!(version(), "1.0.1");
    change(json!({ "display_name": "Northwind desk" }));
    assert_eq!(version(), "1.0.2");
    change(json!({ "description": "Ask us." }));
    assert_eq!(version(), "1.0.3");
    put_icon(&northwind, &channel, "color", &picture(192, [1, 2, 3, 255])).expect(200);
    assert_eq!(version(), "1.0.4");
    put_icon(&northwind, &channel, "outline", &picture(32, [255; 4])).expect(200);
    assert_eq!(version(), "1.0.5");
    northwind
        .patch(
            "/tenant",
            json!({ "privacy_url": "https://northwind.example/privacy" }),
        )
        .expect(200);
    assert_eq!(version(), "1.0.6");
    // What was there before is a change too.
    northwind.delete(&format!("{path}/icons/color")).expect(204);
    assert_eq!(version(), "1.0.7");
    assert_eq!(version(), "1.0.7");
    // Each channel counts for itself.
    let other = northwind.get(&format!("/channels?bot_id={TECHNICIAN_BOT}"));
    let other = other.expect(200).ids().remove(0);
    assert_eq!(manifest(&northwind, &other)["version"], "1.0.1");
}

#[test]
fn long_and_missing_texts_fit_the_manifest() {
    let server = demo();
    let (northwind, channel) = (server.northwind(), server.client_help_bot());
    let fields = json!({
        "display_name": "N".repeat(150), "description": format!("First\nline. {}", "d".repeat(5_000)),
    });
    northwind
        .patch(&format!("/channels/{channel}"), fields)
        .expect(200);
    let long = manifest(&northwind, &channel);
    assert_eq!(long["name"]["short"], format!("{}…", "N".repeat(29)));
    assert_eq!(long["name"]["full"], format!("{}…", "N".repeat(99)));
    let short = format!("First line. {}…", "d".repeat(67));
    assert_eq!(long["description"]["short"], short);
    let full = format!("First\nline. {}…", "d".repeat(3_987));
    assert_eq!(long["description"]["full"], full);

    let fields = json!({ "display_name": " ", "description": null });
    northwind
        .patch(&format!("/channels/{channel}"), fields)
        .expect(200);
    let bare = manifest(&northwind, &channel);
    assert_eq!(bare["name"]["short"], "Client help bot");
    let default = "Chat with Client help bot, a bot of Northwind IT.";
    assert_eq!(
        bare["description"],
        json!({ "short": default, "full": default })
    );
}

#[test]
fn a_package_that_teams_would_not_take_is_refused_with_what_to_do() {
    let server = Server::demo();
    let (northwind, channel) = (server.northwind(), server.client_help_bot());
    let refused = |field: &str, message: &str| {
        let reply = northwind
            .get(&format!("/channels/{channel}/app-package"))
            .refused(409, "app_package_incomplete");
        assert_eq!(reply.error()["details"], json!({ "field": field }));
        assert_eq!(reply.error()["message"], message);
    };
    let needs = |field: &str, page: &str| {
        format!(
            "The app package needs the address of {page}. Set the tenant's {field}, or start the server with --public-url, \
             so that a page of the server takes its place."
        )
    };
    refused("website_url", &needs("website_url", "the MSP's website"));
    let set = |fields: Value| northwind.patch("/tenant", fields).expect(200);
    set(json!({ "website_url": "https://northwind.example" }));
    refused("privacy_url", &needs("privacy_url", "a privacy statement"));
    set(json!({ "privacy_url": "https://northwind.example/privacy" }));
    refused("terms_url", &needs("terms_url", "terms of use"));
    set(json!({ "terms_url": "https://terms.example/northwind" }));
    let made = manifest(&northwind, &channel);
    assert_eq!(
        made["developer"],
        json!({
            "name": "Northwind IT", "websiteUrl": "https://northwind.example", "privacyUrl": "https://northwind.example/privacy",
            "termsOfUseUrl": "https://terms.example/northwind",
        })
    );
    assert_eq!(
        made["validDomains"],
        json!(["northwind.example", "terms.example"])
    );

    let bot = |bot: Value| {
        northwind
            .patch(&format!("/channels/{channel}"), json!({ "bot_id": bot }))
            .expect(200)
    };
    bot(json!("no-guid"));
    refused(
        "bot_id",
        "The app package names the channel's bot, and Teams takes a GUID only. Set bot_id to the Microsoft App ID of the bot.",
    );
    bot(Value::Null);
    refused(
        "bot_id",
        "The app package names the channel's bot, and the channel has none. Set its bot_id first.",
    );
}

#[test]
fn icons_are_drawn_until_they_are_uploaded_and_after_they_are_removed() {
    let server = demo();
    let (northwind, channel) = (server.northwind(), server.client_help_bot());
    let uploaded = || {
        let channel = northwind.get(&format!("/channels/{channel}")).expect(200);
        (
            channel.data()["color_icon_uploaded"].as_bool().unwrap(),
            channel.data()["outline_icon_uploaded"].as_bool().unwrap(),
        )
    };
    let drawn = get_icon(&northwind, &channel, "color");
    assert_eq!(&drawn[16..24], [0, 0, 0, 192, 0, 0, 0, 192]);
    let outline = get_icon(&northwind, &channel, "outline");
    assert_eq!(&outline[16..24], [0, 0, 0, 32, 0, 0, 0, 32]);
    assert_eq!(uploaded(), (false, false));

    let own = picture(192, [200, 0, 0, 255]);
    let put = put_icon(&northwind, &channel, "color", &own).expect(200);
    assert_eq!(put.data()["color_icon_uploaded"], true);
    assert_eq!(get_icon(&northwind, &channel, "color"), own);
    let white = picture(32, [255, 255, 255, 128]);
    put_icon(&northwind, &channel, "outline", &white).expect(200);
    assert_eq!(get_icon(&northwind, &channel, "outline"), white);
    assert_eq!(uploaded(), (true, true));
    // A later name changes what is drawn, and nothing that was uploaded.
    let path = format!("/channels/{channel}");
    northwind
        .patch(&path, json!({ "display_name": "Zeta" }))
        .expect(200);
    assert_eq!(get_icon(&northwind, &channel, "color"), own);
    for _ in 0..2 {
        northwind.delete(&format!("{path}/icons/color")).expect(204);
    }
    assert_eq!(uploaded(), (false, true));
    assert_ne!(get_icon(&northwind, &channel, "color"), drawn);

    let events = northwind.get("/audit-events").expect(200);
    let told: Vec<Value> = events
        .data()
        .as_array()
        .unwrap()
        .iter()
        .filter(|event| event["action"].as_str().unwrap().ends_with("_icon"))
        .map(|event| json!([event["action"], event["target"], event["details"]]))
        .collect();
    assert_eq!(
        told,
        [
            json!(["channel.remove_icon", channel, { "icon": "color" }]),
            json!(["channel.set_icon", channel, { "icon": "outline", "bytes": white.len() }]),
            json!(["channel.set_icon", channel, { "icon": "color", "bytes": own.len() }]),
        ]
    );

    // A deleted channel has neither icons nor a package.
    northwind.delete(&path).expect(204);
    for below in ["icons/outline", "app-package"] {
        northwind.get(&format!("{path}/{below}")).not_found();
    }
    let left =
        "SELECT (SELECT count(*) FROM channel_icons) + (SELECT count(*) FROM channel_packages)";
    assert_eq!(server.stored::<i64>(left), 0);
}

#[test]
fn an_icon_of_another_size_or_form_is_refused_with_the_reason() {
    let server = demo();
    let (northwind, channel) = (server.northwind(), server.client_help_bot());
    let refused = |kind: &str, png: &[u8], reason: &str| {
        put_icon(&northwind, &channel, kind, png).refused_field("body", reason);
    };
    let size = "must have 192 x 192 pixels, but has 32 x 32";
    refused("color", &picture(32, [255; 4]), size);
    let size = "must have 32 x 32 pixels, but has 192 x 192";
    refused("outline", &picture(192, [255; 4]), size);
    let white = "must be white on a transparent ground, without another color";
    refused("outline", &picture(32, [255, 0, 0, 255]), white);
    refused("color", b"GIF89a", "is not a PNG picture");
    let mut damaged = picture(192, [1, 2, 3, 4]);
    damaged.truncate(100);
    let reason = "is a PNG picture that is damaged or incomplete";
    refused("color", &damaged, reason);
    refused("color", b"", "is not a PNG picture");

    let large = put_icon(&northwind, &channel, "color", &vec![0; 256 * 1_024 + 1]);
    let large = large.refused(413, "payload_too_large");
    let message = "The icon is too large. Send at most 262144 bytes.";
    assert_eq!(large.error()["message"], message);
    let path = format!("/channels/{channel}/icons/color");
    let request = Request::new("PUT", path.as_str()).header("content-type", "image/jpeg");
    let jpeg = northwind.send(request.bytes(picture(192, [0; 4])));
    let jpeg = jpeg.refused(415, "unsupported_media_type");
    let message = "Send the icon as 'Content-Type: image/png'.";
    assert_eq!(jpeg.error()["message"], message);
    put_icon(&northwind, &channel, "small", &picture(32, [255; 4])).not_found();
    northwind
        .get(&format!("/channels/{channel}/icons/small"))
        .not_found();
    put_icon(
        &server.fabrikam(),
        &channel,
        "color",
        &picture(192, [255; 4]),
    )
    .not_found();
    assert_eq!(
        server.stored::<i64>("SELECT count(*) FROM channel_icons"),
        0
    );
}

#[test]
fn public_pages_say_who_runs_the_bot_and_what_is_kept() {
    let server = demo();
    let (northwind, anyone) = (server.northwind(), server.anonymous());
    let channel = server.client_help_bot();
    let page = |path: &str| {
        let reply = anyone.send(Request::new("GET", format!("/pages/{channel}{path}")));
        let reply = reply.expect(200);
        assert_eq!(
            reply.header("content-type"),
            Some("text/html; charset=utf-8")
        );
        assert_eq!(
            reply.header("content-security-policy"),
            Some(
                "default-src 'none'; style-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
            )
        );
        reply.text()
    };
    let has = |text: &str, part: &str| assert!(text.contains(part), "{part} in {text}");
    let privacy = page("/privacy");
    has(
        &privacy,
        "<bdi>Northwind IT</bdi> runs it for the staff of its clients.",
    );
    has(&privacy, "Conversations have no date of deletion.");
    has(&page("/terms"), "Do not send passwords");
    let about = page("");
    has(&about, &format!("href=\"../pages/{channel}/privacy\""));

    server.import_tenant("northwind-it", json!({ "retention_days": 30 }));
    has(
        &page("/privacy"),
        "A conversation is deleted 30 days after its last change",
    );

    // Names cannot write HTML.
    let attack = "<script>alert(\"1\")</script>&'";
    northwind
        .patch(
            &format!("/channels/{channel}"),
            json!({ "display_name": attack, "description": attack }),
        )
        .expect(200);
    for path in ["", "/privacy", "/terms"] {
        let text = page(path);
        has(
            &text,
            "&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;&amp;&#39;",
        );
        assert!(!text.contains("<script"), "{text}");
    }

    // The tenant's own address is linked instead.
    let own = json!({ "privacy_url": "https://northwind.example/privacy?a=1&b=2" });
    northwind.patch("/tenant", own).expect(200);
    has(
        &page(""),
        "href=\"https://northwind.example/privacy?a=1&amp;b=2\"",
    );

    // The app may still be installed after the channel is deleted.
    northwind
        .delete(&format!("/channels/{channel}"))
        .expect(204);
    page("/privacy");
    for absent in [
        "/pages/chn_019ab697-e807-7abc-8def-0123456789ab",
        "/pages/northwind-it",
        "/pages",
    ] {
        anyone.send(Request::new("GET", absent)).expect(404);
    }
    anyone
        .send(Request::new("GET", format!("/public-api/pages/{channel}")))
        .expect(404);
}

#[test]
fn a_tenant_sets_the_addresses_of_its_own_pages_and_nothing_else() {
    let server = Server::demo();
    let (northwind, relay) = (server.northwind(), server.relay());
    let before = northwind.get("/tenant").expect(200).data();
    for field in ["website_url", "privacy_url", "terms_url"] {
        assert_eq!(before[field], Value::Null);
        for wrong in [
            "http://northwind.example",
            "https://me@northwind.example",
            "northwind.example",
            "",
        ] {
            let refused = northwind
                .patch("/tenant", json!({ field: wrong }))
                .expect(400);
            assert_eq!(refused.error()["details"]["field"], field);
        }
    }
    let sent = json!({
        "website_url": "https://northwind.example", "privacy_url": "https://northwind.example/privacy",
        "terms_url": "https://northwind.example/terms", "name": "Taken over", "retention_days": 1,
    });
    let changed = northwind.patch("/tenant", sent).expect(200).data();
    let mut expected = before.clone();
    expected["website_url"] = "https://northwind.example".into();
    expected["privacy_url"] = "https://northwind.example/privacy".into();
    expected["terms_url"] = "https://northwind.example/terms".into();
    assert_eq!(changed, expected);
    assert_eq!(northwind.get("/tenant").expect(200).data(), expected);
    let event = northwind.get("/audit-events?action=tenant.update&page_size=1");
    let event = event.expect(200).data()[0].clone();
    assert_eq!(event["target"], "northwind-it");
    assert_eq!(
        event["details"]["changed"]["terms_url"],
        json!({ "from": null, "to": "https://northwind.example/terms" })
    );

    // The platform does the same for every tenant.
    let reset = relay.patch("/tenants/northwind-it", json!({ "terms_url": null }));
    assert_eq!(reset.expect(200).data()["terms_url"], Value::Null);
    assert_eq!(
        northwind.get("/tenant").expect(200).data()["terms_url"],
        Value::Null
    );
    let made = relay.post(
        "/tenants",
        json!({ "client_id": "proseware-it", "name": "Proseware", "website_url": "https://proseware.example" }),
    );
    assert_eq!(
        made.expect(201).data()["website_url"],
        "https://proseware.example"
    );
}

#[test]
fn a_bot_in_a_group_answers_when_it_is_mentioned_unless_the_channel_says_always() {
    let server = Server::demo();
    let (northwind, channel) = (server.northwind(), server.client_help_bot());
    let path = format!("/channels/{channel}");
    let setting = || northwind.get(&path).expect(200).data()["group_replies"].clone();
    assert_eq!(setting(), "MENTIONED");
    northwind
        .patch(&path, json!({ "group_replies": "ALWAYS" }))
        .expect(200);
    assert_eq!(setting(), "ALWAYS");
    northwind
        .patch(&path, json!({ "group_replies": "SOMETIMES" }))
        .refused_field("group_replies", "must be one of MENTIONED, ALWAYS");
    northwind
        .patch(&path, json!({ "group_replies": null }))
        .expect(200);
    assert_eq!(setting(), "MENTIONED");
    let made = northwind.post(
        "/channels",
        json!({ "internal_name": "Always", "audience": "MSP", "agent_id": 102, "group_replies": "ALWAYS" }),
    );
    assert_eq!(made.expect(201).data()["group_replies"], "ALWAYS");
    server.import_tenant(
        "northwind-it",
        json!({ "channels": [{ "internal_name": "Client help bot", "group_replies": "ALWAYS" }] }),
    );
    assert_eq!(setting(), "ALWAYS");
    // Sessions are created as before.
    northwind.create_session(technician()).expect(201);
}
