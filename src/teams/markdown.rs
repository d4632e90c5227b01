//! Markdown as Teams renders it: tables become lists, headings become bold lines, pictures become
//! links, and text that looks like HTML stays text. Code is never changed.

use std::fmt::Write as _;

/// The most columns of a table. A hostile line must not become an endless list.
const MAX_COLUMNS: usize = 64;
/// The longest line that can begin or continue a table, in bytes.
const MAX_ROW_BYTES: usize = 8_192;

/// Renders a complete text.
pub fn render(text: &str) -> String {
    let mut renderer = Renderer::default();
    for line in lines(text) {
        renderer.line(line);
    }
    renderer.finish()
}

/// Renders a text of which the end is not there yet. What is rendered of a longer text begins with
/// it: a stream in Teams may only grow.
pub fn render_so_far(text: &str) -> String {
    let (complete, rest) = match text.rfind('\n') {
        Some(end) => (&text[..end], &text[end + 1..]),
        None => ("", text),
    };
    let mut renderer = Renderer::default();
    if text.contains('\n') {
        for line in lines(complete) {
            renderer.line(line);
        }
    }
    renderer.begun_line(rest)
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    let lines = text.split('\n');
    lines.map(|line| line.strip_suffix('\r').unwrap_or(line))
}

/// The fence that opens a block of code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fence {
    mark: char,
    length: usize,
}

impl Fence {
    /// The fence that a line opens.
    pub(super) fn opened_by(line: &str) -> Option<Self> {
        let line = line.trim_start();
        let mark = line.chars().next().filter(|mark| "`~".contains(*mark))?;
        let length = line.chars().take_while(|c| *c == mark).count();
        let rest = &line[length..];
        // Three backticks with text and backticks after them are code within the line.
        let is_fence = length >= 3 && !(mark == '`' && rest.contains('`'));
        is_fence.then_some(Self { mark, length })
    }

    /// Whether a line closes it.
    pub(super) fn is_closed_by(self, line: &str) -> bool {
        let line = line.trim();
        line.chars().count() >= self.length && line.chars().all(|c| c == self.mark)
    }

    /// A line that closes it.
    pub(super) fn closing(self) -> String {
        std::iter::repeat_n(self.mark, self.length).collect()
    }
}

/// A table, as far as it was read.
#[derive(Debug)]
struct Table {
    headings: Vec<String>,
    /// Whether something of it is written.
    is_shown: bool,
}

/// A line that may be the head of a table.
#[derive(Debug)]
struct Head {
    line: String,
    /// Whether it is written as text: a stream may have shown its beginning before its first pipe.
    is_written: bool,
}

#[derive(Debug, Default)]
struct Renderer {
    text: String,
    fence: Option<Fence>,
    table: Option<Table>,
    /// A line that is the head of a table if the next line says so.
    head: Option<Head>,
    /// Whether the next line must not continue the paragraph of the last one.
    ends_paragraph: bool,
}

impl Renderer {
    fn push(&mut self, line: &str) {
        if self.ends_paragraph && !line.trim().is_empty() {
            self.text.push('\n');
        }
        self.ends_paragraph = false;
        self.text.push_str(line);
        self.text.push('\n');
    }

    /// Writes a block of its own: an empty line is before and after it.
    fn push_block(&mut self, line: &str) {
        if !self.text.is_empty() && !self.text.ends_with("\n\n") {
            self.text.push('\n');
        }
        self.ends_paragraph = false;
        self.push(line);
        self.ends_paragraph = true;
    }

    fn line(&mut self, line: &str) {
        if let Some(fence) = self.fence {
            if fence.is_closed_by(line) {
                self.fence = None;
            }
            return self.push(line);
        }
        if let Some(head) = self.head.take() {
            if is_separator(line, cells(&head.line).len()) {
                let headings = cells(&head.line).iter().map(|cell| heading(cell)).collect();
                self.table = Some(Table {
                    headings,
                    is_shown: head.is_written,
                });
                return;
            }
            self.write_head(&head);
        }
        if self.table.is_some() {
            if is_row(line) {
                return self.row(line);
            }
            self.end_table();
        }
        if let Some(fence) = Fence::opened_by(line) {
            self.fence = Some(fence);
            return self.push(line);
        }
        if is_row(line) {
            let is_written = !line.trim_start().starts_with('|');
            if is_written {
                self.push(&inline(line));
            }
            self.head = Some(Head {
                line: line.to_owned(),
                is_written,
            });
            return;
        }
        if let Some(title) = title(line) {
            let title = inline(title);
            return self.push_block(&bold(&title));
        }
        if is_rule(line) {
            self.ends_paragraph = !self.text.is_empty();
            return;
        }
        self.push(&inline(line));
    }

