//! The chunks of an answer while a responder writes it.

/// A chunk of an answer. Text is never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chunk {
    /// Text of the answer.
    Text(String),
    /// Text that the model reasons before its answer.
    Reasoning(String),
    /// The server misread the answer so far. Of reasoning and text together, in order, the first
    /// bytes are reasoning and the rest is text.
    Recast {
        /// The length of the reasoning.
        thought_bytes: usize,
    },
    /// A source with a URL.
    SourceUrl {
        /// An id that is unique within the answer.
        id: String,
        /// The source's URL.
        url: String,
        /// The source's title.
        title: String,
    },
    /// A source without a URL.
    SourceDocument {
        /// An id that is unique within the answer.
        id: String,
        /// The source's title.
        title: String,
    },
}
