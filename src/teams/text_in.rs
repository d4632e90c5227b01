//! The text of a message as the agent reads it: without the bot's mention, without HTML.

use super::activity::Activity;
use crate::knowledge::html;

/// Elements that Teams uses for formatting. A message with one of them is HTML.
const ELEMENTS: [&str; 26] = [
    "p",
    "div",
    "br",
    "b",
    "i",
    "u",
    "s",
    "strong",
    "em",
    "strike",
    "ul",
    "ol",
    "li",
    "span",
    "a",
    "pre",
    "code",
    "blockquote",
    "table",
    "tr",
    "td",
    "img",
    "h1",
    "h2",
    "h3",
    "codeblock",
];

/// The text of a message: the bot's own mention is left out, others stay as names.
pub fn text_of(activity: &Activity) -> String {
    let mut text = activity.text.clone();
    for mention in &activity.mentions {
        if mention.text.is_empty() {
            continue;
        }
        let instead = match activity.is_bot(&mention.id) {
            true => " ",
            false => mention.name.as_str(),
        };
        text = text.replace(&mention.text, instead);
    }
    let text = without_tag(&text, "at");
    let text = match has_element(&text) {
        true => html::text_of(&format!("<div>{text}</div>")).into_owned(),
        false => decoded(&text),
    };
    let lines = text.lines().map(tidied);
    lines.collect::<Vec<_>>().join("\n").trim().to_owned()
}

/// A line without doubled spaces, which mentions leave behind, and with its indentation.
fn tidied(line: &str) -> String {
    let line = line.replace('\u{a0}', " ");
    let line = line.trim_end();
    let start = line.len() - line.trim_start().len();
    let (indent, rest) = line.split_at(start);
    let mut tidy = indent.to_owned();
    let mut was_space = false;
    for c in rest.chars() {
        if !(c == ' ' && was_space) {
            tidy.push(c);
        }
        was_space = c == ' ';
    }
    tidy
}

/// The text without the tags of one element. Its content stays.
fn without_tag(text: &str, name: &str) -> String {
    let mut rest = text;
    let mut kept = String::with_capacity(text.len());
    while let Some(start) = rest.find('<') {
        let (before, tag) = rest.split_at(start);
        kept.push_str(before);
        match tag_length(tag, name) {
            Some(length) => rest = &tag[length..],
            None => {
                kept.push('<');
                rest = &tag[1..];
            }
        }
    }
    kept.push_str(rest);
    kept
}

/// The length of the element's opening or closing tag at the start of text.
fn tag_length(text: &str, name: &str) -> Option<usize> {
    let inner = text.strip_prefix('<')?;
    let inner = inner.strip_prefix('/').unwrap_or(inner);
    let after = inner
        .get(..name.len())
        .filter(|found| found.eq_ignore_ascii_case(name))
        .map(|_| &inner[name.len()..])?;
    if !after.starts_with(['>', ' ', '/', '\t', '\n']) {
        return None;
    }
    let end = after.find('>')?;
    Some(text.len() - after.len() + end + 1)
}

fn has_element(text: &str) -> bool {
    text.match_indices('<').any(|(at, _)| {
        let tag = &text[at..];
        ELEMENTS.iter().any(|name| tag_length(tag, name).is_some())
    })
}

/// Text with its entities replaced.
fn decoded(text: &str) -> String {
    const ENTITIES: [(&str, &str); 7] = [
        ("&nbsp;", " "),
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "\""),
        ("&#39;", "'"),
        ("&apos;", "'"),
        // The last one, so that no replacement makes another entity.
        ("&amp;", "&"),
    ];
    let mut text = text.to_owned();
    for (entity, character) in ENTITIES {
        text = text.replace(entity, character);
    }
    text
}

/// What a person tells the bot itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Begin a new conversation.
    Reset,
}

/// The command that a message is, if it is one.
pub fn command(text: &str) -> Option<Command> {
    let word = text.trim().to_ascii_lowercase();
    matches!(word.as_str(), "/new" | "/reset").then_some(Command::Reset)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(text: &str) -> String {
        let activity = json!({
            "type": "message", "id": "1", "text": text, "conversation": { "id": "c" },
            "recipient": { "id": "28:bot" }, "from": { "id": "29:a" },
            "entities": [
                { "type": "mention", "text": "<at>Helper</at>", "mentioned": { "id": "28:bot", "name": "Helper" } },
                { "type": "mention", "text": "<at>Ann B</at>", "mentioned": { "id": "29:b", "name": "Ann B" } },
                { "type": "clientInfo", "locale": "en" },
            ],
        });
        text_of(&Activity::parse(&activity).unwrap())
    }

    #[test]
    fn the_bots_mention_goes_others_stay_as_names_and_html_becomes_text() {
        for (text, expected) in [
            ("<at>Helper</at> my printer", "my printer"),
            ("<at>Helper</at>&nbsp;my printer", "my printer"),
            ("hi <at>Helper</at>, ask <at>Ann B</at>", "hi , ask Ann B"),
            ("<at id=\"7\">Someone</at> said so", "Someone said so"),
            (
                "<p>My <b>printer</b>&nbsp;is</p><p>on fire</p>",
                "My printer is\n\non fire",
            ),
            ("a &lt; b &amp;&amp; c &gt; d", "a < b && c > d"),
            ("if a < b then", "if a < b then"),
            ("&amp;lt;", "&lt;"),
            ("one\r\n  two", "one\n  two"),
            ("<at>Helper</at>", ""),
            ("<atom>", "<atom>"),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
    }

    #[test]
    fn only_the_two_words_are_commands() {
        assert_eq!(command(" /New "), Some(Command::Reset));
        assert_eq!(command("/reset"), Some(Command::Reset));
        assert_eq!(command("/newer"), None);
        assert_eq!(command("please /new"), None);
    }
}
