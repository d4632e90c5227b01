//! The chat-completions client against servers that follow, bend or break the protocol.

use std::process::Command;
use std::time::Duration;

use serde_json::json;
use switchboard::model::answer::Chunk;
use switchboard::model::ids::{SessionId, Tick};
use switchboard::model::session::Usage;
use switchboard::model::words::{MessageRole, ModelTier};
use switchboard::turns::openai::{Client, Settings};
use switchboard::turns::reasoning::Marks;
use switchboard::turns::responder::{
    Completion, FinishReason, HistoryMessage, Image, Prompt, ResponderError,
};
use tokio::sync::mpsc;

use crate::scripted_model::{RefusedAddress, Reply, ScriptedModel, chunk, text_chunk};

/// The key, which no user may read.
const KEY: &str = "sk-hush-hush";

/// The text of every misbehaving endpoint.
const UPSTREAM: &str = "upstream-gossip";

/// A timeout that never expires in a passing test.
const NEVER: Duration = Duration::from_secs(3_600);

fn settings(url: &str) -> Settings {
    let mut settings = Settings::new(url, "small", "large");
    settings.api_key = Some(KEY.to_owned());
    settings.timeout = NEVER;
    settings.first_byte_timeout = NEVER;
    settings.answer_timeout = NEVER;
    settings.retry_delays = [Duration::ZERO; 3];
    settings
}

fn question() -> Prompt {
    let past = HistoryMessage {
        role: MessageRole::User,
        text: "Hello?".to_owned(),
        images: Vec::new(),
    };
    Prompt {
        session: SessionId::new(Tick(1), 0),
        tier: ModelTier::Fast,
        system: "Be kind.".to_owned(),
        history: vec![past],
    }
}

async fn ask_with(
    settings: Settings,
    question: Prompt,
) -> (Vec<Chunk>, Result<Completion, ResponderError>) {
    let client = Client::new(settings)
        .map_err(|refusal| panic!("{refusal}"))
        .unwrap();
    let (sender, mut receiver) = mpsc::channel(1);
    let collect = async {
        let mut chunks = Vec::new();
        while let Some(chunk) = receiver.recv().await {
            chunks.push(chunk);
        }
        chunks
    };
    let (outcome, chunks) = tokio::join!(
        client.answer(question, Marks::Learned, sender, &|_| {}),
        collect
    );
    (chunks, outcome)
}

async fn ask(url: &str) -> (Vec<Chunk>, Result<Completion, ResponderError>) {
    ask_with(settings(url), question()).await
}

/// The client's outcome for one reply.
async fn hear(reply: Reply) -> (Vec<Chunk>, Result<Completion, ResponderError>) {
    ask(ScriptedModel::start(vec![reply]).url()).await
}

/// Waits on another thread, because this one closes the connection.
async fn wait_for_hang_up(model: ScriptedModel) {
    tokio::task::spawn_blocking(move || model.wait_for_hang_up())
        .await
        .unwrap();
}

fn text(chunks: &[Chunk]) -> String {
    let texts = chunks.iter().map(|chunk| match chunk {
        Chunk::Text(text) => text.as_str(),
        Chunk::Reasoning(_)
        | Chunk::Recast { .. }
        | Chunk::SourceUrl { .. }
        | Chunk::SourceDocument { .. } => "",
    });
    texts.collect()
}

fn stopped(usage: Option<Usage>) -> Result<Completion, ResponderError> {
    Ok(Completion {
        finish_reason: FinishReason::Stop,
        usage,
        hides_images: false,
    })
}

/// The failure. Asserts that a user may read it, and that its log line is one line without the key.
fn failure(outcome: Result<Completion, ResponderError>) -> ResponderError {
    let failure = outcome.expect_err("the answer fails");
    for secret in [KEY, UPSTREAM, "127.0.0.1", "http"] {
        assert!(!failure.message.contains(secret), "{}", failure.message);
    }
    assert!(failure.message.ends_with('.'), "{}", failure.message);
    assert!(!failure.log.contains(KEY), "{}", failure.log);
    assert!(!failure.log.contains(char::is_control), "{}", failure.log);
    assert!(failure.log.chars().count() < 300, "{}", failure.log);
    failure
}

