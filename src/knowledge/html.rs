//! HTML articles as text: documentation tools of MSPs export HTML, and a reader of an answer sees
//! text.
//!
//! Time and text are linear in the length of the body, whatever it is.

use std::borrow::Cow;

mod code;
mod entities;
#[cfg(test)]
mod tests;

use self::code::Code;
use self::entities::decode;

/// Deeper lists have the indentation of this depth.
const MAX_INDENTED_DEPTH: usize = 16;
/// The highest number of an item: Markdown has none with more digits.
const MAX_NUMBER: u32 = 999_999_999;
/// Elements whose content is not shown.
const HIDDEN: [&str; 7] = [
    "head", "title", "script", "style", "noscript", "template", "svg",
];
/// Elements that stand apart from what is around them.
const PARAGRAPHS: [&str; 15] = [
    "p",
    "ul",
    "ol",
    "dl",
    "table",
    "blockquote",
    "pre",
    "figure",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "hr",
];
/// Elements that begin a line.
const LINES: [&str; 22] = [
    "div",
    "section",
    "article",
    "header",
    "footer",
    "main",
    "nav",
    "aside",
    "body",
    "html",
    "tr",
    "thead",
    "tbody",
    "tfoot",
    "caption",
    "li",
    "dt",
    "dd",
    "figcaption",
    "form",
    "fieldset",
    "details",
];
/// Elements within a line.
const INLINE: [&str; 31] = [
    "a", "abbr", "b", "bdi", "big", "br", "center", "cite", "code", "del", "em", "font", "i",
    "img", "ins", "kbd", "label", "mark", "q", "s", "samp", "small", "span", "strike", "strong",
    "sub", "summary", "sup", "td", "th", "u",
];

/// The text of an article's body. A body that is not HTML stays as it is.
///
/// Headings, lists and code become Markdown, as in other articles. A body in Markdown may show tags
/// as code, and may have single tags such as `<br>`.
pub fn text_of(body: &str) -> Cow<'_, str> {
    let code = Code::of(body);
    let Some(kind) = kind_of(body, &code) else {
        return Cow::Borrowed(body);
    };
    let mut text = Text::new(kind, body.len());
    text.read(body, &code);
    Cow::Owned(text.finish())
}

/// How the line breaks of a body count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// HTML alone: line breaks are spaces.
    Document,
    /// Text with HTML in it: line breaks stay, and so does code.
    Mixed,
}

/// The kind of an HTML body; `None` for other text.
fn kind_of(body: &str, code: &Code) -> Option<Kind> {
    let start = body.trim_start_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
    let begins = starts_with_ignoring_case(start, "<!doctype html")
        || Tag::parse(start).is_some_and(|tag| tag.is_known());
    let mut ends = 0;
    let mut breaks = 0;
    let mut at = 0;
    while let Some(next) = body[at..].find(['<', '`']) {
        at += next;
        if body[at..].starts_with('`') {
            // Only text with Markdown has code between backticks.
            at = if begins { at + 1 } else { code.end(at) };
        } else if let Some(tag) = Tag::parse(&body[at..]) {
            ends += usize::from(tag.is_known() && tag.is_end);
            breaks += usize::from(tag.name == "br");
            at += tag.length;
        } else {
            at += 1;
        }
    }
    if begins && ends + breaks > 0 {
        let is_markdown = body.lines().any(is_markdown_line);
        return Some(if is_markdown {
            Kind::Mixed
        } else {
            Kind::Document
        });
    }
    (ends > 0 || breaks > 1).then_some(Kind::Mixed)
}

/// Whether a line begins as only Markdown does.
fn is_markdown_line(line: &str) -> bool {
    let line = line.trim_start();
    let heading = line.trim_start_matches('#');
    line.starts_with("```")
        || line.starts_with("- ")
        || (heading.len() < line.len() && heading.starts_with(' '))
}

fn starts_with_ignoring_case(text: &str, start: &str) -> bool {
    text.get(..start.len())
        .is_some_and(|begin| begin.eq_ignore_ascii_case(start))
}

/// A tag at the beginning of a text.
#[derive(Debug)]
struct Tag<'a> {
    name: String,
    is_end: bool,
    attributes: &'a str,
    length: usize,
}

