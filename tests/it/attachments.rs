//! Attachments: upload by a signed link, use in a message, download by another link, expiry.

use std::thread;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::scripted_model::{self, ScriptedModel};
use crate::support::{ApiClient, DAY, DEMO, MINUTE, SECOND, START, Server, block_on, technician};
use crate::watchdog::until;
use crate::wire::{Connection, Reply, Request};

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n and the rest";
const LARGEST: usize = 10 * 1_024 * 1_024;
const NO_FILE: &str = "is not the path of a file that was uploaded for this session";
const WORD: &str = "application/vnd.openxmlformats-officedocument.wordprocessingml.document";
const EXCEL: &str = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet";

fn text(value: &Value) -> &str {
    value
        .as_str()
        .unwrap_or_else(|| panic!("{value} is no string"))
}

/// Requests a link to upload a file of this type.
#[track_caller]
fn upload_url(client: &ApiClient, session: &str, content_type: &str) -> String {
    let asked = client.request_upload(session, content_type).expect(201);
    text(&asked.data()["upload_url"]).to_owned()
}

/// Uploads a file's bytes to a link with this `Content-Type`.
#[track_caller]
fn upload_as(client: &ApiClient, url: &str, media_type: &str, content: &[u8]) -> Reply {
    let target = url.strip_prefix("http://localhost").unwrap();
    let request = Request::new("PUT", target).header("content-type", media_type);
    client.send(request.bytes(content))
}

fn carrying(files: &[(&str, &str)]) -> Value {
    let files: Vec<Value> = files
        .iter()
        .map(|(blob_path, mime)| json!({ "blob_path": blob_path, "mime": mime }))
        .collect();
    json!({ "message": "", "attachments": files })
}

/// A zip archive of empty files.
fn zip(names: &[&str]) -> Vec<u8> {
    let mut bytes = b"PK\x03\x04".to_vec();
    for name in names {
        let mut entry = [0; 46];
        entry[..4].copy_from_slice(b"PK\x01\x02");
        entry[28] = u8::try_from(name.len()).unwrap();
        bytes.extend_from_slice(&entry);
        bytes.extend_from_slice(name.as_bytes());
    }
    let mut end = [0; 22];
    end[..4].copy_from_slice(b"PK\x05\x06");
    end[10] = u8::try_from(names.len()).unwrap();
    end[16] = 4;
    bytes.extend_from_slice(&end);
    bytes
}

#[track_caller]
fn assert_link_is_invalid(reply: Reply) {
    assert_eq!(
        reply.refused(403, "forbidden").error(),
        json!({ "code": "forbidden", "message": "This link is invalid or has expired. Request a new one." })
    );
}

