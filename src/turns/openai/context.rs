//! Cuts a prompt's history to the context of a model (contract, section 13, Context).

use crate::model::words::MessageRole;
use crate::turns::responder::{HistoryMessage, Prompt};
use crate::turns::tokens::estimated;

/// The assumed cost of an image in tokens: about that of a photograph at the large providers.
const IMAGE_TOKENS: usize = 1_000;

/// The cost of a message in addition to its text, in tokens.
const MESSAGE_TOKENS: usize = 4;

/// What of a prompt fits a model's context. The system message and the last message always do.
pub(super) struct Context {
    /// The bound of system message and history together, in estimated tokens.
    tokens: usize,
    /// Whether the bound was lowered.
    is_learned: bool,
    system: usize,
    /// The newest messages, as far as they may fit: each one's tokens, and whether the assistant
    /// wrote it.
    history: Vec<(usize, bool)>,
    /// The number of older messages.
    older: usize,
}

impl Context {
    /// Measures a prompt for a context of this many tokens.
    pub(super) fn of(prompt: &Prompt, tokens: usize) -> Self {
        let (mut history, mut sum) = (Vec::new(), 0);
        for message in prompt.history.iter().rev() {
            // A long history costs no more to measure than what fits.
            if sum > tokens {
                break;
            }
            let cost = message_tokens(message);
            sum += cost;
            history.push((cost, message.role == MessageRole::Assistant));
        }
        history.reverse();
        Self {
            tokens,
            is_learned: false,
            system: estimated(&prompt.system) + MESSAGE_TOKENS,
            older: prompt.history.len() - history.len(),
            history,
        }
    }

    /// The index of the first message of the prompt's history that fits.
    pub(super) fn first(&self) -> usize {
        self.older + self.first_measured()
    }

    /// The index of that message among the measured ones.
    fn first_measured(&self) -> usize {
        let Some(last) = self.history.len().checked_sub(1) else {
            return 0;
        };
        let mut left = self.tokens.saturating_sub(self.system);
        left = left.saturating_sub(self.history[last].0);
        let mut first = last;
        while let Some(before) = first.checked_sub(1) {
            let Some(rest) = left.checked_sub(self.history[before].0) else {
                break;
            };
            left = rest;
            first = before;
        }
        // Many chat templates reject a conversation that starts with the assistant.
        while first < last && self.history[first].1 {
            first += 1;
        }
        first
    }

    /// Halves the history after the model's server has refused it. A refusal that says it is too
    /// long teaches the bound for later prompts. Returns whether there was more than the last
    /// message.
    pub(super) fn halve(&mut self, teaches: bool) -> bool {
        let sent = &self.history[self.first_measured()..];
        if sent.len() < 2 {
            return false;
        }
        let tokens: usize = sent.iter().map(|(tokens, _)| tokens).sum();
        self.tokens = self.system + tokens / 2;
        self.is_learned |= teaches;
        true
    }

    /// The bound under which the server took the prompt, if it had refused a longer one.
    pub(super) fn learned(&self) -> Option<usize> {
        self.is_learned.then_some(self.tokens)
    }
}

fn message_tokens(message: &HistoryMessage) -> usize {
    estimated(&message.text) + MESSAGE_TOKENS + message.images.len() * IMAGE_TOKENS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::words::ModelTier;
    use crate::turns::responder::Image;

    /// A prompt with one message of 8 tokens per character of `history`: `u` for the user, `a` for
    /// the assistant. The system message has 8 tokens too.
    fn prompt(history: &str) -> Prompt {
        let message = |author: char| HistoryMessage {
            role: if author == 'u' {
                MessageRole::User
            } else {
                MessageRole::Assistant
            },
            text: "four short words here".to_owned(),
            images: Vec::new(),
        };
        Prompt {
            tier: ModelTier::Fast,
            system: "four short words here".to_owned(),
            history: history.chars().map(message).collect(),
        }
    }

    fn first(history: &str, tokens: usize) -> usize {
        Context::of(&prompt(history), tokens).first()
    }

    #[test]
    fn the_oldest_messages_are_cut_first_and_the_last_never() {
        let size = Context::of(&prompt("u"), 0).system;
        for (tokens, expected) in [(6 * size, 0), (6 * size - 1, 2), (4 * size, 2), (0, 4)] {
            assert_eq!(first("uauau", tokens), expected, "{tokens}");
        }
        // Messages of failed turns are cut one by one.
        assert_eq!(first("uuuu", 3 * size), 2);
    }

    #[test]
    fn a_request_never_starts_with_an_answer_unless_nothing_else_is_left() {
        assert_eq!(first("auau", 1_000), 1);
        assert_eq!(first("a", 1_000), 0);
        assert_eq!(first("", 1_000), 0);
    }

    #[test]
    fn images_count_toward_the_context() {
        let mut long = prompt("uau");
        long.history[2].images.push(Image {
            label: "image/png".to_owned(),
            mime: "image/png".to_owned(),
            bytes: vec![0],
        });
        assert_eq!(Context::of(&long, 100).first(), 2);
        assert_eq!(Context::of(&long, 100 + IMAGE_TOKENS).first(), 0);
    }

    #[test]
    fn the_history_is_halved_down_to_the_last_message() {
        let prompt = prompt("uauauauau");
        let mut context = Context::of(&prompt, 1_000);
        assert_eq!((context.first(), context.learned()), (0, None));
        let mut firsts = Vec::new();
        while context.halve(true) {
            firsts.push(context.first());
        }
        assert_eq!(firsts, [6, 8]);
        let bound = context.learned().unwrap();
        assert_eq!(Context::of(&prompt, bound).first(), 8);
    }
}
