//! The errors of a turn that a model failed to answer: a code and a sentence for the user, and a
//! line for the operator's log.

use super::Client;
use super::refusal::{self, Refusal};
use super::reply::REPORTED;
use crate::outbound::causes;
use crate::turns::responder::ResponderError;

/// How much of the endpoint's text a log line quotes, in characters.
const MAX_QUOTE_CHARACTERS: usize = 200;

impl Client {
    /// The error of a request that got no reply.
    pub(super) fn no_reply(&self, error: reqwest::Error) -> ResponderError {
        let (is_timeout, is_connect) = (error.is_timeout(), error.is_connect());
        let causes = causes(&error.without_url());
        if is_timeout {
            self.timed_out(&causes)
        } else if is_connect {
            self.unavailable(&causes)
        } else {
            self.broken_reply(&causes)
        }
    }

    /// The error of a reply with an error status. A temporary status is not the request's fault.
    pub(super) fn refused(&self, refusal: &Refusal) -> ResponderError {
        let log = refusal_line(refusal);
        if refusal.is_by_content_filter() {
            return self.filtered(&log);
        }
        if refusal.is_temporary() {
            return self.unavailable(&log);
        }
        if refusal.is_for_length() {
            let message = "This message is too long for the assistant. Please send a shorter one.";
            return self.error("model_rejected", message, &log);
        }
        let message = "The assistant could not take this message. If that happens again, please tell an administrator.";
        self.error("model_rejected", message, &log)
    }

    pub(super) fn unavailable(&self, log: &str) -> ResponderError {
        let message = "The assistant could not be reached. Please try again in a moment.";
        self.error("model_unavailable", message, log)
    }

    pub(super) fn timed_out(&self, log: &str) -> ResponderError {
        let message = "The assistant took too long to answer. Please try again in a moment.";
        self.error("model_timeout", message, log)
    }

    /// The error of a reply that broke off, or in which the endpoint reports an error.
    pub(super) fn broken_reply(&self, log: &str) -> ResponderError {
        if log.starts_with(REPORTED) && refusal::is_by_content_filter(&log.to_lowercase()) {
            return self.filtered(log);
        }
        let message = "The assistant's answer broke off. Please try again.";
        self.error("model_broken_reply", message, log)
    }

    fn filtered(&self, log: &str) -> ResponderError {
        let ResponderError { code, message, .. } = ResponderError::filtered(String::new());
        self.error(code, &message, log)
    }

    pub(super) fn cancelled(&self) -> ResponderError {
        self.error(
            "cancelled",
            "The answer was cancelled.",
            "the receiver is gone",
        )
    }

    fn error(&self, code: &'static str, message: &str, log: &str) -> ResponderError {
        ResponderError {
            code,
            message: message.to_owned(),
            log: format!("model: {}: {}", self.endpoint, self.quote(log)),
        }
    }

    /// Text of the endpoint for one line of the log, without the API key.
    pub(super) fn quote(&self, text: &str) -> String {
        quote(text, self.settings.key())
    }
}

/// A refusal as the log tells it.
pub(super) fn refusal_line(refusal: &Refusal) -> String {
    format!("answered {}: {}", refusal.status, refusal.body)
}

/// Shortens and escapes text for one line of the log, and masks the key.
fn quote(text: &str, key: Option<&str>) -> String {
    let text = key.map_or_else(|| text.to_owned(), |key| text.replace(key, "[key]"));
    let mut quoted = String::new();
    for character in text.trim().chars().take(MAX_QUOTE_CHARACTERS) {
        match character {
            '"' | '\'' => quoted.push(character),
            other => quoted.extend(other.escape_debug()),
        }
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quote_is_one_short_line_without_the_key() {
        assert_eq!(
            quote(" a\r\n\u{1b}[31m\u{2028}\"ä\" ", None),
            "a\\r\\n\\u{1b}[31m\\u{2028}\"ä\""
        );
        assert_eq!(
            quote("bad key hush-hush!", Some("hush-hush")),
            "bad key [key]!"
        );
        assert_eq!(quote(&"x".repeat(9_999), None).len(), MAX_QUOTE_CHARACTERS);
        assert!(
            !quote(&format!("{}hush-hush", "x".repeat(195)), Some("hush-hush")).contains("hush")
        );
    }
}
