//! Streams as model servers really send them: none loses an answer, and each ends when it has ended.

use std::io::Write;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use serde_json::{Value, json};

use crate::event_reader::text_of;
use crate::model_turns::{Chat, Ended};
use crate::scripted_model::{Reply as ModelReply, ScriptedModel, chunk, text_chunk};
use crate::support::Server;

const DONE: &str = "data: [DONE]\n\n";

fn end() -> String {
    chunk(json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": "stop" }] }))
}

/// One event with a delta of text and a finish reason.
fn stopped(text: &str) -> String {
    chunk(
        json!({ "choices": [{ "index": 0, "delta": { "content": text }, "finish_reason": "stop" }] }),
    )
}

/// One event whose text is this JSON, without its quotes.
fn raw_chunk(text: impl AsRef<[u8]>) -> Vec<u8> {
    let before = br#"data: {"choices":[{"index":0,"delta":{"content":""#;
    let after = b"\"},\"finish_reason\":null}]}\n\n";
    [&before[..], text.as_ref(), &after[..]].concat()
}

/// The pieces, then the end of an answer.
fn ending(pieces: &[Vec<u8>]) -> Vec<u8> {
    [pieces.concat(), (end() + DONE).into_bytes()].concat()
}

/// The end of the turn that a model with this reply answers.
fn ended(reply: ModelReply, flags: &[&str]) -> Ended {
    let model = ScriptedModel::start(vec![reply]);
    let server = Server::with_model(&model, flags);
    Chat::on(&server).ask("The door is stuck")
}

/// Asserts the stored answer, which is also what the stream has.
#[track_caller]
fn assert_stored(ended: &Ended, text: &str) {
    assert_eq!(ended.turn["status"], "COMPLETED", "{}", ended.turn);
    assert_eq!(ended.turn["assistant_message"]["content"], text);
    assert_eq!(text_of(&ended.events), text);
}

#[track_caller]
fn assert_answer(reply: ModelReply, text: &str) {
    assert_stored(&ended(reply, &[]), text);
}

#[track_caller]
fn assert_body(body: impl AsRef<[u8]>, text: &str) {
    assert_answer(ModelReply::events(body), text);
}

#[track_caller]
fn assert_empty(body: &str) {
    let Ended { turn, .. } = ended(ModelReply::events(body), &[]);
    assert_eq!(turn["status"], "FAILED");
    assert_eq!(turn["error"]["code"], "model_empty_reply");
    assert_eq!(turn["assistant_message"], json!(null));
}

/// The time from a message to the end of its turn.
fn timed(chat: &Chat<'_>) -> (Ended, Duration) {
    let start = Instant::now();
    let ended = chat.ask("The door is stuck");
    (ended, start.elapsed())
}

#[test]
fn a_stop_in_each_chunk_does_not_end_the_answer() {
    // The third piece comes only after the test has read the first two: they were not the end.
    for connection_ends in [true, false] {
        let (go_on, wait) = mpsc::channel();
        let mut reply = ModelReply::events(stopped("One "))
            .then(stopped("two "))
            .then_wait(wait)
            .then(stopped("three."));
        if !connection_ends {
            reply = reply.then(DONE).then_hang();
        }
        let model = ScriptedModel::start(vec![reply]);
        let server = Server::with_model(&model, &["--model-timeout=600"]);
        let chat = Chat::on(&server);
        let mut stream = chat.stream("The door is stuck");
        let mut events = stream.read_until_text("One two ");
        go_on.send(()).unwrap();
        events.extend(stream.rest());
        assert_eq!(text_of(&events), "One two three.");
        let messages = chat.client.messages(&chat.session, "").expect(200).data();
        assert_eq!(messages[1]["content"], "One two three.");
        assert_eq!(messages[1]["finish_reason"], "stop");
    }
}

#[test]
fn an_answer_after_a_thought_that_was_stopped_is_the_answer() {
    let thought = chunk(
        json!({ "choices": [{ "index": 0, "delta": { "reasoning_content": "Hm." }, "finish_reason": "stop" }] }),
    );
    assert_body(
        thought + &stopped("The real answer.") + DONE,
        "The real answer.",
    );
}

#[test]
fn a_finish_reason_and_silence_end_an_answer_and_later_ones_do_not_wait_for_the_silence() {
    let alive = ": alive\n\n";
    for reply in [
        ModelReply::events(text_chunk("Try ") + &text_chunk("it.") + &end()).then_flood(alive),
        ModelReply::events(stopped("Try it.")).then_hang(),
    ] {
        let model = ScriptedModel::start(vec![reply]);
        let server = Server::with_model(&model, &["--model-timeout=5"]);
        let chat = Chat::on(&server);
        let (first, silence) = timed(&chat);
        assert_stored(&first, "Try it.");
        assert!(silence >= Duration::from_secs(5), "{silence:?}");
        // Three of them are read on in the background. A busy machine delays some, but not all.
        let later = (0..4).map(|_| {
            let (later, waited) = timed(&chat);
            assert_stored(&later, "Try it.");
            waited
        });
        assert!(later.min() < Some(silence));
    }
}

#[test]
fn an_answer_that_resumes_after_its_finish_reason_is_waited_for_from_then_on() {
    // The first answer teaches that the connection merely stays open. The second goes on after it
    // was cut, which is noticed, so that the third is whole.
    let (go_on, wait) = mpsc::channel();
    let (later, late) = mpsc::channel();
    let model = ScriptedModel::start(vec![
        ModelReply::events(stopped("One.")).then_hang(),
        ModelReply::events(stopped("One "))
            .then_wait(wait)
            .then(stopped("two."))
            .then_hang(),
        ModelReply::events(stopped("One "))
            .then_wait(late)
            .then(stopped("two."))
            .then(DONE),
    ]);
    let server = Server::with_model(&model, &[]);
    let chat = Chat::on(&server);
    assert_stored(&chat.ask("First"), "One.");
    assert_stored(&chat.ask("Second"), "One ");
    go_on.send(()).unwrap();
    // The server hangs up as soon as it has read the rest.
    model.wait_for_hang_up();
    model.wait_for_hang_up();
    let mut stream = chat.stream("Third");
    let events = stream.read_until_text("One ");
    later.send(()).unwrap();
    let events = [events, stream.rest()].concat();
    assert_eq!(text_of(&events), "One two.");
}

#[test]
fn usage_and_done_after_the_finish_reason_belong_to_the_answer() {
    let usage =
        chunk(json!({ "choices": [], "usage": { "prompt_tokens": 7, "completion_tokens": 3 } }));
    let ended = ended(
        ModelReply::events(stopped("Try the door.") + &usage + DONE).then_hang(),
        &["--model-timeout=600"],
    );
    assert_stored(&ended, "Try the door.");
    assert_eq!(
        ended.turn["usage"],
        json!({ "input_tokens": 7, "output_tokens": 3 })
    );
}

#[test]
fn an_answer_that_breaks_off_after_it_resumed_is_not_complete() {
    let body = stopped("One ") + &stopped("two ");
    let reply = ModelReply::raw(format!(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n",
        body.len()
    ));
    let Ended { turn, .. } = ended(reply, &[]);
    assert_eq!(turn["error"]["code"], "model_broken_reply");
    assert_eq!(turn["assistant_message"]["content"], "One two ");
}

#[test]
fn halves_of_an_emoji_are_joined_over_chunks() {
    let escaped = [
        raw_chunk("Nice "),
        raw_chunk(r"\ud83d"),
        raw_chunk(r"\ude00"),
        raw_chunk(" day"),
    ];
    let encoded = [
        raw_chunk("Nice "),
        raw_chunk(b"\xed\xa0\xbd"),
        chunk(json!({ "choices": [{ "index": 0, "delta": { "content": "" } }] })).into_bytes(),
        raw_chunk(b"\xed\xb8\x80 day"),
    ];
    for pieces in [escaped, encoded] {
        assert_body(ending(&pieces), "Nice 😀 day");
    }
}

#[test]
fn halves_of_a_thought_and_of_the_answer_are_joined_apart() {
    let thought = |text: &str| {
        format!(r#"data: {{"choices":[{{"index":0,"delta":{{"reasoning_content":"{text}"}}}}]}}"#)
            + "\n\n"
    };
    let body = [
        thought(r"Hm \ud83d").into_bytes(),
        thought(r"\ude00").into_bytes(),
        thought(r"\ud83d").into_bytes(),
        raw_chunk(r"Yes \ud83e"),
        thought("?").into_bytes(),
        raw_chunk(r"\udd80"),
        raw_chunk(r"\ud83d"),
    ];
    let ended = ended(ModelReply::events(ending(&body)), &[]);
    assert_stored(&ended, "Yes 🦀\u{fffd}");
    let parts = &ended.turn["assistant_message"]["parts"];
    assert_eq!(
        parts[0],
        json!({ "type": "reasoning", "text": "Hm 😀\u{fffd}" })
    );
}

#[test]
fn one_bad_character_never_loses_an_answer() {
    let cases: [(&[u8], &str); 9] = [
        (b"caf\xe9", "caf\u{fffd} rest"),
        (b"\xff\xfe", "\u{fffd}\u{fffd} rest"),
        (br"a\ud83d", "a\u{fffd} rest"),
        (br"a\ude00b", "a\u{fffd}b rest"),
        (br"a\u0000b", "ab rest"),
        (b"a\0b", "ab rest"),
        (b"a\tb\x1b", "a\tb\u{1b} rest"),
        (br"it\'s \d", "it's \\d rest"),
        ("a\u{feff}b".as_bytes(), "a\u{feff}b rest"),
    ];
    for (text, stored) in cases {
        let body = [raw_chunk(text), text_chunk(" rest").into_bytes()];
        assert_body(ending(&body), stored);
    }
}

#[test]
fn numbers_that_are_no_json_are_read_past() {
    for number in ["NaN", "Infinity", "-Infinity", "-NaN"] {
        let body = format!(
            "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"NaN Infinity\"}},\"logprobs\":{number},\
             \"x\":[{number},{{\"y\":{number}}}]}}]}}\n\n"
        );
        assert_body(body.clone() + &end() + DONE, "NaN Infinity");
        // Without the empty lines, too.
        let dense = (body + &end() + DONE).replace("\n\n", "\n");
        assert_body(dense, "NaN Infinity");
    }
}

#[test]
fn white_space_alone_is_an_empty_reply() {
    assert_empty(&(text_chunk("\n\n") + &text_chunk("  ") + &end() + DONE));
    assert_empty(&(text_chunk("\u{a0}\t") + &end()));
    assert_empty(&(text_chunk("\0") + &end()));
    assert_body(
        text_chunk("\n") + &text_chunk(" ") + &text_chunk("Yes. ") + &end() + DONE,
        "\n Yes. ",
    );
    for how in ["none", "tagged", "unopened"] {
        let blank = text_chunk("\n\n") + &text_chunk("  ") + &end() + DONE;
        let flag = format!("--model-reasoning={how}");
        let Ended { events, turn } = ended(ModelReply::events(blank), &[&flag]);
        assert_eq!(turn["error"]["code"], "model_empty_reply", "{how}");
        assert_eq!(turn["assistant_message"], json!(null), "{how}");
        assert_eq!(text_of(&events), "", "{how}");
    }
}

#[test]
fn every_line_end_of_the_standard_ends_a_line() {
    let body = text_chunk("Try the ") + &text_chunk("door.") + &end() + DONE;
    for line_end in ["\r\n", "\r"] {
        assert_body(body.replace('\n', line_end), "Try the door.");
    }
    // A CR LF that two pieces divide is one line end: a second one would end the event early.
    let (first, rest) = (
        "data: {\"choices\":\r",
        "\ndata: [{\"delta\":{\"content\":\"Yes.\"}}]}\r\n\r\n",
    );
    let reply = ModelReply::events(first).then(rest).then(end()).then(DONE);
    assert_answer(reply, "Yes.");
}

#[test]
fn unknown_events_and_further_choices_are_passed_over() {
    let choices = |choices: Value| chunk(json!({ "choices": choices }));
    let other = json!({ "index": 1, "delta": { "content": "Other" }, "finish_reason": "length" });
    let first = json!({ "index": 0, "delta": { "content": "door." } });
    let body = "event: ping\ndata: alive\n\n".to_owned()
        + "event: heartbeat\ndata: 1\n\nevent: meta\ndata: {\"content\":\"x\"}\n\n"
        + &choices(json!([other]))
        + &text_chunk("Try the ")
        + "retry: 10\nid\nfoo: bar\n\n"
        + &choices(json!([other, first]))
        + &choices(json!([other]))
        + &end()
        + DONE;
    let ended = ended(ModelReply::events(body), &[]);
    assert_stored(&ended, "Try the door.");
    assert_eq!(ended.turn["assistant_message"]["finish_reason"], "stop");
    // An event of errors is none of the unknown ones.
    let body = text_chunk("Try ") + "event: error\ndata: {\"message\":\"out of memory\"}\n\n";
    let Ended { turn, .. } = self::ended(ModelReply::events(body), &[]);
    assert_eq!(turn["error"]["code"], "model_broken_reply");
}

fn encoded(encoding: &str, body: &[u8]) -> ModelReply {
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-encoding: {encoding}\r\nconnection: close\r\n\r\n"
    );
    ModelReply::raw(head).then(body)
}

#[test]
fn a_compressed_stream_is_read_as_it_comes() {
    let (go_on, wait) = mpsc::channel();
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(text_chunk("Try the ").as_bytes()).unwrap();
    gzip.flush().unwrap();
    let first = std::mem::take(gzip.get_mut());
    gzip.write_all((text_chunk("door.") + &end() + DONE).as_bytes())
        .unwrap();
    let rest = gzip.finish().unwrap();
    let reply = encoded("gzip", &first).then_wait(wait).then(&rest);
    let model = ScriptedModel::start(vec![reply]);
    let server = Server::with_model(&model, &[]);
    let chat = Chat::on(&server);
    let mut stream = chat.stream("The door is stuck");
    let mut events = stream.read_until_text("Try the ");
    go_on.send(()).unwrap();
    events.extend(stream.rest());
    assert_eq!(text_of(&events), "Try the door.");

    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
    zlib.write_all((text_chunk("Yes.") + &end() + DONE).as_bytes())
        .unwrap();
    assert_answer(encoded("deflate", &zlib.finish().unwrap()), "Yes.");
    let plain = text_chunk("Yes.") + &end() + DONE;
    assert_answer(encoded("gzip", plain.as_bytes()), "Yes.");
    let Ended { turn, .. } = ended(encoded("br", b"\x0b\x02\x80"), &[]);
    assert_eq!(turn["error"]["code"], "model_broken_reply");
}

#[test]
fn a_small_compressed_stream_with_endless_content_fails() {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    let line = [b": ".as_slice(), &[b'x'; 900], b"\n"]
        .concat()
        .repeat(64 << 10);
    gzip.write_all(text_chunk("Yes.").as_bytes()).unwrap();
    gzip.write_all(&line).unwrap();
    let Ended { turn, .. } = ended(encoded("gzip", &gzip.finish().unwrap()), &[]);
    assert_eq!(turn["error"]["code"], "model_timeout");
}

/// Waits until the model has got this many requests.
fn wait_for_requests(model: &ScriptedModel, count: usize) {
    while model.requests().len() < count {
        std::thread::yield_now();
    }
}

#[test]
fn a_slow_first_byte_is_waited_for_and_silence_between_pieces_is_not() {
    let (go_on, wait) = mpsc::channel();
    let alive = ModelReply::events(": loading\n\n").then_wait(wait);
    let model = ScriptedModel::start(vec![
        alive.then(text_chunk("Yes.") + &end() + DONE),
        ModelReply::raw("").then_hang(),
        ModelReply::events(text_chunk("Try ")).then_hang(),
    ]);
    let flags = ["--model-timeout=1", "--model-first-byte-timeout=600"];
    let server = Server::with_model(&model, &flags);
    let chat = Chat::on(&server);
    let stream = chat.stream("First");
    wait_for_requests(&model, 1);
    let Chat {
        client, session, ..
    } = Chat::on(&server);
    let appended = client.append_text(&session, "Second").expect(202).data();
    let id = appended["chat_turn_id"].as_str().unwrap().to_owned();
    wait_for_requests(&model, 2);
    // A turn that fails by --model-timeout: by then, the two others have waited for as long.
    let third = Chat::on(&server).ask("Third");
    assert_eq!(third.turn["error"]["code"], "model_timeout");
    assert_eq!(third.turn["assistant_message"]["content"], "Try ");
    let second = client.turn(&session, &id, "").expect(200).data();
    assert_eq!(second["status"], "RUNNING");
    go_on.send(()).unwrap();
    assert_eq!(text_of(&stream.rest()), "Yes.");
}

#[test]
fn the_model_timeout_alone_bounds_the_first_byte_too() {
    for reply in [
        ModelReply::raw("").then_hang(),
        ModelReply::events("").then_hang(),
        ModelReply::events("").then_flood(": alive\n\n"),
    ] {
        let Ended { turn, .. } = ended(reply, &["--model-timeout=1"]);
        assert_eq!(turn["error"]["code"], "model_timeout");
    }
}