impl<'a> Tag<'a> {
    /// Reads a tag. All calls for one body together take linear time: each byte is read at most
    /// once outside quotes, once within each kind of quotes.
    fn parse(text: &'a str) -> Option<Self> {
        let inner = text.strip_prefix('<')?;
        let (is_end, inner) = match inner.strip_prefix('/') {
            Some(inner) => (true, inner),
            None => (false, inner),
        };
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == ':' || c == '-';
        let name_length = inner.find(|c| !is_name(c)).unwrap_or(inner.len());
        let name = &inner[..name_length];
        if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return None;
        }
        let rest = &inner[name_length..];
        let mut quote = None;
        for (at, c) in rest.bytes().enumerate() {
            match (quote, c) {
                (None, b'>') => {
                    return Some(Self {
                        name: name.to_ascii_lowercase(),
                        is_end,
                        attributes: &rest[..at],
                        length: text.len() - rest.len() + at + 1,
                    });
                }
                (None, b'<') => return None,
                (None, b'"' | b'\'') => quote = Some(c),
                (Some(open), _) if open == c => quote = None,
                (None | Some(_), _) => {}
            }
        }
        None
    }

    fn is_known(&self) -> bool {
        let name = self.name.as_str();
        [&HIDDEN[..], &PARAGRAPHS, &LINES, &INLINE]
            .iter()
            .any(|names| names.contains(&name))
    }

    /// The value of an attribute, decoded.
    fn attribute(&self, name: &str) -> Option<String> {
        let mut rest = self.attributes;
        while let Some(at) = rest.find('=') {
            let key = rest[..at].trim_end();
            let key = key.rsplit(char::is_whitespace).next().unwrap_or(key);
            let value = rest[at + 1..].trim_start();
            let (value, after) = match value.chars().next().filter(|c| matches!(c, '"' | '\'')) {
                Some(quote) => value[1..].split_once(quote).unwrap_or((&value[1..], "")),
                None => value.split_once(char::is_whitespace).unwrap_or((value, "")),
            };
            if key.eq_ignore_ascii_case(name) {
                return Some(decode(value).trim().to_owned());
            }
            rest = after;
        }
        None
    }
}

/// The text that is being written.
struct Text {
    kind: Kind,
    out: String,
    /// White space was read since the last word.
    is_spaced: bool,
    /// The line so far is the marker of an item, and its text follows on the same line.
    is_at_marker: bool,
    /// The open lists; a number for the next item of an ordered one.
    lists: Vec<Option<u32>>,
    /// The open link: its address, and where its text begins. Links do not nest.
    link: Option<(Option<String>, usize)>,
    /// The level of preformatted text.
    preformatted: usize,
    /// The length of the text from which items are no longer indented: indentation must not make
    /// a large text of a small body.
    max_indented: usize,
}

impl Text {
    fn new(kind: Kind, body_length: usize) -> Self {
        Self {
            kind,
            out: String::new(),
            is_spaced: false,
            is_at_marker: false,
            lists: Vec::new(),
            link: None,
            preformatted: 0,
            max_indented: body_length,
        }
    }

    fn read(&mut self, body: &str, code: &Code) {
        let mut at = 0;
        while let Some(next) = body[at..].find(['<', '`']) {
            self.text(&decode(&body[at..at + next]));
            at += next;
            at = if body[at..].starts_with('<') {
                body.len() - self.read_special(&body[at..]).len()
            } else {
                let end = match self.kind {
                    Kind::Document => at + 1,
                    Kind::Mixed => code.end(at),
                };
                self.push(&body[at..end]);
                end
            };
        }
        self.text(&decode(&body[at..]));
    }

