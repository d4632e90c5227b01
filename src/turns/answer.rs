//! Builds an answer from its chunks: envelopes for the live readers, a log and a message to store.

use serde::Serialize;

use super::envelope::Envelope;
use super::live::LiveTurn;
use super::log::{DeltaKind, LogWriter, SseEvent};
use crate::model::answer::Chunk;
use crate::model::clock::Millis;
use crate::model::ids::Tick;

/// The media type of a source that is one of this server's articles.
const ARTICLE: &str = "text/markdown";

/// An answer in progress. Each envelope goes to the live readers at once and into the log.
pub struct Answer<'a> {
    live: &'a LiveTurn,
    log: LogWriter,
    open: Option<OpenPart>,
    /// The text of all text parts, joined.
    content: String,
    parts: Vec<Part>,
    first_word_at: Option<Millis>,
}

/// The part that receives deltas now.
struct OpenPart {
    kind: DeltaKind,
    id: String,
    /// Its index in `Answer::parts`.
    index: usize,
}

/// A part of an AI SDK `UIMessage`, as it is stored. A text part holds only its length in bytes:
/// the message's content is the text of all text parts, in order.
#[derive(Serialize)]
#[serde(
    tag = "type",
    rename_all = "kebab-case",
    rename_all_fields = "camelCase"
)]
enum Part {
    Text {
        bytes: usize,
    },
    Reasoning {
        text: String,
    },
    SourceUrl {
        source_id: String,
        url: String,
        title: String,
    },
    SourceDocument {
        source_id: String,
        media_type: &'static str,
        title: String,
    },
}

/// The parts of an answer that are stored with its message.
#[derive(Clone, Debug)]
pub struct StoredAnswer {
    /// The text.
    pub content: String,
    /// The parts as JSON, without the text. `None` if there is only one part and it is text.
    pub parts: Option<String>,
    /// The time of the first text.
    pub first_word_at: Option<Millis>,
}

impl<'a> Answer<'a> {
    /// Creates an empty answer of a live turn.
    pub fn new(live: &'a LiveTurn) -> Self {
        Self {
            live,
            log: LogWriter::default(),
            open: None,
            content: String::new(),
            parts: Vec::new(),
            first_word_at: None,
        }
    }

    /// Sends an envelope that is not a delta.
    pub fn send(&mut self, tick: Tick, envelope: &Envelope<'_>) {
        self.log.add(tick, envelope);
        self.live.push(SseEvent::of(tick, envelope));
    }

    /// Sends the envelopes of a chunk. `tick` returns the cursor of the next envelope.
    pub fn add_chunk(&mut self, chunk: &Chunk, tick: impl Fn() -> Tick) {
        match chunk {
            Chunk::Text(text) => self.add_delta(DeltaKind::Text, text, &tick),
            Chunk::Reasoning(text) => self.add_delta(DeltaKind::Reasoning, text, &tick),
            Chunk::SourceUrl { id, url, title } => {
                self.send(
                    tick(),
                    &Envelope::SourceUrl {
                        source_id: id,
                        url,
                        title,
                    },
                );
                self.parts.push(Part::SourceUrl {
                    source_id: id.clone(),
                    url: url.clone(),
                    title: title.clone(),
                });
            }
            Chunk::SourceDocument { id, title } => {
                let envelope = Envelope::SourceDocument {
                    source_id: id,
                    media_type: ARTICLE,
                    title,
                };
                self.send(tick(), &envelope);
                self.parts.push(Part::SourceDocument {
                    source_id: id.clone(),
                    media_type: ARTICLE,
                    title: title.clone(),
                });
            }
        }
    }

    fn add_delta(&mut self, kind: DeltaKind, delta: &str, tick: &impl Fn() -> Tick) {
        if self.open.as_ref().is_none_or(|open| open.kind != kind) {
            self.close_part(tick);
            let index = self.parts.len();
            let id = (index + 1).to_string();
            let start = match kind {
                DeltaKind::Text => Envelope::TextStart { id: &id },
                DeltaKind::Reasoning => Envelope::ReasoningStart { id: &id },
            };
            self.send(tick(), &start);
            self.parts.push(match kind {
                DeltaKind::Text => Part::Text { bytes: 0 },
                DeltaKind::Reasoning => Part::Reasoning {
                    text: String::new(),
                },
            });
            self.open = Some(OpenPart { kind, id, index });
        }
        let Some(open) = &self.open else { return };
        let tick = tick();
        if kind == DeltaKind::Text {
            self.first_word_at.get_or_insert(tick.millis());
        }
        self.log.add_delta(tick, kind, &open.id, delta);
        self.live
            .push(SseEvent::of(tick, &kind.delta(&open.id, delta)));
        match self.parts.get_mut(open.index) {
            Some(Part::Text { bytes }) => {
                self.content.push_str(delta);
                *bytes += delta.len();
            }
            Some(Part::Reasoning { text }) => text.push_str(delta),
            Some(Part::SourceUrl { .. } | Part::SourceDocument { .. }) | None => {}
        }
    }

    /// Ends the open part. The SDK drops parts that are still open when their step ends.
    pub fn close_part(&mut self, tick: impl Fn() -> Tick) {
        if let Some(open) = self.open.take() {
            let end = match open.kind {
                DeltaKind::Text => Envelope::TextEnd { id: &open.id },
                DeltaKind::Reasoning => Envelope::ReasoningEnd { id: &open.id },
            };
            self.send(tick(), &end);
        }
    }

    /// Whether the answer has any text.
    pub fn has_text(&self) -> bool {
        !self.content.is_empty()
    }

    /// Returns the answer to store, and the log without its terminal envelope.
    pub fn finish(self) -> (StoredAnswer, LogWriter) {
        let parts = match self.parts.as_slice() {
            [] | [Part::Text { .. }] => None,
            parts => serde_json::to_string(parts)
                .inspect_err(|error| {
                    log::error!("the parts of an answer were not serialized: {error}")
                })
                .ok(),
        };
        let stored = StoredAnswer {
            content: self.content,
            parts,
            first_word_at: self.first_word_at,
        };
        (stored, self.log)
    }
}
