//! Separates a model's thoughts from its answer: a state machine over the text of one reply, which
//! finds `<think>` and `</think>` however the reply is cut (contract, section 13, Reasoning).

mod line;
mod unopened;

use std::borrow::Cow;

use self::line::Line;
pub use self::unopened::{Beginning, Lesson, Unopened};
use super::responder::FinishReason;
use crate::model::answer::Chunk;

const OPEN: &str = "<think>";
const CLOSE: &str = "</think>";

/// The most parts of an answer. Each part costs two events and an entry of the log, so that an
/// answer that alternates between thought and text would occupy hundreds of times its size.
const MAX_PARTS: usize = 64;

/// How a model marks its thoughts in the text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Marks {
    /// Not at all. Tags are text.
    #[default]
    None,
    /// With a tag before and after them.
    Tagged,
    /// As [`Marks::Tagged`], and a thought with an end but no beginning is one too. It shows that the
    /// model's answers may be [`Marks::Unopened`].
    Learned,
    /// Every answer begins within a thought, because the chat template has opened it.
    Unopened,
}

/// The separator of one reply.
#[derive(Debug, Default)]
pub struct Thoughts {
    marks: Marks,
    place: Place,
    /// Text that cannot be interpreted yet: the start of a tag.
    held: String,
    /// White space before the answer, or at the end of a thought so far. More of the thought may
    /// follow.
    held_space: String,
    /// The length of all chunks so far, in bytes.
    sent: usize,
    /// The number of parts so far.
    parts: usize,
    /// Whether the last part is a thought.
    is_in_thought: bool,
    /// Whether the open thought has any text.
    has_thought: bool,
    /// Whether a thought has ended. White space before the answer is then dropped.
    has_ended: bool,
    /// The number of tags within the thought, or within the answer, that wait for their end.
    nested: usize,
    /// Where the last end of a nested tag stands, in bytes of `sent`.
    last_end: Option<usize>,
    /// Whether the thought in progress has its own opening tag.
    is_opened: bool,
    /// The thought in progress at the beginning of a later line. It becomes text if it has no end.
    later: String,
    /// The line of the answer so far.
    line: Line,
    /// Whether the line so far has an odd number of backticks.
    is_code: bool,
    /// Whether the last character is a backtick.
    is_after_backtick: bool,
    /// Whether a thought has ended that had no beginning.
    has_unopened: bool,
}

/// Where in a reply the next character stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// Before the first visible character of the answer.
    #[default]
    Start,
    /// In a thought.
    Thought,
    /// In the answer.
    Answer,
    /// In a thought that begins a later line of the answer.
    Later,
}

/// What stands at a `<`.
enum Tag {
    Open,
    Close,
    /// Part of a tag, as far as the text goes.
    Unknown,
    /// No tag.
    None,
}

impl Thoughts {
    /// Creates the separator of a reply of a model with these marks.
    pub fn new(marks: Marks) -> Self {
        let place = match marks {
            Marks::None => Place::Answer,
            Marks::Unopened => Place::Thought,
            Marks::Tagged | Marks::Learned => Place::Start,
        };
        Self {
            marks,
            place,
            ..Self::default()
        }
    }

    /// What the reply shows about the model's answers. `reason` is the finish reason of a complete
    /// answer.
    pub fn shows(&self, reason: Option<FinishReason>) -> Option<Beginning> {
        if self.has_unopened {
            return Some(Beginning::Thought);
        }
        reason
            .filter(|reason| reason.is_complete())
            .map(|_| Beginning::Text)
    }

    /// Takes a piece of reasoning that the model server has separated itself. The text of such a
    /// server has no thought without an opening tag.
    pub fn push_reasoning(&mut self, text: String, chunks: &mut Vec<Chunk>) {
        match self.marks {
            Marks::Learned => self.marks = Marks::Tagged,
            Marks::Unopened if self.place == Place::Thought && !self.has_thought => {
                self.place = Place::Start;
            }
            Marks::None | Marks::Tagged | Marks::Unopened => {}
        }
        self.has_ended = true;
        self.send(Chunk::Reasoning(text), chunks);
    }

