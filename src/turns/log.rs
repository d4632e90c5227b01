//! A turn's envelopes: one unbroken run of its session's stream, live in memory, then stored with its deltas joined and without
//! the answer's text, which its message has.

use bytes::Bytes;
use serde::de::Error as _;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::envelope::Envelope;
use crate::model::ids::Tick;
use crate::model::session::Cursor;

/// The last line of a stream that has said all.
pub const DONE: Bytes = Bytes::from_static(b"data: [DONE]\n\n");

/// An event as it goes over the wire, encoded once for all its readers.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Its cursor.
    pub tick: Tick,
    /// `id:` and `data:` lines.
    pub bytes: Bytes,
}

impl Frame {
    fn new(tick: Tick, json: &str) -> Self {
        let text = format!("id: {}\ndata: {json}\n\n", Cursor(tick));
        Self {
            tick,
            bytes: Bytes::from(text),
        }
    }

    /// The event of an envelope.
    pub fn of(tick: Tick, envelope: &Envelope<'_>) -> Self {
        Self::new(tick, &envelope.to_json())
    }
}

/// Which kind of part deltas belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeltaKind {
    /// The answer.
    Text,
    /// What the model thinks.
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
    /// Deltas of one part, joined.
    Deltas {
        kind: DeltaKind,
        part: String,
        /// What was thought. What was said stands in the turn's message, part behind part.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        text: String,
        /// Where it was cut: the bytes of each delta. Where its tick is not the one behind the last (0 before the first), how
        /// far it is from there stands before them, below zero.
        cuts: Vec<i64>,
    },
    /// The same as version 0.1.0 stored it, with its text and with a step before each delta.
    Joined {
        kind: DeltaKind,
        part: String,
        text: String,
        cuts: Vec<(i64, usize)>,
    },
    /// Any other envelope.
    Single { tick: i64, envelope: Box<RawValue> },
}

/// A log on its way into the store.
#[derive(Debug, Default)]
pub struct LogWriter {
    entries: Vec<Entry>,
    /// The tick of the last delta of the part that is open.
    last: i64,
}

impl LogWriter {
    /// Adds an envelope that is no delta.
    pub fn add(&mut self, tick: Tick, envelope: &Envelope<'_>) {
        match RawValue::from_string(envelope.to_json()) {
            Ok(envelope) => self.entries.push(Entry::Single {
                tick: tick.0,
                envelope,
            }),
            Err(error) => log::error!("an envelope is not valid JSON: {error}"),
        }
    }

    /// Adds a delta, to the one before it where that belongs to the same part.
    pub fn add_delta(&mut self, tick: Tick, kind: DeltaKind, part: &str, delta: &str) {
        let goes_on = matches!(
            self.entries.last(),
            Some(Entry::Deltas { kind: last_kind, part: last_part, .. }) if *last_kind == kind && last_part == part
        );
        if !goes_on {
            self.entries.push(Entry::Deltas {
                kind,
                part: part.to_owned(),
                text: String::new(),
                cuts: Vec::new(),
            });
            self.last = 0;
        }
        let Some(Entry::Deltas { text, cuts, .. }) = self.entries.last_mut() else {
            return;
        };
        if kind == DeltaKind::Reasoning {
            text.push_str(delta);
        }
        let step = tick.0 - self.last;
        if step != 1 {
            cuts.push(-step);
        }
        cuts.push(i64::try_from(delta.len()).unwrap_or(i64::MAX));
        self.last = tick.0;
    }

    /// The JSON to store, with `terminal` behind all else.
    ///
    /// # Errors
    /// Serialisation failed.
    pub fn to_json(&self, tick: Tick, terminal: &Envelope<'_>) -> serde_json::Result<String> {
        let last = Entry::Single {
            tick: tick.0,
            envelope: RawValue::from_string(terminal.to_json())?,
        };
        let all: Vec<&Entry> = self.entries.iter().chain([&last]).collect();
        serde_json::to_string(&all)
    }
}

/// Bytes of events that a reader takes at one time: one that does not read on holds no more in memory.
pub const PIECE: usize = 64 * 1_024;

/// What a reader gets of a turn at one time.
#[derive(Debug, Default)]
pub struct News {
    /// Events behind its cursor.
    pub frames: Vec<Frame>,
    /// Whether the last of them is the terminal one, or would be if there were any.
    pub has_ended: bool,
    bytes: usize,
}

