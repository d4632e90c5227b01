//! A session that is too long for its model goes on, with less history.

use serde_json::{Value, json};

use crate::model_turns::{Chat, Ended};
use crate::scripted_model::{Reply as ModelReply, Request, ScriptedModel};
use crate::support::Server;

/// The text of a request's messages without the system message.
fn history(request: &Request) -> Vec<String> {
    let messages = request.body["messages"].as_array().unwrap();
    let content = |message: &Value| message["content"].as_str().unwrap().to_owned();
    messages[1..].iter().map(content).collect()
}

/// A model that refuses requests with more than `most` bytes of history as this server words it.
fn with_context(most: usize, status: u16, refusal: &'static str) -> ScriptedModel {
    ScriptedModel::answering(move |_, request| {
        let bytes: usize = history(request).iter().map(String::len).sum();
        if bytes > most {
            ModelReply::status(status, "", refusal)
        } else {
            ModelReply::answer("Yes.")
        }
    })
}

#[track_caller]
fn assert_answered(ended: &Ended) {
    assert_eq!(ended.turn["status"], "COMPLETED", "{}", ended.turn);
}

/// A message of about 1,000 bytes.
fn long(number: usize) -> String {
    format!("Message {number}. {}", "Some more words. ".repeat(58))
}

#[test]
fn a_session_goes_on_however_its_model_says_that_the_prompt_is_too_long() {
    for (status, refusal) in [
        (
            400,
            r#"{"error":{"message":"This model's maximum context length is 2048 tokens. However, your messages resulted in 4000 tokens.","code":"context_length_exceeded"}}"#,
        ),
        (
            400,
            r#"{"error":{"code":400,"message":"the request exceeds the available context size","type":"exceed_context_size_error"}}"#,
        ),
        (413, ""),
        (422, "inputs tokens + max_new_tokens must be <= 2048"),
        (400, "prompt is too long"),
        // This server gives no reason.
        (400, ""),
    ] {
        let model = with_context(3_000, status, refusal);
        let server = Server::with_model(&model, &["--model-context-tokens=100000"]);
        let chat = Chat::on(&server);
        for number in 0..12 {
            assert_answered(&chat.ask(&long(number)));
        }
        let last = history(&model.requests().pop().unwrap());
        assert_eq!(last[last.len() - 1], long(11));
    }
}

#[test]
fn the_bound_that_a_refusal_teaches_holds_for_later_turns_of_the_same_model() {
    let refusal = r#"{"error":{"message":"This model's maximum context length is 1400 tokens.","code":"context_length_exceeded"}}"#;
    let model = with_context(5_100, 400, refusal);
    let server = Server::with_model(&model, &["--model-context-tokens=100000"]);
    let chat = Chat::on(&server);
    for number in 0..12 {
        assert_answered(&chat.ask(&long(number)));
    }
    let asked = model.requests();
    // The sixth message is refused once. After that, a history of half its size is sent.
    let sizes: Vec<usize> = asked.iter().map(|asked| history(asked).len()).collect();
    assert_eq!(sizes[..7], [1, 3, 5, 7, 9, 11, 5]);
    assert_eq!(sizes.len(), 13);
    assert!(
        sizes[7..].iter().all(|size| (3..=5).contains(size)),
        "{sizes:?}"
    );
    let another = Chat::on(&server);
    for number in 0..8 {
        assert_answered(&another.ask(&long(number)));
    }
    assert_eq!(model.requests().len(), asked.len() + 8);
    // The other model has its own bound.
    let ended = chat.ask_with(json!({ "message": long(12), "model_tier": "SMART" }));
    assert_answered(&ended);
    let first = history(&model.requests()[asked.len() + 8]);
    assert!(first.len() > 20, "{}", first.len());
}

#[test]
fn the_refusal_of_a_short_conversation_teaches_no_bound_for_others() {
    // The server refuses this conversation for another cause, in the words of a refusal for length.
    for refusal in [
        r#"{"error":{"code":"context_length_exceeded"}}"#,
        "This model's maximum context length is 4096 tokens",
        "maximum context length",
    ] {
        let model = ScriptedModel::answering(move |_, request| {
            if request.has("odd one") && history(request).len() > 1 {
                ModelReply::status(400, "", refusal)
            } else {
                ModelReply::answer("Yes.")
            }
        });
        let server = Server::with_model(&model, &[]);
        let odd = Chat::on(&server);
        for text in ["Hello", "Another odd one", "The last odd one"] {
            assert_answered(&odd.ask(text));
        }
        let before = model.requests().len();
        let chat = Chat::on(&server);
        for number in 0..5 {
            assert_answered(&chat.ask(&long(number)));
        }
        let asked = model.requests();
        let sizes: Vec<usize> = asked[before..]
            .iter()
            .map(|asked| history(asked).len())
            .collect();
        assert_eq!(sizes, [1, 3, 5, 7, 9], "{refusal}");
    }
}

