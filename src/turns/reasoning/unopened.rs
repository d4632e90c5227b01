//! Learns which models begin their answers within a thought, from the answers of several sessions:
//! one user can make a model write `</think>`.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::model::ids::SessionId;
use crate::store::reasoning::ModelName;

/// The number of sessions whose answers must show it.
const SESSIONS: usize = 3;

/// The number of complete answers in a row that show the contrary.
const CONTRARY: u8 = 3;

/// How an answer began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// Within a thought: it ended one that had no beginning.
    Thought,
    /// With text, or with a thought that had a beginning. The answer is complete.
    Text,
}

/// What answers have taught about a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lesson {
    /// Its answers begin within a thought.
    Learn,
    /// They no longer do.
    Unlearn,
}

/// What the answers since the start of the server show about each model.
#[derive(Debug, Default)]
pub struct Unopened(Mutex<HashMap<ModelName, Evidence>>);

#[derive(Debug, Default)]
struct Evidence {
    /// The sessions with an answer that began within a thought.
    sessions: Vec<SessionId>,
    /// The number of complete answers in a row that did not.
    contrary: u8,
}

impl Unopened {
    /// Takes an answer of a session. `is_known` says whether the model's answers are known to begin
    /// within a thought.
    pub fn note(
        &self,
        name: &ModelName,
        session: SessionId,
        beginning: Beginning,
        is_known: bool,
    ) -> Option<Lesson> {
        let mut models = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Most models never begin within a thought.
        if beginning == Beginning::Text && !is_known && !models.contains_key(name) {
            return None;
        }
        let evidence = models.entry(name.clone()).or_default();
        match beginning {
            Beginning::Thought => {
                evidence.contrary = 0;
                if !evidence.sessions.contains(&session) {
                    evidence.sessions.push(session);
                }
                let is_enough = is_known || evidence.sessions.len() >= SESSIONS;
                if is_enough {
                    models.remove(name);
                }
                (is_enough && !is_known).then_some(Lesson::Learn)
            }
            Beginning::Text => {
                evidence.contrary += 1;
                let is_enough = evidence.contrary >= CONTRARY;
                if is_enough {
                    models.remove(name);
                }
                (is_enough && is_known).then_some(Lesson::Unlearn)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::Tick;

    /// The lessons of answers of a session each. Capitals begin within a thought.
    fn lessons(answers: &str, mut is_known: bool) -> Vec<Option<Lesson>> {
        let (unopened, name) = (
            Unopened::default(),
            ModelName {
                endpoint: "http://h/v1".to_owned(),
                model: "m".to_owned(),
            },
        );
        let note = |answer: char| {
            let session = SessionId::new(Tick(i64::from(u32::from(answer))), 0);
            let beginning = if answer.is_uppercase() {
                Beginning::Thought
            } else {
                Beginning::Text
            };
            let lesson = unopened.note(&name, session, beginning, is_known);
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
    fn a_model_is_learned_after_three_sessions_and_unlearned_after_three_answers() {
        let (learn, unlearn) = (Some(Lesson::Learn), Some(Lesson::Unlearn));
        assert_eq!(lessons("AAAA", false), [None; 4]);
        assert_eq!(
            lessons("ABaAbC", false),
            [None, None, None, None, None, learn]
        );
        // The evidence of one user does not wait for others for ever.
        assert_eq!(lessons("ABabcCD", false), [None; 7]);
        assert_eq!(
            lessons("aaAaaa", true),
            [None, None, None, None, None, unlearn]
        );
        assert_eq!(lessons("aaaAAA", true)[2..], [unlearn, None, None, None]);
        assert_eq!(lessons("aaa", false), [None; 3]);
    }
}