#[test]
fn a_file_is_uploaded_sent_listed_and_downloaded() {
    let server = Server::demo();
    let (northwind, anonymous) = (server.northwind(), server.anonymous());
    let session = northwind.session(technician());
    let asked = northwind
        .post(
            &format!("/chat/sessions/{session}/attachments/upload-url"),
            json!({ "content_type": "image/png", "filename": "Drucker \u{e4}\"\r\n.png" }),
        )
        .expect(201);
    let location = asked.header("location").map(str::to_owned);
    let asked = asked.data();
    let (url, blob_path) = (text(&asked["upload_url"]), text(&asked["blob_path"]));
    assert_eq!(
        asked,
        json!({ "upload_url": url, "blob_path": blob_path, "mime": "image/png", "max_image_bytes": 10_485_760 })
    );
    assert_eq!(location, Some(format!("/public-api/{blob_path}")));
    let begin = format!(
        "http://localhost/public-api/{blob_path}?expires={}&signature=",
        START / 1_000 + 900
    );
    assert!(url.starts_with(&begin), "{url}");
    let kept = upload_as(&anonymous, url, "Image/PNG; x=y", PNG).expect(200);
    assert_eq!(
        kept.data(),
        json!({ "blob_path": blob_path, "mime": "image/png", "bytes": PNG.len() })
    );
    let notes = northwind.upload(&session, "text/plain", "Größe".as_bytes());
    let body = json!({ "message": "Look", "attachments": [
        { "blob_path": notes, "mime": "text/plain", "filename": "notes.txt" },
        { "blob_path": blob_path, "mime": "image/png", "alt": "A printer" },
    ] });
    northwind.append(&session, body).expect(202);
    northwind.append_text(&session, "Well?").expect(202);

    let listed = northwind.messages(&session, "").expect(200).data();
    let message = &listed[0];
    let (first, second) = (&message["attachments"][0], &message["attachments"][1]);
    let name = "Drucker \u{e4}\"\r\n.png";
    assert_eq!(
        message["attachments"],
        json!([
            { "blob_path": notes, "mime": "text/plain", "filename": "notes.txt", "bytes": 7, "url": first["url"] },
            { "blob_path": blob_path, "mime": "image/png", "filename": name, "alt": "A printer",
              "bytes": PNG.len(), "url": second["url"] },
        ])
    );
    assert_eq!(
        message["parts"],
        json!([
            { "type": "text", "text": "Look" },
            { "type": "file", "mediaType": "text/plain", "filename": "notes.txt", "url": first["url"] },
            { "type": "file", "mediaType": "image/png", "filename": name, "url": second["url"] },
        ])
    );
    assert_eq!(listed[1]["attachments"], json!([]));
    let newest_first = northwind
        .messages(&session, "order=desc")
        .expect(200)
        .data();
    assert_eq!(newest_first[1], listed[0]);

    let fetched = anonymous
        .follow_link("GET", text(&second["url"]), None)
        .expect(200);
    assert_eq!(fetched.body, PNG);
    for (header, value) in [
        ("content-type", "image/png"),
        ("x-content-type-options", "nosniff"),
        ("cache-control", "private, no-store"),
        (
            "content-disposition",
            "attachment; filename=\"Drucker ____.png\"; filename*=UTF-8''Drucker%20%C3%A4%22%0D%0A.png",
        ),
    ] {
        assert_eq!(fetched.header(header), Some(value));
    }
    let fetched = anonymous
        .follow_link("GET", text(&first["url"]), None)
        .expect(200);
    assert_eq!(fetched.body, "Größe".as_bytes());
}

#[test]
fn a_message_with_only_files_has_no_text_part_and_gives_no_title() {
    let server = Server::demo();
    let northwind = server.northwind();
    let session = northwind.session(technician());
    let blob_path = northwind.upload(&session, "image/png", PNG);
    northwind
        .append(&session, carrying(&[(&blob_path, "image/png")]))
        .expect(202);
    let message = northwind.messages(&session, "").expect(200).data()[0].clone();
    let file = &message["attachments"][0];
    assert_eq!(
        (&message["content"], &message["parts"], &file["filename"]),
        (
            &json!(""),
            &json!([{ "type": "file", "mediaType": "image/png", "url": file["url"] }]),
            &Value::Null,
        )
    );
    let read = northwind.read_session(&session).expect(200).data();
    assert_eq!(read["title"], Value::Null);
}

#[test]
fn an_upload_request_that_breaks_a_rule_is_refused() {
    let server = Server::demo();
    let northwind = server.northwind();
    let session = northwind.session(technician());
    let ask = |body: Value| {
        northwind.post(
            &format!("/chat/sessions/{session}/attachments/upload-url"),
            body,
        )
    };
    ask(json!({})).refused_field("content_type", "is required");
    for bad in ["image/svg+xml", "text/html", "image/PNG", ""] {
        let refused = ask(json!({ "content_type": bad })).refused(400, "validation_error");
        assert_eq!(refused.error()["details"]["field"], "content_type");
    }
    for (bad, reason) in [
        (json!(""), "must not be empty"),
        (json!("x".repeat(256)), "must have at most 255 characters"),
        (json!("\u{0}"), "must not contain U+0000"),
        (json!(5), "must be a string"),
    ] {
        ask(json!({ "content_type": "image/png", "filename": bad }))
            .refused_field("filename", reason);
    }
    ask(json!({ "content_type": "image/png", "filename": "\u{e4}".repeat(255) })).expect(201);
    server
        .fabrikam()
        .request_upload(&session, "image/png")
        .not_found();
    northwind
        .with_session_token(&session)
        .request_upload(&session, "image/png")
        .expect(201);
}