    /// Takes a piece of text, and adds the part that is certainly thought or answer.
    pub fn push(&mut self, text: &str, chunks: &mut Vec<Chunk>) {
        if self.marks == Marks::None {
            return self.send(Chunk::Text(text.to_owned()), chunks);
        }
        let mut held = std::mem::take(&mut self.held);
        held.push_str(text);
        let mut rest = held.as_str();
        // The text of this piece that has been read and not been added yet.
        let mut taken = String::new();
        while !rest.is_empty() {
            if self.place == Place::Start {
                let text = rest.trim_start();
                self.held_space.push_str(&rest[..rest.len() - text.len()]);
                rest = text;
                if !begins_tag(text, OPEN) {
                    self.begin_answer(chunks);
                } else if text.len() >= OPEN.len() {
                    rest = &text[OPEN.len()..];
                    self.begin_thought();
                } else {
                    break;
                }
                continue;
            }
            let Some(at) = rest.find('<') else {
                self.take(rest, &mut taken);
                rest = "";
                break;
            };
            self.take(&rest[..at], &mut taken);
            rest = &rest[at..];
            let is_open = match self.tag(rest) {
                Tag::Unknown => break,
                Tag::None => {
                    self.take("<", &mut taken);
                    rest = &rest[1..];
                    continue;
                }
                Tag::Open => true,
                Tag::Close => false,
            };
            let length = if is_open { OPEN.len() } else { CLOSE.len() };
            let is_answer = self.place == Place::Answer;
            if is_answer && is_open && self.line.is_blank() {
                self.flush(Place::Answer, &mut taken, chunks);
                self.begin_thought();
                self.place = Place::Later;
            } else if self.place == Place::Later {
                self.take_later(is_open, &rest[..length], &mut taken, chunks);
            } else if self.ends_thought(is_open) {
                // What precedes the end in the same piece is not shown as text first.
                self.flush(Place::Thought, &mut taken, chunks);
                if is_answer {
                    chunks.push(Chunk::Recast {
                        thought_bytes: self.sent,
                    });
                    self.marks = Marks::Tagged;
                }
                self.end_thought();
            } else if is_answer {
                self.take(&rest[..length], &mut taken);
            } else if !is_open {
                self.flush(Place::Thought, &mut taken, chunks);
                self.last_end = Some(self.sent);
            }
            rest = &rest[length..];
            self.is_after_backtick = false;
        }
        let place = self.place;
        self.flush(place, &mut taken, chunks);
        self.held = rest.to_owned();
    }

    /// Ends the reply, and adds the text that was held back. `reason` is the finish reason of a
    /// complete answer.
    pub fn finish(&mut self, reason: Option<FinishReason>, chunks: &mut Vec<Chunk>) {
        let mut held = std::mem::take(&mut self.held);
        let is_complete = reason.is_some_and(FinishReason::is_complete);
        match self.place {
            Place::Start => {
                self.begin_answer(chunks);
                self.send(Chunk::Text(held), chunks);
            }
            Place::Later => {
                if self.nested == 0 && held.eq_ignore_ascii_case(CLOSE) {
                    self.end_later(chunks);
                } else {
                    self.flush(Place::Later, &mut held, chunks);
                    self.give_up_later(reason.is_some(), is_complete, chunks);
                }
            }
            place @ (Place::Thought | Place::Answer) => {
                // A quoted tag waits for the character after it.
                if place == Place::Thought && self.nested == 0 && held.eq_ignore_ascii_case(CLOSE) {
                    self.end_thought();
                } else {
                    self.flush(place, &mut held, chunks);
                }
            }
        }
        if self.place != Place::Thought {
            return;
        }
        if let Some(thought_bytes) = self.last_end.filter(|_| reason.is_some()) {
            // The thought only mentioned a tag, and the parser read it as the beginning of a nested
            // thought.
            self.has_unopened |= !self.is_opened;
            chunks.push(Chunk::Recast { thought_bytes });
        } else if is_complete && self.marks == Marks::Unopened && !self.is_opened && !self.has_ended
        {
            chunks.push(Chunk::Recast { thought_bytes: 0 });
        }
    }

