//! Searches: which spellings, beginnings and parts of a text they find, and what a hit shows.

use serde_json::{Value, json};

use crate::authority::{Authority, NEWCOMER, current};
use crate::management::{flags, person};
use crate::support::{ApiClient, CONTOSO, DEMO, Server, from, technician};
use crate::wire::Reply;

/// Searches a list.
#[track_caller]
fn search(client: &ApiClient, path: &str, q: &str) -> Reply {
    let query: String = form_urlencoded::Serializer::new(String::new())
        .append_pair("q", q)
        .finish();
    client.get(&format!("{path}?{query}")).expect(200)
}

/// Asserts for each text which queries find the text's session, and which do not.
#[track_caller]
fn assert_found(texts: &[(&str, &[&str], &[&str])]) {
    let server = Server::demo();
    let northwind = server.northwind();
    for (text, finding, missing) in texts {
        let said = northwind.session(technician());
        northwind.append_text(&said, text).expect(202);
        let titled = northwind.session(json!({ "agent_id": 102, "title": text }));
        for q in *finding {
            let found = search(&northwind, "/chat/sessions", q).ids();
            assert_eq!(found, [&*titled, &*said], "{q} in {text}");
        }
        for q in *missing {
            let found = search(&northwind, "/chat/sessions", q).ids();
            assert_eq!(found, [""; 0], "{q} in {text}");
        }
        northwind.delete_session(&said).expect(204);
        northwind.delete_session(&titled).expect(204);
    }
}

#[test]
fn a_search_finds_text_in_any_case_and_with_any_accents() {
    assert_found(&[
        (
            "Büro in ÖSTERREICH",
            &["österreich", "o\u{308}sterreich", "OSTERREICH", "buro"],
            &["osterreicher"],
        ),
        ("O\u{308}sterreich", &["österreich", "Österreich"], &[]),
        ("Die Straße", &["strasse", "STRASSE", "straße"], &["strase"]),
        ("İSTANBUL şube", &["istanbul", "İstanbul", "sube"], &[]),
        ("ΟΔΟΣ Αθήνα", &["οδος", "οδός", "αθηνα"], &[]),
        ("Ёлка и чай", &["елка", "ЁЛКА", "чай"], &["чаи"]),
        ("ＶＰＮ １２３", &["vpn 123", "ｖｐｎ"], &[]),
        ("Łódź, Ærø", &["lodz", "aero"], &[]),
        ("co\u{ad}operate", &["cooperate"], &[]),
        ("العَرَبِيَّة", &["العربية"], &[]),
        ("Sjá næstu síðu", &["naestu sidu"], &[]),
    ]);
}

#[test]
fn the_last_word_of_a_search_finds_longer_words() {
    assert_found(&[
        (
            "Remove KB5034441 from floor 31",
            &["KB5034", "kb5034441", "remove kb", "remove fl"],
            // The other words are whole ones, and a single character begins too many.
            &["KB5034 remove", "5034441", "floor 3", "KB50344412"],
        ),
        (
            "mail.example.com",
            &["mail.exam", "example", "com"],
            &["mail.com"],
        ),
    ]);
}

#[test]
fn text_without_spaces_is_found_by_any_of_its_parts() {
    assert_found(&[
        (
            "三楼的打印机从星期一开始无法打印",
            &[
                "打印",
                "打印机",
                "印机",
                "打印机从星期一",
                "无法 打印机",
                "机",
                "印",
            ],
            &["打机", "印刷", "打印机 坏", "打印机从星期二"],
        ),
        (
            "プリンターが動きません。ｶﾞｽ",
            &["プリンター", "リンタ", "動き", "ガス", "が"],
            &["カス", "動けま"],
        ),
        (
            "3층 프린터가 인쇄되지 않습니다",
            &[
                "프린터",
                "린터",
                "인쇄",
                "3층",
                "\u{1111}\u{1173}\u{1105}\u{1175}\u{11ab}",
            ],
            &["프터"],
        ),
        (
            "เครื่องพิมพ์ชั้นสามไม่พิมพ์",
            &["เครื่องพิมพ์", "พิมพ์", "ชั้นสาม", "ไม่"],
            &["ชั้นสี่"],
        ),
        (
            "Windows更新のKB5034441",
            &["windows更新", "更新", "kb50", "更新のkb5034"],
            &["windows新"],
        ),
    ]);
}

