//! Knowledge articles, and the division of their Markdown into passages that an answer can quote.

use super::ids::ArticleId;

/// A knowledge article, as far as answers need one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Article {
    /// The article's id.
    pub id: ArticleId,
    /// The title.
    pub title: String,
    /// The text, as Markdown.
    pub body: String,
    /// The URL where people can read the article.
    pub url: Option<String>,
}

/// A part of an article that can be read without the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passage {
    /// The headings above the passage, outermost first.
    pub heading: Option<String>,
    /// All headings above the passage and inside it.
    pub topics: String,
    /// The passage's Markdown. Headings inside it become bold lines, which every chat client shows.
    pub text: String,
}

/// A passage with this many words may end at the end of its section.
const MIN_PASSAGE_WORDS: usize = 25;
/// The most words of a passage, where the text can be divided.
const MAX_PASSAGE_WORDS: usize = 160;
/// A list of up to this many words stays whole.
const MAX_LIST_WORDS: usize = 320;
/// The longest line that is a heading, in bytes. Each passage has the names of the headings above
/// it, so that a long one would make a large index of a small article.
const MAX_HEADING_BYTES: usize = 200;

impl Article {
    /// Divides the body at headings, and long sections between blocks.
    ///
    /// Code, tables and lists of the usual length stay whole. A short article is one passage. The
    /// result has at least one passage, which is empty for an empty article.
    pub fn passages(&self) -> Vec<Passage> {
        let blocks = blocks(&self.body);
        let words: usize = blocks.iter().map(|block| block.words).sum();
        let mut cutter = Cutter {
            is_short: words <= MAX_PASSAGE_WORDS,
            ..Cutter::default()
        };
        for block in blocks {
            match block.kind {
                Kind::Heading(1) if block.text.eq_ignore_ascii_case(self.title.trim()) => {}
                Kind::Heading(level) => cutter.section(level, block.text),
                Kind::List | Kind::Prose | Kind::Verbatim => cutter.add(&block),
            }
        }
        cutter.finish()
    }
}

#[derive(Default)]
struct Cutter {
    is_short: bool,
    path: Vec<(usize, String)>,
    heading: Option<String>,
    topics: String,
    text: String,
    words: usize,
    passages: Vec<Passage>,
}

impl Cutter {
    fn section(&mut self, level: usize, name: String) {
        while self.path.last().is_some_and(|(outer, _)| *outer >= level) {
            self.path.pop();
        }
        if self.text.is_empty() || (!self.is_short && self.words >= MIN_PASSAGE_WORDS) {
            self.path.push((level, name));
            self.cut();
        } else {
            self.append(&format!("**{name}**"));
            self.topics.push('\n');
            self.topics.push_str(&name);
            self.path.push((level, name));
        }
    }

    fn add(&mut self, block: &Block) {
        let introduced = self.text.trim_end().ends_with(':');
        let is_full = self.words + block.words > MAX_PASSAGE_WORDS;
        if self.words >= MIN_PASSAGE_WORDS && is_full && !introduced {
            self.cut();
        }
        self.append(&block.text);
        self.words += block.words;
    }

    fn append(&mut self, text: &str) {
        if !self.text.is_empty() {
            self.text.push_str("\n\n");
        }
        self.text.push_str(text);
    }

    fn cut(&mut self) {
        let names: Vec<_> = self.path.iter().map(|(_, name)| name.as_str()).collect();
        let next = (!names.is_empty()).then(|| names.join(" › "));
        let topics = std::mem::replace(&mut self.topics, next.clone().unwrap_or_default());
        let heading = std::mem::replace(&mut self.heading, next);
        if !self.text.is_empty() {
            let text = std::mem::take(&mut self.text);
            self.passages.push(Passage {
                heading,
                topics,
                text,
            });
        }
        self.words = 0;
    }

    fn finish(mut self) -> Vec<Passage> {
        self.cut();
        if self.passages.is_empty() {
            self.passages.push(Passage {
                heading: None,
                topics: self.topics,
                text: String::new(),
            });
        }
        self.passages
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Heading(usize),
    List,
    Prose,
    /// Code, a table or a quotation, which must stay whole.
    Verbatim,
}

struct Block {
    kind: Kind,
    text: String,
    words: usize,
}

/// Splits a Markdown text into blocks at blank lines, except those inside a code fence or a list.
fn blocks(markdown: &str) -> Vec<Block> {
    let mut reader = Reader::default();
    for line in markdown.lines() {
        reader.read(line);
    }
    if let (Some(mark), Some(block)) = (reader.fence, &mut reader.open) {
        // The fence must not turn the rest of an answer into code.
        block.text.push('\n');
        block.text.push_str(mark);
    }
    reader.close();
    reader.blocks
}

#[derive(Default)]
struct Reader<'a> {
    blocks: Vec<Block>,
    open: Option<Block>,
    /// The opening mark of the fence around the next line, with its indentation.
    fence: Option<&'a str>,
    blank_lines: usize,
}

