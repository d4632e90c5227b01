//! The body of a chat-completions call, its history cut to what the model can read.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::model::words::MessageRole;
use crate::turns::responder::{HistoryMessage, Question};

/// What an image is taken to cost, in tokens: what the large providers ask for a photograph.
const IMAGE_TOKENS: usize = 1_000;

/// What a message costs beside its text, in tokens.
const MESSAGE_TOKENS: usize = 4;

/// The JSON of a streaming call that asks `model`; `context_tokens` bounds system message and history together,
/// but the system message and the last message are always there.
pub(super) fn body(question: Question, model: &str, context_tokens: usize) -> Vec<u8> {
    let kept = kept(&question, context_tokens);
    let mut messages = vec![json!({"role": "system", "content": question.system})];
    messages.extend(question.history.into_iter().skip(kept).map(message));
    json!({
        "model": model,
        "messages": messages,
        "stream": true,
        "stream_options": {"include_usage": true},
    })
    .to_string()
    .into_bytes()
}

/// Where in the history the call begins.
fn kept(question: &Question, context_tokens: usize) -> usize {
    let history = &question.history;
    let Some(last) = history.len().checked_sub(1) else {
        return 0;
    };
    let mut left_tokens = context_tokens
        .saturating_sub(text_tokens(&question.system))
        .saturating_sub(past_tokens(&history[last]));
    let mut first = last;
    while let Some(before) = first.checked_sub(1) {
        let Some(rest_tokens) = left_tokens.checked_sub(past_tokens(&history[before])) else {
            break;
        };
        left_tokens = rest_tokens;
        first = before;
    }
    // Many chat templates refuse a conversation that the assistant opens.
    while first < last && history[first].role == MessageRole::Assistant {
        first += 1;
    }
    first
}

fn text_tokens(text: &str) -> usize {
    text.chars().count().div_ceil(4) + MESSAGE_TOKENS
}

fn past_tokens(past: &HistoryMessage) -> usize {
    text_tokens(&past.text) + past.images.len() * IMAGE_TOKENS
}

fn message(past: HistoryMessage) -> Value {
    let role = past.role.as_str();
    if past.images.is_empty() || past.role == MessageRole::Assistant {
        return json!({"role": role, "content": past.text});
    }
    let mut parts = Vec::new();
    if !past.text.is_empty() {
        parts.push(json!({"type": "text", "text": past.text}));
    }
    for image in past.images {
        let url = format!(
            "data:{};base64,{}",
            image.mime,
            BASE64_STANDARD.encode(image.bytes)
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

    /// A conversation of messages of 16 characters each, which cost 8 tokens; `u` opens a user's, `a` an assistant's.
    fn question(history: &str) -> Question {
        let past = |(place, who): (usize, char)| HistoryMessage {
            role: if who == 'u' {
                MessageRole::User
            } else {
                MessageRole::Assistant
            },
            text: format!("{who}{place:015}"),
            images: Vec::new(),
        };
        Question {
            tier: ModelTier::Fast,
            system: "0123456789abcdef".to_owned(),
            history: history.chars().enumerate().map(past).collect(),
        }
    }

    #[test]
    fn history_is_cut_from_its_oldest_end() {
        for (context_tokens, first) in [
            (8 * 6, 0),
            (8 * 6 - 1, 2),
            (8 * 4, 2),
            (8 * 3, 4),
            (8 * 2, 4),
        ] {
            assert_eq!(
                kept(&question("uauau"), context_tokens),
                first,
                "{context_tokens}"
            );
        }
    }

    #[test]
    fn the_system_message_and_the_last_stay_however_small_the_context() {
        let body: Value = serde_json::from_slice(&body(question("uau"), "m", 0)).unwrap();
        assert_eq!(
            body["messages"],
            json!([{"role": "system", "content": "0123456789abcdef"}, {"role": "user", "content": "u000000000000002"}])
        );
    }

    #[test]
    fn a_call_never_opens_with_an_answer_unless_nothing_else_is_left() {
        assert_eq!(kept(&question("auau"), 1_000), 1);
        assert_eq!(kept(&question("a"), 1_000), 0);
        assert_eq!(kept(&question(""), 1_000), 0);
    }

    #[test]
    fn images_count_towards_the_context() {
        let mut long = question("uau");
        long.history[0].images.push(Image {
            mime: "image/png".to_owned(),
            bytes: vec![0],
        });
        assert_eq!(kept(&long, 8 * 4), 2);
        assert_eq!(kept(&long, 8 * 4 + IMAGE_TOKENS), 0);
    }

    #[test]
    fn only_a_user_message_with_images_is_sent_in_parts() {
        let image = || Image {
            mime: "image/png".to_owned(),
            bytes: vec![1, 2, 3],
        };
        let mut shown = question("uauau");
        shown.history[0].images = vec![image(), image()];
        shown.history[1].images = vec![image()];
        shown.history[2].images = vec![image()];
        shown.history[2].text.clear();
        let body: Value = serde_json::from_slice(&body(shown, "m", 10_000)).unwrap();
        let part = json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,AQID"}});
        assert_eq!(
            body["messages"][1]["content"],
            json!([{"type": "text", "text": "u000000000000000"}, part, part])
        );
        assert_eq!(body["messages"][2]["content"], json!("a000000000000001"));
        assert_eq!(body["messages"][3]["content"], json!([part]));
    }
}
