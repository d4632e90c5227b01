//! Composes the activities that a bot sends: texts within the connector's limits, citations,
//! feedback buttons, suggested prompts, and the steps of a stream.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::markdown;
use super::split::{json_bytes, split, streamable};
use crate::knowledge::citations;
use crate::text::shorten;

/// What an activity stays below, in bytes of UTF-8 with everything in it. In UTF-16 it has less than
/// twice as many bytes, which is below the connector's limit too.
pub const MAX_ACTIVITY_BYTES: usize = 28 * 1_024;
/// The longest text of a message within JSON, with its prefix. The rest is for entities and ids.
pub const MAX_TEXT_BYTES: usize = 17_000;
/// The longest entity with citations within JSON.
const MAX_ENTITY_BYTES: usize = 9_000;
/// The citations that Teams shows.
const MAX_CITATIONS: usize = 20;
/// The longest name and excerpt of a citation, in characters.
const NAME_CHARS: usize = 80;
const ABSTRACT_CHARS: usize = 160;
/// Longer addresses are left out.
const MAX_URL_BYTES: usize = 1_024;
/// The prompts that Teams shows, and the longest one, in characters.
const MAX_PROMPTS: usize = 6;
const PROMPT_CHARS: usize = 200;

/// Where a message goes: what a reply repeats of the activities that came in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Reference {
    /// The platform's channel, such as `msteams`.
    pub channel_id: Option<String>,
    /// The bot's account in the conversation.
    pub bot: Value,
    /// The account of the person who wrote last.
    pub user: Value,
    /// The conversation.
    pub conversation: Value,
    /// The language of the person.
    pub locale: Option<String>,
}

/// A source of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The title.
    pub title: String,
    /// Where people can read it.
    pub url: Option<String>,
    /// Its first words.
    pub excerpt: Option<String>,
}

/// A source with the number by which the text names it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Citation {
    number: usize,
    source: Source,
}

/// One message of an answer or of another text.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// The text, as Markdown of Teams.
    pub text: String,
    citations: Vec<Citation>,
    /// Whether a model or the built-in responder wrote it.
    is_generated: bool,
    /// Whether it has buttons for feedback.
    asks_for_feedback: bool,
    prompts: Vec<String>,
}

/// The messages of an answer. `shown` is the length of what a stream has shown of the first one.
pub fn answer(text: &str, sources: &[Source], prefix: Option<&str>, shown: usize) -> Vec<Message> {
    let (text, citations) = cite(text, sources);
    let prefix = prefix.map(spaced).unwrap_or_default();
    let parts = split(
        &text,
        text_limit(&prefix),
        shown.saturating_sub(prefix.len()),
    );
    let last = parts.len().saturating_sub(1);
    let messages = parts.into_iter().enumerate().map(|(index, part)| {
        let cited = citations::numbers_in(&part);
        Message {
            citations: citations
                .iter()
                .filter(|citation| cited.contains(&citation.number))
                .cloned()
                .collect(),
            text: prefix.clone() + &part,
            is_generated: true,
            asks_for_feedback: index == last,
            prompts: Vec::new(),
        }
    });
    messages.collect()
}

/// The messages of a text of this server, such as a refusal.
pub fn notice(text: &str, prompts: &[String], prefix: Option<&str>) -> Vec<Message> {
    let prefix = prefix.map(spaced).unwrap_or_default();
    let parts = split(&markdown::render(text), text_limit(&prefix), 0);
    let last = parts.len().saturating_sub(1);
    let messages = parts.into_iter().enumerate().map(|(index, part)| Message {
        text: prefix.clone() + &part,
        citations: Vec::new(),
        is_generated: false,
        asks_for_feedback: false,
        prompts: if index == last {
            prompts.to_vec()
        } else {
            Vec::new()
        },
    });
    messages.collect()
}

/// What a stream shows of an answer that is still being written. None before there is a text.
pub fn so_far(text: &str, prefix: Option<&str>) -> Option<String> {
    let prefix = prefix.map(spaced).unwrap_or_default();
    let rendered = markdown::render_so_far(text);
    let most = streamable(text_limit(&prefix));
    if json_bytes(&rendered) > most || rendered.trim().is_empty() {
        return None;
    }
    Some(prefix + &rendered)
}

fn text_limit(prefix: &str) -> usize {
    MAX_TEXT_BYTES.saturating_sub(json_bytes(prefix)).max(1_024)
}

/// A prefix with what separates it from the text.
fn spaced(prefix: &str) -> String {
    match prefix.chars().next_back() {
        None => String::new(),
        Some(last) if last.is_whitespace() => prefix.to_owned(),
        Some(last) if last.is_alphanumeric() => format!("{prefix}: "),
        Some(_) => format!("{prefix} "),
    }
}

