//! Parses a chat-completions reply as it arrives: an event stream or plain JSON, with the
//! deviations of compatible servers.

use serde::de::IgnoredAny;
use serde_json::Value;

use crate::model::answer::Chunk;
use crate::model::session::Usage;
use crate::turns::reasoning::{Marks, Thoughts};
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

/// The parser of one reply. Its errors are one line for the operator and may quote the endpoint.
#[derive(Default)]
pub struct Reply {
    line: Vec<u8>,
    /// The data of an incomplete event, or all of an unstreamed reply.
    data: String,
    has_started: bool,
    is_unstreamed: bool,
    is_done: bool,
    finish_reason: Option<FinishReason>,
    usage: Option<Usage>,
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
    /// added all the same. Returns whether the bytes contain text, reasoning, usage or an end, not
    /// only keep-alives.
    pub fn push(&mut self, bytes: &[u8], chunks: &mut Vec<Chunk>) -> Result<bool, String> {
        let mut has_content = false;
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.is_done {
                break;
            }
            if self.line.len() + part.len() > MAX_LINE_BYTES {
                return Err(format!("a line is longer than {MAX_LINE_BYTES} bytes"));
            }
            self.line.extend_from_slice(part);
            self.event_bytes += part.len();
            if part.ends_with(b"\n") {
                let is_content = self.end_line(chunks)?;
                has_content |= is_content;
                if is_content {
                    self.event_bytes = 0;
                } else if part.len() <= 2 {
                    // An empty line ends an event.
                    self.noise_bytes += std::mem::take(&mut self.event_bytes);
                }
            }
        }
        Ok(has_content)
    }

    /// Ends the body. Without a finish reason or `[DONE]` before it, the end is a fault.
    pub fn end(&mut self, chunks: &mut Vec<Chunk>) -> Result<bool, String> {
        if !self.line.is_empty() {
            self.end_line(chunks)?;
        }
        self.end_event(chunks)?;
        self.is_done |= self.finish_reason.is_some();
        if self.is_done {
            Ok(true)
        } else {
            Err("the reply was cut off".to_owned())
        }
    }

    /// Adds the text that the parser held back, at the end of the reply. `reason` is the finish
    /// reason of a complete answer.
    pub fn finish(&mut self, reason: Option<FinishReason>, chunks: &mut Vec<Chunk>) {
        self.thoughts.finish(reason, chunks);
    }

    /// Whether this reply has shown that the model's answers begin within a thought.
    pub fn has_learned(&self) -> bool {
        self.thoughts.has_learned()
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

    fn end_line(&mut self, chunks: &mut Vec<Chunk>) -> Result<bool, String> {
        let mut bytes = std::mem::take(&mut self.line);
        while bytes
            .last()
            .is_some_and(|byte| matches!(byte, b'\n' | b'\r'))
        {
            bytes.pop();
        }
        let text = String::from_utf8(bytes).map_err(|_| "the reply is not UTF-8".to_owned())?;
        let mut line = text.as_str();
        if !self.has_started {
            line = line.trim_start_matches('\u{feff}');
            self.has_started = !line.trim().is_empty();
            self.is_unstreamed = line.trim_start().starts_with('{');
        }
        if self.is_unstreamed {
            self.add_data(line)?;
            return Ok(false);
        }
        if line.is_empty() {
            return self.end_event(chunks);
        }
        let Some(value) = line
            .strip_prefix("data")
            .filter(|rest| rest.is_empty() || rest.starts_with(':'))
        else {
            return Ok(false);
        };
        let value = value.strip_prefix(':').unwrap_or(value);
        let first = self.data.is_empty();
        self.add_data(value.strip_prefix(' ').unwrap_or(value))?;
        // Some servers leave out the empty line that ends an event.
        if first
            && (self.data.trim() == "[DONE]"
                || serde_json::from_str::<IgnoredAny>(&self.data).is_ok())
        {
            return self.end_event(chunks);
        }
        Ok(false)
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

    fn end_event(&mut self, chunks: &mut Vec<Chunk>) -> Result<bool, String> {
        let data = std::mem::take(&mut self.data);
        let data = data.trim();
        if data.is_empty() {
            return Ok(false);
        }
        if data == "[DONE]" {
            self.is_done = true;
            return Ok(true);
        }
        let value = match serde_json::from_str::<Value>(data) {
            Ok(value) if value.is_object() => value,
            Ok(_) | Err(_) => return Err(format!("not a chunk: {data}")),
        };
        self.take_chunk(&value, chunks)
    }

    fn take_chunk(&mut self, chunk: &Value, chunks: &mut Vec<Chunk>) -> Result<bool, String> {
        let error = &chunk["error"];
        let has_error = !(error.is_null() || error == "" || error == false);
        if has_error || chunk["object"] == "error" {
            let reported = if has_error { error } else { chunk };
            return Err(format!("the endpoint reported {reported}"));
        }
        let choice = &chunk["choices"][0];
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
        let mut has_content = false;
        if let Some(reason) = choice["finish_reason"]
            .as_str()
            .filter(|reason| !reason.is_empty())
        {
            self.finish_reason = Some(finish_reason(reason));
            has_content = true;
        }
        if let Some(usage) = usage(&chunk["usage"]) {
            self.usage = Some(usage);
            has_content = true;
        }
        let reasoning = ["reasoning_content", "reasoning"].map(|key| text(&message[key]));
        if let Some(reasoning) = reasoning.into_iter().find(|text| !text.is_empty()) {
            let reasoning = self.cut(reasoning);
            self.thoughts.push_reasoning(reasoning, chunks);
            has_content = true;
        }
        let content = text(&message["content"]);
        if !content.is_empty() {
            let content = self.cut(content);
            self.thoughts.push(&content, chunks);
            has_content = true;
        }
        Ok(has_content)
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
        "content_filter" => FinishReason::ContentFilter,
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
        let outcome = reply.end(&mut chunks).map(|_| reply.completion().unwrap());
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
        for size_bytes in 1..body.len() {
            assert_eq!(parse(body.as_bytes(), size_bytes), whole, "{size_bytes}");
        }
    }

    #[test]
    fn only_text_reasoning_usage_and_an_end_count_as_content() {
        let has_content = |text: &str| Reply::default().push(text.as_bytes(), &mut Vec::new());
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
            assert_eq!(has_content(keep_alive), Ok(false), "{keep_alive}");
        }
        for content in [
            "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n",
            "data: {\"choices\":[{\"delta\":{\"reasoning\":\"a\"}}]}\n",
            "data: {\"choices\":[{\"delta\":{\"reasoning_content\":\"a\"}}]}\n",
            "data: {\"choices\":[{\"finish_reason\":\"stop\"}]}\n",
            "data: {\"usage\":{\"prompt_tokens\":1}}\n",
            "data: [DONE]\n",
        ] {
            assert_eq!(has_content(content), Ok(true), "{content}");
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