    /// Ends the white space before the answer. It is dropped after a thought.
    fn begin_answer(&mut self, chunks: &mut Vec<Chunk>) {
        self.place = Place::Answer;
        let space = std::mem::take(&mut self.held_space);
        if !self.has_ended {
            self.line.read(&space);
            self.send(Chunk::Text(space), chunks);
        }
    }

    fn begin_thought(&mut self) {
        self.place = Place::Thought;
        self.held_space.clear();
        self.is_opened = true;
        self.nested = 0;
        self.last_end = None;
        self.is_code = false;
        if self.marks == Marks::Learned {
            // A model that opens its thoughts itself leaves none unopened.
            self.marks = Marks::Tagged;
        }
    }

    /// Takes a tag in a thought that begins a later line.
    fn take_later(
        &mut self,
        is_open: bool,
        tag: &str,
        taken: &mut String,
        chunks: &mut Vec<Chunk>,
    ) {
        if is_open {
            self.nested += 1;
            return self.take(tag, taken);
        }
        if self.nested > 0 {
            self.nested -= 1;
            self.take(tag, taken);
            self.flush(Place::Later, taken, chunks);
            self.last_end = Some(self.later.len());
            return;
        }
        self.flush(Place::Later, taken, chunks);
        self.end_later(chunks);
    }

    fn end_later(&mut self, chunks: &mut Vec<Chunk>) {
        let thought = std::mem::take(&mut self.later);
        self.send(Chunk::Reasoning(thought.trim().to_owned()), chunks);
        self.end_thought();
    }

    /// Ends a reply within a thought that begins a later line: the thought mentions a tag, or is
    /// text, or was cut off.
    fn give_up_later(&mut self, has_ended: bool, is_complete: bool, chunks: &mut Vec<Chunk>) {
        let later = std::mem::take(&mut self.later);
        if let Some(end) = self.last_end.filter(|_| has_ended) {
            let (thought, text) = later.split_at(end);
            self.send(Chunk::Reasoning(thought.trim().to_owned()), chunks);
            self.send(Chunk::Text(text.trim_start().to_owned()), chunks);
        } else if is_complete {
            self.send(Chunk::Text(format!("{OPEN}{later}")), chunks);
        }
    }

    /// Whether a tag ends a thought. Counts the tags that do not.
    fn ends_thought(&mut self, is_open: bool) -> bool {
        if is_open {
            // An answer that begins within a thought may still send an opening tag.
            if self.place == Place::Thought && !self.has_thought && !self.is_opened {
                self.is_opened = true;
            } else {
                self.nested += 1;
            }
            return false;
        }
        if self.nested > 0 {
            self.nested -= 1;
            return false;
        }
        self.place == Place::Thought || self.marks == Marks::Learned
    }

    fn end_thought(&mut self) {
        self.has_unopened |= !self.is_opened;
        self.place = Place::Start;
        self.held_space.clear();
        self.has_thought = false;
        self.has_ended = true;
        self.is_opened = false;
        self.is_code = false;
        self.nested = 0;
        self.last_end = None;
    }

    /// What stands at the `<` with which the text begins. A tag right between two backticks is not
    /// a tag, because the text only mentions it.
    fn tag(&self, text: &str) -> Tag {
        let tag = if begins_tag(text, OPEN) {
            OPEN
        } else if begins_tag(text, CLOSE) {
            CLOSE
        } else {
            return Tag::None;
        };
        let Some(after) = text.get(tag.len()..) else {
            return Tag::Unknown;
        };
        let may_be_quoted = self.is_code && self.is_after_backtick;
        match after.chars().next() {
            None if may_be_quoted => Tag::Unknown,
            Some('`') if may_be_quoted => Tag::None,
            None | Some(_) if tag == OPEN => Tag::Open,
            None | Some(_) => Tag::Close,
        }
    }

