//! A turn's envelopes: one unbroken run of its session's stream, live in memory, then stored with its deltas joined.

use bytes::Bytes;
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
    Joined {
        kind: DeltaKind,
        part: String,
        text: String,
        /// Where it was cut: for each delta the step from the tick before (from 0 for the first) and its bytes.
        cuts: Vec<(i64, usize)>,
    },
    /// Any other envelope.
    Single { tick: i64, envelope: Box<RawValue> },
}

/// A log on its way into the store.
#[derive(Debug, Default)]
pub struct LogWriter {
    entries: Vec<Entry>,
    last: i64,
    joined_last: i64,
}

impl LogWriter {
    /// Adds an envelope that is no delta.
    pub fn add(&mut self, tick: Tick, envelope: &Envelope<'_>) {
        match RawValue::from_string(envelope.to_json()) {
            Ok(envelope) => self.entries.push(Entry::Single {
                tick: tick.0,
                envelope,
            }),
            Err(error) => log::error!("an envelope is no JSON: {error}"),
        }
        self.last = tick.0;
    }

    /// Adds a delta, to the one before it where that belongs to the same part.
    pub fn add_delta(&mut self, tick: Tick, kind: DeltaKind, part: &str, delta: &str) {
        if let Some(Entry::Joined {
            kind: last_kind,
            part: last_part,
            text,
            cuts,
        }) = self.entries.last_mut()
            && *last_kind == kind
            && last_part == part
        {
            text.push_str(delta);
            cuts.push((tick.0 - self.joined_last, delta.len()));
        } else {
            self.entries.push(Entry::Joined {
                kind,
                part: part.to_owned(),
                text: delta.to_owned(),
                cuts: vec![(tick.0, delta.len())],
            });
        }
        self.joined_last = tick.0;
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
}

/// The events of a stored log strictly after a cursor; of a joined delta that it lies in, the rest.
///
/// # Errors
/// The stored text is damaged.
pub fn news_after(log: &str, after: Tick) -> serde_json::Result<News> {
    let entries: Vec<Entry> = serde_json::from_str(log)?;
    let mut news = News::default();
    for entry in &entries {
        if news.is_full() {
            return Ok(news);
        }
        match entry {
            Entry::Single { tick, envelope } => {
                if *tick > after.0 {
                    news.add(Frame::new(Tick(*tick), envelope.get()));
                }
            }
            Entry::Joined {
                kind,
                part,
                text,
                cuts,
            } => {
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
                        news.add(Frame::of(Tick(tick), &kind.delta(part, delta)));
                        begin = end;
                    }
                    if !is_last && news.is_full() {
                        return Ok(news);
                    }
                }
            }
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
    let news = news_after(log, Tick(-1))?;
    let first = news.frames.first();
    Ok(first.map_or(Tick(i64::MAX), |frame| frame.tick))
}

/// The cursor of a stored log's last event.
///
/// # Errors
/// The stored text is damaged.
pub fn last_tick(log: &str) -> serde_json::Result<Option<Tick>> {
    let entries: Vec<Entry> = serde_json::from_str(log)?;
    Ok(entries.last().map(|entry| match entry {
        Entry::Single { tick, .. } => Tick(*tick),
        Entry::Joined { cuts, .. } => Tick(cuts.iter().map(|(step, _)| step).sum()),
    }))
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

    fn read(after: i64) -> Vec<String> {
        let news = news_after(&written(), Tick(after)).unwrap();
        assert!(news.has_ended);
        news.frames
            .iter()
            .map(|frame| String::from_utf8_lossy(&frame.bytes).into_owned())
            .collect()
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
        let (mut after, mut text, mut pieces) = (Tick(-1), String::new(), 0);
        loop {
            let news = news_after(&log, after).unwrap();
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
        assert!(text == delta.repeat(1_000));
        let rest = news_after(&log, Tick(1_009)).unwrap();
        assert_eq!((rest.frames.len(), rest.has_ended), (3, true));
    }
}