    fn write_head(&mut self, head: &Head) {
        if !head.is_written {
            self.push(&inline(&head.line));
        }
    }

    fn row(&mut self, line: &str) {
        let Some(table) = &mut self.table else { return };
        let cells = cells(line);
        let mut item = String::from("-");
        if let ([_], [cell, ..]) = (table.headings.as_slice(), cells.as_slice()) {
            let _ = write!(item, " {}", inline(cell));
        } else {
            let mut is_first = true;
            for (index, cell) in cells.iter().enumerate() {
                if cell.is_empty() {
                    continue;
                }
                item.push_str(if is_first { " " } else { "; " });
                is_first = false;
                match table.headings.get(index).filter(|name| !name.is_empty()) {
                    Some(name) => {
                        let _ = write!(item, "**{name}:** {}", inline(cell));
                    }
                    None => item.push_str(&inline(cell)),
                }
            }
        }
        table.is_shown = true;
        if item.len() > 1 {
            // A list begins after an empty line.
            let last = self.text.trim_end_matches('\n').rsplit('\n').next();
            let continues = last.is_some_and(|last| last.starts_with("- "));
            if !continues && !self.text.is_empty() && !self.text.ends_with("\n\n") {
                self.text.push('\n');
            }
            self.ends_paragraph = false;
            self.push(&item);
        }
    }

    fn end_table(&mut self) {
        let Some(table) = self.table.take() else {
            return;
        };
        if !table.is_shown {
            let names = table.headings.join(", ");
            self.push_block(&bold(&names));
        }
        self.ends_paragraph = !self.text.is_empty();
    }

    fn finish(mut self) -> String {
        if let Some(head) = self.head.take() {
            self.write_head(&head);
        }
        self.end_table();
        if let Some(fence) = self.fence {
            self.push(&fence.closing());
        }
        self.text.truncate(self.text.trim_end().len());
        self.text
    }

    /// What is rendered of the lines so far and of the beginning of the next one.
    fn begun_line(mut self, line: &str) -> String {
        let is_settled = self.head.is_none() && self.table.is_none();
        if self.fence.is_some() {
            self.text.push_str(line);
        } else if is_settled && !may_be_block(line) {
            let end = line.find(['<', '[', '【', '|', '`', '!', '\\', '\r']);
            let begun = &line[..end.unwrap_or(line.len())];
            if self.ends_paragraph && !begun.trim().is_empty() {
                self.text.push('\n');
            }
            self.text.push_str(begun);
        }
        self.text.truncate(self.text.trim_end().len());
        self.text
    }
}

/// Whether the beginning of a line may turn out to be more than a line of a paragraph or list.
fn may_be_block(line: &str) -> bool {
    let line = line.trim_start();
    let rest = line.trim_start_matches(['-', '*', '_', '=', '#', '~', ' ', '>', '+']);
    rest.is_empty() || line.starts_with(['#', '~', '`', '|'])
}

/// The text of a heading.
fn title(line: &str) -> Option<&str> {
    let line = line.strip_prefix("   ").unwrap_or(line).trim_start();
    let rest = line.trim_start_matches('#');
    let level = line.len() - rest.len();
    let is_title = (1..=6).contains(&level) && rest.starts_with([' ', '\t']);
    let text = rest.trim().trim_end_matches('#').trim_end();
    (is_title && !text.is_empty()).then_some(text)
}

/// Whether a line is a horizontal rule.
fn is_rule(line: &str) -> bool {
    let marks: Vec<char> = line.chars().filter(|c| !c.is_whitespace()).collect();
    let first = marks.first().copied().unwrap_or_default();
    marks.len() >= 3 && "-*_".contains(first) && marks.iter().all(|c| *c == first)
}

fn bold(text: &str) -> String {
    // Emphasis within a heading would end the bold text.
    let plain = text.replace("**", "").replace("__", "");
    format!("**{plain}**")
}

fn heading(cell: &str) -> String {
    let plain = cell.replace("**", "").replace("__", "");
    inline(plain.trim_end_matches(':'))
}

fn is_row(line: &str) -> bool {
    line.len() <= MAX_ROW_BYTES && !line.trim().is_empty() && cells(line).len() > 1
        || line.trim().len() > 2 && line.trim().starts_with('|') && line.trim().ends_with('|')
}

