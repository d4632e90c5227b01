//! Reads the size of a model's context from the words of a refusal.

/// A smaller number is no context: it is part of a name, the lower end of a range, or a count of
/// something else.
const MIN_CONTEXT_TOKENS: usize = 128;

/// What stands before the number of a limit.
const BEFORE: &[&str] = &[
    "maximum",
    "limit",
    "at most",
    "must be <=",
    "should be [",
    "context length",
    "context window",
    "context size",
    "n_ctx",
    "max_model_len",
    "max_seq_len",
    "tokens >",
];

/// What stands right after the number of a limit.
const AFTER: &[&str] = &["maximum", "token limit", "tokens maximum", "max"];

/// The size in tokens that the words of a refusal name, in lower case.
pub(super) fn named(words: &str) -> Option<usize> {
    let (mut text, mut before) = (words, String::new());
    while let Some(at) = text.find(|c: char| c.is_ascii_digit()) {
        let (head, rest) = text.split_at(at);
        let end = rest
            .find(|c: char| !c.is_ascii_digit() && c != ',')
            .unwrap_or(rest.len());
        let (number, rest) = rest.split_at(end);
        before.push_str(head);
        text = rest;
        let digits = number.trim_end_matches(',').replace(',', "");
        let Some(tokens) = digits.parse().ok().filter(|n| *n >= MIN_CONTEXT_TOKENS) else {
            continue;
        };
        let follows = |word: &&str| rest.trim_start().starts_with(*word);
        if BEFORE.iter().any(|word| before.contains(word)) || AFTER.iter().any(follows) {
            return Some(tokens);
        }
        // The words before one number say nothing about the next.
        before.clear();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_read_however_a_server_words_it() {
        for (words, tokens) in [
            (
                "this model's maximum context length is 8192 tokens. however, your messages resulted in 9001 tokens.",
                Some(8_192),
            ),
            ("maximum context length is 8,192 tokens", Some(8_192)),
            (
                "requested tokens (2217) exceed context window of 2048",
                Some(2_048),
            ),
            (
                "prompt is too long: 210000 tokens > 200000 maximum",
                Some(200_000),
            ),
            (
                "prompt contains 9000 tokens, too large for model with 8192 maximum context length",
                Some(8_192),
            ),
            (
                "`inputs` tokens + `max_new_tokens` must be <= 4096. given: 5000 `inputs` tokens",
                Some(4_096),
            ),
            (
                "the input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
                Some(1_048_576),
            ),
            (
                "<400> internalerror.algo.invalidparameter: range of input length should be [1, 30720]",
                Some(30_720),
            ),
            ("exceed_context_size_error\nn_ctx 2048\n", Some(2_048)),
            ("the request exceeds the available context size", None),
            ("your messages resulted in 9001 tokens", None),
            ("", None),
        ] {
            assert_eq!(named(words), tokens, "{words}");
        }
    }
}
