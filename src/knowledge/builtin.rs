//! The built-in responder: answers from the knowledge articles that a session may see, offline and always in the same way.

use super::passage_index::{Hit, PassageIndex, Term};
use super::question::{self, Names, Question, SmallTalk};
use crate::error::Result;
use crate::model::answer::Chunk;
use crate::model::words::Audience;

/// What is asked, and who answers for whom.
#[derive(Clone, Debug)]
pub struct BuiltinQuestion<'a> {
    /// The user's messages so far, oldest first; the last is the one to answer. An empty one came with attachments alone.
    pub messages: &'a [String],
    /// The agent's name.
    pub agent: &'a str,
    /// How the agent greets, if it was told.
    pub welcome_message: Option<&'a str>,
    /// The client company whose staff ask, if any.
    pub company: Option<&'a str>,
    /// The MSP's name.
    pub tenant: &'a str,
    /// Who asks.
    pub audience: Audience,
}

/// An article must cover this share of what was asked.
const FITS: f64 = 0.40;
/// An article beside the best one must fit at least this well compared with it.
const BESIDE_ARTICLE: f64 = 0.65;
/// The same for a passage beside the best one of its article.
const BESIDE_PASSAGE: f64 = 0.6;
/// How many earlier messages a message may lean on.
const MOST_EARLIER: usize = 4;
/// How many passages an answer has at most.
const MOST_PASSAGES: usize = 3;
/// How many passages are shown of an article whose title alone is asked for.
const FROM_BEGINNING: usize = 2;
/// How many passages are looked at.
const CANDIDATES: usize = 200;

/// The answer: one text, then its sources, each article once.
///
/// # Errors
///
/// When the index cannot be asked.
pub fn compose(asked: &BuiltinQuestion, index: &PassageIndex) -> Result<Vec<Chunk>> {
    let last = asked.messages.last().map_or("", |message| message.trim());
    let text = |text: String| Ok(vec![Chunk::Text(text)]);
    if last.is_empty() {
        return text(
            "I cannot look into files. Please tell me in a few words what you need.".to_owned(),
        );
    }
    let names = Names {
        agent: asked.agent,
        company: asked.company,
    };
    let said = read(asked.messages, names, index)?;
    let question = &said[said.len() - 1];
    if let Some(kind) = question.small_talk {
        return text(small_talk(kind, asked, index));
    }
    let earlier = earlier_terms(&said);
    if question.terms.is_empty() && earlier.is_empty() {
        return text("Please tell me in a few words what you need.".to_owned());
    }
    let hits = fitting(&said, index)?;
    if hits.is_empty() {
        let whom = whom_to_ask(asked);
        return text(if question.terms.is_empty() {
            format!("I have nothing more about this. {whom}")
        } else {
            format!("I don't know: none of the articles that I can read answers this. {whom}")
        });
    }
    Ok(answer(&hits, index))
}

/// The passages that fit the last of a user's messages, best article first.
///
/// # Errors
///
/// When the index cannot be asked.
pub fn find<'a>(
    messages: &[String],
    names: Names<'_>,
    index: &'a PassageIndex,
) -> Result<Vec<Hit<'a>>> {
    fitting(&read(messages, names, index)?, index)
}

/// Parts that make up the text again, each ending after a run of white space.
pub fn word_by_word(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let word = rest
            .find(|c: char| !c.is_whitespace())
            .unwrap_or(rest.len());
        let space = rest[word..]
            .find(char::is_whitespace)
            .map_or(rest.len(), |at| word + at);
        let end = rest[space..]
            .find(|c: char| !c.is_whitespace())
            .map_or(rest.len(), |at| space + at);
        let (part, after) = rest.split_at(end);
        rest = after;
        (!part.is_empty()).then_some(part)
    })
}

