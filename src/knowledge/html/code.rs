//! Code in Markdown: fenced blocks, and spans between backticks.

use std::collections::HashMap;

/// The runs of backticks of a text, and the code that they begin.
///
/// A fenced block reaches to a run that is as long or longer, or to the end of the text. A span
/// reaches to a run of the same length in its paragraph.
pub(super) struct Code {
    /// Where each run begins, and where its code ends. A run that begins no code ends itself.
    runs: Vec<(usize, usize)>,
}

impl Code {
    /// Reads from right to left, so that each run is compared with those after it only once.
    pub(super) fn of(body: &str) -> Self {
        let mut runs = Vec::new();
        // By length: the paragraph and the end of the nearest run.
        let mut spans = HashMap::new();
        // The length and the end of the runs after which none is longer, the nearest last.
        let mut fences: Vec<(usize, usize)> = Vec::new();
        let mut paragraph = 0;
        let mut rest = body;
        while let Some(last) = rest.rfind('`') {
            let end = last + 1;
            paragraph += usize::from(has_paragraph_break(&rest[end..]));
            let before = rest[..end].trim_end_matches('`');
            let length = end - before.len();
            while fences.last().is_some_and(|(other, _)| *other < length) {
                fences.pop();
            }
            let code = if length >= 3 && is_line_start(before) {
                // A fence without an end reaches to the end of the text.
                Some(fences.last().map_or(body.len(), |(_, end)| *end))
            } else {
                let span = spans.get(&length).filter(|(of, _)| *of == paragraph);
                span.map(|(_, end)| *end)
            };
            runs.push((before.len(), code.unwrap_or(end)));
            spans.insert(length, (paragraph, end));
            fences.push((length, end));
            rest = before;
        }
        runs.reverse();
        Self { runs }
    }

    /// Where the code ends that begins here with a run of backticks, or else the run.
    pub(super) fn end(&self, at: usize) -> usize {
        self.runs
            .binary_search_by_key(&at, |(start, _)| *start)
            .map_or(at + 1, |found| self.runs[found].1)
    }
}

fn has_paragraph_break(text: &str) -> bool {
    text.contains("\n\n") || text.contains("\n\r\n")
}

fn is_line_start(before: &str) -> bool {
    let before = before.trim_end_matches(' ');
    before.is_empty() || before.ends_with('\n')
}
