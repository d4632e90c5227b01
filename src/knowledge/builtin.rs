//! The built-in responder: quotes the knowledge articles that a session may see. It is
//! deterministic and works offline.

use super::citations::source;
use super::passage_index::{Hit, PassageIndex, Term};
use super::question::{self, Participants, Question, SmallTalk};
use crate::error::Result;
use crate::model::answer::Chunk;
use crate::model::words::Audience;

/// The input of the built-in responder.
#[derive(Clone, Debug)]
pub struct BuiltinPrompt<'a> {
    /// The user's messages, oldest first; the last is the one to answer. A message that has only
    /// attachments is empty.
    pub messages: &'a [String],
    /// The agent's name.
    pub agent: &'a str,
    /// The agent's greeting, if one is configured.
    pub welcome_message: Option<&'a str>,
    /// The company whose staff ask, if any.
    pub company: Option<&'a str>,
    /// The MSP's name.
    pub tenant: &'a str,
    /// The audience that asks.
    pub audience: Audience,
}

/// The least coverage of a question with which an article is an answer.
const MIN_COVERAGE: f64 = 0.40;
/// The least score of another article, relative to the best one.
const MIN_ARTICLE_SCORE: f64 = 0.65;
/// The least detail score of another passage, relative to the best one of its article.
const MIN_PASSAGE_SCORE: f64 = 0.6;
/// The maximum number of earlier messages that give a follow-up its context.
const MAX_EARLIER_MESSAGES: usize = 4;
/// The maximum number of passages in an answer.
const MAX_PASSAGES: usize = 3;
/// The number of passages quoted from an article whose title alone matches.
const TITLE_MATCH_PASSAGES: usize = 2;
/// The maximum number of search hits that are considered.
const MAX_CANDIDATES: usize = 200;

/// Composes the answer: one text, then its sources, each article once.
///
/// # Errors
/// `internal_error` if SQLite fails.
pub fn compose(prompt: &BuiltinPrompt, index: &PassageIndex) -> Result<Vec<Chunk>> {
    let last = prompt.messages.last().map_or("", |message| message.trim());
    let text = |text: String| Ok(vec![Chunk::Text(text)]);
    if last.is_empty() {
        return text(
            "I cannot look into files. Please tell me in a few words what you need.".to_owned(),
        );
    }
    let participants = Participants {
        agent: prompt.agent,
        company: prompt.company,
    };
    let questions = parse(prompt.messages, participants, index)?;
    let question = &questions[questions.len() - 1];
    if let Some(kind) = question.small_talk {
        return text(small_talk(kind, prompt, index));
    }
    let earlier = earlier_terms(&questions);
    if question.terms.is_empty() && earlier.is_empty() {
        return text("Please tell me in a few words what you need.".to_owned());
    }
    let hits = best_hits(&questions, index)?;
    if hits.is_empty() {
        let referral = referral(prompt);
        return text(if question.terms.is_empty() {
            format!("I have nothing more about this. {referral}")
        } else {
            format!("I don't know: none of the articles that I can read answers this. {referral}")
        });
    }
    Ok(answer(&hits, index))
}

/// Finds the passages that answer the last of a user's messages, best article first.
///
/// # Errors
/// `internal_error` if SQLite fails.
pub fn find<'a>(
    messages: &[String],
    participants: Participants<'_>,
    index: &'a PassageIndex,
) -> Result<Vec<Hit<'a>>> {
    best_hits(&parse(messages, participants, index)?, index)
}

/// Splits text into words, each with its trailing white space. The words concatenate to the text.
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

/// Parses the last message and the earlier ones that may give it context.
fn parse(
    messages: &[String],
    participants: Participants<'_>,
    index: &PassageIndex,
) -> Result<Vec<Question>> {
    let recent = messages.len().saturating_sub(1 + MAX_EARLIER_MESSAGES);
    messages[recent..]
        .iter()
        .map(|message| {
            question::parse_corrected(message, participants, |term| {
                if index.has(term)? {
                    return Ok(None);
                }
                let corrected =
                    index.correct_spelling(&term.word, |word| !question::is_stop_word(word));
                Ok(corrected.map(str::to_owned))
            })
        })
        .collect()
}

/// The terms of the messages before a follow-up, back to the first one that is not a follow-up
/// itself.
fn earlier_terms(questions: &[Question]) -> Vec<Term> {
    let mut terms: Vec<Term> = Vec::new();
    let Some((last, earlier)) = questions.split_last() else {
        return terms;
    };
    if !last.is_follow_up {
        return terms;
    }
    for question in earlier.iter().rev() {
        for term in &question.terms {
            if [&last.terms, &terms]
                .iter()
                .all(|collected| collected.iter().all(|other| other.word != term.word))
            {
                terms.push(term.clone());
            }
        }
        if !question.is_follow_up {
            break;
        }
    }
    terms
}