impl<'a> Reader<'a> {
    fn read(&mut self, line: &'a str) {
        let content = line.trim();
        let before = line.len() - line.trim_start().len();
        let tabs = line[..before].matches('\t').count();
        let indent = before + 3 * tabs;
        let mark = fence_mark(content);
        if let Some(opening) = self.fence {
            self.append(line);
            let closes = mark == content && mark.starts_with(opening.trim_start());
            self.fence = self.fence.filter(|_| !closes);
            return;
        }
        if content.is_empty() {
            self.blank_lines += 1;
            return;
        }
        let list = self.open.as_ref().filter(|block| block.kind == Kind::List);
        let in_item = list.is_some() && indent >= 2;
        let next_item = list.filter(|_| !in_item && is_list_item(content));
        let continues_block = match next_item {
            Some(list) => list.words <= MAX_LIST_WORDS,
            None => in_item || self.blank_lines == 0,
        };
        if !continues_block {
            self.close();
        }
        if let Some(level) = heading_level(content).filter(|_| !in_item && indent < 4) {
            self.close();
            self.blocks.push(heading(level, content));
            return;
        }
        let block = self.append(line);
        if block.kind == Kind::Prose {
            if !mark.is_empty() || indent > 3 || content.starts_with(['|', '>', '<']) {
                block.kind = Kind::Verbatim;
            } else if is_list_item(content) {
                block.kind = Kind::List;
            }
        }
        self.fence = (!mark.is_empty()).then(|| &line[..before + mark.len()]);
    }

    fn append(&mut self, line: &str) -> &mut Block {
        let block = self.open.get_or_insert_with(|| Block {
            kind: Kind::Prose,
            text: String::new(),
            words: 0,
        });
        if !block.text.is_empty() {
            let breaks = std::iter::repeat_n('\n', self.blank_lines + 1);
            block.text.extend(breaks);
        }
        self.blank_lines = 0;
        block.text.push_str(line);
        block.words += line.split_whitespace().count();
        block
    }

    fn close(&mut self) {
        self.blank_lines = 0;
        let Some(block) = self.open.take() else {
            return;
        };
        if block.kind != Kind::Prose || block.words <= MAX_PASSAGE_WORDS {
            self.blocks.push(block);
            return;
        }
        for text in paragraphs(&block.text) {
            self.blocks.push(Block {
                kind: Kind::Prose,
                words: text.split_whitespace().count(),
                text: text.to_owned(),
            });
        }
    }
}

/// Divides an overlong paragraph after sentences, but never inside code, emphasis or a link.
fn paragraphs(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut words, mut ticks, mut stars, mut brackets) = (0, 0, 0, 0, 0_i32);
    let mut previous = ' ';
    for (at, character) in text.char_indices() {
        if character.is_whitespace() {
            words += 1;
            let whole = ticks % 2 == 0 && stars % 2 == 0 && brackets <= 0;
            if matches!(previous, '.' | '!' | '?') && whole && words >= MAX_PASSAGE_WORDS * 3 / 4 {
                parts.push(text[start..at].trim());
                start = at;
                words = 0;
            }
        }
        // Markdown treats a run of marks as one mark.
        ticks += usize::from(character == '`' && previous != '`');
        stars += usize::from(character == '*' && previous != '*');
        brackets +=
            i32::from(matches!(character, '[' | '(')) - i32::from(matches!(character, ']' | ')'));
        previous = character;
    }
    parts.push(text[start..].trim());
    parts.retain(|part| !part.is_empty());
    parts
}

fn heading(level: usize, text: &str) -> Block {
    let text = text.trim_matches(|c: char| matches!(c, '#' | '*' | '_') || c.is_whitespace());
    Block {
        kind: Kind::Heading(level),
        text: text.to_owned(),
        words: text.split_whitespace().count(),
    }
}

fn heading_level(content: &str) -> Option<usize> {
    if content.len() > MAX_HEADING_BYTES {
        return None;
    }
    let level = content.bytes().take_while(|b| *b == b'#').count();
    let rest = &content[level..];
    ((1..=6).contains(&level) && (rest.is_empty() || rest.starts_with([' ', '\t'])))
        .then_some(level)
}

fn is_list_item(content: &str) -> bool {
    let digits = content.bytes().take_while(u8::is_ascii_digit).count();
    let rest = if digits > 0 {
        content[digits..].strip_prefix(['.', ')'])
    } else {
        content.strip_prefix(['-', '*', '+'])
    };
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t']))
}

