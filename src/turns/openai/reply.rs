//! Parses a chat-completions reply as it arrives: an event stream or plain JSON, with the
//! deviations of compatible servers.

use serde_json::Value;

use super::lenient::{self, Halves, Json};
use crate::model::answer::Chunk;
use crate::model::session::Usage;
use crate::turns::reasoning::{Beginning, Marks, Thoughts};
use crate::turns::responder::{Completion, FinishReason};

/// The longest line, event or unstreamed reply that is accepted, in bytes.
pub const MAX_LINE_BYTES: usize = 1 << 20;

/// The longest answer, including reasoning, in bytes. The rest is cut off.
pub const MAX_ANSWER_BYTES: usize = 1 << 20;

/// The longest answer in bytes of JSON, which writes a control character as six bytes. A reply has
/// the text of an answer twice, and at most 8 MiB.
const MAX_JSON_BYTES: usize = 3 << 20;

/// The most bytes of a reply that are neither text, reasoning, usage nor an end.
const MAX_NOISE_BYTES: usize = 16 << 20;

/// The beginning of the fault of a reply in which the endpoint reports an error.
pub(super) const REPORTED: &str = "the endpoint reported";

/// What a piece of a reply holds at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Progress {
    /// Nothing that belongs to an answer.
    #[default]
    KeepAlive,
    /// Usage, a finish reason or `[DONE]`.
    Sign,
    /// Text or reasoning.
    Text,
}

/// The name of an event, as far as it matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum EventName {
    /// None, or `message`.
    #[default]
    Message,
    /// `error`.
    Error,
    /// Another name. Data of such an event that is no chunk is skipped.
    Other,
}

/// The data of a complete event.
enum Data {
    /// `[DONE]`.
    Done,
    /// JSON.
    Json(Json),
}

impl Data {
    fn parse(text: &str) -> Option<Self> {
        match text.trim() {
            "[DONE]" => Some(Self::Done),
            text => lenient::parse(text).map(Self::Json),
        }
    }
}

/// The parser of one reply. Its errors are one line for the operator and may quote the endpoint.
#[derive(Default)]
pub struct Reply {
    line: Vec<u8>,
    /// Whether the last byte was a carriage return. A line feed after it belongs to it.
    ends_in_cr: bool,
    /// The data of an incomplete event, or all of an unstreamed reply.
    data: String,
    event: EventName,
    has_started: bool,
    is_unstreamed: bool,
    is_done: bool,
    finish_reason: Option<FinishReason>,
    has_text: bool,
    has_resumed: bool,
    usage: Option<Usage>,
    content_halves: Halves,
    reasoning_halves: Halves,
    thoughts: Thoughts,
    answer_bytes: usize,
    json_bytes: usize,
    /// The bytes since the last event ended.
    event_bytes: usize,
    /// The bytes of all events and comments without content.
    noise_bytes: usize,
}

impl Reply {
    /// Creates the parser of a reply of a model with these marks.
    pub fn new(marks: Marks) -> Self {
        Self {
            thoughts: Thoughts::new(marks),
            ..Self::default()
        }
    }

    /// Parses bytes and adds their chunks to `chunks`. If a fault follows, the chunks before it are
    /// added all the same. Returns what the bytes contain.
    pub fn push(&mut self, bytes: &[u8], chunks: &mut Vec<Chunk>) -> Result<Progress, String> {
        let mut progress = Progress::default();
        for part in bytes.split_inclusive(|byte| matches!(byte, b'\n' | b'\r')) {
            if self.is_done {
                break;
            }
            if self.line.len() + part.len() > MAX_LINE_BYTES {
                return Err(format!("a line is longer than {MAX_LINE_BYTES} bytes"));
            }
            self.event_bytes += part.len();
            if std::mem::take(&mut self.ends_in_cr) && part == b"\n" {
                continue;
            }
            self.line.extend_from_slice(part);
            if self
                .line
                .pop_if(|byte| matches!(byte, b'\n' | b'\r'))
                .is_none()
            {
                break;
            }
            self.ends_in_cr = part.ends_with(b"\r");
            let ends_event = self.line.is_empty();
            let of_line = self.end_line(chunks)?;
            if of_line > Progress::KeepAlive {
                self.event_bytes = 0;
            } else if ends_event {
                self.noise_bytes += std::mem::take(&mut self.event_bytes);
            }
            progress = progress.max(of_line);
        }
        Ok(progress)
    }