/// The only hit's snippet.
#[track_caller]
fn snippet(client: &ApiClient, q: &str) -> Value {
    let found = search(client, "/chat/sessions", q).data();
    assert_eq!(found.as_array().unwrap().len(), 1, "{q}: {found}");
    found[0]["snippet"].clone()
}

#[test]
fn a_hit_shows_where_its_message_has_the_words() {
    let server = Server::demo();
    let northwind = server.northwind();
    let session = northwind.session(json!({ "agent_id": 102, "title": "Ticket 4711" }));
    let say = |text: &str| {
        let said = northwind.append_text(&session, text).expect(202);
        said.data()["user_message_id"].clone()
    };
    let first = say("\u{1f600} The printer in O\u{308}sterreich prints KB5034441, twice");
    let second = say("Another printer, straße 三楼的打印机");
    let around = format!("{}needle {}", "lead ".repeat(40), "tail ".repeat(40));
    let long = say(&around);

    for (q, message, text, marks) in [
        (
            "ÖSTERREICH kb5034",
            &first,
            "\u{1f600} The printer in O\u{308}sterreich prints KB5034441, twice",
            json!([[18, 29], [37, 43]]),
        ),
        // The message with the most words; of several, the newest.
        (
            "twice printer",
            &first,
            "\u{1f600} The printer in O\u{308}sterreich prints KB5034441, twice",
            json!([[7, 14], [48, 53]]),
        ),
        (
            "printer",
            &second,
            "Another printer, straße 三楼的打印机",
            json!([[8, 15]]),
        ),
        (
            "印机",
            &second,
            "Another printer, straße 三楼的打印机",
            json!([[28, 30]]),
        ),
        (
            "4711 strasse",
            &second,
            "Another printer, straße 三楼的打印机",
            json!([[17, 23]]),
        ),
        (
            "needle",
            &long,
            &format!("{}needle {}tail", "lead ".repeat(8), "tail ".repeat(21)),
            json!([[40, 46]]),
        ),
    ] {
        assert_eq!(
            snippet(&northwind, q),
            json!({ "message_id": message, "text": text, "marks": marks }),
            "{q}"
        );
    }
    // Only the title has the word.
    assert_eq!(snippet(&northwind, "4711"), Value::Null);
    // A list without a search has no snippets.
    let listed = northwind.list_sessions("").expect(200).data();
    assert_eq!(listed[0].get("snippet"), None);
    assert_eq!(northwind.read_session(&session).data(), listed[0]);
}

#[test]
fn a_snippet_is_of_a_session_that_the_caller_may_read() {
    let server = Server::demo();
    let (northwind, fabrikam, relay) = (server.northwind(), server.fabrikam(), server.relay());
    let theirs = fabrikam.session(json!({ "agent_id": 202 }));
    fabrikam.append_text(&theirs, "zebra secret").expect(202);
    let routed = relay.session(from(CONTOSO));
    relay.append_text(&routed, "zebra crossing").expect(202);
    assert_eq!(snippet(&northwind, "zebra")["text"], "zebra crossing");
    assert_eq!(snippet(&fabrikam, "zebra")["text"], "zebra secret");
    let path = "/chat/sessions?client_id=northwind-it&q=zebra";
    let hits = relay.get(path).expect(200).data();
    assert_eq!(hits.as_array().unwrap().len(), 1);
    assert_eq!(hits[0]["snippet"]["text"], "zebra crossing");
}