#[tokio::test]
async fn an_answer_is_passed_on_word_by_word_with_its_usage() {
    let model = ScriptedModel::start(vec![Reply::answer("Good morning to you")]);
    let (chunks, outcome) = ask(model.url()).await;
    assert_eq!(
        chunks,
        ["Good ", "morning ", "to ", "you"].map(|word| Chunk::Text(word.to_owned()))
    );
    assert_eq!(
        outcome,
        stopped(Some(Usage {
            input_tokens: 7,
            output_tokens: 3
        }))
    );
}

#[tokio::test]
async fn a_request_has_model_system_message_history_and_key() {
    let model = ScriptedModel::start(vec![Reply::answer("Yes")]);
    let past = |role, text: &str| HistoryMessage {
        role,
        text: text.to_owned(),
        images: Vec::new(),
    };
    let history = vec![
        past(MessageRole::User, "Hi \"you\"\n"),
        past(MessageRole::Assistant, "Hello."),
        HistoryMessage {
            images: vec![Image {
                label: "image/png".to_owned(),
                mime: "image/png".to_owned(),
                bytes: vec![1, 2, 3],
            }],
            ..past(MessageRole::User, "What is it?")
        },
    ];
    let asked = Prompt {
        tier: ModelTier::Smart,
        history,
        ..question()
    };
    ask_with(settings(&format!("{}/", model.url())), asked)
        .await
        .1
        .unwrap();
    ask(model.url()).await.1.unwrap();
    let requests = model.requests();
    assert_eq!(requests.len(), 2);
    assert!(
        requests[0]
            .head
            .starts_with("POST /v1/chat/completions HTTP/1.1\n"),
        "{}",
        requests[0].head
    );
    assert!(
        requests[0]
            .head
            .contains("\nauthorization: Bearer sk-hush-hush\n")
    );
    assert!(
        requests[0]
            .head
            .contains("\ncontent-type: application/json\n")
    );
    assert!(!requests[0].head.contains("transfer-encoding"));
    let url = "data:image/png;base64,AQID";
    assert_eq!(
        requests[0].body,
        json!({"model": "large", "stream": true, "stream_options": {"include_usage": true}, "messages": [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "Hi \"you\"\n"},
            {"role": "assistant", "content": "Hello."},
            {"role": "user", "content": [
                {"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": url}},
            ]},
        ]})
    );
    assert_eq!(requests[1].body["model"], "small");
}

#[tokio::test]
async fn a_server_without_a_key_setting_gets_no_key() {
    let model = ScriptedModel::start(vec![Reply::answer("Yes")]);
    for blank in [None, Some(String::new()), Some(" \n".to_owned())] {
        let mut keyless = settings(model.url());
        keyless.api_key = blank;
        ask_with(keyless, question()).await.1.unwrap();
    }
    assert!(
        model
            .requests()
            .iter()
            .all(|request| !request.head.contains("authorization"))
    );
}

#[tokio::test]
async fn a_request_of_many_megabytes_arrives_whole() {
    let model = ScriptedModel::start(vec![Reply::status(503, "", ""), Reply::answer("Yes")]);
    let mut asked = question();
    asked.history[0].images.push(Image {
        label: "image/png".to_owned(),
        mime: "image/png".to_owned(),
        bytes: vec![7; 9_000_001],
    });
    ask_with(settings(model.url()), asked).await.1.unwrap();
    let requests = model.requests();
    assert_eq!(requests.len(), 2);
    for request in requests {
        let url = request.body["messages"][1]["content"][1]["image_url"]["url"]
            .as_str()
            .map(str::len);
        assert_eq!(url, Some("data:image/png;base64,".len() + 3_000_001 * 4));
    }
}