impl News {
    /// Adds an event.
    pub fn add(&mut self, frame: Frame) {
        self.bytes += frame.bytes.len();
        self.frames.push(frame);
    }

    /// Whether the rest has to wait for the next time.
    pub fn is_full(&self) -> bool {
        self.bytes >= PIECE
    }

    /// Adds what joined deltas say after a cursor, as few events as fit; whether there is room for more.
    fn add_joined(
        &mut self,
        kind: DeltaKind,
        part: &str,
        text: &str,
        cuts: &[(i64, usize)],
        after: Tick,
    ) -> bool {
        let (mut tick, mut begin, mut end) = (0, 0, 0);
        for (place, (step, bytes)) in cuts.iter().enumerate() {
            tick += step;
            end += bytes;
            if tick <= after.0 {
                begin = end;
            }
            let is_last = place + 1 == cuts.len();
            if !is_last && end - begin < PIECE {
                continue;
            }
            if let Some(delta) = text.get(begin..end).filter(|delta| !delta.is_empty()) {
                self.add(Frame::of(Tick(tick), &kind.delta(part, delta)));
                begin = end;
            }
            if !is_last && self.is_full() {
                return false;
            }
        }
        true
    }
}

/// For each delta the step from the tick before, and its bytes.
fn deltas(cuts: &[i64]) -> impl Iterator<Item = (i64, usize)> {
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
    /// The cursor of its first envelope.
    fn first_tick(&self) -> Option<Tick> {
        let first = match self {
            Self::Deltas { cuts, .. } => deltas(cuts).next().map(|(step, _)| step),
            Self::Joined { cuts, .. } => cuts.first().map(|(step, _)| *step),
            Self::Single { tick, .. } => Some(*tick),
        };
        first.map(Tick)
    }

    /// The cursor of its last envelope.
    fn last_tick(&self) -> Tick {
        Tick(match self {
            Self::Deltas { cuts, .. } => deltas(cuts).map(|(step, _)| step).sum(),
            Self::Joined { cuts, .. } => cuts.iter().map(|(step, _)| step).sum(),
            Self::Single { tick, .. } => *tick,
        })
    }
}

/// The events of a stored log strictly after a cursor; of a joined delta that it lies in, the rest. `said` is the content of the
/// turn's message.
///
/// # Errors
/// The stored text is damaged.
pub fn news_after(log: &str, said: &str, after: Tick) -> serde_json::Result<News> {
    let entries: Vec<Entry> = serde_json::from_str(log)?;
    let mut news = News::default();
    let mut said = said;
    for entry in &entries {
        if news.is_full() {
            return Ok(news);
        }
        let goes_on = match entry {
            Entry::Single { tick, envelope } => {
                if *tick > after.0 {
                    news.add(Frame::new(Tick(*tick), envelope.get()));
                }
                true
            }
            Entry::Joined {
                kind,
                part,
                text,
                cuts,
            } => news.add_joined(*kind, part, text, cuts, after),
            Entry::Deltas {
                kind,
                part,
                text,
                cuts,
            } => {
                let cuts: Vec<(i64, usize)> = deltas(cuts).collect();
                let text = match kind {
                    DeltaKind::Reasoning => text.as_str(),
                    DeltaKind::Text => {
                        let bytes = cuts.iter().map(|(_, bytes)| *bytes);
                        let bytes = bytes.fold(0, usize::saturating_add);
                        let (text, rest) = said.split_at_checked(bytes).ok_or_else(|| {
                            serde_json::Error::custom("a message is shorter than its log says")
                        })?;
                        said = rest;
                        text
                    }
                };
                news.add_joined(*kind, part, text, &cuts, after)
            }
        };
        if !goes_on {
            return Ok(news);
        }
    }
    news.has_ended = true;
    Ok(news)
}

/// The cursor of a stored log's `start`.
///
/// # Errors
/// The stored text is damaged.
pub fn first_tick(log: &str) -> serde_json::Result<Tick> {
    let entries: Vec<Entry> = serde_json::from_str(log)?;
    let first = entries.first().and_then(Entry::first_tick);
    Ok(first.unwrap_or(Tick(i64::MAX)))
}

