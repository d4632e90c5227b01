//! A model server that does not take a part of the request: it is asked again without the part, and
//! the part is left out from then on.

use serde_json::{Value, json};

use crate::log_book;
use crate::model_turns::{Chat, Ended, REJECTED};
use crate::scripted_model::{Reply as ModelReply, Request, ScriptedModel};
use crate::support::Server;

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

/// What an answer ends with if the model did not see a picture of the message.
const UNSEEN: &str = "\n\nNote: The assistant could not see the picture that you sent.";

/// A server that answers `Yes.` to requests that it takes, and refuses others with this reply.
fn picky(
    refuses: impl Fn(&Request) -> bool + Send + Sync + 'static,
    refusal: ModelReply,
) -> ScriptedModel {
    ScriptedModel::answering(move |_, request| {
        if refuses(request) {
            refusal.clone()
        } else {
            ModelReply::answer("Yes.")
        }
    })
}

fn has_system_role(request: &Request) -> bool {
    let messages = request.body["messages"].as_array().unwrap();
    messages.iter().any(|message| message["role"] == "system")
}

/// The newest request's messages.
fn sent(model: &ScriptedModel) -> Vec<Value> {
    let body = model.requests().pop().unwrap().body;
    body["messages"].as_array().unwrap().clone()
}

/// Asserts an answered turn and its stored answer.
#[track_caller]
fn assert_answer(ended: &Ended, text: &str) {
    assert_eq!(ended.turn["status"], "COMPLETED", "{}", ended.turn);
    assert_eq!(ended.turn["assistant_message"]["content"], text);
    assert_eq!(crate::event_reader::text_of(&ended.events), text);
}

/// The warnings about this model, from the log of all tests.
fn warnings(model: &ScriptedModel) -> usize {
    let lines = log_book::open().lines();
    let of_model = lines.iter().filter(|line| line.contains(model.url()));
    of_model
        .filter(|line| line.contains("does not take"))
        .count()
}

/// Sends a picture with a text.
fn show(chat: &Chat<'_>, text: &str) -> Ended {
    let blob_path = chat.client.upload(&chat.session, "image/png", PNG);
    let file = json!({ "blob_path": blob_path, "mime": "image/png" });
    chat.ask_with(json!({ "message": text, "attachments": [file] }))
}

/// How servers refuse a request: some say why, and some do not.
fn refusals(reason: &str) -> Vec<ModelReply> {
    let told = json!({ "error": { "message": reason } }).to_string();
    vec![
        ModelReply::status(422, "", &told),
        ModelReply::status(400, "", &told),
        ModelReply::status(400, "", ""),
        ModelReply::status(422, "", "<h1>Bad request</h1>"),
    ]
}

#[test]
fn a_server_that_refuses_stream_options_is_asked_without_them_from_then_on() {
    log_book::open();
    for refusal in refusals("Unrecognized field: stream_options") {
        let model = picky(|request| !request.body["stream_options"].is_null(), refusal);
        let server = Server::with_model(&model, &[]);
        let chat = Chat::on(&server);
        for text in ["One", "Two"] {
            assert_answer(&chat.ask(text), "Yes.");
        }
        let asked = model.requests();
        let with: Vec<bool> = asked
            .iter()
            .map(|asked| asked.has("stream_options"))
            .collect();
        assert_eq!(with, [true, false, false]);
        assert!(asked.iter().all(has_system_role));
        assert_eq!(warnings(&model), 1);
    }
}

#[test]
fn a_model_without_a_system_role_gets_the_text_in_front_of_the_first_user_message() {
    log_book::open();
    for refusal in refusals("Only user and assistant roles are supported!") {
        let model = picky(has_system_role, refusal);
        let server = Server::with_model(&model, &[]);
        let chat = Chat::on(&server);
        assert_answer(&chat.ask("One"), "Yes.");
        let first = sent(&model);
        assert_eq!(first.len(), 1);
        assert_eq!(first[0]["role"], "user");
        let text = first[0]["content"].as_str().unwrap();
        assert!(
            text.starts_with("You are ") && text.ends_with("\n\nOne"),
            "{text}"
        );
        let before = model.requests().len();
        assert_answer(&chat.ask("Two"), "Yes.");
        assert_eq!(model.requests().len(), before + 1);
        let second = sent(&model);
        assert_eq!(second.len(), 3);
        assert_eq!(second[2], json!({ "role": "user", "content": "Two" }));
        assert!(model.requests()[before].has("stream_options"));
        assert_eq!(warnings(&model), 1);
    }
}

#[test]
fn a_model_without_images_answers_and_the_user_is_told_that_the_picture_was_not_seen() {
    log_book::open();
    let reasons = [true, true, false, false];
    let refusals = refusals("unknown variant `image_url`, expected `text`");
    for (refusal, gives_reason) in refusals.into_iter().zip(reasons) {
        let model = picky(|request| request.has("image_url"), refusal);
        let server = Server::with_model(&model, &[]);
        let chat = Chat::on(&server);
        assert_answer(&show(&chat, "What is this?"), &format!("Yes.{UNSEEN}"));
        assert_eq!(model.requests().len(), 2);
        let told = sent(&model)[1]["content"].as_str().unwrap().to_owned();
        assert!(
            told.starts_with("What is this?\n\n") && told.contains("cannot see"),
            "{told}"
        );
        assert!(told.contains("image/png"), "{told}");
        // Later turns work, and are told about their own pictures alone.
        assert_answer(&chat.ask("And now?"), "Yes.");
        let another = Chat::on(&server);
        assert_answer(&show(&another, "And this?"), &format!("Yes.{UNSEEN}"));
        // A refusal that gives no reason counts after two sessions.
        assert_eq!(model.requests().len(), if gives_reason { 4 } else { 5 });
        assert_eq!(warnings(&model), 1);
        let before = model.requests().len();
        assert_answer(&show(&chat, "And that?"), &format!("Yes.{UNSEEN}"));
        assert_eq!(model.requests().len(), before + 1);
    }
}

