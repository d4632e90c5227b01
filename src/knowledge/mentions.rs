//! Mentions in messages of Teams: `<at>Bot</at>` calls the bot, and is not part of the question.

use std::borrow::Cow;

/// The question of a message that only calls the bot.
const GREETING: &str = "Hello";

/// A message without the mentions before and after its text. A mention within the text is the name
/// of a person, and keeps the name.
pub fn without_mentions(message: &str) -> Cow<'_, str> {
    if !contains_mention(message) {
        return Cow::Borrowed(message);
    }
    let mut rest = message.trim();
    while let Some((_, length)) = mention(rest) {
        rest = trimmed_start(&rest[length..]);
    }
    let mut text = String::with_capacity(rest.len());
    let mut trailing = None;
    while let Some(at) = rest.find('<') {
        let (before, found) = rest.split_at(at);
        if !trimmed_start(before).is_empty() {
            trailing = None;
        }
        text.push_str(before);
        rest = match mention(found) {
            Some((name, length)) => {
                trailing.get_or_insert(text.len());
                text.push_str(name);
                &found[length..]
            }
            None => {
                trailing = None;
                text.push('<');
                &found[1..]
            }
        };
    }
    match trailing.filter(|_| trimmed_start(rest).is_empty()) {
        Some(end) => text.truncate(end),
        None => text.push_str(rest),
    }
    let text = trimmed_end(&text);
    match text.is_empty() {
        true => Cow::Owned(GREETING.to_owned()),
        false => Cow::Owned(text.to_owned()),
    }
}

fn contains_mention(message: &str) -> bool {
    let mut rest = message;
    while let Some(at) = rest.find('<') {
        if mention(&rest[at..]).is_some() {
            return true;
        }
        rest = &rest[at + 1..];
    }
    false
}

/// The name and the length of a mention at the beginning of a text.
fn mention(text: &str) -> Option<(&str, usize)> {
    let is_start = text.get(..3)?.eq_ignore_ascii_case("<at");
    let attributes = text.get(3..).filter(|_| is_start)?;
    if !attributes.starts_with(|c: char| c == '>' || c.is_whitespace()) {
        return None;
    }
    // A tag has no other tag within it, so that unclosed ones are not read again and again.
    let closed = attributes.find(['<', '>'])?;
    let inner = attributes[closed..]
        .starts_with('>')
        .then_some(3 + closed + 1)?;
    let end = text.get(inner..)?.find('<')? + inner;
    let closes = text.get(end..end + 5)?.eq_ignore_ascii_case("</at>");
    closes.then(|| (text[inner..end].trim(), end + 5))
}

const SPACE: &str = "&nbsp;";

fn trimmed_start(text: &str) -> &str {
    let mut trimmed = text.trim_start();
    while let Some(rest) = trimmed.strip_prefix(SPACE) {
        trimmed = rest.trim_start();
    }
    trimmed
}

fn trimmed_end(text: &str) -> &str {
    let mut trimmed = text.trim_end();
    while let Some(rest) = trimmed.strip_suffix(SPACE) {
        trimmed = rest.trim_end();
    }
    trimmed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mentions_around_the_text_are_taken_off_and_those_within_keep_the_name() {
        for (message, expected) in [
            ("<at>Bot</at>&nbsp;How do I print?", "How do I print?"),
            ("<at id=\"0\">Help Desk</at> &nbsp;\u{a0}print", "print"),
            ("<AT>Bot</AT><at>Bot</at>&nbsp;&nbsp;\nprint", "print"),
            ("print <at>Bot</at>", "print"),
            ("print&nbsp;<at>Bot</at> <at>Bot</at>&nbsp;", "print"),
            ("Can <at id='1'>Ada</at> print?", "Can Ada print?"),
            (
                "<at>Bot</at> can <at>Ada</at> print <b>?",
                "can Ada print <b>?",
            ),
            ("<at>Bot</at>&nbsp;", GREETING),
            ("a <at>Ada</at> < 5", "a Ada < 5"),
        ] {
            assert_eq!(without_mentions(message), expected, "{message}");
        }
    }

    #[test]
    fn long_messages_of_mentions_and_unclosed_tags_are_read() {
        let spaces = SPACE.repeat(100_000);
        let message = format!("<at>Bot</at>{spaces}print{spaces}");
        assert_eq!(without_mentions(&message), "print");
        let mentions = "<at>Bot</at>".repeat(50_000);
        assert_eq!(
            without_mentions(&format!("{mentions}print{mentions}")),
            "print"
        );
        let unclosed = "<at ".repeat(200_000);
        assert_eq!(without_mentions(&unclosed), unclosed);
        let mixed = format!("<at>Bot</at>{unclosed}a");
        assert_eq!(without_mentions(&mixed), format!("{unclosed}a"));
    }

    #[test]
    fn other_text_stays_as_it_is() {
        for message in [
            "",
            " a ",
            "<attribute>x</attribute>",
            "<at>",
            "<at>x",
            "see <at x",
            "a < b",
            "ü<at>é",
        ] {
            assert!(
                matches!(without_mentions(message), Cow::Borrowed(same) if same == message),
                "{message}"
            );
        }
    }
}
