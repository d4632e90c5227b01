//! The log of a turn: its envelopes, in order, as they are stored after the turn has ended. Deltas
//! are joined, and the answer's text is left out: the turn's message holds it.

use bytes::Bytes;
use serde::de::Error as _;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::envelope::Envelope;
use crate::model::ids::Tick;
use crate::model::session::Cursor;

/// The last line of a complete stream.
pub const DONE: Bytes = Bytes::from_static(b"data: [DONE]\n\n");

/// A server-sent event, encoded once for all readers.
#[derive(Clone, Debug)]
pub struct SseEvent {
    /// The cursor.
    pub tick: Tick,
    /// The `id:` and `data:` lines.
    pub bytes: Bytes,
    /// What the event is of a part of reasoning, which not every reader gets.
    pub reasoning: Option<ReasoningEvent>,
}

/// An event of a part of reasoning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReasoningEvent {
    /// Its start.
    Start,
    /// A piece of its text.
    Delta,
    /// Its end.
    End,
}

impl ReasoningEvent {
    /// What an envelope is, by its JSON. `type` is its first field.
    fn of(json: &str) -> Option<Self> {
        let kind = json.strip_prefix(r#"{"type":"reasoning-"#)?;
        Some(match kind.split('"').next()? {
            "start" => Self::Start,
            "end" => Self::End,
            _ => Self::Delta,
        })
    }
}

impl SseEvent {
    fn new(tick: Tick, json: &str) -> Self {
        let text = format!("id: {}\ndata: {json}\n\n", Cursor(tick));
        Self {
            tick,
            bytes: Bytes::from(text),
            reasoning: ReasoningEvent::of(json),
        }
    }

    /// Encodes an envelope.
    pub fn of(tick: Tick, envelope: &Envelope<'_>) -> Self {
        Self::new(tick, &envelope.to_json())
    }

    /// Reads an event that another node has encoded. None for anything else.
    pub fn read(bytes: Bytes) -> Option<Self> {
        let text = std::str::from_utf8(&bytes).ok()?;
        let (id, data) = text.strip_suffix("\n\n")?.split_once('\n')?;
        let tick = Cursor::parse(id.strip_prefix("id: ")?)?.0;
        let reasoning = ReasoningEvent::of(data.strip_prefix("data: ")?);
        Some(Self {
            tick,
            bytes,
            reasoning,
        })
    }

    /// The end of the part to which this event belongs, in place of the event.
    pub fn as_reasoning_end(&self) -> Self {
        #[derive(Deserialize)]
        struct OfPart {
            id: String,
        }
        let json = self.bytes.split(|byte| *byte == b'\n').nth(1);
        let json = json.and_then(|line| line.strip_prefix(b"data: "));
        let part = json.and_then(|json| serde_json::from_slice::<OfPart>(json).ok());
        let id = part.map(|part| part.id).unwrap_or_default();
        Self::of(self.tick, &Envelope::ReasoningEnd { id: &id })
    }
}

/// The kind of part that a delta belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeltaKind {
    /// The answer.
    Text,
    /// The model's reasoning.
    Reasoning,
}

impl DeltaKind {
    /// The envelope of a delta.
    pub fn delta<'a>(self, id: &'a str, delta: &'a str) -> Envelope<'a> {
        match self {
            Self::Text => Envelope::TextDelta { id, delta },
            Self::Reasoning => Envelope::ReasoningDelta { id, delta },
        }
    }
}

/// One entry of a stored log.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Entry {
    /// The joined deltas of one part.
    Deltas {
        kind: DeltaKind,
        part: String,
        /// The text of a reasoning part. The text of text parts is in the turn's message, in order.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        text: String,
        /// The length of each delta, in bytes. A negative number before a length is the negated
        /// distance to the tick of the previous delta (0 before the first one). Without it the
        /// distance is 1.
        cuts: Vec<i64>,
    },
    /// Joined deltas as version 0.1.0 stored them: always with the text, and with the distance to
    /// the previous tick before each length.
    Joined {
        kind: DeltaKind,
        part: String,
        text: String,
        cuts: Vec<(i64, usize)>,
    },
    /// Any other envelope.
    Single { tick: i64, envelope: Box<RawValue> },
}

/// Builds the log to store.
#[derive(Debug, Default)]
pub struct LogWriter {
    entries: Vec<Entry>,
    /// The tick of the last delta of the open part.
    last_delta: i64,
}

impl LogWriter {
    /// Adds an envelope that is not a delta.
    pub fn add(&mut self, tick: Tick, envelope: &Envelope<'_>) {
        match RawValue::from_string(envelope.to_json()) {
            Ok(envelope) => self.entries.push(Entry::Single {
                tick: tick.0,
                envelope,
            }),
            Err(error) => log::error!("an envelope is not valid JSON: {error}"),
        }
    }

