//! An answer as it grows: its chunks become envelopes for the readers, a log and a message for the store.

use serde::Serialize;

use super::envelope::Envelope;
use super::live::LiveTurn;
use super::log::{DeltaKind, Frame, LogWriter};
use crate::model::answer::Chunk;
use crate::model::clock::Millis;
use crate::model::ids::Tick;

/// The media type of a source that is an article of ours.
const ARTICLE: &str = "text/markdown";

/// Where envelopes go: to the live readers at once, and into the log.
pub struct Answer<'a> {
    live: &'a LiveTurn,
    log: LogWriter,
    open: Option<Open>,
    /// What was said, all text parts together.
    content: String,
    parts: Vec<Part>,
    first_word_at: Option<Millis>,
}

/// The part that deltas belong to now.
struct Open {
    kind: DeltaKind,
    id: String,
    /// Where it is among the parts.
    place: usize,
}

/// A part of an AI SDK `UIMessage`, as it is stored: a text is so many bytes of the message's content, part behind part.
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

/// What is kept of an answer.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The text alone.
    pub content: String,
    /// Its parts as JSON, without the text; nothing, if they are one text.
    pub parts: Option<String>,
    /// When its first word was said.
    pub first_word_at: Option<Millis>,
}

impl<'a> Answer<'a> {
    /// An answer for the readers of a live turn.
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

    /// Sends an envelope that is no delta.
    pub fn send(&mut self, tick: Tick, envelope: &Envelope<'_>) {
        self.log.add(tick, envelope);
        self.live.push(Frame::of(tick, envelope));
    }

    /// Sends a chunk; `tick` gives a cursor for each of its envelopes.
    pub fn say(&mut self, chunk: &Chunk, tick: impl Fn() -> Tick) {
        match chunk {
            Chunk::Text(text) => self.delta(DeltaKind::Text, text, &tick),
            Chunk::Reasoning(text) => self.delta(DeltaKind::Reasoning, text, &tick),
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

    fn delta(&mut self, kind: DeltaKind, delta: &str, tick: &impl Fn() -> Tick) {
        if self.open.as_ref().is_none_or(|open| open.kind != kind) {
            self.close(tick);
            let place = self.parts.len();
            let id = (place + 1).to_string();
            let begin = match kind {
                DeltaKind::Text => Envelope::TextStart { id: &id },
                DeltaKind::Reasoning => Envelope::ReasoningStart { id: &id },
            };
            self.send(tick(), &begin);
            self.parts.push(match kind {
                DeltaKind::Text => Part::Text { bytes: 0 },
                DeltaKind::Reasoning => Part::Reasoning {
                    text: String::new(),
                },
            });
            self.open = Some(Open { kind, id, place });
        }
        let Some(open) = &self.open else { return };
        let tick = tick();
        if kind == DeltaKind::Text {
            self.first_word_at.get_or_insert(tick.millis());
        }
        self.log.add_delta(tick, kind, &open.id, delta);
        self.live
            .push(Frame::of(tick, &kind.delta(&open.id, delta)));
        match self.parts.get_mut(open.place) {
            Some(Part::Text { bytes }) => {
                self.content.push_str(delta);
                *bytes += delta.len();
            }
            Some(Part::Reasoning { text }) => text.push_str(delta),
            Some(Part::SourceUrl { .. } | Part::SourceDocument { .. }) | None => {}
        }
    }

    /// Ends the part that is open: a reader forgets open parts at the step's end.
    pub fn close(&mut self, tick: impl Fn() -> Tick) {
        if let Some(open) = self.open.take() {
            let end = match open.kind {
                DeltaKind::Text => Envelope::TextEnd { id: &open.id },
                DeltaKind::Reasoning => Envelope::ReasoningEnd { id: &open.id },
            };
            self.send(tick(), &end);
        }
    }

    /// Whether any word of an answer was said.
    pub fn has_text(&self) -> bool {
        !self.content.is_empty()
    }

    /// What to keep, and the log so far.
    pub fn finish(self) -> (Kept, LogWriter) {
        let parts = match self.parts.as_slice() {
            [] | [Part::Text { .. }] => None,
            parts => serde_json::to_string(parts)
                .inspect_err(|error| log::error!("an answer's parts were not written: {error}"))
                .ok(),
        };
        let kept = Kept {
            content: self.content,
            parts,
            first_word_at: self.first_word_at,
        };
        (kept, self.log)
    }
}