/// The cells of a row. A pipe in code or after a backslash separates nothing.
fn cells(line: &str) -> Vec<String> {
    let line = line.trim();
    let line = line.strip_prefix('|').unwrap_or(line);
    let mut cells = vec![String::new()];
    let mut is_code = false;
    let mut characters = line.chars().peekable();
    while let Some(c) = characters.next() {
        let is_full = cells.len() >= MAX_COLUMNS;
        let Some(cell) = cells.last_mut() else { break };
        match c {
            '\\' if characters.peek() == Some(&'|') => {
                characters.next();
                cell.push('|');
            }
            '|' if !is_code && !is_full => cells.push(String::new()),
            _ => {
                is_code ^= c == '`';
                cell.push(c);
            }
        }
    }
    if cells.len() > 1 && cells.last().is_some_and(|cell| cell.trim().is_empty()) {
        cells.pop();
    }
    cells.iter().map(|cell| cell.trim().to_owned()).collect()
}

/// Whether a line separates the head of a table from its rows.
fn is_separator(line: &str, columns: usize) -> bool {
    let cells = cells(line);
    let is_dashes = |cell: &String| {
        let dashes = cell.trim_start_matches(':').trim_end_matches(':');
        !dashes.is_empty() && dashes.chars().all(|c| c == '-')
    };
    cells.len() == columns && line.contains('-') && cells.iter().all(is_dashes)
}

/// Renders a line outside of blocks of code. Code within the line stays as it is.
fn inline(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find(['`', '<', '!', '[', '【', '\\']) {
        let (before, found) = rest.split_at(at);
        text.push_str(before);
        let taken = match found.chars().next() {
            Some('`') => code(found),
            Some('\\') => found.chars().nth(1).map_or(1, |next| 1 + next.len_utf8()),
            Some('<') => {
                rest = markup(found, &mut text);
                continue;
            }
            // A picture becomes a link: a foreign server must not learn who reads the answer.
            Some('!') => {
                rest = &found[1..];
                if !rest.starts_with('[') {
                    text.push('!');
                } else if rest.starts_with("[](") {
                    text.push_str("[picture]");
                    rest = &rest[2..];
                }
                continue;
            }
            Some('[' | '【') => {
                rest = reference(found, &mut text);
                continue;
            }
            Some(_) | None => found.len(),
        };
        text.push_str(&found[..taken]);
        rest = &found[taken..];
    }
    text.push_str(rest);
    text
}

/// The length of code within a line, or of its backticks if nothing closes it.
fn code(text: &str) -> usize {
    let ticks = text.len() - text.trim_start_matches('`').len();
    let mut at = ticks;
    while let Some(next) = text[at..].find('`') {
        let start = at + next;
        let run = text[start..].len() - text[start..].trim_start_matches('`').len();
        if run == ticks {
            return start + run;
        }
        at = start + run;
    }
    ticks
}

/// Writes what begins with `<`, and returns the text after it.
fn markup<'a>(text: &'a str, into: &mut String) -> &'a str {
    let inner = text[1..].split_once('>');
    if let Some((inner, rest)) = inner {
        let is_address = ["https://", "http://", "mailto:"]
            .iter()
            .any(|scheme| inner.starts_with(scheme));
        if is_address && !inner.contains(char::is_whitespace) {
            into.push_str(inner);
            // The address must not run into the text after it.
            if rest.starts_with(|c: char| !c.is_whitespace() && !".,;:!?)".contains(c)) {
                into.push(' ');
            }
            return rest;
        }
        let name = inner.trim_end_matches('/').trim();
        if name.eq_ignore_ascii_case("br") {
            into.push_str("  \n");
            return rest;
        }
    }
    // Teams would drop a tag that it does not know, such as <hostname>.
    into.push_str(
        match text[1..].starts_with(|c: char| c.is_alphabetic() || "/!?".contains(c)) {
            true => "&lt;",
            false => "<",
        },
    );
    &text[1..]
}