#[test]
fn uploaded_content_must_match_its_type_and_a_refusal_does_not_use_up_the_link() {
    let server = Server::demo();
    let northwind = server.northwind();
    let (word, excel) = (
        zip(&["[Content_Types].xml", "word/document.xml"]),
        zip(&["[Content_Types].xml", "xl/workbook.xml"]),
    );
    let kinds: [(&str, &[u8]); 10] = [
        ("image/png", PNG),
        ("image/jpeg", b"\xff\xd8\xff\xe0"),
        ("image/gif", b"GIF89a"),
        ("image/webp", b"RIFF\x04\0\0\0WEBP"),
        ("application/pdf", b"%PDF-1.7"),
        ("text/plain", "ä".as_bytes()),
        ("text/csv", b"a;b\n1;2\n"),
        ("application/msword", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"),
        (WORD, &word),
        (EXCEL, &excel),
    ];
    let session = northwind.session(technician());
    for (mime, content) in kinds {
        let url = upload_url(&northwind, &session, mime);
        let is_text = mime.starts_with("text/");
        for (other, foreign) in kinds {
            let foreign = match (is_text, other) {
                // Text of one text type is valid for the other one, so a NUL byte stands for a
                // mismatch.
                (true, "text/plain" | "text/csv") => b"\0".as_slice(),
                (true, "application/pdf" | "image/gif") => b"\x81",
                _ => foreign,
            };
            if other != mime
                && !(is_text && std::str::from_utf8(foreign).is_ok() && !foreign.contains(&0))
            {
                northwind
                    .follow_link("PUT", &url, Some(foreign))
                    .refused_field("body", &format!("is not a file of the type {mime}"));
            }
        }
        northwind
            .follow_link("PUT", &url, Some(b""))
            .refused_field("body", "must not be empty");
        for wrong in ["application/octet-stream", "application/json", "", "image"] {
            upload_as(&northwind, &url, wrong, content).refused(415, "unsupported_media_type");
        }
        northwind
            .follow_link("PUT", &url, Some(content))
            .expect(200);
        for content in [content, b"".as_slice(), b"x"] {
            northwind
                .follow_link("PUT", &url, Some(content))
                .refused(409, "already_exists");
        }
    }
}

#[test]
fn a_file_has_at_most_10_mib() {
    let server = Server::demo();
    let northwind = server.northwind();
    let session = northwind.session(technician());
    let url = upload_url(&northwind, &session, "text/plain");
    let target = url.strip_prefix("http://localhost").unwrap();

    let mut told = Connection::open(server.address);
    let head = format!(
        "PUT {target} HTTP/1.1\r\nhost: switchboard\r\ncontent-length: {}\r\n\r\n",
        LARGEST + 1
    );
    told.write(head.as_bytes()).unwrap();
    let refused = told.read("PUT").unwrap().unwrap();
    refused.refused(413, "payload_too_large");

    let mut untold = Connection::open(server.address);
    let mut request = format!(
        "PUT {target} HTTP/1.1\r\nhost: switchboard\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n",
        LARGEST + 1
    )
    .into_bytes();
    request.extend_from_slice(&vec![b'x'; LARGEST + 1]);
    untold.write(&request).unwrap();
    let refused = untold.read("PUT").unwrap().unwrap();
    refused.refused(413, "payload_too_large");

    let kept = northwind.follow_link("PUT", &url, Some(&vec![b'x'; LARGEST]));
    assert_eq!(kept.expect(200).data()["bytes"], LARGEST);
}

#[test]
fn a_link_is_valid_for_its_method_and_file_until_it_expires() {
    let server = Server::demo();
    let (northwind, anonymous) = (server.northwind(), server.anonymous());
    let session = northwind.session(technician());
    let put = upload_url(&northwind, &session, "text/plain");
    let other = upload_url(&northwind, &session, "text/plain");
    let blob_path = northwind.upload(&session, "text/plain", b"x");
    northwind
        .append(&session, carrying(&[(&blob_path, "text/plain")]))
        .expect(202);
    let listed = northwind.messages(&session, "").expect(200).data();
    let get = text(&listed[0]["attachments"][0]["url"]).to_owned();

    let half = |url: &str, workspace: usize| url.split('?').nth(workspace).unwrap().to_owned();
    let expires = START / 1_000 + 900;
    for (method, url) in [("PUT", &put), ("GET", &get)] {
        let opposite = if method == "PUT" { "GET" } else { "PUT" };
        assert_link_is_invalid(anonymous.follow_link(opposite, url, Some(b"x")));
        let cut = half(url, 0);
        let mut bad = vec![
            cut.clone(),
            format!("{cut}?{}", half(&other, 1)),
            url.replace(&expires.to_string(), &(expires + 1).to_string()),
            url.replace(&expires.to_string(), "99999999999999999999"),
            url.replace("signature=", "signature=A"),
            url.replace("signature=", "x="),
            url.replace("expires=", "x="),
            url[..url.len() - 1].to_owned(),
        ];
        let id = half(url, 0).rsplit('/').next().unwrap().to_owned();
        bad.push(url.replace(&id, "att_019ab697-e807-7000-8000-000000000000"));
        for bad in bad {
            assert_link_is_invalid(anonymous.follow_link(method, &bad, Some(b"x")));
        }
        anonymous
            .follow_link(method, &url.replace("att_", "ses_"), Some(b"x"))
            .not_found();
    }
    server.advance_clock(15 * MINUTE - 1);
    anonymous.follow_link("GET", &get, None).expect(200);
    anonymous
        .follow_link("PUT", &put, Some(b"\0"))
        .refused(400, "validation_error");
    server.advance_clock(1);
    assert_link_is_invalid(anonymous.follow_link("GET", &get, None));
    assert_link_is_invalid(anonymous.follow_link("PUT", &put, Some(b"x")));
    // Listing the messages again gives a valid link.
    let listed = northwind.messages(&session, "").expect(200).data();
    let get = text(&listed[0]["attachments"][0]["url"]).to_owned();
    anonymous.follow_link("GET", &get, None).expect(200);
    // The link is still valid after a restart, because the signing secret is in the data folder.
    let server = server.restarted();
    server
        .anonymous()
        .follow_link("GET", &get, None)
        .expect(200);
    server.northwind().delete_session(&session).expect(204);
    assert_link_is_invalid(server.anonymous().follow_link("GET", &get, None));
    until("no file is left", || {
        let files = "SELECT (SELECT count(*) FROM attachments) + (SELECT count(*) FROM attachment_contents)";
        server.stored::<i64>(files) == 0
    });
}

#[test]
fn links_are_built_from_the_public_url_else_from_the_host() {
    let server = Server::with_world(DEMO, &["--public-url=https://chat.example.com/sb/"]);
    let northwind = server.northwind();
    let session = northwind.session(technician());
    let url = upload_url(&northwind, &session, "image/png");
    assert!(
        url.starts_with("https://chat.example.com/sb/public-api/chat/attachments/att_"),
        "{url}"
    );
}

#[test]
fn twenty_uploads_may_wait_for_a_message() {
    let server = Server::demo();
    let northwind = server.northwind();
    let session = northwind.session(technician());
    let mut waiting: Vec<String> = (0..10)
        .map(|_| northwind.upload(&session, "text/plain", b"x"))
        .collect();
    for _ in 0..10 {
        northwind.request_upload(&session, "text/plain").expect(201);
    }
    let one_more = || northwind.request_upload(&session, "text/plain");
    one_more().refused(409, "too_many_attachments");
    let elsewhere = northwind.session(technician());
    northwind
        .request_upload(&elsewhere, "image/png")
        .expect(201);
    // A file in a message no longer counts as waiting, and neither does one whose link expired.
    let carried = waiting.pop().unwrap();
    northwind
        .append(&session, carrying(&[(&carried, "text/plain")]))
        .expect(202);
    one_more().expect(201);
    one_more().refused(409, "too_many_attachments");
    server.advance_clock(15 * MINUTE);
    for _ in 0..11 {
        one_more().expect(201);
    }
    one_more().refused(409, "too_many_attachments");
}

#[test]
fn a_session_stores_at_most_200_mib() {
    let server = Server::demo();
    let northwind = server.northwind();
    let session = northwind.session(technician());
    northwind.upload(&session, "text/plain", b"x");
    let last = upload_url(&northwind, &session, "text/plain");
    let most = 200 * 1_024 * 1_024;
    let tampered = |bytes: i64| {
        server.execute_sql(&format!(
            "UPDATE attachments SET bytes = {bytes} WHERE bytes IS NOT NULL"
        ))
    };
    tampered(most - 1);
    northwind
        .follow_link("PUT", &last, Some(b"xy"))
        .refused(409, "too_many_attachments");
    northwind.request_upload(&session, "text/plain").expect(201);
    northwind.follow_link("PUT", &last, Some(b"x")).expect(200);
    northwind
        .request_upload(&session, "text/plain")
        .refused(409, "too_many_attachments");
}

#[test]
fn a_message_carries_only_files_of_its_session_that_no_message_carries() {
    let server = Server::demo();
    let northwind = server.northwind();
    let (session, other) = (
        northwind.session(technician()),
        northwind.session(technician()),
    );
    let here = northwind.upload(&session, "image/png", PNG);
    let there = northwind.upload(&other, "image/png", PNG);
    let asked = northwind.request_upload(&session, "image/png").expect(201);
    let empty = text(&asked.data()["blob_path"]).to_owned();
    let foreign = server.fabrikam().session(json!({ "agent_id": 202 }));
    let foreign = server.fabrikam().upload(&foreign, "image/png", PNG);
    let absent = "chat/attachments/att_019ab697-e807-7000-8000-000000000000";
    for bad in [&there, &empty, &foreign, absent, "x", &here.to_uppercase()] {
        northwind
            .append(
                &session,
                carrying(&[(&here, "image/png"), (bad, "image/png")]),
            )
            .refused_field("attachments[1].blob_path", NO_FILE);
    }
    northwind
        .append(
            &session,
            carrying(&[(&here, "image/png"), (&here, "image/png")]),
        )
        .refused_field("attachments[1].blob_path", "names the same file twice");
    northwind
        .append(&session, carrying(&[(&here, "image/gif")]))
        .refused_field("attachments[0].mime", "must be image/png, as at the upload");
    let mut once = carrying(&[(&here, "image/png")]);
    once["client_message_id"] = "c".into();
    let first = northwind.append(&session, once.clone()).expect(202).data();
    // A repeat gets the first reply, although a message now carries its file.
    let repeat = northwind
        .append(&session, once)
        .refused(409, "duplicate_client_message");
    assert_eq!(
        repeat.error()["details"]["user_message_id"],
        first["user_message_id"]
    );
    let again = || northwind.append(&session, carrying(&[(&here, "image/png")]));
    let carried = "names a file that is attached to a message already";
    again().refused_field("attachments[0].blob_path", carried);
    // Files are checked before the session's state.
    northwind.reset_session(&session).expect(200);
    again().refused_field("attachments[0].blob_path", carried);
    let read = northwind.read_session(&session).expect(200).data();
    assert_eq!(read["message_count"], 1);
}

#[test]
fn of_messages_that_race_for_one_file_exactly_one_gets_it() {
    let server = Server::demo();
    let northwind = server.northwind();
    let session = northwind.session(technician());
    let blob_path = northwind.upload(&session, "image/png", PNG);
    let body = carrying(&[(&blob_path, "image/png")]);
    let statuses: Vec<u16> = thread::scope(|scope| {
        let racers: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| northwind.append(&session, body.clone()).status))
            .collect();
        racers
            .into_iter()
            .map(|racer| racer.join().unwrap())
            .collect()
    });
    let won = statuses.iter().filter(|status| **status == 202).count();
    let lost = statuses.iter().filter(|status| **status == 400).count();
    assert_eq!((won, lost), (1, 7), "{statuses:?}");
}