fn read(messages: &[String], names: Names<'_>, index: &PassageIndex) -> Result<Vec<Question>> {
    let recent = messages.len().saturating_sub(1 + MOST_EARLIER);
    messages[recent..]
        .iter()
        .map(|message| {
            question::read_spelt(message, names, |term| {
                if index.has(term)? {
                    return Ok(None);
                }
                let meant = index.meant_by(&term.word, |word| !question::is_stop_word(word));
                Ok(meant.map(str::to_owned))
            })
        })
        .collect()
}

/// The words of the messages that the last one leans on: back to the one that stands on its own.
fn earlier_terms(said: &[Question]) -> Vec<Term> {
    let mut terms: Vec<Term> = Vec::new();
    let Some((last, earlier)) = said.split_last() else {
        return terms;
    };
    if !last.leans_on_earlier {
        return terms;
    }
    for question in earlier.iter().rev() {
        for term in &question.terms {
            if [&last.terms, &terms]
                .iter()
                .all(|known| known.iter().all(|other| other.word != term.word))
            {
                terms.push(term.clone());
            }
        }
        if !question.leans_on_earlier {
            break;
        }
    }
    terms
}

fn fitting<'a>(said: &[Question], index: &'a PassageIndex) -> Result<Vec<Hit<'a>>> {
    let Some((question, before)) = said.split_last() else {
        return Ok(Vec::new());
    };
    let earlier = earlier_terms(said);
    let all = [question.terms.as_slice(), &earlier].concat();
    let own = if question.terms.is_empty() {
        &all
    } else {
        &question.terms
    };
    // Earlier words only support what the message's own words find: who changes the topic gets no answer on the old one.
    let mut found = vec![false; index.articles().len()];
    let mut fits = vec![false; index.articles().len()];
    let own_hits = index.search(own, CANDIDATES)?;
    for hit in &own_hits {
        found[hit.article] = true;
        fits[hit.article] |= hit.coverage >= FITS;
    }
    let mut shown = Vec::new();
    if question.wants_more && question.terms.is_empty() {
        for end in 1..=before.len() {
            shown.extend(fitting(&said[..end], index)?.iter().map(|hit| hit.position));
        }
    }
    let mut hits = index.search(&all, CANDIDATES)?;
    // Which passage of an article is wanted, the message's own words say.
    for hit in hits.iter_mut().filter(|hit| found[hit.article]) {
        let own_hit = own_hits.iter().find(|own| own.position == hit.position);
        hit.detail = own_hit.map_or(0.0, |own| own.detail);
        hit.is_titled = own_hit.is_some_and(|own| own.is_titled);
    }
    let may_fit = |hit: &Hit| fits[hit.article] || (found[hit.article] && hit.coverage >= FITS);
    if hits.iter().any(may_fit) {
        hits.retain(may_fit);
        let enough = hits.first().map_or(0.0, |best| BESIDE_ARTICLE * best.score);
        let good: Vec<_> = (hits.iter().filter(|hit| hit.score >= enough))
            .map(|hit| hit.article)
            .collect();
        hits.retain(|hit| good.contains(&hit.article));
    } else {
        hits.retain(|hit| hit.has_all);
    }
    hits.retain(|hit| !shown.contains(&hit.position));
    Ok(best_passages(&hits))
}

/// The best passage of each article, and more of the first article as far as there is room.
fn best_passages<'a>(hits: &[Hit<'a>]) -> Vec<Hit<'a>> {
    let mut articles: Vec<usize> = Vec::new();
    for hit in hits {
        if !articles.contains(&hit.article) {
            articles.push(hit.article);
        }
    }
    articles.truncate(MOST_PASSAGES);
    let mut chosen = Vec::new();
    let mut more = Vec::new();
    for article in &articles {
        let mut passages: Vec<_> = hits
            .iter()
            .filter(|hit| hit.article == *article)
            .copied()
            .collect();
        passages.sort_by(|one, other| {
            other
                .detail
                .total_cmp(&one.detail)
                .then(one.position.cmp(&other.position))
        });
        if passages[0].is_titled {
            passages.sort_by_key(|hit| hit.position);
            passages.truncate(FROM_BEGINNING);
        } else {
            let best = passages[0].detail;
            passages.retain(|hit| hit.detail >= BESIDE_PASSAGE * best);
        }
        let mut passages = passages.into_iter();
        chosen.extend(passages.next());
        if *article == articles[0] {
            more.extend(passages);
        }
    }
    more.truncate(MOST_PASSAGES - chosen.len());
    chosen.extend(more);
    chosen.sort_by_key(|hit| {
        (
            articles.iter().position(|article| *article == hit.article),
            hit.position,
        )
    });
    chosen
}