    /// Adds a delta. Consecutive deltas of one part share an entry.
    pub fn add_delta(&mut self, tick: Tick, kind: DeltaKind, part: &str, delta: &str) {
        let continues = matches!(
            self.entries.last(),
            Some(Entry::Deltas { kind: last_kind, part: last_part, .. }) if *last_kind == kind && last_part == part
        );
        if !continues {
            self.entries.push(Entry::Deltas {
                kind,
                part: part.to_owned(),
                text: String::new(),
                cuts: Vec::new(),
            });
            self.last_delta = 0;
        }
        let Some(Entry::Deltas { text, cuts, .. }) = self.entries.last_mut() else {
            return;
        };
        if kind == DeltaKind::Reasoning {
            text.push_str(delta);
        }
        let step = tick.0 - self.last_delta;
        if step != 1 {
            cuts.push(-step);
        }
        cuts.push(i64::try_from(delta.len()).unwrap_or(i64::MAX));
        self.last_delta = tick.0;
    }

    /// Returns the JSON to store, with `terminal` as the last entry.
    pub fn to_json(&self, tick: Tick, terminal: &Envelope<'_>) -> serde_json::Result<String> {
        let last = Entry::Single {
            tick: tick.0,
            envelope: RawValue::from_string(terminal.to_json())?,
        };
        let all: Vec<&Entry> = self.entries.iter().chain([&last]).collect();
        serde_json::to_string(&all)
    }
}

/// The size of a batch in bytes, which bounds the memory that a slow reader occupies.
pub const BATCH_BYTES: usize = 64 * 1_024;

/// A batch of a turn's events.
#[derive(Debug, Default)]
pub struct EventBatch {
    /// The events after the reader's cursor.
    pub events: Vec<SseEvent>,
    /// Whether the batch reaches the end of the turn. Its last event, if any, is the terminal one
    /// then.
    pub has_ended: bool,
    bytes: usize,
}

impl EventBatch {
    /// Adds an event.
    pub fn push(&mut self, event: SseEvent) {
        self.bytes += event.bytes.len();
        self.events.push(event);
    }

    /// Whether further events belong in the next batch.
    pub fn is_full(&self) -> bool {
        self.bytes >= BATCH_BYTES
    }

    /// Adds the joined deltas after a cursor, in as few events as possible. Returns whether the
    /// batch has capacity left.
    fn push_joined(
        &mut self,
        kind: DeltaKind,
        part: &str,
        text: &str,
        cuts: &[(i64, usize)],
        after: Tick,
    ) -> bool {
        let (mut tick, mut start, mut end) = (0, 0, 0);
        for (index, (step, bytes)) in cuts.iter().enumerate() {
            tick += step;
            end += bytes;
            if tick <= after.0 {
                start = end;
            }
            let is_last = index + 1 == cuts.len();
            if !is_last && end - start < BATCH_BYTES {
                continue;
            }
            if let Some(delta) = text.get(start..end).filter(|delta| !delta.is_empty()) {
                self.push(SseEvent::of(Tick(tick), &kind.delta(part, delta)));
                start = end;
            }
            if !is_last && self.is_full() {
                return false;
            }
        }
        true
    }
}

/// Decodes the cuts of [`Entry::Deltas`]: for each delta, the distance to the previous tick and the
/// length in bytes.
fn decode_cuts(cuts: &[i64]) -> impl Iterator<Item = (i64, usize)> {
    let mut step = 1;
    cuts.iter().filter_map(move |number| {
        let bytes = usize::try_from(*number);
        let next = if bytes.is_ok() {
            1
        } else {
            number.saturating_neg()
        };
        let step = std::mem::replace(&mut step, next);
        Some((step, bytes.ok()?))
    })
}

impl Entry {
    /// The cursor of the entry's first envelope.
    fn first_tick(&self) -> Option<Tick> {
        let first = match self {
            Self::Deltas { cuts, .. } => decode_cuts(cuts).next().map(|(step, _)| step),
            Self::Joined { cuts, .. } => cuts.first().map(|(step, _)| *step),
            Self::Single { tick, .. } => Some(*tick),
        };
        first.map(Tick)
    }

    /// The cursor of the entry's last envelope.
    fn last_tick(&self) -> Tick {
        Tick(match self {
            Self::Deltas { cuts, .. } => decode_cuts(cuts).map(|(step, _)| step).sum(),
            Self::Joined { cuts, .. } => cuts.iter().map(|(step, _)| step).sum(),
            Self::Single { tick, .. } => *tick,
        })
    }
}