    /// Ends the body. Without a finish reason or `[DONE]` before it, the end is a fault.
    pub fn end(&mut self, chunks: &mut Vec<Chunk>) -> Result<(), String> {
        if !self.line.is_empty() {
            self.end_line(chunks)?;
        }
        self.end_event(chunks)?;
        self.is_done |= self.finish_reason.is_some();
        if self.is_done {
            Ok(())
        } else {
            Err("the reply was cut off".to_owned())
        }
    }

    /// Adds the text that the parser held back, at the end of the reply. `reason` is the finish
    /// reason of a complete answer.
    pub fn finish(&mut self, reason: Option<FinishReason>, chunks: &mut Vec<Chunk>) {
        self.end_reasoning(chunks);
        let content = self.content_halves.end();
        if !content.is_empty() {
            let content = self.cut(content);
            self.thoughts.push(&content, chunks);
        }
        self.thoughts.finish(reason, chunks);
    }

    fn end_reasoning(&mut self, chunks: &mut Vec<Chunk>) {
        let reasoning = self.reasoning_halves.end();
        if !reasoning.is_empty() {
            let reasoning = self.cut(reasoning);
            self.thoughts.push_reasoning(reasoning, chunks);
        }
    }

    /// Whether the reply has any text that is not white space.
    pub fn has_text(&self) -> bool {
        self.has_text
    }

    /// Whether text or reasoning has come after a finish reason. The finish reasons of such a reply
    /// do not end it.
    pub fn has_resumed(&self) -> bool {
        self.has_resumed
    }

    /// What this reply shows about the model's answers. `reason` is the finish reason of a complete
    /// answer.
    pub fn shows(&self, reason: Option<FinishReason>) -> Option<Beginning> {
        self.thoughts.shows(reason)
    }

    /// Whether the reply is complete, so that the rest of the body need not be read.
    pub fn is_done(&self) -> bool {
        self.is_done
    }

    /// Whether events and comments without content exceed `MAX_NOISE_BYTES`. The model then most
    /// likely never answers.
    pub fn is_noise(&self) -> bool {
        self.noise_bytes + self.event_bytes > MAX_NOISE_BYTES
    }

    /// How the answer ended. `None` before its finish reason; its usage may still arrive later.
    pub fn completion(&self) -> Option<Completion> {
        let finish_reason = self
            .finish_reason
            .or(self.is_done.then_some(FinishReason::Stop))?;
        Some(Completion {
            finish_reason,
            usage: self.usage,
            hides_images: false,
        })
    }