#[test]
fn of_uploads_that_race_for_one_link_exactly_one_is_stored() {
    let server = Server::demo();
    let northwind = server.northwind();
    let session = northwind.session(technician());
    let url = upload_url(&northwind, &session, "text/plain");
    let statuses: Vec<u16> = thread::scope(|scope| {
        let racers: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| northwind.follow_link("PUT", &url, Some(b"x")).status))
            .collect();
        racers
            .into_iter()
            .map(|racer| racer.join().unwrap())
            .collect()
    });
    let won = statuses.iter().filter(|status| **status == 200).count();
    let lost = statuses.iter().filter(|status| **status == 409).count();
    assert_eq!((won, lost), (1, 7), "{statuses:?}");
}

#[test]
fn a_file_that_no_message_carries_is_deleted_after_a_day() {
    let server = Server::demo();
    let northwind = server.northwind();
    let session = northwind.session(technician());
    let carried = northwind.upload(&session, "image/png", PNG);
    northwind
        .append(&session, carrying(&[(&carried, "image/png")]))
        .expect(202);
    let waiting: Vec<String> = (0..12)
        .map(|_| northwind.upload(&session, "image/png", PNG))
        .collect();
    let cleans_up = || {
        block_on(server.app.store.purge_attachments());
        let left: i64 = server.stored("SELECT count(*) FROM attachment_contents");
        left
    };
    server.advance_clock(DAY - SECOND);
    assert_eq!(cleans_up(), 13);
    server.advance_clock(SECOND);
    assert_eq!(cleans_up(), 1);
    northwind
        .append(&session, carrying(&[(&waiting[0], "image/png")]))
        .refused_field("attachments[0].blob_path", NO_FILE);
    let listed = northwind.messages(&session, "").expect(200).data();
    let url = text(&listed[0]["attachments"][0]["url"]);
    server.anonymous().follow_link("GET", url, None).expect(200);
}