#[tokio::test]
async fn a_refused_connection_is_unavailable() {
    let nobody = RefusedAddress::take();
    let failure = failure(ask(nobody.url()).await.1);
    assert_eq!(failure.code, "model_unavailable");
    assert!(failure.log.contains("refused"), "{}", failure.log);
}

#[tokio::test]
async fn a_request_to_a_busy_server_is_retried() {
    for status in [429, 500, 502, 503, 529] {
        let model = ScriptedModel::start(vec![
            Reply::status(status, "", UPSTREAM),
            Reply::answer("Back again"),
        ]);
        let (chunks, outcome) = ask(model.url()).await;
        assert_eq!(text(&chunks), "Back again", "{status}");
        assert!(outcome.is_ok());
        assert_eq!(model.requests().len(), 2);
        assert_eq!(model.requests()[0].body, model.requests()[1].body);
    }
}

#[tokio::test]
async fn a_server_that_stays_busy_gets_four_requests_in_all() {
    for status in [429, 500] {
        let gossip = format!("{UPSTREAM}\r\n about {KEY}");
        let model = ScriptedModel::start(vec![Reply::status(status, "", &gossip)]);
        let failure = failure(ask(model.url()).await.1);
        assert_eq!(failure.code, "model_unavailable");
        let told = format!("answered {status}");
        assert!(
            failure.log.contains(&told) && failure.log.contains(UPSTREAM),
            "{}",
            failure.log
        );
        assert_eq!(model.requests().len(), 4);
    }
}

#[tokio::test]
async fn retry_after_replaces_the_clients_own_backoff() {
    let busy = |status| Reply::status(status, "retry-after: 0\r\n", "");
    let model = ScriptedModel::start(vec![busy(429), busy(503), busy(429), Reply::answer("Now")]);
    let mut patient = settings(model.url());
    patient.retry_delays = [NEVER; 3];
    let (chunks, _) = ask_with(patient, question()).await;
    assert_eq!(text(&chunks), "Now");
}

#[tokio::test]
async fn other_refusals_are_final() {
    for status in [401, 403, 404, 408, 413] {
        let model =
            ScriptedModel::start(vec![Reply::status(status, "retry-after: 0\r\n", UPSTREAM)]);
        let failure = failure(ask(model.url()).await.1);
        assert_eq!(failure.code, "model_rejected", "{status}");
        assert!(
            failure.log.contains(&format!("answered {status}")),
            "{}",
            failure.log
        );
        assert_eq!(model.requests().len(), 1);
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = ScriptedModel::start(vec![Reply::answer("Caught")]);
    for status in [301, 302, 307, 308] {
        let location = format!("location: {}/chat/completions\r\n", elsewhere.url());
        let failure = failure(hear(Reply::status(status, &location, "")).await.1);
        assert_eq!(failure.code, "model_rejected", "{status}");
    }
    assert!(elsewhere.requests().is_empty());
}

#[tokio::test]
async fn an_endless_refusal_body_does_not_block() {
    let endless = Reply::raw("HTTP/1.1 400 No\r\n\r\n").then_flood(UPSTREAM);
    assert_eq!(failure(hear(endless).await.1).code, "model_rejected");
}

#[tokio::test]
async fn an_empty_reply_and_bytes_that_are_not_http_are_a_broken_reply() {
    for reply in [
        Reply::nothing(),
        Reply::raw("\x16\x03\x01 upstream-gossip\r\n\r\n"),
        Reply::raw("HTTP/1.1 200"),
    ] {
        assert_eq!(failure(hear(reply).await.1).code, "model_broken_reply");
    }
}

#[tokio::test]
async fn a_plain_server_behind_an_https_url_is_unavailable() {
    let plain = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}/v1", plain.local_addr().unwrap());
    std::thread::spawn(move || {
        use std::io::Write;
        let (mut connection, _) = plain.accept().unwrap();
        // The client may have closed the connection already.
        let _ = connection.write_all(b"HTTP/1.1 400 upstream-gossip\r\n\r\n");
    });
    assert_eq!(failure(ask(&url).await.1).code, "model_unavailable");
}

