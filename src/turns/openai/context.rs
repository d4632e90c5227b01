//! Cuts a prompt's history to the context of a model (contract, section 13, Context).

use crate::model::words::MessageRole;
use crate::turns::responder::{HistoryMessage, Prompt};
use crate::turns::tokens::estimated;

/// The assumed cost of an image in tokens: about that of a photograph at the large providers.
const IMAGE_TOKENS: usize = 1_000;

/// The cost of a message in addition to its text, in tokens.
const MESSAGE_TOKENS: usize = 4;

/// The least bound that a refusal teaches, in tokens. A user's short conversation must not leave the
/// model's other users without their history.
const MIN_LEARNED_TOKENS: usize = 1_024;

/// The context that a refusal for length is about, in tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    /// The refusal names it.
    Named(usize),
    /// The refusal names none, so that it is the operator's.
    Configured(usize),
}

impl Limit {
    /// The bound of later prompts that the refusal of a prompt teaches at least. A prompt far below
    /// the limit was refused for another cause, and teaches none.
    fn least(self, refused: usize) -> Option<usize> {
        let (tokens, least) = match self {
            Self::Named(tokens) => (tokens, tokens.min(MIN_LEARNED_TOKENS)),
            Self::Configured(tokens) => (tokens, MIN_LEARNED_TOKENS),
        };
        (refused >= tokens / 4).then_some(least)
    }
}

/// What of a prompt fits a model's context. The system message and the last message always do.
pub(super) struct Context {
    /// The bound of system message and history together, in estimated tokens.
    tokens: usize,
    /// The least bound of later prompts, if a refusal taught one.
    least: Option<usize>,
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
            least: None,
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
    /// long has a limit, and may teach the bound for later prompts. Returns whether there was more
    /// than the last message.
    pub(super) fn halve(&mut self, limit: Option<Limit>) -> bool {
        let sent = &self.history[self.first_measured()..];
        if sent.len() < 2 {
            return false;
        }
        let tokens: usize = sent.iter().map(|(tokens, _)| tokens).sum();
        self.tokens = self.system + tokens / 2;
        let least = limit.and_then(|limit| limit.least(self.system + tokens));
        self.least = least.or(self.least);
        true
    }

    /// The bound under which the server took the prompt, if it had refused a longer one.
    pub(super) fn learned(&self) -> Option<usize> {
        self.least.map(|least| self.tokens.max(least))
    }
}

fn message_tokens(message: &HistoryMessage) -> usize {
    estimated(&message.text) + MESSAGE_TOKENS + message.images.len() * IMAGE_TOKENS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::{SessionId, Tick};
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
            session: SessionId::new(Tick(1), 0),
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
        while context.halve(Some(Limit::Named(60))) {
            firsts.push(context.first());
        }
        assert_eq!(firsts, [6, 8]);
        let bound = context.learned().unwrap();
        assert_eq!(bound, 60);
    }

    #[test]
    fn a_refusal_far_below_the_limit_teaches_nothing_and_no_bound_is_tiny() {
        let prompt = prompt("uauauauau");
        let size = Context::of(&prompt, 1_000);
        let size = size.system + size.history.iter().map(|(tokens, _)| tokens).sum::<usize>();
        let learned = |limit| {
            let mut context = Context::of(&prompt, 1_000);
            assert!(context.halve(limit));
            context.learned()
        };
        assert_eq!(learned(None), None);
        for limit in [Limit::Named, Limit::Configured] {
            assert_eq!(learned(Some(limit(4 * size + 4))), None);
        }
        assert_eq!(learned(Some(Limit::Named(4 * size))), Some(4 * size));
        assert_eq!(
            learned(Some(Limit::Configured(4 * size))),
            Some(MIN_LEARNED_TOKENS)
        );
        assert_eq!(
            learned(Some(Limit::Named(10))),
            Some(Context::of(&prompt, 0).system + (size - Context::of(&prompt, 0).system) / 2)
        );
    }
}