#[test]
fn no_bound_that_a_refusal_teaches_is_tiny_unless_the_server_says_so() {
    // The history of later turns after a conversation that only its last message made short enough.
    let later = |refusal: &'static str| {
        let model = ScriptedModel::answering(move |_, request| {
            if request.has("odd one") && history(request).len() > 1 {
                ModelReply::status(400, "", refusal)
            } else {
                ModelReply::answer("Yes.")
            }
        });
        let server = Server::with_model(&model, &["--model-context-tokens=2000"]);
        let odd = Chat::on(&server);
        for number in 0..3 {
            assert_answered(&odd.ask(&long(number)));
        }
        assert_answered(&odd.ask("The odd one"));
        let chat = Chat::on(&server);
        for number in 0..3 {
            assert_answered(&chat.ask(&long(number)));
        }
        history(&model.requests().pop().unwrap()).len()
    };
    assert_eq!(later("context_length_exceeded"), 3);
    assert_eq!(later("maximum context length is 300 tokens"), 1);
}

#[test]
fn a_message_that_is_too_long_alone_fails_its_own_turn_only() {
    let model = with_context(5_000, 400, "Your prompt exceeds the context window");
    let server = Server::with_model(&model, &["--model-context-tokens=100000"]);
    let chat = Chat::on(&server);
    assert_answered(&chat.ask("Hello"));
    for _ in 0..2 {
        let ended = chat.ask(&"Far too long. ".repeat(1_000));
        let message = "This message is too long for the assistant. Please send a shorter one.";
        assert_eq!(
            ended.turn["error"],
            json!({ "code": "model_rejected", "message": message })
        );
    }
    assert_answered(&chat.ask("Hello again"));
    let sent = history(&model.requests().pop().unwrap());
    assert_eq!(sent, ["Hello again"]);
}

#[test]
fn a_history_in_japanese_is_cut_before_a_model_with_the_configured_context_refuses_it() {
    // As many tokens as the least economical tokenizers make of the text.
    let model = ScriptedModel::answering(move |_, request| {
        let messages = request.body["messages"].to_string();
        let tokens: usize = messages
            .chars()
            .map(|c| if c.is_ascii() { 1 } else { 7 })
            .sum();
        if tokens > 4 * 4_096 {
            ModelReply::status(400, "", "context_length_exceeded")
        } else {
            ModelReply::answer("\u{306f}\u{3044}\u{3002}")
        }
    });
    let server = Server::with_model(&model, &["--model-context-tokens=4096"]);
    let chat = Chat::on(&server);
    for _ in 0..8 {
        let text = "\u{4e8c}\u{968e}\u{306e}\u{30d7}\u{30ea}\u{30f3}\u{30bf}\u{30fc}".repeat(50);
        assert_answered(&chat.ask(&text));
    }
    assert_eq!(model.requests().len(), 8);
}

#[test]
fn a_picture_that_the_models_server_refuses_fails_no_turn_after_its_own() {
    let model = ScriptedModel::answering(|_, request| {
        if request.has("image_url") {
            ModelReply::status(404, "", "no such thing")
        } else {
            ModelReply::answer("Yes.")
        }
    });
    let server = Server::with_model(&model, &[]);
    let chat = Chat::on(&server);
    let blob_path = chat
        .client
        .upload(&chat.session, "image/png", b"\x89PNG\r\n\x1a\n");
    let file = json!({ "blob_path": blob_path, "mime": "image/png", "filename": "lid.png" });
    let ended = chat.ask_with(json!({ "message": "Look", "attachments": [file] }));
    assert_eq!(ended.turn["status"], "FAILED");
    assert_answered(&chat.ask("And now?"));
    let unseen = r#"(The user sent a file that you cannot see: "lid.png", image/png.)"#;
    let sent = history(&model.requests().pop().unwrap());
    assert_eq!(sent, [format!("Look\n\n{unseen}\n\nAnd now?")]);
}
