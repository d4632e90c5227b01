//! Learns which models begin their answers within a thought, and forgets it again: one user can
//! make a model write `</think>`.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::store::reasoning::ModelName;

/// The number of complete answers in a row that show the contrary of what was learned.
const CONTRARY: u8 = 3;

/// How an answer began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// Within a thought: it ended one that had no beginning.
    Thought,
    /// With text, or with a thought that had a beginning. The answer is complete.
    Text,
}

/// What an answer has taught about a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lesson {
    /// Its answers begin within a thought.
    Learn,
    /// They no longer do.
    Unlearn,
}

/// For each model that is known to begin within a thought, the number of complete answers in a row
/// that did not.
#[derive(Debug, Default)]
pub struct Unopened(Mutex<HashMap<ModelName, u8>>);

impl Unopened {
    /// Takes an answer. `is_known` says whether the model's answers are known to begin within a
    /// thought.
    pub fn note(&self, name: &ModelName, beginning: Beginning, is_known: bool) -> Option<Lesson> {
        let mut models = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match beginning {
            Beginning::Thought => {
                models.remove(name);
                (!is_known).then_some(Lesson::Learn)
            }
            Beginning::Text if !is_known => None,
            Beginning::Text => {
                let contrary = models.entry(name.clone()).or_default();
                *contrary += 1;
                let is_enough = *contrary >= CONTRARY;
                if is_enough {
                    models.remove(name);
                }
                is_enough.then_some(Lesson::Unlearn)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lessons of answers. Capitals begin within a thought.
    fn lessons(answers: &str, mut is_known: bool) -> Vec<Option<Lesson>> {
        let (unopened, name) = (
            Unopened::default(),
            ModelName {
                endpoint: "http://h/v1".to_owned(),
                model: "m".to_owned(),
            },
        );
        let note = |answer: char| {
            let beginning = if answer.is_uppercase() {
                Beginning::Thought
            } else {
                Beginning::Text
            };
            let lesson = unopened.note(&name, beginning, is_known);
            match lesson {
                Some(Lesson::Learn) => is_known = true,
                Some(Lesson::Unlearn) => is_known = false,
                None => {}
            }
            lesson
        };
        answers.chars().map(note).collect()
    }

    #[test]
    fn a_model_is_learned_from_one_answer_and_unlearned_after_three() {
        let (learn, unlearn) = (Some(Lesson::Learn), Some(Lesson::Unlearn));
        assert_eq!(lessons("aAA", false), [None, learn, None]);
        assert_eq!(
            lessons("aaAaaa", true),
            [None, None, None, None, None, unlearn]
        );
        assert_eq!(lessons("aaaAa", true)[2..], [unlearn, learn, None]);
        assert_eq!(lessons("aaa", false), [None; 3]);
    }
}