/// Renders an answer, and gives its sources the numbers that the text has for them. Sources that the
/// text does not name are named at its end: Teams shows no other ones.
fn cite(text: &str, sources: &[Source]) -> (String, Vec<Citation>) {
    let mut rendered = markdown::render(text);
    let named: Vec<usize> = citations::numbers_in(text)
        .into_iter()
        .filter(|number| *number > 0)
        .collect();
    let are_named = !sources.is_empty() && named.len() >= sources.len();
    let numbers: Vec<usize> = match are_named {
        true => named,
        false => (1..=sources.len()).collect(),
    };
    let pairs = numbers.into_iter().zip(sources).take(MAX_CITATIONS);
    let citations: Vec<Citation> = pairs
        .map(|(number, source)| Citation {
            number,
            source: source.clone(),
        })
        .collect();
    if !are_named && !citations.is_empty() {
        let marks: Vec<String> = citations
            .iter()
            .map(|citation| format!("[{}]", citation.number))
            .collect();
        rendered.push_str("\n\n");
        rendered.push_str(&marks.join(" "));
    }
    (rendered, citations)
}

/// A step of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// Says what the bot does, before there is a text.
    Informative {
        /// The number of the step, from 1.
        sequence: i64,
    },
    /// Shows the text so far.
    Streaming {
        /// The number of the step, from 1.
        sequence: i64,
        /// The stream; none at its first step.
        stream: Option<&'a str>,
    },
}

/// Where an activity goes.
#[derive(Clone, Copy, Debug)]
pub struct Envelope<'a> {
    /// What a reply repeats.
    pub reference: &'a Reference,
    /// The id of the conversation.
    pub conversation: &'a str,
    /// The activity that it answers.
    pub reply_to: Option<&'a str>,
}

impl Envelope<'_> {
    fn activity(&self, kind: &str) -> Map<String, Value> {
        let mut activity = Map::new();
        activity.insert("type".to_owned(), kind.into());
        let reference = self.reference;
        let known = reference.conversation.as_object();
        let mut conversation = known.cloned().unwrap_or_default();
        conversation.insert("id".to_owned(), self.conversation.into());
        activity.insert("conversation".to_owned(), conversation.into());
        for (name, account) in [("from", &reference.bot), ("recipient", &reference.user)] {
            if account.is_object() {
                activity.insert(name.to_owned(), account.clone());
            }
        }
        if let Some(channel) = &reference.channel_id {
            activity.insert("channelId".to_owned(), channel.as_str().into());
        }
        if let Some(locale) = &reference.locale {
            activity.insert("locale".to_owned(), locale.as_str().into());
        }
        if let Some(reply_to) = self.reply_to {
            activity.insert("replyToId".to_owned(), reply_to.into());
        }
        activity
    }

    /// The activity that shows that the bot writes.
    pub fn typing(&self) -> Value {
        self.activity("typing").into()
    }

    /// A step of a stream.
    pub fn step(&self, step: Step<'_>, text: &str) -> Value {
        let mut activity = self.activity("typing");
        activity.insert("text".to_owned(), text.into());
        activity.insert("textFormat".to_owned(), "markdown".into());
        let entity = match step {
            Step::Informative { sequence } => {
                json!({"type": "streaminfo", "streamType": "informative", "streamSequence": sequence})
            }
            Step::Streaming { sequence, stream } => {
                let mut entity = json!({"type": "streaminfo", "streamType": "streaming", "streamSequence": sequence});
                if let Some(stream) = stream {
                    entity["streamId"] = stream.into();
                }
                entity
            }
        };
        activity.insert("entities".to_owned(), json!([entity]));
        activity.into()
    }

    /// A message, or with the id of a stream its last step.
    pub fn message(&self, message: &Message, stream: Option<&str>) -> Value {
        let mut activity = self.activity("message");
        activity.insert("text".to_owned(), message.text.as_str().into());
        activity.insert("textFormat".to_owned(), "markdown".into());
        let mut entities = Vec::new();
        if let Some(stream) = stream {
            entities.push(json!({"type": "streaminfo", "streamId": stream, "streamType": "final"}));
        }
        if message.is_generated {
            entities.push(entity(&message.citations));
        }
        if !entities.is_empty() {
            activity.insert("entities".to_owned(), entities.into());
        }
        if message.asks_for_feedback {
            let channel_data =
                json!({"feedbackLoopEnabled": true, "feedbackLoop": {"type": "default"}});
            activity.insert("channelData".to_owned(), channel_data);
        }
        if !message.prompts.is_empty() {
            activity.insert(
                "suggestedActions".to_owned(),
                self.suggested(&message.prompts),
            );
        }
        activity.into()
    }

    fn suggested(&self, prompts: &[String]) -> Value {
        let actions = prompts.iter().take(MAX_PROMPTS).map(|prompt| {
            let prompt = shortened(prompt, PROMPT_CHARS);
            json!({"type": "imBack", "title": prompt, "value": prompt})
        });
        let to: Vec<&Value> = [&self.reference.user["id"]]
            .into_iter()
            .filter(|id| id.is_string())
            .collect();
        json!({"to": to, "actions": actions.collect::<Vec<_>>()})
    }
}

