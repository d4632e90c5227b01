//! What an answer is made of while it is written.

/// A chunk of an answer as it is written. Text is never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chunk {
    /// More of the answer.
    Text(String),
    /// More of what the model thinks before it answers.
    Reasoning(String),
    /// A source that has an address.
    SourceUrl {
        /// Unique within the answer.
        id: String,
        /// Where it is.
        url: String,
        /// What it is called.
        title: String,
    },
    /// A source without an address.
    SourceDocument {
        /// Unique within the answer.
        id: String,
        /// What it is called.
        title: String,
    },
}