    fn end_line(&mut self, chunks: &mut Vec<Chunk>) -> Result<Progress, String> {
        let bytes = std::mem::take(&mut self.line);
        let text = lenient::decode(&bytes);
        let mut line = text.as_ref();
        if !self.has_started {
            line = line.trim_start_matches('\u{feff}');
            self.has_started = !line.trim().is_empty();
            self.is_unstreamed = line.trim_start().starts_with('{');
        }
        if self.is_unstreamed {
            self.add_data(line)?;
            return Ok(Progress::KeepAlive);
        }
        if line.is_empty() {
            return self.end_event(chunks);
        }
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "event" => {
                self.event = match value.trim() {
                    "" | "message" => EventName::Message,
                    "error" => EventName::Error,
                    _ => EventName::Other,
                };
            }
            "data" => {
                let is_first = self.data.is_empty();
                self.add_data(value)?;
                // Some servers leave out the empty line that ends an event.
                if is_first && let Some(data) = Data::parse(&self.data) {
                    self.data.clear();
                    return self.take_event(data, chunks);
                }
            }
            _ => {}
        }
        Ok(Progress::KeepAlive)
    }

    fn add_data(&mut self, text: &str) -> Result<(), String> {
        if self.data.len() + text.len() >= MAX_LINE_BYTES {
            return Err(format!("an event is longer than {MAX_LINE_BYTES} bytes"));
        }
        if !self.data.is_empty() {
            self.data.push('\n');
        }
        self.data.push_str(text);
        Ok(())
    }

    fn end_event(&mut self, chunks: &mut Vec<Chunk>) -> Result<Progress, String> {
        let text = std::mem::take(&mut self.data);
        match Data::parse(&text) {
            Some(data) => self.take_event(data, chunks),
            None => {
                let event = std::mem::take(&mut self.event);
                if text.trim().is_empty() || event == EventName::Other {
                    Ok(Progress::KeepAlive)
                } else {
                    Err(format!("not a chunk: {}", text.trim()))
                }
            }
        }
    }

    fn take_event(&mut self, data: Data, chunks: &mut Vec<Chunk>) -> Result<Progress, String> {
        let event = std::mem::take(&mut self.event);
        match data {
            Data::Done => {
                self.is_done = true;
                Ok(Progress::Sign)
            }
            Data::Json(Json { value, .. })
                if event == EventName::Error && value["choices"].is_null() =>
            {
                Err(format!("{REPORTED} {value}"))
            }
            Data::Json(json) if json.value.is_object() => self.take_chunk(&json, chunks),
            Data::Json(_) if event == EventName::Other => Ok(Progress::KeepAlive),
            Data::Json(other) => Err(format!("not a chunk: {}", other.value)),
        }
    }

    fn take_chunk(&mut self, json: &Json, chunks: &mut Vec<Chunk>) -> Result<Progress, String> {
        let (chunk, has_halves) = (&json.value, json.is_mended);
        let error = &chunk["error"];
        let has_error = !(error.is_null() || error == "" || error == false);
        if has_error || chunk["object"] == "error" {
            let reported = if has_error { error } else { chunk };
            return Err(format!("{REPORTED} {reported}"));
        }
        let choice = first_choice(chunk);
        let message = if choice["delta"].is_object() {
            &choice["delta"]
        } else {
            &choice["message"]
        };
        if self.is_unstreamed {
            if !message.is_object() {
                return Err(format!("not an answer: {chunk}"));
            }
            self.is_done = true;
        }
        let mut progress = Progress::default();
        let had_ended = self.finish_reason.is_some();
        if let Some(reason) = choice["finish_reason"]
            .as_str()
            .filter(|reason| !reason.is_empty())
        {
            self.finish_reason = Some(finish_reason(reason));
            progress = Progress::Sign;
        }
        if let Some(usage) = usage(&chunk["usage"]) {
            self.usage = Some(usage);
            progress = Progress::Sign;
        }
        let reasoning = ["reasoning_content", "reasoning"].map(|key| text(&message[key]));
        let reasoning = reasoning.into_iter().find(|text| !text.is_empty());
        let content = text(&message["content"]);
        if reasoning.is_some() || !content.is_empty() {
            progress = Progress::Text;
        }
        if let Some(reasoning) = reasoning {
            let reasoning = self.reasoning_halves.join(reasoning, has_halves);
            self.has_resumed |= had_ended && !reasoning.trim().is_empty();
            let reasoning = self.cut(reasoning);
            self.thoughts.push_reasoning(reasoning, chunks);
        }
        if !content.is_empty() {
            self.end_reasoning(chunks);
            let content = self.content_halves.join(content, has_halves);
            let is_visible = !content.trim().is_empty();
            self.has_text |= is_visible;
            self.has_resumed |= had_ended && is_visible;
            let content = self.cut(content);
            self.thoughts.push(&content, chunks);
        }
        Ok(progress)
    }

    /// Cuts the answer at its greatest length.
    fn cut(&mut self, mut text: String) -> String {
        let too_much = text.char_indices().find(|(index, next)| {
            self.json_bytes += json_bytes(*next);
            self.json_bytes > MAX_JSON_BYTES
                || self.answer_bytes + index + next.len_utf8() > MAX_ANSWER_BYTES
        });
        if let Some((end, _)) = too_much {
            text.truncate(end);
            self.finish_reason = Some(FinishReason::Length);
            self.is_done = true;
        }
        self.answer_bytes += text.len();
        text
    }
}