#[tokio::test]
async fn the_text_before_a_failure_is_kept() {
    let broken: Vec<(&str, Vec<u8>)> = vec![
        ("cut off", Vec::new()),
        (
            "cut off amid a line",
            b"data: {\"choices\":[{\"del".to_vec(),
        ),
        ("garbage", format!("data: {UPSTREAM}\n\n").into_bytes()),
        ("garbage that parses", b"data: 7\n\n".to_vec()),
        ("not UTF-8", b"data: \xff\xfe\n\n".to_vec()),
        (
            "an error object",
            chunk(json!({"error": {"message": UPSTREAM, "code": 500}})).into_bytes(),
        ),
        (
            "an error text",
            chunk(json!({"error": format!("{UPSTREAM} {KEY}"), "choices": []})).into_bytes(),
        ),
        (
            "an error of the old kind",
            chunk(json!({"object": "error", "message": UPSTREAM})).into_bytes(),
        ),
        (
            "a line of 10 MB",
            [b"data: \"".as_slice(), &vec![b'x'; 10_000_000]].concat(),
        ),
        (
            "an event of 10 MB",
            b"data: \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n".repeat(300_000),
        ),
    ];
    for (what, bytes) in broken {
        let (chunks, outcome) =
            hear(Reply::events(text_chunk("So ") + &text_chunk("far")).then(bytes)).await;
        assert_eq!(text(&chunks), "So far", "{what}");
        assert_eq!(failure(outcome).code, "model_broken_reply", "{what}");
    }
}

#[tokio::test]
async fn a_stream_whose_connection_breaks_is_a_broken_reply() {
    let body = text_chunk("So far");
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let reply = Reply::raw(format!("{head}{:x}\r\n{body}\r\n", body.len()));
    let (chunks, outcome) = hear(reply).await;
    assert_eq!(text(&chunks), "So far");
    assert_eq!(failure(outcome).code, "model_broken_reply");
}

#[tokio::test]
async fn a_page_of_html_is_a_broken_reply() {
    let page = "<!doctype html>\n<title>upstream-gossip</title>\n{}\n";
    let (chunks, outcome) = hear(Reply::status(200, "content-type: text/html\r\n", page)).await;
    assert!(chunks.is_empty());
    assert_eq!(failure(outcome).code, "model_broken_reply");
}

#[tokio::test]
async fn silence_at_any_point_is_a_timeout() {
    let silent = [
        Reply::nothing().then_hang(),
        Reply::raw("HTTP/1.1 200 OK\r\n").then_hang(),
        Reply::events("").then_hang(),
        Reply::events(text_chunk("So far")).then_hang(),
        Reply::events(text_chunk("So far")).then_flood(": alive\n\n"),
        Reply::events(text_chunk("So far"))
            .then_flood("data: {\"choices\":[{\"delta\":{\"content\":\"\"}}]}\n\n"),
    ];
    for reply in silent {
        let model = ScriptedModel::start(vec![reply]);
        let mut hasty = settings(model.url());
        hasty.timeout = Duration::from_millis(200);
        hasty.first_byte_timeout = hasty.timeout;
        let (_, outcome) = ask_with(hasty, question()).await;
        assert_eq!(failure(outcome).code, "model_timeout");
        assert!(model.requests().len() <= 1);
    }
}

#[tokio::test]
async fn an_endless_answer_is_a_timeout() {
    let model = ScriptedModel::start(vec![
        Reply::events("").then_flood(chunk(json!({"usage": {"prompt_tokens": 1}}))),
    ]);
    let mut hasty = settings(model.url());
    hasty.answer_timeout = Duration::from_millis(200);
    assert_eq!(
        failure(ask_with(hasty, question()).await.1).code,
        "model_timeout"
    );
}