/// Returns the events of a stored log strictly after a cursor, up to one batch. If the cursor lies
/// within joined deltas, the rest of them is the first event. `content` is that of the turn's
/// message.
///
/// # Errors
/// Fails if the log is damaged.
pub fn events_after(log: &str, content: &str, after: Tick) -> serde_json::Result<EventBatch> {
    let entries: Vec<Entry> = serde_json::from_str(log)?;
    let mut batch = EventBatch::default();
    let mut content = content;
    for entry in &entries {
        if batch.is_full() {
            return Ok(batch);
        }
        let has_capacity = match entry {
            Entry::Single { tick, envelope } => {
                if *tick > after.0 {
                    batch.push(SseEvent::new(Tick(*tick), envelope.get()));
                }
                true
            }
            Entry::Joined {
                kind,
                part,
                text,
                cuts,
            } => batch.push_joined(*kind, part, text, cuts, after),
            Entry::Deltas {
                kind,
                part,
                text,
                cuts,
            } => {
                let cuts: Vec<(i64, usize)> = decode_cuts(cuts).collect();
                let text = match kind {
                    DeltaKind::Reasoning => text.as_str(),
                    DeltaKind::Text => {
                        let bytes = cuts.iter().map(|(_, bytes)| *bytes);
                        let bytes = bytes.fold(0, usize::saturating_add);
                        let (text, rest) = content.split_at_checked(bytes).ok_or_else(|| {
                            serde_json::Error::custom("the message is shorter than its log")
                        })?;
                        content = rest;
                        text
                    }
                };
                batch.push_joined(*kind, part, text, &cuts, after)
            }
        };
        if !has_capacity {
            return Ok(batch);
        }
    }
    batch.has_ended = true;
    Ok(batch)
}

/// Returns the cursor of a stored log's `start`.
///
/// # Errors
/// Fails if the log is damaged.
pub fn first_tick(log: &str) -> serde_json::Result<Tick> {
    let entries: Vec<Entry> = serde_json::from_str(log)?;
    let first = entries.first().and_then(Entry::first_tick);
    Ok(first.unwrap_or(Tick(i64::MAX)))
}

