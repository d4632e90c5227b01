//! A model's reply: its content does not depend on the division into chunks, and the styles of
//! servers do not change it.

#![no_main]

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use serde_json::json;
use switchboard::model::answer::Chunk;
use switchboard::turns::openai::reply::{MAX_ANSWER_BYTES, Reply};
use switchboard::turns::responder::{Completion, FinishReason};

/// The content of a reply, and how it ended. An error after the end does not change the answer.
type Answer = (Vec<Chunk>, Result<Completion, String>);

fn read<'a>(chunks: impl Iterator<Item = &'a [u8]>) -> Answer {
    let (mut reply, mut content) = (Reply::default(), Vec::new());
    for chunk in chunks {
        if reply.is_done() {
            break;
        }
        if let Err(fault) = reply.push(chunk, &mut content) {
            return (content, reply.completion().ok_or(fault));
        }
    }
    if !reply.is_done()
        && let Err(fault) = reply.end(&mut content)
    {
        return (content, reply.completion().ok_or(fault));
    }
    let answered = reply.completion().expect("a complete reply has an answer");
    (content, Ok(answered))
}

/// Divides bytes at the distances in `cuts`, repeatedly.
fn cut<'a>(bytes: &'a [u8], cuts: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let (mut rest, mut distances) = (bytes, cuts.iter().cycle());
    std::iter::from_fn(move || {
        let distance = distances.next().map_or(1, |cut| usize::from(*cut) + 1);
        let (chunk, after) = rest.split_at(distance.min(rest.len()));
        rest = after;
        (!chunk.is_empty()).then_some(chunk)
    })
}

/// Reads the same reply whole and divided.
fn read_in_all_ways(body: &[u8], cuts: &[u8]) -> Answer {
    let whole = read(std::iter::once(body));
    assert_eq!(read(cut(body, cuts)), whole, "cut");
    assert_eq!(read(body.chunks(1)), whole, "byte by byte");
    let answer_bytes: usize = whole.0.iter().map(|chunk| text_of(chunk).len()).sum();
    assert!(answer_bytes <= MAX_ANSWER_BYTES);
    assert!(whole.0.iter().all(|chunk| !text_of(chunk).is_empty()));
    whole
}

fn text_of(chunk: &Chunk) -> &str {
    match chunk {
        Chunk::Text(text) | Chunk::Reasoning(text) => text,
        Chunk::Recast { .. } | Chunk::SourceUrl { .. } | Chunk::SourceDocument { .. } => {
            panic!("tags are text here, and a model writes no sources")
        }
    }
}

/// An element of a reply.
#[derive(Debug, Arbitrary)]
enum Element {
    Text(String),
    Reasoning(String),
    Parts(Vec<String>),
    Comment,
    Ping,
    Usage,
    Nothing,
}

/// The styles in which servers differ.
#[derive(Debug, Arbitrary)]
struct Style {
    begins_with_mark: bool,
    carriage_returns: bool,
    space: bool,
    empty_lines: bool,
    /// Each chunk has several lines.
    pretty: bool,
    ends_with_done: bool,
    other_name_for_reasoning: bool,
}

#[derive(Debug, Arbitrary)]
enum Input<'a> {
    Noise {
        cuts: [u8; 4],
        body: &'a [u8],
    },
    WellFormed {
        cuts: [u8; 4],
        style: Style,
        elements: Vec<Element>,
    },
}

struct Writer {
    style: Style,
    body: String,
}

impl Writer {
    fn line(&mut self, line: &str) {
        self.body += line;
        self.body += if self.style.carriage_returns {
            "\r\n"
        } else {
            "\n"
        };
    }

    fn event(&mut self, data: &str) {
        let space = if self.style.space { " " } else { "" };
        for line in data.lines() {
            self.line(&format!("data:{space}{line}"));
        }
        // Only an empty line ends a chunk of several lines.
        if self.style.empty_lines || self.style.pretty {
            self.line("");
        }
    }

    fn chunk(&mut self, chunk: &serde_json::Value) {
        let data = if self.style.pretty {
            serde_json::to_string_pretty(chunk).expect("JSON")
        } else {
            chunk.to_string()
        };
        self.event(&data);
    }
}

/// Writes a reply in a style, and returns the expected chunks.
fn write(style: Style, elements: Vec<Element>) -> (String, Vec<Chunk>) {
    let mut writer = Writer {
        body: if style.begins_with_mark {
            "\u{feff}"
        } else {
            ""
        }
        .to_owned(),
        style,
    };
    let mut expected = Vec::new();
    for element in elements {
        let delta = match element {
            Element::Text(text) => {
                expected.push(Chunk::Text(text.clone()));
                json!({ "content": text })
            }
            Element::Reasoning(text) => {
                expected.push(Chunk::Reasoning(text.clone()));
                let names = ["reasoning_content", "reasoning"];
                json!({ names[usize::from(writer.style.other_name_for_reasoning)]: text })
            }
            Element::Parts(texts) => {
                expected.push(Chunk::Text(texts.concat()));
                let parts: Vec<_> = texts
                    .iter()
                    .map(|text| json!({ "type": "text", "text": text }))
                    .collect();
                json!({ "content": parts })
            }
            Element::Comment => {
                writer.line(": still there");
                continue;
            }
            Element::Ping => {
                writer.line("event: ping");
                continue;
            }
            Element::Usage => {
                writer.chunk(&json!({ "choices": [], "usage": { "prompt_tokens": 3, "completion_tokens": 4 } }));
                continue;
            }
            Element::Nothing => json!({ "role": "assistant", "content": null }),
        };
        writer
            .chunk(&json!({ "choices": [{ "index": 0, "delta": delta, "finish_reason": null }] }));
    }
    writer.chunk(&json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": "stop" }] }));
    if writer.style.ends_with_done {
        writer.event("[DONE]");
    }
    expected.retain(|chunk| !text_of(chunk).is_empty());
    (writer.body, expected)
}

fuzz_target!(|input: Input<'_>| match input {
    Input::Noise { cuts, body } => {
        if let (_, Err(fault)) = read_in_all_ways(body, &cuts) {
            assert!(!fault.is_empty());
        }
    }
    Input::WellFormed {
        cuts,
        style,
        elements,
    } => {
        let (body, expected) = write(style, elements);
        let (chunks, outcome) = read_in_all_ways(body.as_bytes(), &cuts);
        assert_eq!(chunks, expected, "{body}");
        let answered = outcome.expect("the reply is complete");
        assert_eq!(answered.finish_reason, FinishReason::Stop);
    }
});
