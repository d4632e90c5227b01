//! Builds the body of a chat-completions request, with the history cut to the model's context.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::adapt::{Part, Parts};
use crate::model::words::MessageRole;
use crate::turns::responder::{HistoryMessage, Prompt};

/// The assumed cost of an image in tokens: about that of a photograph at the large providers.
const IMAGE_TOKENS: usize = 1_000;

/// The cost of a message in addition to its text, in tokens.
const MESSAGE_TOKENS: usize = 4;

/// Returns the JSON of a streaming request to `model`, without the `omitted` parts. System message
/// and history together get up to `context_tokens`, but the system message and the last message are
/// always included.
pub(super) fn body(prompt: &Prompt, model: &str, context_tokens: usize, omitted: Parts) -> Vec<u8> {
    let first = first_included(prompt, context_tokens);
    let history = prompt.history.iter().skip(first);
    let mut messages: Vec<Value> = history
        .map(|message| message_json(message, omitted.has(Part::Images)))
        .collect();
    if omitted.has(Part::SystemRole) {
        put_in_front(&prompt.system, &mut messages);
    } else {
        messages.insert(0, json!({"role": "system", "content": prompt.system}));
    }
    let mut body = json!({"model": model, "messages": messages, "stream": true});
    if !omitted.has(Part::StreamOptions) {
        body["stream_options"] = json!({"include_usage": true});
    }
    body.to_string().into_bytes()
}

/// Puts the system text in front of the first user message.
fn put_in_front(system: &str, messages: &mut Vec<Value>) {
    let first = messages
        .iter_mut()
        .find(|message| message["role"] == MessageRole::User.as_str());
    let Some(message) = first else {
        return messages.insert(
            0,
            json!({"role": MessageRole::User.as_str(), "content": system}),
        );
    };
    let content = &mut message["content"];
    if let Some(parts) = content.as_array_mut() {
        parts.insert(0, json!({"type": "text", "text": system}));
    } else {
        *content = json!([system, content.as_str().unwrap_or_default()].join("\n\n"));
    }
}

/// The index of the first message of the history that fits the context.
fn first_included(prompt: &Prompt, context_tokens: usize) -> usize {
    let history = &prompt.history;
    let Some(last) = history.len().checked_sub(1) else {
        return 0;
    };
    let mut left_tokens = context_tokens
        .saturating_sub(text_tokens(&prompt.system))
        .saturating_sub(message_tokens(&history[last]));
    let mut first = last;
    while let Some(before) = first.checked_sub(1) {
        let Some(rest_tokens) = left_tokens.checked_sub(message_tokens(&history[before])) else {
            break;
        };
        left_tokens = rest_tokens;
        first = before;
    }
    // Many chat templates reject a conversation that starts with the assistant.
    while first < last && history[first].role == MessageRole::Assistant {
        first += 1;
    }
    first
}

/// An estimate: four characters per token.
fn text_tokens(text: &str) -> usize {
    text.chars().count().div_ceil(4) + MESSAGE_TOKENS
}

fn message_tokens(message: &HistoryMessage) -> usize {
    text_tokens(&message.text) + message.images.len() * IMAGE_TOKENS
}