fn answer(hits: &[Hit], index: &PassageIndex) -> Vec<Chunk> {
    let mut text = String::new();
    let mut sources = Vec::new();
    for of_article in hits.chunk_by(|one, other| one.article == other.article) {
        let article = &index.articles()[of_article[0].article];
        let id = article.id.to_string();
        let title = article.title.clone();
        if !text.is_empty() {
            text.push_str("\n\n");
        }
        text.push_str(&match (of_article[0].passage.is_empty(), text.is_empty()) {
            (true, _) => format!("The article “{title}” is about this."),
            (false, true) => format!("This is what “{title}” says:"),
            (false, false) => format!("“{title}” may help too:"),
        });
        let mut heading = None;
        for hit in of_article {
            if let Some(name) = hit.heading.filter(|name| heading != Some(*name)) {
                text.push_str(&format!("\n\n**{name}**"));
            }
            heading = hit.heading;
            if !hit.passage.is_empty() {
                text.push_str("\n\n");
                text.push_str(hit.passage);
            }
        }
        sources.push(match article.url.clone() {
            Some(url) => Chunk::SourceUrl { id, url, title },
            None => Chunk::SourceDocument { id, title },
        });
    }
    sources.insert(0, Chunk::Text(text));
    sources
}

fn small_talk(kind: SmallTalk, asked: &BuiltinQuestion, index: &PassageIndex) -> String {
    let agent = asked.agent;
    let tenant = asked.tenant;
    match kind {
        SmallTalk::Person => format!(
            "I'm an automatic assistant and cannot put you through to a person. {}",
            whom_to_ask(asked)
        ),
        SmallTalk::Thanks => "You're welcome. If there is anything else, just ask.".to_owned(),
        SmallTalk::Farewell => "Goodbye, and come back any time.".to_owned(),
        SmallTalk::Assent => "All right. What else can I help you with?".to_owned(),
        SmallTalk::Wellbeing => format!("I'm fine, thank you. {}", abilities(asked, index)),
        SmallTalk::Abilities => abilities(asked, index),
        SmallTalk::Identity => {
            let company = asked
                .company
                .map(|name| format!(" for {name}"))
                .unwrap_or_default();
            let who = format!("I'm {agent}, an automatic assistant of {tenant}{company}.");
            format!("{who} {}", abilities(asked, index))
        }
        SmallTalk::Greeting => match asked
            .welcome_message
            .map(str::trim)
            .filter(|text| !text.is_empty())
        {
            Some(welcome) => welcome.to_owned(),
            None => format!("Hello, I'm {agent}. {}", abilities(asked, index)),
        },
    }
}

fn abilities(asked: &BuiltinQuestion, index: &PassageIndex) -> String {
    let titles: Vec<_> = index
        .articles()
        .iter()
        .take(3)
        .map(|article| format!("\n- {}", article.title))
        .collect();
    if titles.is_empty() {
        return format!(
            "I have no articles to answer from yet. {}",
            whom_to_ask(asked)
        );
    }
    format!(
        "I answer from knowledge articles. You can ask me about, for example:\n{}",
        titles.concat()
    )
}

fn whom_to_ask(asked: &BuiltinQuestion) -> String {
    let tenant = asked.tenant;
    match asked.audience {
        Audience::EndUser if tenant.to_lowercase().ends_with("service desk") => {
            format!("Please ask the {tenant}.")
        }
        Audience::EndUser => format!("Please ask the {tenant} service desk."),
        Audience::Msp => "Please ask a colleague, or take your escalation path.".to_owned(),
    }
}

#[cfg(test)]
mod tests;