/// The cursor of a stored log's last event.
///
/// # Errors
/// The stored text is damaged.
pub fn last_tick(log: &str) -> serde_json::Result<Option<Tick>> {
    let entries: Vec<Entry> = serde_json::from_str(log)?;
    Ok(entries.last().map(Entry::last_tick))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written() -> String {
        let mut log = LogWriter::default();
        log.add(Tick(10), &Envelope::TextStart { id: "1" });
        log.add_delta(Tick(11), DeltaKind::Text, "1", "Hällo ");
        log.add_delta(Tick(12), DeltaKind::Text, "1", "world");
        log.add_delta(Tick(20), DeltaKind::Text, "1", "!");
        log.add(Tick(21), &Envelope::TextEnd { id: "1" });
        log.to_json(Tick(30), &Envelope::Abort).unwrap()
    }

    /// As version 0.1.0 wrote it.
    const OF_0_1_0: &str = r#"[{"single":{"tick":10,"envelope":{"type":"text-start","id":"1"}}},
        {"joined":{"kind":"text","part":"1","text":"Hällo world!","cuts":[[11,7],[1,5],[8,1]]}},
        {"single":{"tick":21,"envelope":{"type":"text-end","id":"1"}}},
        {"single":{"tick":30,"envelope":{"type":"abort"}}}]"#;

    fn read(after: i64) -> Vec<String> {
        let read = |log: &str, said: &str| -> Vec<String> {
            let news = news_after(log, said, Tick(after)).unwrap();
            assert!(news.has_ended);
            let frames = news.frames.iter();
            frames
                .map(|frame| String::from_utf8_lossy(&frame.bytes).into_owned())
                .collect()
        };
        let events = read(&written(), "Hällo world!");
        assert_eq!(read(OF_0_1_0, ""), events);
        events
    }

    #[test]
    fn a_stored_log_gives_every_envelope_with_joined_deltas() {
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
    fn a_log_knows_its_ends_and_holds_what_was_thought_but_not_what_was_said() {
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
        assert_eq!(first_tick(OF_0_1_0).unwrap(), Tick(10));
        let news = news_after(&log, "A word.So.", Tick(14)).unwrap();
        let events: Vec<_> = news
            .frames
            .iter()
            .map(|frame| std::str::from_utf8(&frame.bytes).unwrap())
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
        assert!(news_after(&log, "A word.", Tick(-1)).is_err());
    }

    #[test]
    fn a_cursor_inside_a_joined_delta_gives_its_rest() {
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
    fn a_long_log_is_read_in_pieces_that_make_up_all_of_it() {
        let delta = "0123456789abcdef".repeat(64);
        let mut log = LogWriter::default();
        log.add(Tick(10), &Envelope::TextStart { id: "1" });
        for tick in 11..1_011 {
            log.add_delta(Tick(tick), DeltaKind::Text, "1", &delta);
        }
        log.add(Tick(2_000), &Envelope::TextEnd { id: "1" });
        let log = log.to_json(Tick(2_001), &Envelope::Abort).unwrap();
        assert_eq!(last_tick(&log).unwrap(), Some(Tick(2_001)));
        let said = delta.repeat(1_000);
        let (mut after, mut text, mut pieces) = (Tick(-1), String::new(), 0);
        loop {
            let news = news_after(&log, &said, after).unwrap();
            let bytes: usize = news.frames.iter().map(|frame| frame.bytes.len()).sum();
            assert!(bytes < PIECE + delta.len() + 200, "{bytes}");
            for frame in &news.frames {
                assert!(frame.tick > after);
                after = frame.tick;
                let lines = std::str::from_utf8(&frame.bytes).unwrap();
                let json = lines.split_once("data: ").unwrap().1;
                let envelope: serde_json::Value = serde_json::from_str(json).unwrap();
                text.push_str(envelope["delta"].as_str().unwrap_or_default());
            }
            pieces += 1;
            if news.has_ended {
                break;
            }
        }
        assert_eq!((after, pieces), (Tick(2_001), 16));
        assert!(text == said);
        let rest = news_after(&log, &said, Tick(1_009)).unwrap();
        assert_eq!((rest.frames.len(), rest.has_ended), (3, true));
    }
}
