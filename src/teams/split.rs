//! Divides a long text into messages: never within a character as people see it, a block of code
//! that fits one message, or a link.

use unicode_segmentation::UnicodeSegmentation;

use super::markdown::Fence;

/// A message ends within its last part of this many tenths, if it can.
const WINDOW_TENTHS: usize = 6;

/// The length of a text within JSON, in bytes of UTF-8.
pub fn json_bytes(text: &str) -> usize {
    text.chars().map(json_bytes_of).sum()
}

fn json_bytes_of(c: char) -> usize {
    match c {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        c if c < ' ' => 6,
        c => c.len_utf8(),
    }
}

/// The part of a limit that a stream may show before its end is known: the first message of a
/// divided text is never shorter, unless a block of code that fits the next one begins before.
pub fn streamable(limit: usize) -> usize {
    limit * WINDOW_TENTHS / 10
}

/// Divides a text into messages of up to `limit` bytes of JSON. The first one has at least the first
/// `shown` bytes of the text, which a stream has shown already.
pub fn split(text: &str, limit: usize, shown: usize) -> Vec<String> {
    let mut parts = Vec::new();
    let mut rest = text.trim_end().to_owned();
    let mut least = shown;
    while json_bytes(&rest) > limit {
        let cut = cut(&rest, limit, least);
        least = 0;
        let mut part = rest[..cut.at].trim_end().to_owned();
        let next = rest[cut.at..].trim_start_matches(['\n', '\r']);
        let next = match &cut.within {
            None => next.trim_start_matches(' ').to_owned(),
            Some(block) => {
                part.push('\n');
                part.push_str(&block.fence.closing());
                format!("{}\n{next}", block.opening)
            }
        };
        if !part.trim().is_empty() {
            parts.push(part);
        }
        if next.len() >= rest.len() {
            // Cannot happen: each message takes something. An endless loop would be worse.
            break;
        }
        rest = next;
    }
    if !rest.trim().is_empty() {
        parts.push(rest);
    }
    parts
}

/// A block of code that goes on in the next message.
#[derive(Clone, Debug)]
struct Block {
    fence: Fence,
    /// The line that opens it.
    opening: String,
    /// Where that line begins.
    start: usize,
}

struct Cut {
    at: usize,
    within: Option<Block>,
}

/// The end of the longest beginning that has up to `limit` bytes of JSON.
fn longest(text: &str, limit: usize) -> usize {
    let mut bytes = 0;
    for (at, c) in text.char_indices() {
        bytes += json_bytes_of(c);
        if bytes > limit {
            return at;
        }
    }
    text.len()
}

fn cut(text: &str, limit: usize, least: usize) -> Cut {
    let max = longest(text, limit);
    let window = longest(text, streamable(limit)).max(least).min(max);
    let (mut paragraph, mut line_end, mut within_block) = (None, None, None);
    let mut block: Option<Block> = None;
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let end = start + line.len();
        // A block that lies on the limit stays open.
        if end > max {
            break;
        }
        let content = line.trim_end_matches(['\n', '\r']);
        match &block {
            Some(open) if open.fence.is_closed_by(content) => block = None,
            Some(_) => {}
            None => {
                if let Some(fence) = Fence::opened_by(content) {
                    block = Some(Block {
                        fence,
                        opening: content.to_owned(),
                        start,
                    });
                }
            }
        }
        if line.ends_with('\n') && end > window && end < text.len() {
            match &block {
                None if text[end..].starts_with(['\n', '\r']) => paragraph = Some(end),
                None => line_end = Some(end),
                // The line that closes the block must fit too, and a block needs a line of code.
                Some(open) if start > open.start && end + open.fence.closing().len() + 3 <= max => {
                    within_block = Some((end, open.clone()));
                }
                Some(_) => {}
            }
        }
        start = end;
    }
    if let Some(at) = paragraph.or(line_end) {
        return Cut { at, within: None };
    }
    if let Some(open) = &block {
        let is_movable = open.start > least && open.start > 0;
        if is_movable && block_bytes(text, open) <= limit {
            return Cut {
                at: open.start,
                within: None,
            };
        }
        if let Some((at, open)) = within_block {
            let within = Some(open);
            return Cut { at, within };
        }
        let room = (max - window) / 2 + window;
        let at = within_line(text, least, window, room.max(window + 1).min(max));
        // A single line of code that fills a message.
        let within = (at > open.start + open.opening.len()).then(|| open.clone());
        return Cut { at, within };
    }
    Cut {
        at: within_line(text, least, window, max),
        within: None,
    }
}

/// The length of a block within JSON, from its opening line to its closing one.
fn block_bytes(text: &str, block: &Block) -> usize {
    let mut bytes = 0;
    for (index, line) in text[block.start..].split_inclusive('\n').enumerate() {
        bytes += json_bytes(line);
        if index > 0
            && block
                .fence
                .is_closed_by(line.trim_end_matches(['\n', '\r']))
        {
            break;
        }
    }
    bytes
}