/// Writes numbers of sources, such as `[1, 2]` and `【1】`, as `[1][2]`. Returns the text after what
/// was written.
fn reference<'a>(text: &'a str, into: &mut String) -> &'a str {
    let opening = text.chars().next().map_or(1, char::len_utf8);
    let inner = &text[opening..];
    let (closing, width) = match opening {
        1 => (']', 1),
        _ => ('】', '】'.len_utf8()),
    };
    if let Some(end) = inner.find(closing) {
        let (list, rest) = (&inner[..end], &inner[end + width..]);
        let numbers = list.split([',', ';', ' ', '^']).filter(|n| !n.is_empty());
        let is_numbers = numbers
            .clone()
            .all(|number| number.len() <= 4 && number.bytes().all(|byte| byte.is_ascii_digit()));
        if is_numbers && numbers.clone().next().is_some() && !rest.starts_with(['(', ':']) {
            for number in numbers {
                let _ = write!(into, "[{number}]");
            }
            return rest;
        }
    }
    into.push_str(&text[..opening]);
    inner
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markdown_is_written_as_teams_renders_it() {
        let cases: &[(&str, &str)] = &[
            ("", ""),
            ("Hello **you**.\n", "Hello **you**."),
            ("# Title\nText", "**Title**\n\nText"),
            (
                "Text\n## A **bold** title ##\n\nText",
                "Text\n\n**A bold title**\n\nText",
            ),
            ("#hashtag", "#hashtag"),
            ("One\n\n---\n\nTwo", "One\n\n\nTwo"),
            (
                "Ports:\n\n| Name | Port |\n|:---|---:|\n| HTTP | 80 |\n| TLS | `443|8443` |\n\nDone.",
                "Ports:\n\n- **Name:** HTTP; **Port:** 80\n- **Name:** TLS; **Port:** `443|8443`\n\nDone.",
            ),
            ("a | b\n--- | ---\n1 | 2", "a | b\n\n- **a:** 1; **b:** 2"),
            (
                "| Only |\n| --- |\n| one |\n| two |\nText",
                "- one\n- two\n\nText",
            ),
            ("| A | B |\n|---|---|\n|  | 2 | 3 |", "- **B:** 2; 3"),
            ("| A | B |\n|---|---|", "**A, B**"),
            ("a | b\nno table", "a | b\nno table"),
            (
                "Text\n| A | B |\n|---|---|\n| 1 | 2 |",
                "Text\n\n- **A:** 1; **B:** 2",
            ),
            (
                "```sh\n# comment\n| a | b |\n<tag>\n```\n",
                "```sh\n# comment\n| a | b |\n<tag>\n```",
            ),
            ("```\nopen", "```\nopen\n```"),
            ("~~~~\n```\n~~~\n~~~~\n# T", "~~~~\n```\n~~~\n~~~~\n\n**T**"),
            (
                "- item\n  ```\n  code\n  ```",
                "- item\n  ```\n  code\n  ```",
            ),
            (
                "Run `ping <host>` on <host>.",
                "Run `ping <host>` on &lt;host>.",
            ),
            ("a < b, 1<2", "a < b, 1<2"),
            ("</at><script>", "&lt;/at>&lt;script>"),
            ("See <https://example.com/a>.", "See https://example.com/a."),
            ("one<br/>two", "one  \ntwo"),
            (
                "![A picture](https://e.com/p.png)",
                "[A picture](https://e.com/p.png)",
            ),
            (
                "![](https://e.com/p.png)!",
                "[picture](https://e.com/p.png)!",
            ),
            (
                "As [1, 3] and 【2】 and [^4] say.",
                "As [1][3] and [2] and [4] say.",
            ),
            ("[1](https://e.com), [a], [1", "[1](https://e.com), [a], [1"),
            (r"\[1, 2\] \<b", r"\[1, 2\] \<b"),
            ("Windows\r\nlines", "Windows\nlines"),
            ("``a ` b`` <c", "``a ` b`` &lt;c"),
        ];
        for (text, expected) in cases {
            assert_eq!(render(text), *expected, "{text}");
        }
    }

    #[test]
    fn what_is_rendered_of_a_part_is_the_beginning_of_what_is_rendered_of_the_whole() {
        let whole = "# Title\nSome **text**, see [1, 2] and <b>.\n\nPorts | of\n--- | ---\nHTTP | 80\n\
                     TLS | 443\n\nThen ![p](https://e.com)! `a<b`\n- one\n- two\n***\n```sh\n# x | y\n```\n\
                     > quote\nEnd <br> 👩‍💻 of 【3】 it\n\n| a |\n|---|\n| 1 |\nx\n---\ny | z";
        let rendered = render(whole);
        let ends = whole.char_indices().map(|(at, _)| at).chain([whole.len()]);
        for end in ends {
            let so_far = render_so_far(&whole[..end]);
            assert!(
                rendered.starts_with(&so_far),
                "{end}: {so_far:?}\n{rendered:?}"
            );
        }
        assert_eq!(render_so_far("Hello there, you"), "Hello there, you");
        assert_eq!(render_so_far("Hello there, see [1"), "Hello there, see");
        assert_eq!(render_so_far("```\nlet a"), "```\nlet a");
    }
}