#[tokio::test]
async fn an_answer_is_cut_at_one_mebibyte() {
    let model = ScriptedModel::start(vec![
        Reply::events(text_chunk("é")).then_flood(text_chunk("aé")),
    ]);
    let (chunks, outcome) = ask(model.url()).await;
    assert_eq!(
        outcome,
        Ok(Completion {
            finish_reason: FinishReason::Length,
            usage: None,
            hides_images: false,
        })
    );
    let bytes = text(&chunks).len();
    assert!((1_048_574..=1_048_576).contains(&bytes), "{bytes}");
    wait_for_hang_up(model).await;
}

#[tokio::test]
async fn dialects_of_compatible_servers_are_understood() {
    let stop = chunk(json!({"choices": [{"delta": {}, "finish_reason": "stop"}]}));
    let text_events = text_chunk("Good ") + &text_chunk("day") + &stop;
    let bent = [
        ("as it should be", format!("{text_events}data: [DONE]\n\n")),
        ("no [DONE]", text_events.clone()),
        ("no end to the last line", text_events.trim_end().to_owned()),
        (
            "no finish reason",
            text_chunk("Good ") + &text_chunk("day") + "data: [DONE]\n\n",
        ),
        ("CRLF", text_events.replace('\n', "\r\n")),
        (
            "no space after the colon",
            text_events.replace("data: ", "data:"),
        ),
        ("no empty lines", text_events.replace("\n\n", "\n")),
        ("BOM", format!("\u{feff}{text_events}")),
        (
            "comments and other fields",
            text_events.replace("data: ", ": note\nid: 7\nretry: 5\nevent: message\ndata: "),
        ),
        (
            "comments from the start",
            format!(": PROCESSING\n\n{text_events}"),
        ),
        (
            "empty data",
            text_events.replace("data: ", "data:\n\ndata\n\ndata: "),
        ),
        (
            "data over several lines",
            text_events.replace("{\"choices\":", "{\ndata: \"choices\"\ndata: :\ndata: "),
        ),
        (
            "finish_reason \"\"",
            text_events.replace("\"finish_reason\":null", "\"finish_reason\":\"\""),
        ),
        (
            "no finish_reason on the way",
            text_events.replace(",\"finish_reason\":null", ""),
        ),
        (
            "content null",
            text_chunk("Good ")
                + &text_chunk("day")
                + &chunk(json!({"choices": [{"delta": {"role": "assistant", "content": null}}]}))
                + &stop,
        ),
        (
            "usage null, {} and error null",
            text_events.replace("{\"choices\"", "{\"usage\":null,\"error\":null,\"choices\"")
                + &chunk(json!({"choices": [], "usage": {}})),
        ),
        (
            "no choices",
            chunk(json!({"id": "x"})) + &chunk(json!({"choices": []})) + &text_events,
        ),
        (
            "a delta of null",
            chunk(json!({"choices": [{"delta": null}]})) + &text_events,
        ),
        (
            "more after [DONE]",
            format!("{text_events}data: [DONE]\n\ndata: {UPSTREAM}\n\n"),
        ),
        (
            "garbage after the end",
            format!("{text_events}data: {UPSTREAM}\n\n"),
        ),
        (
            "content in parts",
            chunk(
                json!({"choices": [{"delta": {"content": [{"type": "text", "text": "Good day"}]}}]}),
            ) + &stop,
        ),
        (
            "a character in escapes",
            text_events.replace("Good", "\\u0047ood"),
        ),
    ];
    for (what, body) in bent {
        let (chunks, outcome) = hear(Reply::events(&body)).await;
        assert_eq!(text(&chunks), "Good day", "{what}");
        assert_eq!(outcome, stopped(None), "{what}");
        assert!(!chunks.contains(&Chunk::Text(String::new())), "{what}");
    }
}