/// The bytes of a character in a JSON string.
fn json_bytes(character: char) -> usize {
    match character {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        '\0'..='\u{1f}' => 6,
        _ => character.len_utf8(),
    }
}

/// The choice that is the answer. Some servers send several, although one is asked for.
fn first_choice(chunk: &Value) -> &Value {
    let is_first = |choice: &&Value| match &choice["index"] {
        Value::Number(index) => index.as_f64() == Some(0.0),
        Value::String(index) => index == "0",
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => true,
    };
    let choices = chunk["choices"].as_array();
    choices
        .and_then(|choices| choices.iter().find(is_first))
        .unwrap_or(&Value::Null)
}

/// The text of a message's content: a string, or the text parts of a list.
fn text(content: &Value) -> String {
    if let Some(text) = content.as_str() {
        return text.to_owned();
    }
    content
        .as_array()
        .map(|parts| {
            parts
                .iter()
                .filter_map(|part| part["text"].as_str())
                .collect()
        })
        .unwrap_or_default()
}

fn finish_reason(reason: &str) -> FinishReason {
    match reason {
        "stop" | "stop_sequence" | "eos" | "eos_token" | "end_turn" => FinishReason::Stop,
        "length" | "max_tokens" => FinishReason::Length,
        "content_filter" | "content_filtered" | "safety" => FinishReason::ContentFilter,
        "tool_calls" | "function_call" => FinishReason::ToolCalls,
        _ => FinishReason::Other,
    }
}

