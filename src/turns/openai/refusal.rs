//! Reads what a model server says when it refuses a request: servers word the same cause in many
//! ways (contract, section 13, What a server does not take, and Context).

use reqwest::StatusCode;
use serde_json::Value;

use super::adapt::Part;
use super::limit;

/// A reply with an error status.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    /// The status.
    pub(super) status: StatusCode,
    /// The body, as far as it was read.
    pub(super) body: String,
    /// The body in lower case, without the request that some servers repeat in it.
    words: String,
    /// The size of the model's context in tokens, if the body names it.
    pub(super) context_tokens: Option<usize>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, body: String) -> Self {
        let words = words(&body);
        let context_tokens = limit::named(&words);
        Self {
            status,
            body,
            words,
            context_tokens,
        }
    }

    /// Whether the same request may succeed a little later.
    pub(super) fn is_temporary(&self) -> bool {
        self.status == StatusCode::TOO_MANY_REQUESTS || self.status.is_server_error()
    }

    /// Whether a content filter refused the prompt.
    pub(super) fn is_by_content_filter(&self) -> bool {
        self.status.is_client_error() && is_by_content_filter(&self.words)
    }

    /// Whether the request is too long for the model or for its server.
    pub(super) fn is_for_length(&self) -> bool {
        match self.status.as_u16() {
            413 => return true,
            401..=404 | 408 | 429 => return false,
            400..=500 => {}
            _ => return false,
        }
        let names_it = self.mentions(&["context_length", "context length", "context window"])
            || self.mentions(&[
                "context size",
                "maximum context",
                "n_ctx",
                "model_max_length",
            ])
            || self.mentions(&["max_model_len", "max_seq_len", "string_above_max_length"]);
        let has_subject = self.mentions(&["token", "context", "prompt", "sequence"])
            || self.mentions(&["input length", "input is too", "inputs", "message is too"])
            || self.mentions(&["messages are too", "request too", "request is too"]);
        let has_complaint = self.mentions(&["too long", "too large", "too many", "exceed"])
            || self.mentions(&["longer than", "larger than", "greater than", "more than"])
            || self.mentions(&["maximum", "at most", "must be <=", "limit", "overflow"])
            || self.mentions(&["reduce", "should be [", "does not fit"]);
        let is_another = self.mentions(&["deadline", "timeout", "timed out", "quota"]);
        names_it || (has_subject && has_complaint && !is_another)
    }

    fn mentions(&self, words: &[&str]) -> bool {
        words.iter().any(|word| self.words.contains(word))
    }

    /// Whether the body complains of a part of the request.
    pub(super) fn names(&self, part: Part) -> bool {
        match self.status.as_u16() {
            401 | 402 | 403 | 408 | 429 => return false,
            400..=499 => {}
            // Some servers report a chat template's refusal, or missing support for images, as
            // their own error.
            500 | 501 if self.mentions(&["template", "role", "support", "mmproj"]) => {}
            _ => return false,
        }
        match part {
            Part::Images => {
                self.mentions(&["image", "vision", "multimodal", "multi-modal", "mmproj"])
                    || (self.mentions(&["content"]) && self.mentions(&["string"]))
            }
            Part::StreamOptions => {
                self.mentions(&["stream_options", "stream options", "include_usage"])
            }
            Part::SystemRole => {
                self.mentions(&["system", "developer instruction"])
                    || (self.mentions(&["role"])
                        && self.mentions(&["alternate", "user and assistant", "supported"]))
            }
        }
    }

    /// The parts that may be the cause although the body does not say so.
    pub(super) fn suspects(&self) -> &'static [Part] {
        const OTHER_CAUSES: &[&str] = &[
            "api key",
            "api_key",
            "quota",
            "billing",
            "model_not_found",
            "does not exist",
            "not found",
        ];
        match self.status.as_u16() {
            _ if self.is_for_length() => &[Part::Images],
            400 | 415 | 422 if !self.mentions(OTHER_CAUSES) => &Part::ALL,
            _ => &[],
        }
    }

    /// Whether the body says that the model takes no images at all.
    pub(super) fn is_about_any_images(&self) -> bool {
        self.names(Part::Images)
            && !self.is_about_these_images()
            && (self.mentions(&["support", "vision", "mmproj", "multimodal", "multi-modal"])
                || self.mentions(&["unknown variant", "valid string", "be a string"])
                || self.mentions(&["modalit", "text-only", "text only", "no images"]))
    }

    /// Whether other images might be taken: the refusal is about the size of the request, or about
    /// the size or the kind of the image, or about a file that cannot be read.
    pub(super) fn is_about_these_images(&self) -> bool {
        self.status == StatusCode::PAYLOAD_TOO_LARGE
            || self.mentions(&[
                "invalid image",
                "invalid_image",
                "image_parse",
                "decode",
                "corrupt",
                "valid image",
                "image is valid",
                "image format",
                "process image",
                "too large",
                "exceed",
            ])
            || self.mentions(&["image type", "media type", "mime", "formats", "animated"])
            || self.mentions(&["width", "height", "dimension", "resolution", "pixel"])
            || self.mentions(&["aspect ratio", "image size", "too small", "larger than"])
            || self.mentions(&["smaller than", "at least", "download", "fetch"])
    }
}