    /// Reads what begins with `<`. Returns the rest.
    fn read_special<'a>(&mut self, found: &'a str) -> &'a str {
        if let Some(comment) = found.strip_prefix("<!--") {
            return comment.split_once("-->").map_or("", |(_, rest)| rest);
        }
        if found.starts_with("<!") || found.starts_with("<?") {
            return found.split_once('>').map_or("", |(_, rest)| rest);
        }
        let Some(tag) = Tag::parse(found) else {
            self.text(&found[..1]);
            return &found[1..];
        };
        let rest = &found[tag.length..];
        if !tag.is_known() && self.kind == Kind::Mixed {
            // A placeholder, such as <server name>.
            self.text(&found[..tag.length]);
            return rest;
        }
        if HIDDEN.contains(&tag.name.as_str()) && !tag.is_end && !tag.attributes.ends_with('/') {
            return after_end(rest, &tag.name);
        }
        self.tag(&tag);
        rest
    }

    fn tag(&mut self, tag: &Tag<'_>) {
        let name = tag.name.as_str();
        if PARAGRAPHS.contains(&name) && !(name == "pre" && tag.is_end) {
            // A list within an item begins on the next line.
            match self.lists.is_empty() || name == "pre" {
                true => self.paragraph(),
                false => self.line(),
            }
        } else if LINES.contains(&name) {
            self.line();
        }
        match (name, tag.is_end) {
            ("br", _) => self.line_break(),
            ("h1" | "h2" | "h3" | "h4" | "h5" | "h6", false) => {
                let level = usize::from(name.as_bytes()[1] - b'0');
                self.marker(&format!("{} ", "#".repeat(level)));
            }
            ("ul", false) => self.lists.push(None),
            ("ol", false) => {
                let start = tag.attribute("start").and_then(|start| start.parse().ok());
                let start = start.filter(|start| *start <= MAX_NUMBER);
                self.lists.push(Some(start.unwrap_or(1)));
            }
            ("ul" | "ol", true) => drop(self.lists.pop()),
            ("li", false) => self.item(),
            ("td" | "th", false) => self.cell(),
            ("pre", false) => {
                self.preformatted += 1;
                self.push("```\n");
            }
            ("pre", true) if self.preformatted > 0 => {
                self.preformatted -= 1;
                self.line();
                self.push("```");
                self.paragraph();
            }
            ("a", false) => {
                self.end_of_link();
                self.link = Some((tag.attribute("href"), self.out.len()));
            }
            ("a", true) => self.end_of_link(),
            ("img", _) => {
                if let Some(text) = tag.attribute("alt") {
                    self.text(&text);
                }
            }
            _ => {}
        }
    }

    /// Writes text, with one space for the white space of HTML.
    fn text(&mut self, text: &str) {
        if self.preformatted > 0 {
            self.push(text);
            return;
        }
        for c in text.chars() {
            match c {
                '\n' if self.kind == Kind::Mixed => {
                    if self.out.ends_with('\n') && !self.out.ends_with("\n\n") {
                        self.out.push('\n');
                    } else {
                        self.line();
                    }
                }
                // A space at the beginning of a line of Markdown means something.
                ' ' if self.kind == Kind::Mixed && self.out.ends_with(['\n', ' ']) => {
                    self.out.push(c)
                }
                c if c.is_whitespace() || c == '\u{200b}' => self.is_spaced = true,
                c => {
                    let is_line_start = self.out.is_empty() || self.out.ends_with(['\n', ' ']);
                    if self.is_spaced && !is_line_start {
                        self.out.push(' ');
                    }
                    self.is_spaced = false;
                    self.is_at_marker = false;
                    self.out.push(c);
                }
            }
        }
    }

    /// Writes text as it is.
    fn push(&mut self, text: &str) {
        if self.is_spaced && !self.out.is_empty() && !self.out.ends_with(char::is_whitespace) {
            self.out.push(' ');
        }
        self.is_spaced = false;
        self.is_at_marker = false;
        self.out.push_str(text);
    }

    /// Begins a line, unless one has just begun.
    fn line(&mut self) {
        self.is_spaced = false;
        if !self.is_at_marker && !self.out.is_empty() && !self.out.ends_with('\n') {
            self.trim_line();
            self.out.push('\n');
        }
    }

    /// Breaks the line, as often as the text does.
    fn line_break(&mut self) {
        self.is_spaced = false;
        self.trim_line();
        self.out.push('\n');
    }

    /// Begins a paragraph.
    fn paragraph(&mut self) {
        self.line();
        if !self.is_at_marker && !self.out.is_empty() && !self.out.ends_with("\n\n") {
            self.out.push('\n');
        }
    }

    fn trim_line(&mut self) {
        let length = self.out.trim_end_matches([' ', '\t']).len();
        self.out.truncate(length);
    }

    fn marker(&mut self, marker: &str) {
        self.is_spaced = false;
        self.out.push_str(marker);
        self.is_at_marker = true;
    }

    fn item(&mut self) {
        let is_indented = self.out.len() < self.max_indented;
        let depth = match self.lists.len().saturating_sub(1) {
            depth if is_indented => depth.min(MAX_INDENTED_DEPTH),
            _ => 0,
        };
        let marker = match self.lists.last_mut() {
            Some(Some(number)) => {
                let marker = format!("{number}. ");
                *number = number.saturating_add(1).min(MAX_NUMBER);
                marker
            }
            Some(None) | None => "- ".to_owned(),
        };
        // An item without text stays a line of its own.
        if self.is_at_marker {
            self.is_at_marker = false;
            self.line();
        }
        self.marker(&format!("{}{marker}", "  ".repeat(depth)));
    }

    fn cell(&mut self) {
        if !self.out.is_empty() && !self.out.ends_with('\n') {
            self.trim_line();
            self.out.push_str(" | ");
        }
        self.is_spaced = false;
    }

    /// Names the address of a link after its text.
    fn end_of_link(&mut self) {
        let Some((Some(address), start)) = self.link.take() else {
            return;
        };
        let schemes = ["https://", "http://", "mailto:", "tel:"];
        let is_shown = schemes
            .iter()
            .any(|scheme| starts_with_ignoring_case(&address, scheme));
        let text = self.out.get(start..).unwrap_or_default().trim();
        let bare = address.split_once(':').map_or("", |(_, rest)| rest);
        if is_shown && text.is_empty() {
            self.text(&address);
        } else if is_shown && text != address && text != bare {
            // The space at the end of the link's text follows the address.
            let is_spaced = std::mem::take(&mut self.is_spaced);
            self.push(&format!(" ({address})"));
            self.is_spaced = is_spaced;
        }
    }

    fn finish(self) -> String {
        let mut text = String::with_capacity(self.out.len());
        let mut blank = 0;
        for line in self.out.lines() {
            let line = line.trim_end();
            blank = if line.is_empty() { blank + 1 } else { 0 };
            if blank < 2 {
                text.push_str(line);
                text.push('\n');
            }
        }
        text.trim_matches('\n').to_owned()
    }
}

/// What follows the end tag of an element whose content is not shown.
fn after_end<'a>(text: &'a str, name: &str) -> &'a str {
    let mut rest = text;
    while let Some(at) = rest.find("</") {
        let found = &rest[at..];
        if let Some(tag) = Tag::parse(found).filter(|tag| tag.name == name) {
            return &found[tag.length..];
        }
        rest = &found[2..];
    }
    ""
}