/// The token counts, if there are any. A missing count is derived from the total.
fn usage(usage: &Value) -> Option<Usage> {
    let tokens = |key: &str| usage[key].as_i64().filter(|tokens| *tokens >= 0);
    let (input, output) = (tokens("prompt_tokens"), tokens("completion_tokens"));
    let given = input.or(output)?;
    let rest = tokens("total_tokens").map_or(0, |total| (total - given).max(0));
    Some(Usage {
        input_tokens: input.unwrap_or(rest),
        output_tokens: output.unwrap_or(rest),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses a body in pieces of `size_bytes`: the chunks, and how the answer ended.
    fn parse(body: &[u8], size_bytes: usize) -> (Vec<Chunk>, Result<Completion, String>) {
        let (mut reply, mut chunks) = (Reply::default(), Vec::new());
        for chunk in body.chunks(size_bytes) {
            if let Err(fault) = reply.push(chunk, &mut chunks) {
                return (chunks, Err(fault));
            }
        }
        let outcome = reply.end(&mut chunks).map(|()| reply.completion().unwrap());
        (chunks, outcome)
    }

    #[test]
    fn a_reply_is_parsed_alike_however_it_is_split() {
        let body = "\u{feff}: hello\r\nevent: x\r\ndata: {\"choices\":[{\"delta\":{\"content\":\"Grüße \"}}]}\r\n\r\n\
            data:{\"choices\":[{\"delta\":\ndata:{\"content\":\"🦀\"}}]}\n\n\
            data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]";
        let whole = parse(body.as_bytes(), body.len());
        let expected = ["Grüße ", "🦀"].map(|text| Chunk::Text(text.to_owned()));
        assert_eq!(whole.0, expected);
        assert_eq!(
            whole.1.as_ref().map(|completion| completion.finish_reason),
            Ok(FinishReason::Stop)
        );
        for body in [
            body.to_owned(),
            body.replace("\r\n", "\r").replace('\n', "\r"),
        ] {
            for size_bytes in 1..body.len() {
                assert_eq!(parse(body.as_bytes(), size_bytes), whole, "{size_bytes}");
            }
        }
    }

    #[test]
    fn only_text_reasoning_usage_and_an_end_count_as_content() {
        let progress = |text: &str| Reply::default().push(text.as_bytes(), &mut Vec::new());
        for keep_alive in [
            ": alive\n",
            "\n",
            "event: ping\n",
            "data:\n\n",
            "data: {}\n",
            "data: {\"choices\":[]}\n",
            "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}],\"usage\":null}\n",
            "data: {\"choices\":[{\"delta\":{\"content\":null},\"finish_reason\":\"\"}],\"usage\":{}}\n",
        ] {
            assert_eq!(
                progress(keep_alive),
                Ok(Progress::KeepAlive),
                "{keep_alive}"
            );
        }
        for text in [
            "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n",
            "data: {\"choices\":[{\"delta\":{\"reasoning\":\"a\"}}]}\n",
            "data: {\"choices\":[{\"delta\":{\"reasoning_content\":\"a\"}}]}\n",
        ] {
            assert_eq!(progress(text), Ok(Progress::Text), "{text}");
        }
        for sign in [
            "data: {\"choices\":[{\"finish_reason\":\"stop\"}]}\n",
            "data: {\"usage\":{\"prompt_tokens\":1}}\n",
            "data: [DONE]\n",
        ] {
            assert_eq!(progress(sign), Ok(Progress::Sign), "{sign}");
        }
    }

    #[test]
    fn text_after_a_finish_reason_resumes_the_answer() {
        let stop = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n";
        for (delta, resumes) in [
            ("{\"content\":\"a\"}", true),
            ("{\"reasoning\":\"a\"}", true),
            ("{\"content\":\"\\n\"}", false),
            ("{\"content\":\"\"}", false),
        ] {
            let mut reply = Reply::default();
            let chunk = format!(
                "data: {{\"choices\":[{{\"delta\":{delta},\"finish_reason\":\"stop\"}}]}}\n"
            );
            reply.push(chunk.as_bytes(), &mut Vec::new()).unwrap();
            reply.push(stop.as_bytes(), &mut Vec::new()).unwrap();
            assert!(!reply.has_resumed());
            reply.push(chunk.as_bytes(), &mut Vec::new()).unwrap();
            assert_eq!(reply.has_resumed(), resumes, "{delta}");
        }
    }

    #[test]
    fn only_events_without_content_count_as_noise() {
        let mut reply = Reply::default();
        let mut add = |text: String| {
            let text = text.repeat(1_024);
            reply.push(text.as_bytes(), &mut Vec::new()).unwrap();
            reply.is_noise()
        };
        let padding = "x".repeat(15 << 10);
        let content = r#"{"choices":[{"delta":{"content":"a"}}]}"#;
        assert!(!add(format!("data: {{\"id\":\"{padding}\"}}\n\n")));
        for _ in 0..4 {
            assert!(!add(format!("event: {padding}\ndata: {content}\n\n")));
        }
        assert!(!add(format!(": {}\n", "x".repeat(900))));
        assert!(add(format!(": {}\n", "x".repeat(900))));
    }

    #[test]
    fn usage_is_read_as_far_as_it_is_reported() {
        let read = |text: &str| {
            usage(&serde_json::from_str(text).unwrap()).map(|u| (u.input_tokens, u.output_tokens))
        };
        for nothing in [
            "null",
            "{}",
            "\"\"",
            "{\"prompt_tokens\":null}",
            "{\"total_tokens\":3}",
            "{\"prompt_tokens\":-1}",
        ] {
            assert_eq!(read(nothing), None, "{nothing}");
        }
        assert_eq!(
            read("{\"prompt_tokens\":3,\"completion_tokens\":4,\"total_tokens\":9}"),
            Some((3, 4))
        );
        assert_eq!(read("{\"prompt_tokens\":3}"), Some((3, 0)));
        assert_eq!(
            read("{\"completion_tokens\":4,\"total_tokens\":9}"),
            Some((5, 4))
        );
    }
}