#[test]
fn a_model_gets_images_in_the_turn_that_brings_them_and_a_line_of_text_for_other_files() {
    let model = ScriptedModel::start(vec![scripted_model::Reply::answer("I see.")]);
    let server = Server::answering(&[
        &format!("--model-url={}", model.url()),
        "--model-fast=m",
        "--model-smart=m",
    ]);
    let northwind = server.northwind();
    let session = northwind.session(technician());
    let image = |number: u8| [PNG, &[number]].concat();
    let shown = |number: u8| {
        let url = format!(
            "data:image/png;base64,{}",
            BASE64_STANDARD.encode(image(number))
        );
        json!({ "type": "image_url", "image_url": { "url": url } })
    };
    let answered = |body: Value| {
        let turn = northwind.append(&session, body).expect(202).data()["chat_turn_id"].clone();
        let turn = northwind
            .turn(&session, text(&turn), "wait_seconds=60")
            .expect(200);
        assert_eq!(turn.data()["status"], "COMPLETED");
        let body = model.requests().pop().unwrap().body;
        let messages = body["messages"].as_array().unwrap();
        let said = |message: &Value| message["content"].clone();
        messages.iter().skip(1).map(said).collect::<Vec<Value>>()
    };
    let upload = |number: u8| northwind.upload(&session, "image/png", &image(number));
    let (one, two) = (upload(1), upload(2));
    let notes = northwind.upload(&session, "text/plain", b"x");
    let mut body = carrying(&[
        (&one, "image/png"),
        (&notes, "text/plain"),
        (&two, "image/png"),
    ]);
    body["message"] = "What is this?".into();
    body["attachments"][1]["filename"] = "notes \"1\".txt".into();
    body["attachments"][2]["alt"] = "A printer".into();
    let unseen = |label: &str| format!("(The user sent a file that you cannot see: {label}.)");
    let notes = unseen(r#""notes \"1\".txt", text/plain"#);
    let asked = format!("What is this?\n\n{notes}");
    assert_eq!(
        answered(body),
        [json!([{ "type": "text", "text": asked }, shown(1), shown(2)])]
    );
    let many: Vec<String> = (3..8).map(upload).collect();
    let files: Vec<(&str, &str)> = many
        .iter()
        .map(|path| (path.as_str(), "image/png"))
        .collect();
    let (first, second) = (
        unseen("image/png"),
        unseen(r#"image/png, described as "A printer""#),
    );
    assert_eq!(
        answered(carrying(&files)),
        [
            json!(format!("What is this?\n\n{first}\n\n{notes}\n\n{second}")),
            json!("I see."),
            json!([
                { "type": "text", "text": first },
                shown(4),
                shown(5),
                shown(6),
                shown(7),
            ]),
        ]
    );
    let last = northwind.upload(&session, "text/plain", b"x");
    let told = answered(carrying(&[(&last, "text/plain")]));
    assert_eq!(told.last(), Some(&json!(unseen("text/plain"))));
}

#[test]
fn the_built_in_responder_answers_a_file_without_text() {
    let server = Server::answering(&[]);
    let northwind = server.northwind();
    let session = northwind.session(technician());
    let blob_path = northwind.upload(&session, "image/png", PNG);
    let accepted = northwind.append(&session, carrying(&[(&blob_path, "image/png")]));
    let turn = text(&accepted.expect(202).data()["chat_turn_id"]).to_owned();
    let turn = northwind
        .turn(&session, &turn, "wait_seconds=60")
        .expect(200);
    assert_eq!(turn.data()["status"], "COMPLETED");
}