/// The backticks or tildes of a line that opens or closes a code fence; empty for other lines.
fn fence_mark(content: &str) -> &str {
    let Some(mark) = content.chars().next().filter(|c| matches!(c, '`' | '~')) else {
        return "";
    };
    let rest = content.trim_start_matches(mark);
    let is_long_enough = content.len() - rest.len() >= 3;
    if is_long_enough && !rest.contains('`') {
        &content[..content.len() - rest.len()]
    } else {
        ""
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::Tick;

    fn passages(body: &str) -> Vec<Passage> {
        let article = Article {
            id: ArticleId::new(Tick(1), 1),
            title: "Title".to_owned(),
            body: body.to_owned(),
            url: None,
        };
        article.passages()
    }

    #[test]
    fn a_line_too_long_for_a_heading_is_text_and_no_part_of_other_passages() {
        let long = "long ".repeat(6_000);
        let sections = format!("## b\n\n{}\n\n", "a ".repeat(25)).repeat(500);
        let body = format!("# {long}\n\n{sections}");
        let passages = passages(&body);
        assert_eq!(passages.len(), 501);
        assert!(passages[0].text.starts_with("# long long"));
        assert_eq!(passages[500].heading.as_deref(), Some("b"));
        let size = |passage: &Passage| {
            let heading = passage.heading.as_ref().map_or(0, String::len);
            passage.text.len() + passage.topics.len() + heading
        };
        assert!(passages.iter().map(size).sum::<usize>() < 2 * body.len());
    }

    fn texts(body: &str) -> Vec<String> {
        passages(body)
            .into_iter()
            .map(|passage| passage.text)
            .collect()
    }

    fn words(number: usize) -> String {
        vec!["word"; number].join(" ")
    }

    #[test]
    fn a_short_article_is_one_passage_without_its_title() {
        let body = "# Title\n\nFirst.\n\n## Steps\n\n1. One\n2. Two\n";
        assert_eq!(
            passages(body),
            [Passage {
                heading: None,
                topics: "\nSteps".to_owned(),
                text: "First.\n\n**Steps**\n\n1. One\n2. Two".to_owned(),
            }]
        );
    }

    #[test]
    fn a_long_article_is_divided_at_headings_and_each_passage_has_the_headings_above_it() {
        let body = format!(
            "{0}\n\n## On *Windows*\n\n### First\n\n{0}\n\n### Second\n{0}\n\n## End\n\n{0}",
            words(60)
        );
        let found: Vec<_> = passages(&body)
            .into_iter()
            .map(|passage| passage.heading)
            .collect();
        let expected = [
            None,
            Some("On *Windows › First"),
            Some("On *Windows › Second"),
            Some("End"),
        ];
        assert_eq!(found, expected.map(|name| name.map(str::to_owned)));
    }

    #[test]
    fn a_section_of_a_few_words_is_joined_with_the_next() {
        let body = format!(
            "## Note\n\nShort.\n\n## Long\n\n{}\n\n{}",
            words(100),
            words(100)
        );
        assert_eq!(
            texts(&body),
            [format!("Short.\n\n**Long**\n\n{}", words(100)), words(100)]
        );
    }

    #[test]
    fn code_with_blank_lines_and_number_signs_stays_whole() {
        let code = format!("```sh\n# {0}\n\n- {0}\n\n# {0}\n```", words(90));
        let body = format!("{}\n\n{code}\n\n# After\n\n{}", words(60), words(60));
        assert_eq!(texts(&body), [words(60), code, words(60)]);
    }

    #[test]
    fn an_unclosed_code_fence_is_closed_also_inside_a_list() {
        assert_eq!(texts("```\n# code"), ["```\n# code\n```"]);
        assert_eq!(
            texts("- a\n\n  ~~~\n  code"),
            ["- a\n\n  ~~~\n  code\n  ~~~"]
        );
    }

    #[test]
    fn a_list_stays_whole_and_together_with_its_introductory_line() {
        let list = format!(
            "1. {0}\n\n   {0}\n\n   # {0}\n2. {0}\n\n\n3.\t{0}",
            words(30)
        );
        let body = format!("{0}\n\n{0}\n\nDo this:\n\n{list}\n\n{0}", words(70));
        let expected = [
            format!("{0}\n\n{0}\n\nDo this:\n\n{list}", words(70)),
            words(70),
        ];
        assert_eq!(texts(&body), expected);
    }

    #[test]
    fn an_overlong_list_is_divided_between_its_items() {
        let item = format!("- {}", words(99));
        let body = [item.as_str(); 8].join("\n");
        assert_eq!(
            texts(&body),
            [[item.as_str(); 4].join("\n"), [item.as_str(); 4].join("\n")]
        );
    }

    #[test]
    fn an_overlong_paragraph_is_divided_after_sentences_outside_code_and_emphasis() {
        let sentence = format!("{}.", words(60));
        let marked = format!("**{sentence} {sentence} {sentence}**");
        let body = format!("{sentence} {sentence} {marked} {sentence}");
        assert_eq!(
            texts(&body),
            [
                format!("{sentence} {sentence}"),
                format!("{marked} {sentence}")
            ]
        );
    }

    #[test]
    fn an_empty_article_is_one_empty_passage() {
        assert_eq!(texts(""), [""]);
        assert_eq!(texts("# Title\n\n## Later"), [""]);
    }
}