/// The passages that answer the last question, in the order in which an answer quotes them.
fn best_hits<'a>(questions: &[Question], index: &'a PassageIndex) -> Result<Vec<Hit<'a>>> {
    let Some((question, before)) = questions.split_last() else {
        return Ok(Vec::new());
    };
    let earlier = earlier_terms(questions);
    let all = [question.terms.as_slice(), &earlier].concat();
    let own = if question.terms.is_empty() {
        &all
    } else {
        &question.terms
    };
    // Earlier terms only support the hits of the message's own terms, so a user who changes the
    // topic gets no answer about the old one.
    let mut found = vec![false; index.articles().len()];
    let mut is_covered = vec![false; index.articles().len()];
    let own_hits = index.search(own, MAX_CANDIDATES)?;
    for hit in &own_hits {
        found[hit.article] = true;
        is_covered[hit.article] |= hit.coverage >= MIN_COVERAGE;
    }
    let mut shown_before = Vec::new();
    if question.wants_more && question.terms.is_empty() {
        for end in 1..=before.len() {
            let hits = best_hits(&questions[..end], index)?;
            shown_before.extend(hits.iter().map(|hit| hit.position));
        }
    }
    let mut hits = index.search(&all, MAX_CANDIDATES)?;
    // The message's own terms alone decide between the passages of an article.
    for hit in hits.iter_mut().filter(|hit| found[hit.article]) {
        let own_hit = own_hits.iter().find(|own| own.position == hit.position);
        hit.detail = own_hit.map_or(0.0, |own| own.detail);
        hit.is_titled = own_hit.is_some_and(|own| own.is_titled);
    }
    let is_answer =
        |hit: &Hit| is_covered[hit.article] || (found[hit.article] && hit.coverage >= MIN_COVERAGE);
    if hits.iter().any(is_answer) {
        hits.retain(is_answer);
        let min_score = hits
            .first()
            .map_or(0.0, |best| MIN_ARTICLE_SCORE * best.score);
        let good: Vec<_> = (hits.iter().filter(|hit| hit.score >= min_score))
            .map(|hit| hit.article)
            .collect();
        hits.retain(|hit| good.contains(&hit.article));
    } else {
        hits.retain(|hit| hit.has_all);
    }
    hits.retain(|hit| !shown_before.contains(&hit.position));
    Ok(best_passages(&hits))
}

/// The best passage of each article, and more passages of the first article up to the limit.
fn best_passages<'a>(hits: &[Hit<'a>]) -> Vec<Hit<'a>> {
    let mut articles: Vec<usize> = Vec::new();
    for hit in hits {
        if !articles.contains(&hit.article) {
            articles.push(hit.article);
        }
    }
    articles.truncate(MAX_PASSAGES);
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
            passages.truncate(TITLE_MATCH_PASSAGES);
        } else {
            let best = passages[0].detail;
            passages.retain(|hit| hit.detail >= MIN_PASSAGE_SCORE * best);
        }
        let mut passages = passages.into_iter();
        chosen.extend(passages.next());
        if *article == articles[0] {
            more.extend(passages);
        }
    }
    more.truncate(MAX_PASSAGES - chosen.len());
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
        let title = &article.title;
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
        sources.push(source(article));
    }
    sources.insert(0, Chunk::Text(text));
    sources
}

fn small_talk(kind: SmallTalk, prompt: &BuiltinPrompt, index: &PassageIndex) -> String {
    let agent = prompt.agent;
    let tenant = prompt.tenant;
    match kind {
        SmallTalk::Person => format!(
            "I'm an automatic assistant and cannot put you through to a person. {}",
            referral(prompt)
        ),
        SmallTalk::Thanks => "You're welcome. If there is anything else, just ask.".to_owned(),
        SmallTalk::Farewell => "Goodbye, and come back any time.".to_owned(),
        SmallTalk::Assent => "All right. What else can I help you with?".to_owned(),
        SmallTalk::Wellbeing => format!("I'm fine, thank you. {}", abilities(prompt, index)),
        SmallTalk::Abilities => abilities(prompt, index),
        SmallTalk::Identity => {
            let company = prompt
                .company
                .map(|name| format!(" for {name}"))
                .unwrap_or_default();
            let who = format!("I'm {agent}, an automatic assistant of {tenant}{company}.");
            format!("{who} {}", abilities(prompt, index))
        }
        SmallTalk::Greeting => match prompt
            .welcome_message
            .map(str::trim)
            .filter(|text| !text.is_empty())
        {
            Some(welcome) => welcome.to_owned(),
            None => format!("Hello, I'm {agent}. {}", abilities(prompt, index)),
        },
    }
}

fn abilities(prompt: &BuiltinPrompt, index: &PassageIndex) -> String {
    let titles: Vec<_> = index
        .articles()
        .iter()
        .take(3)
        .map(|article| format!("\n- {}", article.title))
        .collect();
    if titles.is_empty() {
        return format!(
            "I have no articles to answer from yet. {}",
            referral(prompt)
        );
    }
    format!(
        "I answer from knowledge articles. You can ask me about, for example:\n{}",
        titles.concat()
    )
}

/// The sentence that refers the user to people.
fn referral(prompt: &BuiltinPrompt) -> String {
    let tenant = prompt.tenant;
    match prompt.audience {
        Audience::EndUser if tenant.to_lowercase().ends_with("service desk") => {
            format!("Please ask the {tenant}.")
        }
        Audience::EndUser => format!("Please ask the {tenant} service desk."),
        Audience::Msp => "Please ask a colleague, or take your escalation path.".to_owned(),
    }
}

#[cfg(test)]
mod tests;
