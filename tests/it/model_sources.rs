//! The articles that a model gets, and the sources of its answers.

use serde_json::{Value, json};

use crate::event_reader::{Events, joined};
use crate::scripted_model::{Reply as ModelReply, ScriptedModel};
use crate::support::{NORTHWIND, Server, technician};

/// A server whose technicians read two articles about badges, one of them with a URL.
fn server_with_two_articles(model: &ScriptedModel) -> Server {
    let server = Server::with_model(model, &[]);
    for (title, url) in [
        (
            "Badge laminator",
            json!("https://help.example/badge-laminator"),
        ),
        ("Badge laminator: change the ribbon", Value::Null),
    ] {
        let body = format!("# {title}\n\nHold the button of the badge laminator for five seconds.");
        let article = json!({ "title": title, "body": body, "url": url, "audience": "MSP" });
        server
            .northwind()
            .post("/knowledge-articles", article)
            .expect(201);
    }
    server
}

/// Asks in a new session: the source envelopes, the other envelopes, and the stored parts.
fn ask(server: &Server, text: &str) -> (Vec<Value>, Vec<Value>, Vec<Value>) {
    let client = server.northwind();
    let session = client.session(technician());
    client.append_text(&session, text).expect(202);
    let events = Events::open(server.address, NORTHWIND, &session, "since=0-0").rest();
    let is_source = |part: &Value| part["type"].as_str().unwrap().starts_with("source-");
    let (sources, others) = joined(&events).into_iter().partition(is_source);
    let stored = client
        .messages(&session, "order=desc&page_size=1")
        .expect(200)
        .data();
    let parts = stored[0]["parts"].as_array().unwrap().clone();
    (sources, others, parts)
}

#[test]
fn an_answer_of_a_model_has_the_articles_that_it_cites_as_sources_or_all_that_it_got() {
    let model = ScriptedModel::start(vec![
        ModelReply::answer("Hold the button."),
        ModelReply::answer("Change the ribbon [2]."),
        ModelReply::answer("Hold the button [1], or change the ribbon [2][7]."),
    ]);
    let server = server_with_two_articles(&model);
    let (all, others, parts) = ask(&server, "How do I reset the badge laminator?");
    let id = |part: &Value| part["sourceId"].as_str().unwrap().to_owned();
    let with_url = |part: &&Value| part["type"] == "source-url";
    let (link, document) = (
        all.iter().find(with_url).unwrap(),
        all.iter().find(|part| !with_url(part)).unwrap(),
    );
    assert_eq!(
        *link,
        json!({ "type": "source-url", "sourceId": id(link),
            "url": "https://help.example/badge-laminator", "title": "Badge laminator" })
    );
    assert_eq!(
        *document,
        json!({ "type": "source-document", "sourceId": id(document),
            "mediaType": "text/markdown", "title": "Badge laminator: change the ribbon" })
    );
    assert_eq!(all.len(), 2);
    assert_eq!(others[others.len() - 1]["type"], "finish");
    let text = json!({ "type": "text", "text": "Hold the button." });
    assert_eq!(parts, [&[text][..], &all].concat());

    let system = model.requests()[0].body["messages"][0]["content"].clone();
    let system = system.as_str().unwrap();
    let place = |part: &Value| {
        let number = all.iter().position(|other| other == part).unwrap() + 1;
        let heading = format!("## [{number}] {}\n", part["title"].as_str().unwrap());
        system.find(&heading).unwrap()
    };
    assert!(place(&all[0]) < place(&all[1]), "{system}");
    let below = &system[place(link)..];
    assert!(
        below.starts_with(&format!(
            "{}\nhttps://help.example/badge-laminator\n\n",
            below.lines().next().unwrap()
        )),
        "{system}"
    );
    assert!(system.contains("cite it by its number"), "{system}");

    let (second, _, parts) = ask(&server, "How do I reset the badge laminator?");
    assert_eq!(second, all[1..]);
    assert_eq!(parts[1..], all[1..]);
    let (both, _, _) = ask(&server, "How do I reset the badge laminator?");
    assert_eq!(both, all);
}

#[test]
fn an_answer_without_articles_and_an_answer_that_fails_have_no_sources() {
    let cut = ModelReply::events(crate::scripted_model::text_chunk("Hold [1]"));
    let model = ScriptedModel::start(vec![ModelReply::answer("Hello [1]."), cut]);
    let server = server_with_two_articles(&model);
    let (sources, _, parts) = ask(&server, "Hello");
    assert_eq!(sources, [] as [Value; 0]);
    assert_eq!(parts, [json!({ "type": "text", "text": "Hello [1]." })]);
    let (sources, others, _) = ask(&server, "How do I reset the badge laminator?");
    assert_eq!(sources, [] as [Value; 0]);
    assert_eq!(others[others.len() - 1]["type"], "error");
}