/// Whether the text of an error, in lower case, says that a content filter refused the prompt.
pub(super) fn is_by_content_filter(words: &str) -> bool {
    [
        "content_filter",
        "content filter",
        "content management policy",
        "content_policy",
        "content policy",
        "responsibleaipolicyviolation",
        "input was flagged",
        "data_inspection_failed",
        "inappropriate content",
    ]
    .iter()
    .any(|phrase| words.contains(phrase))
}

/// The text of an error body in lower case. JSON is read without fields that repeat the request: a
/// user's words must not pass for the server's.
fn words(body: &str) -> String {
    fn collect(value: &Value, words: &mut String) {
        match value {
            Value::String(text) => {
                words.push_str(&text.to_lowercase());
                words.push('\n');
            }
            Value::Array(values) => values.iter().for_each(|value| collect(value, words)),
            Value::Object(fields) => fields
                .iter()
                .filter(|(name, _)| !matches!(name.as_str(), "input" | "body" | "request"))
                .for_each(|(name, value)| {
                    // The size of the context, as llama.cpp reports it.
                    if name == "n_ctx" && value.is_number() {
                        words.push_str(&format!("n_ctx {value}\n"));
                    } else {
                        collect(value, words);
                    }
                }),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    let Ok(value) = serde_json::from_str::<Value>(body) else {
        return body.to_lowercase();
    };
    let mut words = String::new();
    collect(&value, &mut words);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(status: u16, body: &str) -> Refusal {
        Refusal::new(StatusCode::from_u16(status).unwrap(), body.to_owned())
    }

    #[test]
    fn a_refusal_for_length_is_recognized_however_a_server_words_it() {
        for (status, body) in [
            (
                400,
                r#"{"error":{"message":"This model's maximum context length is 8192 tokens. However, your messages resulted in 9001 tokens. Please reduce the length of the messages.","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}"#,
            ),
            (
                400,
                "the request exceeds the available context size. try increasing the context size or enable context shift",
            ),
            (500, "the request exceeds the available context size"),
            (
                400,
                "Input tokens exceed the configured limit of 272000 tokens.",
            ),
            (400, "prompt is too long: 210000 tokens > 200000 maximum"),
            (413, ""),
            (
                422,
                "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000 `inputs` tokens",
            ),
            (
                400,
                "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
            ),
            (
                400,
                "<400> InternalError.Algo.InvalidParameter: Range of input length should be [1, 30720]",
            ),
            (400, "Requested tokens (2217) exceed context window of 2048"),
            (
                400,
                "Prompt contains 9000 tokens, too large for model with 8192 maximum context length",
            ),
            (422, "too many tokens in the request"),
            (400, "Your request exceeded model token limit: 8192"),
        ] {
            assert!(refusal(status, body).is_for_length(), "{body}");
        }
        for (status, body) in [
            (401, "token limit exceeded"),
            (
                429,
                "Rate limit reached: tokens per minute exceed the limit",
            ),
            (500, "context deadline exceeded"),
            (
                400,
                "Unrecognized request argument supplied: stream_options",
            ),
            (400, "System role not supported"),
            (404, "The model `m` does not exist"),
            (400, ""),
            (
                422,
                r#"{"detail":[{"loc":["body","messages",1,"content"],"msg":"Input should be a valid string"}]}"#,
            ),
        ] {
            assert!(!refusal(status, body).is_for_length(), "{body}");
        }
    }
}