/// The entity that labels a text as written by AI, with its sources. Long excerpts are shortened
/// until the entity fits.
fn entity(citations: &[Citation]) -> Value {
    let with = |excerpt_chars: usize, has_urls: bool| {
        let claims: Vec<Value> = citations
            .iter()
            .map(|citation| claim(citation, excerpt_chars, has_urls))
            .collect();
        let mut entity = json!({
            "type": "https://schema.org/Message",
            "@type": "Message",
            "@context": "https://schema.org",
            "@id": "",
            "additionalType": ["AIGeneratedContent"],
        });
        if !claims.is_empty() {
            entity["citation"] = claims.into();
        }
        entity
    };
    let mut entity = with(ABSTRACT_CHARS, true);
    for (excerpt_chars, has_urls) in [(80, true), (40, true), (40, false), (20, false)] {
        if entity.to_string().len() <= MAX_ENTITY_BYTES {
            break;
        }
        entity = with(excerpt_chars, has_urls);
    }
    entity
}

fn claim(citation: &Citation, excerpt_chars: usize, has_url: bool) -> Value {
    let source = &citation.source;
    let title = match one_line(&source.title) {
        title if title.is_empty() => format!("Source {}", citation.number),
        title => title,
    };
    let excerpt = source.excerpt.as_deref().map(one_line);
    let excerpt = excerpt.filter(|text| !text.is_empty());
    let excerpt = excerpt.unwrap_or_else(|| title.clone());
    let mut appearance = json!({
        "@type": "DigitalDocument",
        "name": shortened(&title, NAME_CHARS),
        "abstract": shortened(&excerpt, excerpt_chars),
    });
    let url = source.url.as_deref().filter(|url| {
        has_url
            && url.len() <= MAX_URL_BYTES
            && (url.starts_with("https://") || url.starts_with("http://"))
    });
    if let Some(url) = url {
        appearance["url"] = url.into();
    }
    json!({"@type": "Claim", "position": citation.number, "appearance": appearance})
}