/// Returns the cursor of a stored log's last event.
///
/// # Errors
/// Fails if the log is damaged.
pub fn last_tick(log: &str) -> serde_json::Result<Option<Tick>> {
    let entries: Vec<Entry> = serde_json::from_str(log)?;
    Ok(entries.last().map(Entry::last_tick))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample_log() -> String {
        let mut log = LogWriter::default();
        log.add(Tick(10), &Envelope::TextStart { id: "1" });
        log.add_delta(Tick(11), DeltaKind::Text, "1", "Hällo ");
        log.add_delta(Tick(12), DeltaKind::Text, "1", "world");
        log.add_delta(Tick(20), DeltaKind::Text, "1", "!");
        log.add(Tick(21), &Envelope::TextEnd { id: "1" });
        log.to_json(Tick(30), &Envelope::Abort).unwrap()
    }

    /// The sample log as version 0.1.0 wrote it.
    const SAMPLE_LOG_0_1_0: &str = r#"[{"single":{"tick":10,"envelope":{"type":"text-start","id":"1"}}},
        {"joined":{"kind":"text","part":"1","text":"Hällo world!","cuts":[[11,7],[1,5],[8,1]]}},
        {"single":{"tick":21,"envelope":{"type":"text-end","id":"1"}}},
        {"single":{"tick":30,"envelope":{"type":"abort"}}}]"#;

    /// The events of the sample log after a cursor, which are the same in both formats.
    fn read(after: i64) -> Vec<String> {
        let read = |log: &str, content: &str| -> Vec<String> {
            let batch = events_after(log, content, Tick(after)).unwrap();
            assert!(batch.has_ended);
            let events = batch.events.iter();
            events
                .map(|event| String::from_utf8_lossy(&event.bytes).into_owned())
                .collect()
        };
        let events = read(&sample_log(), "Hällo world!");
        assert_eq!(read(SAMPLE_LOG_0_1_0, ""), events);
        events
    }

    #[test]
    fn a_stored_log_returns_every_envelope_with_joined_deltas() {
        assert_eq!(
            read(0),
            [
                "id: 0-10\ndata: {\"type\":\"text-start\",\"id\":\"1\"}\n\n",
                "id: 0-20\ndata: {\"type\":\"text-delta\",\"id\":\"1\",\"delta\":\"Hällo world!\"}\n\n",
                "id: 0-21\ndata: {\"type\":\"text-end\",\"id\":\"1\"}\n\n",
                "id: 0-30\ndata: {\"type\":\"abort\"}\n\n",
            ]
        );
    }

    #[test]
    fn a_log_has_its_first_and_last_cursor_and_reasoning_but_not_the_answers_text() {
        let mut log = LogWriter::default();
        log.add_delta(Tick(11), DeltaKind::Reasoning, "1", "Let me ");
        log.add_delta(Tick(12), DeltaKind::Reasoning, "1", "see.");
        log.add_delta(Tick(14), DeltaKind::Text, "2", "A ");
        log.add_delta(Tick(15), DeltaKind::Text, "2", "word.");
        log.add_delta(Tick(16), DeltaKind::Reasoning, "3", "Hm.");
        log.add_delta(Tick(17), DeltaKind::Text, "4", "So.");
        let log = log.to_json(Tick(18), &Envelope::Abort).unwrap();
        assert_eq!(
            log,
            concat!(
                r#"[{"deltas":{"kind":"reasoning","part":"1","text":"Let me see.","cuts":[-11,7,4]}},"#,
                r#"{"deltas":{"kind":"text","part":"2","cuts":[-14,2,5]}},"#,
                r#"{"deltas":{"kind":"reasoning","part":"3","text":"Hm.","cuts":[-16,3]}},"#,
                r#"{"deltas":{"kind":"text","part":"4","cuts":[-17,3]}},"#,
                r#"{"single":{"tick":18,"envelope":{"type":"abort"}}}]"#
            )
        );
        assert_eq!(first_tick(&log).unwrap(), Tick(11));
        assert_eq!(last_tick(&log).unwrap(), Some(Tick(18)));
        assert_eq!(first_tick(SAMPLE_LOG_0_1_0).unwrap(), Tick(10));
        let batch = events_after(&log, "A word.So.", Tick(14)).unwrap();
        let events: Vec<_> = batch
            .events
            .iter()
            .map(|event| std::str::from_utf8(&event.bytes).unwrap())
            .collect();
        assert_eq!(
            events,
            [
                "id: 0-15\ndata: {\"type\":\"text-delta\",\"id\":\"2\",\"delta\":\"word.\"}\n\n",
                "id: 0-16\ndata: {\"type\":\"reasoning-delta\",\"id\":\"3\",\"delta\":\"Hm.\"}\n\n",
                "id: 0-17\ndata: {\"type\":\"text-delta\",\"id\":\"4\",\"delta\":\"So.\"}\n\n",
                "id: 0-18\ndata: {\"type\":\"abort\"}\n\n",
            ]
        );
        assert!(events_after(&log, "A word.", Tick(-1)).is_err());
    }

    #[test]
    fn a_cursor_inside_a_joined_delta_returns_its_rest() {
        assert_eq!(
            read(11)[0],
            "id: 0-20\ndata: {\"type\":\"text-delta\",\"id\":\"1\",\"delta\":\"world!\"}\n\n"
        );
        assert_eq!(
            read(15)[0],
            "id: 0-20\ndata: {\"type\":\"text-delta\",\"id\":\"1\",\"delta\":\"!\"}\n\n"
        );
        assert_eq!(
            read(20)[0],
            "id: 0-21\ndata: {\"type\":\"text-end\",\"id\":\"1\"}\n\n"
        );
        assert!(read(30).is_empty());
    }

    #[test]
    fn a_long_log_is_read_in_batches_that_make_up_all_of_it() {
        let delta = "0123456789abcdef".repeat(64);
        let mut log = LogWriter::default();
        log.add(Tick(10), &Envelope::TextStart { id: "1" });
        for tick in 11..1_011 {
            log.add_delta(Tick(tick), DeltaKind::Text, "1", &delta);
        }
        log.add(Tick(2_000), &Envelope::TextEnd { id: "1" });
        let log = log.to_json(Tick(2_001), &Envelope::Abort).unwrap();
        assert_eq!(last_tick(&log).unwrap(), Some(Tick(2_001)));
        let content = delta.repeat(1_000);
        let (mut after, mut text, mut batches) = (Tick(-1), String::new(), 0);
        loop {
            let batch = events_after(&log, &content, after).unwrap();
            let bytes: usize = batch.events.iter().map(|event| event.bytes.len()).sum();
            assert!(bytes < BATCH_BYTES + delta.len() + 200, "{bytes}");
            for event in &batch.events {
                assert!(event.tick > after);
                after = event.tick;
                let lines = std::str::from_utf8(&event.bytes).unwrap();
                let json = lines.split_once("data: ").unwrap().1;
                let envelope: serde_json::Value = serde_json::from_str(json).unwrap();
                text.push_str(envelope["delta"].as_str().unwrap_or_default());
            }
            batches += 1;
            if batch.has_ended {
                break;
            }
        }
        assert_eq!((after, batches), (Tick(2_001), 16));
        assert!(text == content);
        let rest = events_after(&log, &content, Tick(1_009)).unwrap();
        assert_eq!((rest.events.len(), rest.has_ended), (3, true));
    }
}