#[test]
fn the_refused_pictures_of_one_session_turn_no_pictures_off_for_others() {
    let small = "The image length and width do not meet the model restrictions. The image length or width must be larger than 10.";
    for (refusal, sessions) in [(small, 3), ("bad image", 1), ("", 1)] {
        let reply = ModelReply::status(400, "", refusal);
        let model = picky(|asked| asked.has("odd") && asked.has("image_url"), reply);
        let server = Server::with_model(&model, &[]);
        for _ in 0..sessions {
            let odd = Chat::on(&server);
            for _ in 0..3 {
                assert_answer(&show(&odd, "An odd one"), &format!("Yes.{UNSEEN}"));
            }
        }
        for _ in 0..2 {
            assert_answer(&show(&Chat::on(&server), "What is this?"), "Yes.");
        }
    }
}

#[test]
fn a_model_that_refuses_one_broken_picture_gets_the_next_one() {
    let broken = json!({ "error": { "message": "Invalid image: cannot decode" } }).to_string();
    let model = ScriptedModel::answering(move |index, _| match index {
        0 => ModelReply::status(400, "", &broken),
        _ => ModelReply::answer("Yes."),
    });
    let server = Server::with_model(&model, &[]);
    let chat = Chat::on(&server);
    assert_answer(&show(&chat, "What is this?"), &format!("Yes.{UNSEEN}"));
    assert_answer(&show(&chat, "And this?"), "Yes.");
    let with: Vec<bool> = model
        .requests()
        .iter()
        .map(|asked| asked.has("image_url"))
        .collect();
    assert_eq!(with, [true, false, true]);
}

#[test]
fn a_server_that_refuses_several_parts_is_asked_without_all_of_them() {
    for body in ["", "stream_options and the role system are not supported"] {
        let model = picky(
            |request| has_system_role(request) || request.has("stream_options"),
            ModelReply::status(400, "", body),
        );
        let server = Server::with_model(&model, &[]);
        let chat = Chat::on(&server);
        assert_answer(&chat.ask("One"), "Yes.");
        let before = model.requests().len();
        assert_answer(&chat.ask("Two"), "Yes.");
        assert_eq!(model.requests().len(), before + 1);
    }
}

#[test]
fn a_server_that_refuses_everything_gets_four_requests() {
    for status in [400, 422] {
        let model = ScriptedModel::start(vec![ModelReply::status(status, "", "")]);
        let server = Server::with_model(&model, &[]);
        let chat = Chat::on(&server);
        // The second turn is tried without the first message too.
        for count in [4, 9] {
            let Ended { turn, .. } = chat.ask("One");
            assert_eq!(
                turn["error"],
                json!({ "code": "model_rejected", "message": REJECTED })
            );
            assert_eq!(model.requests().len(), count);
        }
    }
}

#[test]
fn a_message_that_a_content_filter_refuses_is_told_as_such_and_does_not_spoil_the_next() {
    let filtered = json!({ "error": {
        "message": "The response was filtered due to the prompt triggering the content management policy.",
        "code": "content_filter", "param": "prompt",
        "innererror": { "code": "ResponsibleAIPolicyViolation", "content_filter_result": { "hate": { "filtered": true } } },
    } });
    let only_code = json!({ "error": { "code": "content_filter", "message": null } });
    let in_stream = ModelReply::events(crate::scripted_model::chunk(only_code.clone()));
    let ended = ModelReply::events(
        crate::scripted_model::chunk(
            json!({ "choices": [{ "delta": {}, "finish_reason": "content_filter" }] }),
        ) + "data: [DONE]\n\n",
    );
    for refusal in [
        ModelReply::status(400, "", &filtered.to_string()),
        ModelReply::status(400, "", &only_code.to_string()),
        in_stream,
        ended,
    ] {
        let model = picky(|request| request.has("Bad words"), refusal);
        let server = Server::with_model(&model, &[]);
        let chat = Chat::on(&server);
        let Ended { events, turn } = chat.ask("Bad words");
        let sentence =
            "The assistant's content filter refused this message. Please ask again in other words.";
        assert_eq!(
            turn["error"],
            json!({ "code": "model_content_filtered", "message": sentence })
        );
        assert_eq!(turn["assistant_message"], json!(null));
        assert_eq!(
            events[events.len() - 1].envelope,
            json!({ "type": "error", "errorText": sentence })
        );
        assert_eq!(model.requests().len(), 1);
        assert_answer(&chat.ask("Other words"), "Yes.");
        assert_eq!(
            sent(&model)[1],
            json!({ "role": "user", "content": "Other words" })
        );
    }
}