/// A text of up to `max` characters, with the mark of a cut.
fn shortened(text: &str, max: usize) -> String {
    match text.chars().count() > max {
        true => shorten(text, max.saturating_sub(1)),
        false => text.to_owned(),
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(title: &str) -> Source {
        Source {
            title: title.to_owned(),
            url: Some(format!("https://example.com/{}", title.len())),
            excerpt: Some(format!("About\n{title}")),
        }
    }

    fn reference() -> Reference {
        serde_json::from_value(json!({
            "channelId": "msteams",
            "bot": {"id": "28:bot", "name": "Bot"},
            "user": {"id": "29:user", "aadObjectId": "a"},
            "conversation": {"conversationType": "personal", "tenantId": "t", "id": "old"},
            "locale": "en-US",
        }))
        .unwrap()
    }

    /// The positions and names of the citations in a message.
    fn cited(message: &Message) -> Vec<(usize, &str)> {
        let citations = message.citations.iter();
        citations
            .map(|citation| (citation.number, citation.source.title.as_str()))
            .collect()
    }

    #[test]
    fn the_sources_of_an_answer_have_the_numbers_of_its_text() {
        let sources = [source("One"), source("Two")];
        type Case<'a> = (&'a str, &'a [(usize, &'a str)], &'a str);
        let cases: &[Case<'_>] = &[
            ("Do it [2].", &[(2, "One")], "Do it [2]."),
            (
                "Do it [2] and [5, 3].",
                &[(2, "One"), (3, "Two")],
                "Do it [2] and [5][3].",
            ),
            ("Do it.", &[(1, "One"), (2, "Two")], "Do it.\n\n[1] [2]"),
            (
                "Do `a[1]` it.",
                &[(1, "One"), (2, "Two")],
                "Do `a[1]` it.\n\n[1] [2]",
            ),
        ];
        for (text, expected, rendered) in cases {
            let sources = match expected.len() {
                1 => &sources[..1],
                _ => &sources[..],
            };
            let messages = answer(text, sources, None, 0);
            assert_eq!(messages.len(), 1);
            assert_eq!(cited(&messages[0]), *expected, "{text}");
            assert_eq!(messages[0].text, *rendered);
        }
        assert!(cited(&answer("None.", &[], None, 0)[0]).is_empty());
    }

    #[test]
    fn an_answer_is_a_message_with_a_label_sources_and_buttons_for_feedback() {
        let reference = reference();
        let envelope = Envelope {
            reference: &reference,
            conversation: "a:1",
            reply_to: Some("17"),
        };
        let messages = answer(
            "Restart it [1].",
            &[source("Routers")],
            Some("Harbor IT"),
            0,
        );
        let activity = envelope.message(&messages[0], Some("s-1"));
        assert_eq!(
            activity,
            json!({
                "type": "message",
                "channelId": "msteams",
                "locale": "en-US",
                "from": {"id": "28:bot", "name": "Bot"},
                "recipient": {"id": "29:user", "aadObjectId": "a"},
                "conversation": {"conversationType": "personal", "tenantId": "t", "id": "a:1"},
                "replyToId": "17",
                "text": "Harbor IT: Restart it [1].",
                "textFormat": "markdown",
                "entities": [
                    {"type": "streaminfo", "streamId": "s-1", "streamType": "final"},
                    {
                        "type": "https://schema.org/Message",
                        "@type": "Message",
                        "@context": "https://schema.org",
                        "@id": "",
                        "additionalType": ["AIGeneratedContent"],
                        "citation": [{
                            "@type": "Claim",
                            "position": 1,
                            "appearance": {
                                "@type": "DigitalDocument",
                                "name": "Routers",
                                "abstract": "About Routers",
                                "url": "https://example.com/7",
                            },
                        }],
                    },
                ],
                "channelData": {"feedbackLoopEnabled": true, "feedbackLoop": {"type": "default"}},
            })
        );
    }

    #[test]
    fn the_steps_of_a_stream_name_it_from_the_second_on() {
        let reference = reference();
        let envelope = Envelope {
            reference: &reference,
            conversation: "a:1",
            reply_to: None,
        };
        let first = envelope.step(Step::Informative { sequence: 1 }, "One moment");
        assert_eq!(first["type"], "typing");
        assert_eq!(
            first["entities"],
            json!([{"type": "streaminfo", "streamType": "informative", "streamSequence": 1}])
        );
        let step = Step::Streaming {
            sequence: 2,
            stream: Some("s"),
        };
        let next = envelope.step(step, "Text");
        assert_eq!(
            next["entities"],
            json!([{"type": "streaminfo", "streamType": "streaming", "streamSequence": 2, "streamId": "s"}])
        );
        assert_eq!(envelope.typing()["type"], "typing");
    }

    #[test]
    fn a_notice_has_prompts_and_neither_label_nor_buttons() {
        let reference = reference();
        let envelope = Envelope {
            reference: &reference,
            conversation: "a:1",
            reply_to: None,
        };
        let messages = notice("Hello!", &["What can you do?".to_owned()], None);
        let activity = envelope.message(&messages[0], None);
        assert_eq!(
            activity["suggestedActions"],
            json!({
                "to": ["29:user"],
                "actions": [{"type": "imBack", "title": "What can you do?", "value": "What can you do?"}],
            })
        );
        assert!(activity.get("entities").is_none() && activity.get("channelData").is_none());
    }

    #[test]
    fn every_activity_stays_below_the_limit_however_long_text_and_sources_are() {
        let reference = reference();
        let envelope = Envelope {
            reference: &reference,
            conversation: "a:1",
            reply_to: Some("17"),
        };
        for unit in ["word ", "字", "\"", "👩‍👩‍👧‍👦", "a\n", "\u{1}"] {
            let title = unit.repeat(100);
            let sources: Vec<Source> = (0..30)
                .map(|_| Source {
                    title: title.clone(),
                    url: Some(format!("https://example.com/{}", "u".repeat(900))),
                    excerpt: Some(title.clone()),
                })
                .collect();
            let text = unit.repeat(120_000 / unit.len());
            let messages = answer(&text, &sources, Some("The prefix"), 0);
            assert!(messages.len() >= 6, "{unit}: {}", messages.len());
            for message in &messages {
                let json = envelope.message(message, Some("stream")).to_string();
                assert!(json.len() < MAX_ACTIVITY_BYTES, "{unit}: {}", json.len());
                assert!(json.encode_utf16().count() * 2 < 80 * 1_024);
                assert!(message.text.starts_with("The prefix: "));
                assert!(message.citations.len() <= MAX_CITATIONS);
            }
            let with_buttons = messages.iter().filter(|message| message.asks_for_feedback);
            assert_eq!(with_buttons.count(), 1);
        }
    }

    #[test]
    fn what_a_stream_shows_begins_the_first_message() {
        let text = "A **long** answer with a | b.\n\n```\ncode\n```\n".repeat(800);
        let mut shown = 0;
        for end in (0..text.len()).step_by(97) {
            if let Some(so_far) = so_far(&text[..end], Some("IT>")) {
                shown = so_far.len();
                let first = &answer(&text, &[], Some("IT>"), shown)[0];
                assert!(first.text.starts_with(&so_far), "{end}");
            }
        }
        assert!(shown > 5_000);
    }
}