#[tokio::test]
async fn an_answer_ends_at_done_or_after_its_finish_reason_and_silence_without_a_close() {
    let done = text_chunk("Hi") + "data: [DONE]\n\n";
    let (chunks, outcome) = hear(Reply::events(done).then_hang()).await;
    assert_eq!((text(&chunks).as_str(), outcome), ("Hi", stopped(None)));

    let end = chunk(json!({"choices": [{"delta": {"content": "Hi"}, "finish_reason": "stop"}]}));
    let hear = async |reply| {
        let model = ScriptedModel::start(vec![reply]);
        let mut hasty = settings(model.url());
        hasty.timeout = Duration::from_millis(200);
        ask_with(hasty, question()).await
    };
    let silent = hear(Reply::events(&end).then_hang());
    let noisy = hear(Reply::events(&end).then_flood(": alive\n\n"));
    let (silent, noisy) = tokio::join!(silent, noisy);
    for (chunks, outcome) in [silent, noisy] {
        assert_eq!((text(&chunks).as_str(), outcome), ("Hi", stopped(None)));
    }
}

#[tokio::test]
async fn reasoning_is_recognized_under_either_name() {
    for name in ["reasoning_content", "reasoning"] {
        let body = chunk(json!({"choices": [{"delta": {name: "Let me see", "content": null}}]}))
            + &chunk(
                json!({"choices": [{"delta": {name: "", "content": "Yes"}, "finish_reason": "stop"}]}),
            );
        let (chunks, _) = hear(Reply::events(body)).await;
        assert_eq!(
            chunks,
            [
                Chunk::Reasoning("Let me see".to_owned()),
                Chunk::Text("Yes".to_owned())
            ]
        );
    }
}