    /// Takes text that is not a tag. White space before a thought is dropped.
    fn take(&mut self, text: &str, taken: &mut String) {
        for byte in text.bytes() {
            match byte {
                b'`' => self.is_code = !self.is_code,
                b'\n' => self.is_code = false,
                _ => {}
            }
        }
        if !text.is_empty() {
            self.is_after_backtick = text.ends_with('`');
        }
        if self.place == Place::Answer {
            self.line.read(text);
        }
        if self.place == Place::Thought {
            let text = if self.has_thought {
                text
            } else {
                text.trim_start()
            };
            self.has_thought |= !text.is_empty();
            taken.push_str(text);
        } else {
            taken.push_str(text);
        }
    }

    /// Adds the text that was taken. White space at the end of a thought is held.
    fn flush(&mut self, place: Place, taken: &mut String, chunks: &mut Vec<Chunk>) {
        let text = std::mem::take(taken);
        match place {
            Place::Start | Place::Answer => return self.send(Chunk::Text(text), chunks),
            Place::Later => return self.later.push_str(&text),
            Place::Thought => {}
        }
        let kept = text.trim_end();
        if kept.is_empty() {
            return self.held_space.push_str(&text);
        }
        let mut thought = std::mem::take(&mut self.held_space);
        self.held_space.push_str(&text[kept.len()..]);
        thought.push_str(kept);
        self.send(Chunk::Reasoning(thought), chunks);
    }

    /// Adds a chunk. Before the last of [`MAX_PARTS`], no more thoughts begin, so that the answer's
    /// text always has a part.
    fn send(&mut self, chunk: Chunk, chunks: &mut Vec<Chunk>) {
        let (text, is_thought) = match &chunk {
            Chunk::Text(text) => (text, false),
            Chunk::Reasoning(text) => (text, true),
            Chunk::Recast { .. } | Chunk::SourceUrl { .. } | Chunk::SourceDocument { .. } => return,
        };
        if text.is_empty() {
            return;
        }
        if self.parts == 0 || self.is_in_thought != is_thought {
            if is_thought && self.parts + 1 >= MAX_PARTS {
                return;
            }
            self.parts += 1;
            self.is_in_thought = is_thought;
        }
        self.sent += text.len();
        chunks.push(chunk);
    }
}

/// An answer without the thoughts at its beginning, which an earlier version stored as text.
pub fn without_thoughts(answer: &str) -> Cow<'_, str> {
    let begin = answer.trim_start();
    if begin.len() < OPEN.len() || !begins_tag(begin, OPEN) {
        return Cow::Borrowed(answer);
    }
    let (mut thoughts, mut chunks) = (Thoughts::new(Marks::Tagged), Vec::new());
    thoughts.push(answer, &mut chunks);
    thoughts.finish(Some(FinishReason::Stop), &mut chunks);
    let (mut all, mut text) = (String::new(), String::new());
    for chunk in chunks {
        match chunk {
            Chunk::Text(piece) => {
                all.push_str(&piece);
                text.push_str(&piece);
            }
            Chunk::Reasoning(piece) => all.push_str(&piece),
            Chunk::Recast { thought_bytes } => {
                let rest = all.get(thought_bytes..).unwrap_or_default();
                text = rest.trim_start().to_owned();
            }
            Chunk::SourceUrl { .. } | Chunk::SourceDocument { .. } => {}
        }
    }
    Cow::Owned(text)
}

/// Whether the text begins with a tag, or is the start of one.
fn begins_tag(text: &str, tag: &str) -> bool {
    let length = text.len().min(tag.len());
    text.as_bytes()[..length].eq_ignore_ascii_case(&tag.as_bytes()[..length])
}

#[cfg(test)]
mod tests;
