//! Articles in HTML, as documentation tools export them, are read as text; messages of Teams are
//! read without the mention of the bot.

use serde_json::json;

use crate::event_reader::{Events, text_of};
use crate::scripted_model::{Reply as ModelReply, ScriptedModel};
use crate::support::{NORTHWIND, Server, technician};

const BODY: &str = "<style>p { color: red }</style><h2>Zanzibar printer</h2>\r\n<p>Open&nbsp;the <b>lid</b> &amp; wait.</p>\
                    <ul><li>Press <i>Reset</i></li><li>Call <a href=\"https://help.example.com\">the desk</a></li></ul>\
                    <script>alert('zanzibar')</script>";
/// What answers quote of the body.
const TEXT: [&str; 3] = [
    "Open the lid & wait.",
    "- Press Reset",
    "- Call the desk (https://help.example.com)",
];

fn with_article(server: &Server) {
    let article = json!({"title": "Zanzibar printer reset", "body": BODY, "audience": "MSP"});
    let created = server.northwind().post("/knowledge-articles", article);
    assert_eq!(created.expect(201).data()["body"], BODY);
}

/// The answer to a message.
fn answer(server: &Server, message: &str) -> String {
    let client = server.northwind();
    let session = client.session(technician());
    client.append_text(&session, message).expect(202);
    let messages = client.messages(&session, "").data();
    assert_eq!(messages[0]["content"], message, "the stored message stays");
    let events = Events::open(server.address, NORTHWIND, &session, "").turn();
    text_of(&events)
}

#[test]
fn an_answer_quotes_the_text_of_an_html_article_without_its_tags() {
    let server = Server::answering(&[]);
    with_article(&server);
    let answer = answer(&server, "How do I reset the Zanzibar printer?");
    for line in TEXT {
        assert!(answer.contains(line), "{line}: {answer}");
    }
    for tag in ["<", "color", "alert", "&nbsp;"] {
        assert!(!answer.contains(tag), "{tag}: {answer}");
    }
}

#[test]
fn a_model_gets_the_text_of_an_html_article_and_a_message_without_the_mention() {
    let model = ScriptedModel::start(vec![ModelReply::answer("Press Reset.")]);
    let server = Server::with_model(&model, &[]);
    with_article(&server);
    answer(
        &server,
        "<at id=\"0\">Bot</at>&nbsp;How do I reset the Zanzibar printer?",
    );
    let body = model.requests().remove(0).body;
    let system = body["messages"][0]["content"].as_str().unwrap();
    for line in TEXT {
        assert!(system.contains(line), "{line}: {system}");
    }
    assert!(
        !system.contains("<b>") && !system.contains("alert"),
        "{system}"
    );
    assert_eq!(
        body["messages"][1]["content"],
        "How do I reset the Zanzibar printer?"
    );
}

#[test]
fn a_mention_of_the_bot_does_not_change_the_answer() {
    let server = Server::answering(&[]);
    let plain = answer(&server, "How do I reset my password?");
    for message in [
        "<at>Bot</at>&nbsp;How do I reset my password?",
        "<at id=\"0\">Zanzibar Unheard</at> <at>Other</at>\u{a0}How do I reset my password?",
        "How do I reset my password? <at>Zanzibar Unheard</at>&nbsp;",
    ] {
        assert_eq!(answer(&server, message), plain, "{message}");
    }
    let greeting = answer(&server, "Hello");
    assert_eq!(answer(&server, "<at>Bot</at>&nbsp;"), greeting);
}

/// The readers of the database, which all tenants share, and one more.
const TURNS: usize = 13;
/// The largest body of an article.
const MAX_BODY_BYTES: usize = 65_536;

#[test]
fn an_article_of_backticks_or_nested_lists_is_answered_and_holds_no_other_tenant_up() {
    let server = Server::answering(&[]);
    let rising: Vec<_> = (1..=357).map(|length| "`".repeat(length)).collect();
    let bodies = [
        rising.join(" "),
        format!("x{}", "`".repeat(65_000)),
        "<ul><li>".repeat(8_100),
        format!(
            "<ol start=18446744073709551615><li>{}",
            "<a \"".repeat(16_000)
        ),
    ];
    for (index, hostile) in bodies.iter().enumerate() {
        let body = format!("Press Reset on the Zanzibar printer.\n\n{hostile}");
        assert!(body.len() <= MAX_BODY_BYTES);
        let title = format!("Zanzibar printer {index}");
        let article = json!({"title": title, "body": body, "audience": "MSP"});
        server
            .northwind()
            .post("/knowledge-articles", article)
            .expect(201);
    }
    let client = server.northwind();
    let sessions: Vec<_> = (0..TURNS).map(|_| client.session(technician())).collect();
    for session in &sessions {
        let question = "How do I reset the Zanzibar printer?";
        client.append_text(session, question).expect(202);
    }
    let other = server.fabrikam();
    let article = json!({"title": "Parking", "body": "Behind the house.", "audience": "MSP"});
    other.post("/knowledge-articles", article).expect(201);
    other.list_sessions("").expect(200);
    for session in &sessions {
        let events = Events::open(server.address, NORTHWIND, session, "").turn();
        let answer = text_of(&events);
        assert!(answer.contains("Press Reset on the Zanzibar"), "{answer}");
    }
}