fn message_json(message: &HistoryMessage, omits_images: bool) -> Value {
    let role = message.role.as_str();
    if message.images.is_empty() || message.role == MessageRole::Assistant {
        return json!({"role": role, "content": message.text});
    }
    if omits_images {
        let unseen = message.images.iter().map(|image| {
            format!(
                "(The user sent a picture that you cannot see: {}.)",
                image.mime
            )
        });
        let text = Some(message.text.clone()).filter(|text| !text.is_empty());
        let lines: Vec<String> = text.into_iter().chain(unseen).collect();
        return json!({"role": role, "content": lines.join("\n\n")});
    }
    let mut parts = Vec::new();
    if !message.text.is_empty() {
        parts.push(json!({"type": "text", "text": message.text}));
    }
    for image in &message.images {
        let url = format!(
            "data:{};base64,{}",
            image.mime,
            BASE64_STANDARD.encode(&image.bytes)
        );
        parts.push(json!({"type": "image_url", "image_url": {"url": url}}));
    }
    json!({"role": role, "content": parts})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::words::ModelTier;
    use crate::turns::responder::Image;

    /// A prompt with one message of 16 characters, and so 8 tokens, per character of `history`: `u`
    /// for the user, `a` for the assistant.
    fn prompt(history: &str) -> Prompt {
        let message = |(index, author): (usize, char)| HistoryMessage {
            role: if author == 'u' {
                MessageRole::User
            } else {
                MessageRole::Assistant
            },
            text: format!("{author}{index:015}"),
            images: Vec::new(),
        };
        Prompt {
            tier: ModelTier::Fast,
            system: "0123456789abcdef".to_owned(),
            history: history.chars().enumerate().map(message).collect(),
        }
    }

    #[test]
    fn the_oldest_messages_are_cut_first() {
        for (context_tokens, first) in [
            (8 * 6, 0),
            (8 * 6 - 1, 2),
            (8 * 4, 2),
            (8 * 3, 4),
            (8 * 2, 4),
        ] {
            assert_eq!(
                first_included(&prompt("uauau"), context_tokens),
                first,
                "{context_tokens}"
            );
        }
    }

    #[test]
    fn the_system_message_and_the_last_stay_however_small_the_context() {
        let body: Value =
            serde_json::from_slice(&body(&prompt("uau"), "m", 0, Parts::default())).unwrap();
        assert_eq!(
            body["messages"],
            json!([{"role": "system", "content": "0123456789abcdef"}, {"role": "user", "content": "u000000000000002"}])
        );
    }

    #[test]
    fn a_request_never_starts_with_an_answer_unless_nothing_else_is_left() {
        assert_eq!(first_included(&prompt("auau"), 1_000), 1);
        assert_eq!(first_included(&prompt("a"), 1_000), 0);
        assert_eq!(first_included(&prompt(""), 1_000), 0);
    }

    #[test]
    fn images_count_toward_the_context() {
        let mut long = prompt("uau");
        long.history[0].images.push(Image {
            mime: "image/png".to_owned(),
            bytes: vec![0],
        });
        assert_eq!(first_included(&long, 8 * 4), 2);
        assert_eq!(first_included(&long, 8 * 4 + IMAGE_TOKENS), 0);
    }

    #[test]
    fn only_a_user_message_with_images_is_sent_in_parts() {
        let image = || Image {
            mime: "image/png".to_owned(),
            bytes: vec![1, 2, 3],
        };
        let mut shown = prompt("uauau");
        shown.history[0].images = vec![image(), image()];
        shown.history[1].images = vec![image()];
        shown.history[2].images = vec![image()];
        shown.history[2].text.clear();
        let body: Value =
            serde_json::from_slice(&body(&shown, "m", 10_000, Parts::default())).unwrap();
        let part = json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,AQID"}});
        assert_eq!(
            body["messages"][1]["content"],
            json!([{"type": "text", "text": "u000000000000000"}, part, part])
        );
        assert_eq!(body["messages"][2]["content"], json!("a000000000000001"));
        assert_eq!(body["messages"][3]["content"], json!([part]));
    }

    #[test]
    fn omitted_parts_are_replaced_by_text() {
        let mut shown = prompt("uau");
        shown.history[2].images.push(Image {
            mime: "image/png".to_owned(),
            bytes: vec![1, 2, 3],
        });
        let sent = |omitted: &[Part]| -> Value {
            let omitted = omitted.iter().copied().collect();
            serde_json::from_slice(&body(&shown, "m", 10_000, omitted)).unwrap()
        };
        let all = sent(&Part::ALL);
        assert_eq!(
            all,
            json!({"model": "m", "stream": true, "messages": [
                {"role": "user", "content": "0123456789abcdef\n\nu000000000000000"},
                {"role": "assistant", "content": "a000000000000001"},
                {"role": "user", "content":
                    "u000000000000002\n\n(The user sent a picture that you cannot see: image/png.)"},
            ]})
        );
        let mut alone = prompt("u");
        alone.history[0].images = shown.history[2].images.clone();
        let omitted = Parts::default().with(Part::SystemRole);
        let sent: Value = serde_json::from_slice(&body(&alone, "m", 10_000, omitted)).unwrap();
        assert_eq!(
            sent["messages"][0]["content"][0],
            json!({"type": "text", "text": "0123456789abcdef"})
        );
        assert_eq!(sent["messages"].as_array().map(Vec::len), Some(1));
    }
}
