//! Reads a chat-completions reply as it arrives: event stream or plain JSON, with what compatible servers make of either.

use serde::de::IgnoredAny;
use serde_json::Value;

use crate::model::answer::Chunk;
use crate::model::session::Usage;
use crate::turns::responder::{Completion, FinishReason};

/// The longest line, event or unstreamed reply that is read, in bytes.
pub const LONGEST_LINE_BYTES: usize = 1 << 20;

/// The longest answer, its reasoning included, in bytes; what comes after is not said.
pub const LONGEST_ANSWER_BYTES: usize = 1 << 20;

/// A reply under way. Errors are one line for the operator and may quote the endpoint.
#[derive(Default)]
pub struct Reply {
    line: Vec<u8>,
    /// The data of an event whose last line is still to come, or the whole of a reply that is not streamed.
    data: String,
    begun: bool,
    unstreamed: bool,
    done: bool,
    finish_reason: Option<FinishReason>,
    usage: Option<Usage>,
    said_bytes: usize,
}

impl Reply {
    /// Takes what arrived and adds what it says to `chunks`, up to the fault if there is one. Tells whether it said
    /// anything: text, reasoning, usage or an end, as opposed to signs of life.
    pub fn push(&mut self, bytes: &[u8], chunks: &mut Vec<Chunk>) -> Result<bool, String> {
        let mut heard = false;
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.done {
                break;
            }
            if self.line.len() + part.len() > LONGEST_LINE_BYTES {
                return Err(format!("a line is longer than {LONGEST_LINE_BYTES} bytes"));
            }
            self.line.extend_from_slice(part);
            if part.ends_with(b"\n") {
                heard |= self.end_line(chunks)?;
            }
        }
        Ok(heard)
    }

    /// Takes the end of the body, which is a fault unless the model has said that it ended.
    pub fn end(&mut self, chunks: &mut Vec<Chunk>) -> Result<bool, String> {
        if !self.line.is_empty() {
            self.end_line(chunks)?;
        }
        self.end_event(chunks)?;
        self.done |= self.finish_reason.is_some();
        if self.done {
            Ok(true)
        } else {
            Err("the reply was cut off".to_owned())
        }
    }

    /// Whether nothing more need be read.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// How the answer ended, once it has; only its usage may still come.
    pub fn answered(&self) -> Option<Completion> {
        let finish_reason = self
            .finish_reason
            .or(self.done.then_some(FinishReason::Stop))?;
        Some(Completion {
            finish_reason,
            usage: self.usage,
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
        if !self.begun {
            line = line.trim_start_matches('\u{feff}');
            self.begun = !line.trim().is_empty();
            self.unstreamed = line.trim_start().starts_with('{');
        }
        if self.unstreamed {
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
        if self.data.len() + text.len() >= LONGEST_LINE_BYTES {
            return Err(format!(
                "an event is longer than {LONGEST_LINE_BYTES} bytes"
            ));
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
            self.done = true;
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
        let reported = !(error.is_null() || error == "" || error == false);
        if reported || chunk["object"] == "error" {
            let told = if reported { error } else { chunk };
            return Err(format!("the endpoint reported {told}"));
        }
        let choice = &chunk["choices"][0];
        let message = if choice["delta"].is_object() {
            &choice["delta"]
        } else {
            &choice["message"]
        };
        if self.unstreamed {
            if !message.is_object() {
                return Err(format!("not an answer: {chunk}"));
            }
            self.done = true;
        }
        let mut heard = false;
        if let Some(word) = choice["finish_reason"]
            .as_str()
            .filter(|word| !word.is_empty())
        {
            self.finish_reason = Some(finish_reason(word));
            heard = true;
        }
        if let Some(usage) = usage(&chunk["usage"]) {
            self.usage = Some(usage);
            heard = true;
        }
        let reasoning = ["reasoning_content", "reasoning"].map(|key| text(&message[key]));
        if let Some(reasoning) = reasoning.into_iter().find(|text| !text.is_empty()) {
            self.say(reasoning, Chunk::Reasoning, chunks);
            heard = true;
        }
        let content = text(&message["content"]);
        if !content.is_empty() {
            self.say(content, Chunk::Text, chunks);
            heard = true;
        }
        Ok(heard)
    }

    fn say(&mut self, mut text: String, kind: fn(String) -> Chunk, chunks: &mut Vec<Chunk>) {
        let room_bytes = LONGEST_ANSWER_BYTES - self.said_bytes;
        if text.len() > room_bytes {
            text.truncate(text.floor_char_boundary(room_bytes));
            self.finish_reason = Some(FinishReason::Length);
            self.done = true;
        }
        self.said_bytes += text.len();
        if !text.is_empty() {
            chunks.push(kind(text));
        }
    }
}

/// The text of a message: a string, or the text parts of a list.
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

fn finish_reason(word: &str) -> FinishReason {
    match word {
        "stop" | "stop_sequence" | "eos" | "eos_token" | "end_turn" => FinishReason::Stop,
        "length" | "max_tokens" => FinishReason::Length,
        "content_filter" => FinishReason::ContentFilter,
        "tool_calls" | "function_call" => FinishReason::ToolCalls,
        _ => FinishReason::Other,
    }
}

/// What was used, if it says anything; a missing side follows from the total.
fn usage(usage: &Value) -> Option<Usage> {
    let tokens = |key: &str| usage[key].as_i64().filter(|tokens| *tokens >= 0);
    let (input, output) = (tokens("prompt_tokens"), tokens("completion_tokens"));
    let known = input.or(output)?;
    let rest = tokens("total_tokens").map_or(0, |total| (total - known).max(0));
    Some(Usage {
        input_tokens: input.unwrap_or(rest),
        output_tokens: output.unwrap_or(rest),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a reply says, handed over in chunks of `size_bytes`, and how it ends.
    fn read(body: &[u8], size_bytes: usize) -> (Vec<Chunk>, Result<Completion, String>) {
        let (mut reply, mut chunks) = (Reply::default(), Vec::new());
        for chunk in body.chunks(size_bytes) {
            if let Err(fault) = reply.push(chunk, &mut chunks) {
                return (chunks, Err(fault));
            }
        }
        let outcome = reply.end(&mut chunks).map(|_| reply.answered().unwrap());
        (chunks, outcome)
    }

    #[test]
    fn a_reply_reads_the_same_however_it_is_split() {
        let body = "\u{feff}: hello\r\nevent: x\r\ndata: {\"choices\":[{\"delta\":{\"content\":\"Grüße \"}}]}\r\n\r\n\
            data:{\"choices\":[{\"delta\":\ndata:{\"content\":\"🦀\"}}]}\n\n\
            data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]";
        let whole = read(body.as_bytes(), body.len());
        let said = ["Grüße ", "🦀"].map(|text| Chunk::Text(text.to_owned()));
        assert_eq!(whole.0, said);
        assert_eq!(
            whole.1.as_ref().map(|answered| answered.finish_reason),
            Ok(FinishReason::Stop)
        );
        for size_bytes in 1..body.len() {
            assert_eq!(read(body.as_bytes(), size_bytes), whole, "{size_bytes}");
        }
    }

    #[test]
    fn only_what_is_said_counts_as_hearing_from_the_model() {
        let heard = |text: &str| Reply::default().push(text.as_bytes(), &mut Vec::new());
        for sign_of_life in [
            ": alive\n",
            "\n",
            "event: ping\n",
            "data:\n\n",
            "data: {}\n",
            "data: {\"choices\":[]}\n",
            "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}],\"usage\":null}\n",
            "data: {\"choices\":[{\"delta\":{\"content\":null},\"finish_reason\":\"\"}],\"usage\":{}}\n",
        ] {
            assert_eq!(heard(sign_of_life), Ok(false), "{sign_of_life}");
        }
        for news in [
            "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n",
            "data: {\"choices\":[{\"delta\":{\"reasoning\":\"a\"}}]}\n",
            "data: {\"choices\":[{\"delta\":{\"reasoning_content\":\"a\"}}]}\n",
            "data: {\"choices\":[{\"finish_reason\":\"stop\"}]}\n",
            "data: {\"usage\":{\"prompt_tokens\":1}}\n",
            "data: [DONE]\n",
        ] {
            assert_eq!(heard(news), Ok(true), "{news}");
        }
    }

    #[test]
    fn usage_is_read_as_far_as_it_is_told() {
        let told = |text: &str| {
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
            assert_eq!(told(nothing), None, "{nothing}");
        }
        assert_eq!(
            told("{\"prompt_tokens\":3,\"completion_tokens\":4,\"total_tokens\":9}"),
            Some((3, 4))
        );
        assert_eq!(told("{\"prompt_tokens\":3}"), Some((3, 0)));
        assert_eq!(
            told("{\"completion_tokens\":4,\"total_tokens\":9}"),
            Some((5, 4))
        );
    }
}