#[tokio::test]
async fn finish_reasons_are_mapped_to_our_terms() {
    let calls = json!([{"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}]);
    for (theirs, ours) in [
        ("stop", "stop"),
        ("length", "length"),
        ("content_filter", "content-filter"),
        ("tool_calls", "tool-calls"),
        ("function_call", "tool-calls"),
        ("whim", "other"),
    ] {
        let body =
            chunk(json!({"choices": [{"delta": {"tool_calls": calls}, "finish_reason": theirs}]}));
        let (chunks, outcome) = hear(Reply::events(body)).await;
        assert_eq!(chunks, []);
        assert_eq!(outcome.unwrap().finish_reason.as_str(), ours);
    }
}

#[tokio::test]
async fn the_last_reported_usage_counts() {
    let usage = |input, output| json!({"prompt_tokens": input, "completion_tokens": output});
    let body = chunk(json!({"choices": [{"delta": {"content": "Hi"}}], "usage": usage(5, 1)}))
        + &chunk(
            json!({"choices": [{"delta": {}, "finish_reason": "stop"}], "usage": usage(5, 2)}),
        )
        + &chunk(json!({"choices": [], "usage": null}));
    let (_, outcome) = hear(Reply::events(body)).await;
    assert_eq!(
        outcome,
        stopped(Some(Usage {
            input_tokens: 5,
            output_tokens: 2
        }))
    );
}

#[tokio::test]
async fn an_answer_that_is_not_streamed_is_one_chunk() {
    let answer = json!({"object": "chat.completion", "error": null,
        "choices": [{"message": {"role": "assistant", "content": "Good day", "reasoning_content": "Hm"}, "finish_reason": "length"}],
        "usage": {"prompt_tokens": 2, "completion_tokens": 3}});
    for body in [answer.to_string(), format!("\u{feff}\n  {answer:#}\n")] {
        let (chunks, outcome) = hear(Reply::status(
            200,
            "content-type: application/json\r\n",
            &body,
        ))
        .await;
        assert_eq!(
            chunks,
            [
                Chunk::Reasoning("Hm".to_owned()),
                Chunk::Text("Good day".to_owned())
            ]
        );
        let usage = Some(Usage {
            input_tokens: 2,
            output_tokens: 3,
        });
        assert_eq!(
            outcome,
            Ok(Completion {
                finish_reason: FinishReason::Length,
                usage,
                hides_images: false,
            })
        );
    }
    for body in [
        format!("{{\"error\":{{\"message\":\"{UPSTREAM}\"}}}}"),
        "{}".to_owned(),
        "{\"choices\":[]}".to_owned(),
        "{\"a".to_owned(),
    ] {
        let (chunks, outcome) = hear(Reply::status(
            200,
            "content-type: application/json\r\n",
            &body,
        ))
        .await;
        assert_eq!(chunks, []);
        assert_eq!(failure(outcome).code, "model_broken_reply", "{body}");
    }
}

#[tokio::test]
async fn dropping_the_answer_closes_the_connection_before_and_during_the_reply() {
    for reply in [
        Reply::nothing().then_hang(),
        Reply::events(text_chunk("So far")).then_hang(),
    ] {
        let model = ScriptedModel::start(vec![reply]);
        let client = Client::new(settings(model.url()))
            .map_err(|refusal| panic!("{refusal}"))
            .unwrap();
        let (sender, mut receiver) = mpsc::channel(8);
        let answer = tokio::spawn(async move {
            client
                .answer(question(), Marks::Learned, sender, &|_| {})
                .await
        });
        while model.requests().is_empty() {
            tokio::task::yield_now().await;
        }
        answer.abort();
        assert!(answer.await.unwrap_err().is_cancelled());
        while receiver.recv().await.is_some() {}
        tokio::task::spawn_blocking(move || model.wait_for_hang_up())
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn an_answer_without_a_receiver_is_abandoned() {
    for reply in [
        Reply::nothing().then_hang(),
        Reply::events("").then_flood(text_chunk("Is anyone there? ")),
    ] {
        let model = ScriptedModel::start(vec![reply]);
        let client = Client::new(settings(model.url()))
            .map_err(|refusal| panic!("{refusal}"))
            .unwrap();
        let (sender, receiver) = mpsc::channel(1);
        drop(receiver);
        let _ = client
            .answer(question(), Marks::Learned, sender, &|_| {})
            .await
            .unwrap_err();
    }
    let model = ScriptedModel::start(vec![Reply::events(text_chunk("So far")).then_hang()]);
    let client = Client::new(settings(model.url()))
        .map_err(|refusal| panic!("{refusal}"))
        .unwrap();
    let (sender, mut receiver) = mpsc::channel(1);
    let listen = async {
        receiver.recv().await;
        drop(receiver);
    };
    let (outcome, ()) = tokio::join!(
        client.answer(question(), Marks::Learned, sender, &|_| {}),
        listen
    );
    assert_eq!(failure(outcome).code, "cancelled");
    tokio::task::spawn_blocking(move || model.wait_for_hang_up())
        .await
        .unwrap();
}

/// The next test runs this in a process whose environment has no certificates and a wrong proxy.
#[tokio::test]
#[ignore = "part of the next test, which runs it"]
async fn an_answer_comes_in_this_environment() {
    let (chunks, outcome) = hear(Reply::answer("Good day")).await;
    assert_eq!(text(&chunks), "Good day", "{outcome:?}");
    Client::new(settings("https://example.com/v1"))
        .map_err(|refusal| panic!("{refusal}"))
        .unwrap();
}

#[test]
fn neither_a_proxy_nor_a_missing_certificate_store_affects_a_local_server() {
    let nobody = RefusedAddress::take();
    let status = Command::new(std::env::current_exe().unwrap())
        .args([
            "--ignored",
            "--exact",
            "openai_client::an_answer_comes_in_this_environment",
        ])
        .env("SSL_CERT_FILE", "/nonexistent")
        .env("SSL_CERT_DIR", "/nonexistent")
        .env("HTTP_PROXY", nobody.url())
        .env("http_proxy", nobody.url())
        .env("ALL_PROXY", nobody.url())
        .env("NO_PROXY", "")
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&status.stdout);
    assert!(
        status.status.success() && output.contains("1 passed"),
        "{output}"
    );
}
