//! Builds an answer from its chunks: envelopes for the live readers, a log and a message to store.

use serde::Serialize;

use super::envelope::{Envelope, StartMetadata};
use super::live::LiveTurn;
use super::log::{DeltaKind, LogWriter, SseEvent};
use crate::model::answer::Chunk;
use crate::model::clock::Millis;
use crate::model::ids::{MessageId, Tick};

/// The number of deltas of an answer that are sent as they come. Each occupies about 220 bytes.
const MAX_SINGLE_DELTAS: usize = 8_192;
/// The size in bytes up to which later deltas are joined. Without joining, an answer in tiny pieces
/// would occupy hundreds of times its size.
const JOINED_BYTES: usize = 64;

/// The media type of a source that is one of this server's articles.
const ARTICLE: &str = "text/markdown";

/// An answer in progress. Each envelope goes to the live readers at once and into the log.
pub struct Answer<'a> {
    live: &'a LiveTurn,
    id: MessageId,
    /// Whether anybody may see reasoning. If not, it is neither sent nor stored.
    keeps_reasoning: bool,
    log: LogWriter,
    open: Option<OpenPart>,
    /// The number of deltas that were sent.
    deltas: usize,
    /// Deltas of the open part that are sent together with the next ones.
    unsent: String,
    /// White space before the first visible text. It is not sent, because white space alone is no
    /// answer.
    blank: String,
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
    pub fn new(live: &'a LiveTurn, id: MessageId, keeps_reasoning: bool) -> Self {
        Self {
            live,
            id,
            keeps_reasoning,
            log: LogWriter::default(),
            open: None,
            deltas: 0,
            unsent: String::new(),
            blank: String::new(),
            content: String::new(),
            parts: Vec::new(),
            first_word_at: None,
        }
    }

    /// Sends the first envelope, in place of all that was sent before.
    pub fn start(&mut self, tick: Tick) {
        let start = Envelope::Start {
            message_id: self.id,
            message_metadata: StartMetadata {
                chat_turn_id: self.live.id,
            },
        };
        self.log = LogWriter::default();
        self.log.add(tick, &start);
        self.live.restart(SseEvent::of(tick, &start));
    }

    /// Sends an envelope that is not a delta.
    pub fn send(&mut self, tick: Tick, envelope: &Envelope<'_>) {
        self.log.add(tick, envelope);
        self.live.push(SseEvent::of(tick, envelope));
    }

    /// Sends the envelopes of a chunk. `tick` returns the cursor of the next envelope.
    pub fn add_chunk(&mut self, chunk: &Chunk, tick: impl Fn() -> Tick) {
        match chunk {
            Chunk::Text(text) => self.add_text(text, &tick),
            Chunk::Reasoning(text) => self.add_delta(DeltaKind::Reasoning, text, &tick),
            Chunk::Recast { thought_bytes } => self.recast(*thought_bytes, &tick),
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

    fn add_text(&mut self, text: &str, tick: &impl Fn() -> Tick) {
        if self.content.is_empty() && text.trim().is_empty() {
            self.blank.push_str(text);
        } else if self.blank.is_empty() {
            self.add_delta(DeltaKind::Text, text, tick);
        } else {
            let text = std::mem::take(&mut self.blank) + text;
            self.add_delta(DeltaKind::Text, &text, tick);
        }
    }

    fn add_delta(&mut self, kind: DeltaKind, delta: &str, tick: &impl Fn() -> Tick) {
        if self.open.as_ref().is_none_or(|open| open.kind != kind) {
            self.close_part(tick);
            let index = self.parts.len();
            let id = (index + 1).to_string();
            if self.sends(kind) {
                let start = match kind {
                    DeltaKind::Text => Envelope::TextStart { id: &id },
                    DeltaKind::Reasoning => Envelope::ReasoningStart { id: &id },
                };
                self.send(tick(), &start);
            }
            self.parts.push(match kind {
                DeltaKind::Text => Part::Text { bytes: 0 },
                DeltaKind::Reasoning => Part::Reasoning {
                    text: String::new(),
                },
            });
            self.open = Some(OpenPart { kind, id, index });
        }
        let index = self.open.as_ref().map(|open| open.index);
        match index.and_then(|index| self.parts.get_mut(index)) {
            Some(Part::Text { bytes }) => {
                self.content.push_str(delta);
                *bytes += delta.len();
            }
            Some(Part::Reasoning { text }) => text.push_str(delta),
            Some(Part::SourceUrl { .. } | Part::SourceDocument { .. }) | None => {}
        }
        if !self.sends(kind) {
            return;
        }
        self.unsent.push_str(delta);
        if self.deltas < MAX_SINGLE_DELTAS || self.unsent.len() >= JOINED_BYTES {
            self.send_delta(tick);
        }
    }

    /// Whether parts of a kind are sent and stored.
    fn sends(&self, kind: DeltaKind) -> bool {
        match kind {
            DeltaKind::Text => true,
            DeltaKind::Reasoning => self.keeps_reasoning,
        }
    }

    /// Divides the answer so far again. For its readers, the answer starts again, as after a crash,
    /// because no envelope of the stream takes text back.
    fn recast(&mut self, thought_bytes: usize, tick: &impl Fn() -> Tick) {
        let blank = std::mem::take(&mut self.blank);
        if !blank.is_empty() {
            self.add_delta(DeltaKind::Text, &blank, tick);
        }
        let content = std::mem::take(&mut self.content);
        let (mut all, mut content) = (String::new(), content.as_str());
        for part in self.parts.drain(..) {
            match part {
                Part::Text { bytes } => {
                    let (text, rest) = content.split_at(content.floor_char_boundary(bytes));
                    all.push_str(text);
                    content = rest;
                }
                Part::Reasoning { text } => all.push_str(&text),
                // A model writes no sources.
                Part::SourceUrl { .. } | Part::SourceDocument { .. } => {}
            }
        }
        self.open = None;
        self.unsent.clear();
        self.deltas = 0;
        self.first_word_at = None;
        self.start(tick());
        self.send(tick(), &Envelope::StartStep);
        let (thought, text) = all.split_at(all.floor_char_boundary(thought_bytes));
        for (kind, text) in [
            (DeltaKind::Reasoning, thought.trim()),
            (DeltaKind::Text, text.trim_start()),
        ] {
            if !text.is_empty() {
                self.add_delta(kind, text, tick);
            }
        }
    }

    /// Sends the text that has gathered for the open part.
    fn send_delta(&mut self, tick: &impl Fn() -> Tick) {
        let delta = std::mem::take(&mut self.unsent);
        let Some(open) = self.open.as_ref().filter(|_| !delta.is_empty()) else {
            return;
        };
        let tick = tick();
        if open.kind == DeltaKind::Text {
            self.first_word_at.get_or_insert(tick.millis());
        }
        self.deltas += 1;
        self.log.add_delta(tick, open.kind, &open.id, &delta);
        let envelope = open.kind.delta(&open.id, &delta);
        self.live.push(SseEvent::of(tick, &envelope));
    }

    /// Ends the open part. The SDK drops parts that are still open when their step ends.
    pub fn close_part(&mut self, tick: impl Fn() -> Tick) {
        self.send_delta(&tick);
        let open = self.open.take();
        if let Some(open) = open.filter(|open| self.sends(open.kind)) {
            let end = match open.kind {
                DeltaKind::Text => Envelope::TextEnd { id: &open.id },
                DeltaKind::Reasoning => Envelope::ReasoningEnd { id: &open.id },
            };
            self.send(tick(), &end);
        }
    }

    /// Whether the answer has any visible text.
    pub fn has_text(&self) -> bool {
        !self.content.is_empty()
    }

    /// The text so far.
    pub fn text(&self) -> &str {
        &self.content
    }

    /// Returns the answer to store, and the log without its terminal envelope.
    pub fn finish(self) -> (StoredAnswer, LogWriter) {
        let is_kept =
            |part: &&Part| self.keeps_reasoning || !matches!(part, Part::Reasoning { .. });
        let parts: Vec<&Part> = self.parts.iter().filter(is_kept).collect();
        let parts = match parts.as_slice() {
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::model::ids::{SessionId, TurnId};
    use crate::turns::live::LiveTurns;
    use crate::turns::log::events_after;

    #[test]
    fn an_answer_in_tiny_pieces_has_few_events_and_every_cursor_continues_exactly() {
        let session = SessionId::new(Tick(1), 0);
        let live = LiveTurns::default().insert(session, TurnId::new(Tick(2), 0));
        let newest = Cell::new(10);
        let tick = || {
            newest.set(newest.get() + 1);
            Tick(newest.get())
        };
        let mut answer = Answer::new(&live, MessageId::new(Tick(3), 0), true);
        answer.start(tick());
        let text: String = ('a'..='z').cycle().take(100_000).collect();
        for at in 0..text.len() {
            answer.add_chunk(&Chunk::Text(text[at..=at].to_owned()), tick);
        }
        answer.close_part(tick);
        let read = |after: Tick| {
            let (mut after, mut events) = (after, Vec::new());
            loop {
                let batch = live.events_after(after);
                let Some(last) = batch.events.last() else {
                    return events;
                };
                after = last.tick;
                events.extend(batch.events);
            }
        };
        let text_of = |events: &[SseEvent]| -> String {
            let json = |event: &SseEvent| -> serde_json::Value {
                let lines = std::str::from_utf8(&event.bytes).unwrap();
                serde_json::from_str(lines.split_once("data: ").unwrap().1).unwrap()
            };
            let delta = |event| json(event)["delta"].as_str().unwrap_or_default().to_owned();
            events.iter().map(delta).collect()
        };
        let events = read(Tick(-1));
        let gathered = (100_000 - MAX_SINGLE_DELTAS).div_ceil(JOINED_BYTES);
        assert_eq!(events.len(), MAX_SINGLE_DELTAS + gathered + 3);
        assert!(text_of(&events) == text);

        let (stored, log) = answer.finish();
        assert!(stored.content == text && stored.parts.is_none());
        let log = log.to_json(Tick(1_000_000), &Envelope::Abort).unwrap();
        for event in events.iter().step_by(997) {
            let seen = text_of(&read(Tick(-1))[..]).len() - text_of(&read(event.tick)).len();
            let (mut after, mut rest) = (event.tick, String::new());
            loop {
                let batch = events_after(&log, &text, after).unwrap();
                rest += &text_of(&batch.events);
                match batch.events.last() {
                    Some(last) if !batch.has_ended => after = last.tick,
                    Some(_) | None => break,
                }
            }
            assert!(rest == text[seen..]);
        }
    }
}