/// A place within a line, after `window` and up to `max`: after a sentence, between words, or else
/// between characters as people see them. A link moves the place back, but not before `least`.
fn within_line(text: &str, least: usize, window: usize, max: usize) -> usize {
    let start = text[..window].rfind('\n').map_or(0, |at| at + 1);
    let (mut sentence, mut word, mut character, mut early) = (None, None, None, None);
    let line = &text[start..];
    let mut links = links(line).into_iter().peekable();
    let mut last = ' ';
    let mut any = start;
    for (offset, grapheme) in line.grapheme_indices(true) {
        let at = start + offset;
        if at > max {
            break;
        }
        if at > start {
            any = any.max(at);
        }
        while links.peek().is_some_and(|(_, end)| *end <= offset) {
            links.next();
        }
        let is_in_link = links
            .peek()
            .is_some_and(|(begin, end)| offset > *begin && offset < *end);
        if at > least.max(1) && at <= window && !is_in_link && (last == ' ' || at == start) {
            early = Some(at);
        }
        if at > window && !is_in_link {
            character = Some(at);
            if last == ' ' {
                word = Some(at);
                let before = line[..offset].trim_end();
                if before.ends_with(['.', '!', '?', ':', ';']) {
                    sentence = Some(at);
                }
            }
        }
        last = grapheme.chars().next_back().unwrap_or(' ');
    }
    let found = sentence.or(word).or(character).or(early).unwrap_or(any);
    // A character of many code points, or a link, that is longer than a message.
    if found > least && found > 0 {
        found
    } else {
        max.max(1)
    }
}

/// The links and pieces of code of a line, and its bare addresses: from the first byte to the byte
/// after the last one.
fn links(line: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(next) = line[at..].find(['[', '`', 'h']) {
        let begin = at + next;
        let rest = &line[begin..];
        let length = if rest.starts_with('[') {
            link(rest)
        } else if let Some(code) = rest.strip_prefix('`') {
            code.find('`').map(|end| end + 2)
        } else if rest.starts_with("https://") || rest.starts_with("http://") {
            Some(rest.find(char::is_whitespace).unwrap_or(rest.len()))
        } else {
            None
        };
        match length {
            Some(length) => {
                found.push((begin, begin + length));
                at = begin + length;
            }
            None => at = begin + 1,
        }
    }
    found
}

/// The length of the link `[text](address)`, or of the number `[1]`, at the start of a text.
fn link(text: &str) -> Option<usize> {
    let close = text.find(']')?;
    let rest = &text[close + 1..];
    if !rest.starts_with('(') {
        return Some(close + 1);
    }
    let mut depth = 0;
    for (at, c) in rest.char_indices() {
        match c {
            '(' => depth += 1,
            ')' if depth == 1 => return Some(close + 1 + at + 1),
            ')' => depth -= 1,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Divides a text, and checks what holds for every text.
    fn checked(text: &str, limit: usize) -> Vec<String> {
        let parts = split(text, limit, 0);
        for part in &parts {
            assert!(json_bytes(part) <= limit, "{part:?}");
            let fences = part.lines().filter(|line| Fence::opened_by(line).is_some());
            assert_eq!(fences.count() % 2, 0, "{part:?}");
        }
        let letters = |text: &str| -> String {
            let lines = text.lines().filter(|line| Fence::opened_by(line).is_none());
            lines.collect::<String>().replace(' ', "")
        };
        assert_eq!(letters(&parts.join("\n")), letters(text));
        parts
    }

    #[test]
    fn a_text_is_divided_at_the_best_place_that_fits() {
        let cases: &[(&str, usize, &[&str])] = &[
            ("short", 10, &["short"]),
            ("", 10, &[]),
            ("first one\n\nsecond", 14, &["first one", "second"]),
            ("line one\nline two", 12, &["line one", "line two"]),
            ("A bit. And more", 12, &["A bit. And", "more"]),
            ("Some. thing else", 8, &["Some.", "thing", "else"]),
            ("abcdefghijklmnop", 8, &["abcdefgh", "ijklmnop"]),
            ("aaaaaaa 👩‍💻👩‍💻", 20, &["aaaaaaa 👩‍💻", "👩‍💻"]),
            (
                "see this [a link](https://e.com) now",
                30,
                &["see this", "[a link](https://e.com) now"],
            ),
            (
                "go to now https://example.com/abc",
                26,
                &["go to now", "https://example.com/abc"],
            ),
        ];
        for (text, limit, expected) in cases {
            assert_eq!(checked(text, *limit), *expected, "{text}");
        }
    }

    #[test]
    fn a_block_of_code_stays_whole_if_it_can_and_is_closed_and_opened_again_if_not() {
        let fits = format!("Intro\n```sh\n{}```\nEnd", "line of code\n".repeat(5));
        let parts = checked(&fits, 85);
        assert_eq!(parts[0], "Intro");
        assert!(parts[1].starts_with("```sh\nline of code\n"));
        let long = format!("Intro\n```sh\n{}```\nEnd", "line of code\n".repeat(30));
        let parts = checked(&long, 200);
        assert!(parts.len() > 2);
        for part in &parts[1..parts.len() - 1] {
            assert!(part.starts_with("```sh\n"), "{part}");
        }
        let line = format!("```\n{}\n```", "x".repeat(500));
        checked(&line, 200);
    }

    #[test]
    fn what_a_stream_has_shown_stays_in_the_first_message() {
        let text = format!("Intro\n```sh\n{}```\nEnd", "line of code\n".repeat(5));
        let shown = "Intro\n```sh\nline of code\nline";
        let parts = split(&text, 85, shown.len());
        assert!(parts[0].starts_with(shown), "{parts:?}");
        assert!(
            parts.iter().all(|part| part.matches("```").count() == 2),
            "{parts:?}"
        );
    }

    #[test]
    fn any_text_of_any_characters_is_divided_without_a_loss() {
        let pieces = [
            "a",
            " ",
            "é",
            "e\u{301}",
            "👩‍👩‍👧",
            "🇩🇪",
            "\"",
            "\n",
            ". ",
            "[1](http://e.com/a)",
            "字",
            "\u{1}",
        ];
        let mut state: u64 = 1;
        for _ in 0..500 {
            let mut text = String::new();
            for _ in 0..120 {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                text.push_str(pieces[(state >> 33) as usize % pieces.len()]);
            }
            checked(text.trim(), 64);
        }
    }
}
