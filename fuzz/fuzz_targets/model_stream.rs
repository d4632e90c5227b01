//! A model's reply: it says the same however it is cut, and what a server writes in its own manner is what was said.

#![no_main]

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use serde_json::json;
use switchboard::model::answer::Chunk;
use switchboard::turns::openai::reply::{MAX_ANSWER_BYTES, Reply};
use switchboard::turns::responder::{Completion, FinishReason};

/// What a reply said, and how it ended: a fault behind the end takes nothing from the answer.
type Heard = (Vec<Chunk>, Result<Completion, String>);

fn heard<'a>(chunks: impl Iterator<Item = &'a [u8]>) -> Heard {
    let (mut reply, mut chunks) = (Reply::default(), Vec::new());
    for chunk in chunks {
        if reply.is_done() {
            break;
        }
        if let Err(fault) = reply.push(chunk, &mut chunks) {
            return (chunks, reply.completion().ok_or(fault));
        }
    }
    if !reply.is_done()
        && let Err(fault) = reply.end(&mut chunks)
    {
        return (chunks, reply.completion().ok_or(fault));
    }
    let answered = reply.completion().expect("what ended has answered");
    (chunks, Ok(answered))
}

/// Cuts bytes at distances that `cuts` tells, over and over.
fn cut<'a>(bytes: &'a [u8], cuts: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let (mut rest, mut distances) = (bytes, cuts.iter().cycle());
    std::iter::from_fn(move || {
        let distance = distances.next().map_or(1, |cut| usize::from(*cut) + 1);
        let (chunk, behind) = rest.split_at(distance.min(rest.len()));
        rest = behind;
        (!chunk.is_empty()).then_some(chunk)
    })
}

/// The same, whole and cut.
fn heard_always(body: &[u8], cuts: &[u8]) -> Heard {
    let whole = heard(std::iter::once(body));
    assert_eq!(heard(cut(body, cuts)), whole, "cut");
    assert_eq!(heard(body.chunks(1)), whole, "byte by byte");
    let said_bytes: usize = whole.0.iter().map(|chunk| text_of(chunk).len()).sum();
    assert!(said_bytes <= MAX_ANSWER_BYTES);
    assert!(whole.0.iter().all(|chunk| !text_of(chunk).is_empty()));
    whole
}

fn text_of(chunk: &Chunk) -> &str {
    match chunk {
        Chunk::Text(text) | Chunk::Reasoning(text) => text,
        Chunk::SourceUrl { .. } | Chunk::SourceDocument { .. } => {
            panic!("a model gives no sources")
        }
    }
}

/// One thing that a server writes.
#[derive(Debug, Arbitrary)]
enum Written {
    Text(String),
    Reasoning(String),
    Parts(Vec<String>),
    Comment,
    Ping,
    Usage,
    Nothing,
}

/// How servers differ.
#[derive(Debug, Arbitrary)]
struct Manner {
    begins_with_mark: bool,
    carriage_returns: bool,
    space: bool,
    empty_lines: bool,
    /// Each chunk is written over several lines.
    pretty: bool,
    says_done: bool,
    other_name_for_reasoning: bool,
}

#[derive(Debug, Arbitrary)]
enum Input<'a> {
    Noise {
        cuts: [u8; 4],
        body: &'a [u8],
    },
    Spoken {
        cuts: [u8; 4],
        manner: Manner,
        written: Vec<Written>,
    },
}

struct Writer {
    manner: Manner,
    body: String,
}

impl Writer {
    fn line(&mut self, line: &str) {
        self.body += line;
        self.body += if self.manner.carriage_returns {
            "\r\n"
        } else {
            "\n"
        };
    }

    fn event(&mut self, data: &str) {
        let space = if self.manner.space { " " } else { "" };
        for line in data.lines() {
            self.line(&format!("data:{space}{line}"));
        }
        // A chunk over several lines ends with an empty one only.
        if self.manner.empty_lines || self.manner.pretty {
            self.line("");
        }
    }

    fn chunk(&mut self, chunk: &serde_json::Value) {
        let data = if self.manner.pretty {
            serde_json::to_string_pretty(chunk).expect("JSON")
        } else {
            chunk.to_string()
        };
        self.event(&data);
    }
}

/// Writes all of it down as a server would; what was said is what is to be heard.
fn write(manner: Manner, written: Vec<Written>) -> (String, Vec<Chunk>) {
    let mut writer = Writer {
        body: if manner.begins_with_mark {
            "\u{feff}"
        } else {
            ""
        }
        .to_owned(),
        manner,
    };
    let mut said = Vec::new();
    for written in written {
        let delta = match written {
            Written::Text(text) => {
                said.push(Chunk::Text(text.clone()));
                json!({ "content": text })
            }
            Written::Reasoning(text) => {
                said.push(Chunk::Reasoning(text.clone()));
                let names = ["reasoning_content", "reasoning"];
                json!({ names[usize::from(writer.manner.other_name_for_reasoning)]: text })
            }
            Written::Parts(texts) => {
                said.push(Chunk::Text(texts.concat()));
                let parts: Vec<_> = texts
                    .iter()
                    .map(|text| json!({ "type": "text", "text": text }))
                    .collect();
                json!({ "content": parts })
            }
            Written::Comment => {
                writer.line(": still there");
                continue;
            }
            Written::Ping => {
                writer.line("event: ping");
                continue;
            }
            Written::Usage => {
                writer.chunk(&json!({ "choices": [], "usage": { "prompt_tokens": 3, "completion_tokens": 4 } }));
                continue;
            }
            Written::Nothing => json!({ "role": "assistant", "content": null }),
        };
        writer
            .chunk(&json!({ "choices": [{ "index": 0, "delta": delta, "finish_reason": null }] }));
    }
    writer.chunk(&json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": "stop" }] }));
    if writer.manner.says_done {
        writer.event("[DONE]");
    }
    said.retain(|chunk| !text_of(chunk).is_empty());
    (writer.body, said)
}

fuzz_target!(|input: Input<'_>| match input {
    Input::Noise { cuts, body } => {
        if let (_, Err(fault)) = heard_always(body, &cuts) {
            assert!(!fault.is_empty());
        }
    }
    Input::Spoken {
        cuts,
        manner,
        written,
    } => {
        let (body, said) = write(manner, written);
        let (chunks, outcome) = heard_always(body.as_bytes(), &cuts);
        assert_eq!(chunks, said, "{body}");
        let answered = outcome.expect("it ended well");
        assert_eq!(answered.finish_reason, FinishReason::Stop);
    }
});