#[test]
fn every_list_folds_case_accents_and_widths_and_finds_words_in_any_order() {
    let authority = Authority::new();
    let [url, audience] = flags(&authority);
    let server = Server::with_world(DEMO, &[&url, &audience]);
    let admin = person(&server, &authority, NEWCOMER, "Admin");
    let mut claims = authority.claims("somebody");
    claims["name"] = json!("Zoë Österreicher 東京支店");
    claims["preferred_username"] = json!("zoe@example.com");
    let zoe = server.with_credential(&current().issue(&claims));
    zoe.get("/whoami").expect(200);
    let name = "Zoë Österreicher 東京支店";
    for (path, body) in [
        ("/agents", json!({ "name": name })),
        ("/api-keys", json!({ "name": name })),
        (
            "/end-companies",
            json!({ "psa_company_id": "N1", "psa_company_name": name }),
        ),
        (
            "/knowledge-articles",
            json!({ "title": name, "body": "x", "audience": "MSP" }),
        ),
    ] {
        admin.post(path, body).expect(201);
    }
    let channel =
        json!({ "internal_name": name, "audience": "MSP", "transport": "TEAMS", "agent_id": 102 });
    admin.post("/channels", channel).expect(201);
    let tenant = json!({ "client_id": "zoe-it", "name": name });
    let relay = server.relay();
    relay.post("/tenants", tenant).expect(201);
    let lists = [
        "/agents",
        "/api-keys",
        "/channels",
        "/end-companies",
        "/knowledge-articles",
        "/users",
    ];
    let lists = lists.map(|path| (&admin, path));
    for (client, path) in lists.into_iter().chain([(&relay, "/tenants")]) {
        for q in [
            "österreicher",
            "o\u{308}STERREICHER",
            "sterreich",
            "ZOE OST",
            "ｚｏｅ",
            "京支",
            "支店 zoe",
        ] {
            let found = search(client, path, q).data();
            assert_eq!(found.as_array().unwrap().len(), 1, "{path} {q}: {found}");
        }
        for q in ["osterreichisch", "東京本店", "zoe anna", "京東"] {
            assert_eq!(search(client, path, q).data(), json!([]), "{path} {q}");
        }
    }
    // The id of a company and the address of a user count too, together with the name.
    for (path, q) in [
        ("/end-companies", "n1 zoe"),
        ("/users", "zoe@EXAMPLE.com tokyo"),
    ] {
        let expected = usize::from(path == "/end-companies");
        let found = search(&admin, path, q).data();
        assert_eq!(found.as_array().unwrap().len(), expected, "{path} {q}");
    }
    let told = search(&admin, "/audit-events", "OSTERREICHER zoe").data();
    assert_eq!(told[0]["action"], "article.create");
}

#[test]
fn a_question_in_a_language_without_spaces_finds_its_article_or_none() {
    let server = Server::answering(&[]);
    let northwind = server.northwind();
    for (title, body) in [
        ("重置密码", "打开门户网站，然后选择“忘记密码”。代码 4711。"),
        (
            "プリンターの修理",
            "電源を切って、十秒待ってください。コード 4712。",
        ),
        ("เครื่องพิมพ์ไม่ทำงาน", "ปิดเครื่องแล้วรอสิบวินาที รหัส 4713"),
        ("프린터 고장", "전원을 끄고 십 초 기다리십시오. 코드 4714."),
    ] {
        northwind
            .post(
                "/knowledge-articles",
                json!({ "title": title, "body": body }),
            )
            .expect(201);
    }
    for (question, code) in [
        ("如何重置我的密码？", Some("4711")),
        ("プリンターが動きません", Some("4712")),
        ("เครื่องพิมพ์ของฉันไม่ทำงาน", Some("4713")),
        ("프린터가 고장났어요", Some("4714")),
        ("周末的天气怎么样", None),
        ("วันนี้อากาศเป็นอย่างไร", None),
        ("休暇を申請したいです", None),
    ] {
        let session = northwind.session(technician());
        let turn = northwind.append_text(&session, question).expect(202).data();
        let turn = turn["chat_turn_id"].as_str().unwrap();
        let ended = northwind
            .turn(&session, turn, "wait_seconds=60")
            .expect(200);
        let ended = ended.data();
        let answer = ended["assistant_message"]["content"].as_str().unwrap();
        match code {
            Some(code) => assert!(answer.contains(code), "{question}: {answer}"),
            None => assert!(answer.starts_with("I don't know"), "{question}: {answer}"),
        }
    }
}
