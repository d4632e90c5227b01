//! Builds the body of a chat-completions request.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::adapt::{Part, Parts};
use crate::model::words::MessageRole;
use crate::turns::responder::{HistoryMessage, Prompt, add_paragraph, unseen_file};

/// Returns the JSON of a streaming request to `model`, without the `omitted` parts and without the
/// history before its message `first`. User and assistant alternate in it: a message that a failed
/// turn left unanswered is joined with the next one.
pub(super) fn body(prompt: &Prompt, model: &str, first: usize, omitted: Parts) -> Vec<u8> {
    let history = prompt.history.get(first..).unwrap_or_default();
    let mut messages: Vec<Value> = history
        .chunk_by(|one, other| one.role == other.role)
        .map(|joined| message_json(joined, omitted.has(Part::Images)))
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

/// One message of the request, from consecutive messages of one author.
fn message_json(joined: &[HistoryMessage], omits_images: bool) -> Value {
    let role = joined[0].role;
    let (mut text, mut images) = (String::new(), Vec::new());
    for message in joined {
        add_paragraph(&mut text, &message.text);
        for image in &message.images {
            if omits_images {
                add_paragraph(&mut text, &unseen_file(&image.label));
            } else {
                images.push(image);
            }
        }
    }
    if images.is_empty() || role == MessageRole::Assistant {
        return json!({"role": role.as_str(), "content": text});
    }
    let mut parts = Vec::new();
    if !text.is_empty() {
        parts.push(json!({"type": "text", "text": text}));
    }
    for image in images {
        let url = format!(
            "data:{};base64,{}",
            image.mime,
            BASE64_STANDARD.encode(&image.bytes)
        );
        parts.push(json!({"type": "image_url", "image_url": {"url": url}}));
    }
    json!({"role": role.as_str(), "content": parts})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::{SessionId, Tick};
    use crate::model::words::ModelTier;
    use crate::turns::responder::Image;

    /// A prompt with one message per character of `history`: `u` for the user, `a` for the
    /// assistant.
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
            session: SessionId::new(Tick(1), 0),
            tier: ModelTier::Fast,
            system: "0123456789abcdef".to_owned(),
            history: history.chars().enumerate().map(message).collect(),
        }
    }

    #[test]
    fn messages_of_one_author_are_joined() {
        let sent = |first: usize| -> Value {
            let body = body(&prompt("uuau"), "m", first, Parts::default());
            let body: Value = serde_json::from_slice(&body).unwrap();
            body["messages"].clone()
        };
        assert_eq!(
            sent(0),
            json!([
                {"role": "system", "content": "0123456789abcdef"},
                {"role": "user", "content": "u000000000000000\n\nu000000000000001"},
                {"role": "assistant", "content": "a000000000000002"},
                {"role": "user", "content": "u000000000000003"},
            ])
        );
        assert_eq!(sent(1)[1]["content"], "u000000000000001");
        assert_eq!(sent(9).as_array().map(Vec::len), Some(1));
    }

    #[test]
    fn only_a_user_message_with_images_is_sent_in_parts() {
        let image = || Image {
            label: "\"door.png\", image/png".to_owned(),
            mime: "image/png".to_owned(),
            bytes: vec![1, 2, 3],
        };
        let mut shown = prompt("uauau");
        shown.history[0].images = vec![image(), image()];
        shown.history[1].images = vec![image()];
        shown.history[2].images = vec![image()];
        shown.history[2].text.clear();
        let body: Value = serde_json::from_slice(&body(&shown, "m", 0, Parts::default())).unwrap();
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
            label: "\"door.png\", image/png".to_owned(),
            mime: "image/png".to_owned(),
            bytes: vec![1, 2, 3],
        });
        let sent = |omitted: &[Part]| -> Value {
            let omitted = omitted.iter().copied().collect();
            serde_json::from_slice(&body(&shown, "m", 0, omitted)).unwrap()
        };
        let all = sent(&Part::ALL);
        assert_eq!(
            all,
            json!({"model": "m", "stream": true, "messages": [
                {"role": "user", "content": "0123456789abcdef\n\nu000000000000000"},
                {"role": "assistant", "content": "a000000000000001"},
                {"role": "user", "content":
                    "u000000000000002\n\n(The user sent a file that you cannot see: \"door.png\", image/png.)"},
            ]})
        );
        let mut alone = prompt("u");
        alone.history[0].images = shown.history[2].images.clone();
        let omitted = Parts::default().with(Part::SystemRole);
        let sent: Value = serde_json::from_slice(&body(&alone, "m", 0, omitted)).unwrap();
        assert_eq!(
            sent["messages"][0]["content"][0],
            json!({"type": "text", "text": "0123456789abcdef"})
        );
        assert_eq!(sent["messages"].as_array().map(Vec::len), Some(1));
    }
}
