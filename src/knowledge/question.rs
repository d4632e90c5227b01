//! Parses a message: its search terms, whether it is a follow-up, and small talk.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use super::passage_index::Term;
use crate::terms;

/// A parsed message.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Question {
    /// The search terms.
    pub terms: Vec<Term>,
    /// Whether the message needs the messages before it to be understood.
    pub is_follow_up: bool,
    /// Whether the message says that the last answer did not help, or asks for something else.
    pub wants_more: bool,
    /// The kind of small talk, if the message is nothing else.
    pub small_talk: Option<SmallTalk>,
}

/// Kinds of small talk. If a message has several, the first in this order gets the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SmallTalk {
    /// Can I talk to a person?
    Person,
    /// How are you?
    Wellbeing,
    /// Who are you?
    Identity,
    /// Thank you.
    Thanks,
    /// Goodbye.
    Farewell,
    /// What can you do?
    Abilities,
    /// Hello.
    Greeting,
    /// All right.
    Assent,
}

/// The maximum number of terms of a message. Terms in the middle are left out: the request is
/// usually at the beginning or at the end.
const MAX_TERMS: usize = 48;

/// The phrases of each kind. A phrase precedes the shorter phrases that it contains.
const SMALL_TALK: &[(SmallTalk, &str)] = &[
    (
        SmallTalk::Person,
        "human please, person please, agent please, operator please, real person, real human, \
         live agent, human agent, human being",
    ),
    (
        SmallTalk::Wellbeing,
        "how are you, how are things, how is it going, hows it going, how do you do, whats up",
    ),
    (
        SmallTalk::Identity,
        "who are you, what are you, are you a bot, are you a robot, are you human, \
         are you real, whats your name, what is your name, who am i talking to, \
         introduce yourself",
    ),
    (
        SmallTalk::Thanks,
        "thank you very much, thank you so much, thank you, thanks a lot, many thanks, thanks, \
         thx, cheers, much appreciated, thats all",
    ),
    (
        SmallTalk::Farewell,
        "good bye, goodbye, bye bye, bye, see you later, see you, good night, have a nice day, \
         have a good day",
    ),
    (
        SmallTalk::Abilities,
        "what can you help me with, what can you help with, what can you do, what do you do, \
         what do you know, what can i ask, how can you help, how do you work, can you help, \
         need help, help me, help",
    ),
    (
        SmallTalk::Greeting,
        "hello, hi, hiya, hey, good morning, good afternoon, good evening, good day, morning, \
         greetings, anybody there, anyone there",
    ),
    (
        SmallTalk::Assent,
        "ok, okay, yes, yep, no, nope, great, perfect, cool, nice, super, fine, understood, \
         got it, alright, all right, test, testing",
    ),
];

/// The first half of a request for a person, such as "talk to".
const REACH: &str = "talk to, talk with, speak to, speak with, chat with, connect me to, \
     connect me with, put me through to, transfer me to";
/// The second half of a request for a person.
const PERSON: &str = "a human being, a real person, a real human, a live agent, a human, a person, \
     an agent, an operator, somebody, someone";

/// Words that report a problem. With one of them, a polite message is no small talk.
const TROUBLE: &str = "still, doesnt, didnt, wont, cant, isnt, fails, failed, broken, not working";

/// Words that ask for something else than the last answer.
const MORE: &str = "else, more, other, another";

/// Words and phrases with which a follow-up begins.
const CONNECTIVES: &str = "and, or, but, also, then, what about, how about, same";

/// Words that refer to something in an earlier message.
const REFERENCES: &str = "it, its, this, that, thats, these, those, them, they, same, instead";

/// Words that do not distinguish one question from another. Words that only report a problem are
/// among them.
const STOP_WORDS: &str = " \
    a able about above after afternoon again against ago all alright also always am an and \
    another any anybody anymore anyone anything anyway are arent around as asap ask asked \
    asking asks at away back be because been before being below best better between bit both \
    broke broken but by bye came can cannot cant cheers come cool correctly could couldnt \
    currently day days dear detail details did didnt different do does doesnt doing done dont \
    down during each else error errors etc even evening ever every everyone everything exactly \
    explain fail failed failing fails few find fine first fix fixed for friday from further \
    gave get gets getting give given go goes going gone good goodbye got great greetings guys \
    had hadnt happen happened happening happens has hasnt have havent having he hello help \
    helped helps her here hers hey hi him hint his hiya hope hour hours how however i id if ill \
    im immediately in instead into is isnt issue issues it its ive just keep keeps kind kindly \
    know last later let lets like likely ll long look looking lot made make makes many may \
    maybe me mean means might minutes monday month months more morning most much must my myself \
    need needed needs never next nice night no nobody nope nor not nothing now of off often oh \
    ok okay on once one ones only onto or other our out over own per perfect please pls possible \
    previously problem problems properly question quick quickly quite rather really receive \
    received receives recently regards right said same saturday say says seem seems she should \
    shouldnt show simply since so some somebody someone something sometimes soon sorry step \
    steps still stop stopped stops such suddenly sunday super sure take takes team tell than \
    thank thanks that thats the their theirs them then there theres these they theyre thing \
    things think this those though through thursday thus thx to today together told tomorrow \
    tonight too tried trouble try trying tuesday two under understood unfortunately until up \
    upon urgent urgently us use used useful uses using usually ve very via want wanted wants \
    was wasnt way we wednesday week weekend weeks well went were werent weve what whatever \
    whats when whenever where wheres whether which while who whoever whom whose why will with \
    within without wonder wondering wont work worked working works would wouldnt wrong year \
    years yep yes yesterday yet you your youre yours yourself ";

/// Words for an action rather than its object. They have little weight.
const WEAK_WORDS: &[&str] = &[
    "set up",
    "setup",
    "configure",
    "new",
    "change",
    "add",
    "create",
    "request",
    "order",
    "install",
    "open",
    "company",
    "office",
    "number",
    "slow",
    "start",
    "wait",
];

/// The weight of a weak term.
const WEAK_WEIGHT: f64 = 0.4;

/// Groups of synonyms, in the form that [`words`] returns.
const SYNONYMS: &[&str] = &[
    "sign in, log in, login, log on, logon, signin, signing in, logging in, logged in, \
     signed in",
    "mfa, 2fa, multi factor, multifactor, two factor, authenticator, second factor",
    "wifi, wi fi, wireless, wlan",
    "email, e mail, mail",
    "laptop, computer, pc, notebook, workstation",
    "phone, mobile, smartphone, cell, iphone, android",
    "mac, macbook, macos",
    "print, printer, printing, printout",
    "phishing, phish, suspicious, scam, fraudulent, spam, fake",
    "onboarding, onboard, new starter, new hire, new employee, new joiner, new colleague, \
     new user",
    "offboarding, offboard, leaver",
    "restore, recover, recovery, undelete, retrieve",
    "deleted, delete, removed, remove, erased",
    "backup, back up, backed up",
    "forgot, forgotten, forget, lost, reset",
    "password, passcode, passphrase",
    "vpn, remote access",
    "home, remotely",
    "phone number, telephone number, call",
    "onedrive, one drive",
    "sharepoint, share point",
    "sync, synchronise, synchronize, synchronisation, synchronization",
    "set up, setup, configure, configuration",
    "screen, monitor, display",
    "helpdesk, help desk, service desk, support desk",
    "out of office, automatic reply, auto reply",
    "sla, response time, first reply",
];

/// Phrases indexed by their first word. Each phrase carries the value of its list.
struct Phrases<T>(HashMap<&'static str, Vec<Phrase<T>>>);

struct Phrase<T> {
    /// The position among all phrases.
    position: usize,
    whole: &'static str,
    words: Vec<&'static str>,
    value: T,
}

impl<T: Copy> Phrases<T> {
    fn of(lists: impl IntoIterator<Item = (T, &'static str)>) -> Self {
        let mut by_first_word: HashMap<_, Vec<_>> = HashMap::new();
        let phrases = lists
            .into_iter()
            .flat_map(|(value, list)| list.split(", ").map(move |phrase| (value, phrase)));
        for (position, (value, whole)) in phrases.enumerate() {
            let words: Vec<_> = whole.split(' ').collect();
            by_first_word.entry(words[0]).or_default().push(Phrase {
                position,
                whole,
                words,
                value,
            });
        }
        Self(by_first_word)
    }

    /// The phrases that start with a word.
    fn starting_with(&self, word: &str) -> &[Phrase<T>] {
        self.0.get(word).map_or(&[], Vec::as_slice)
    }

    /// The phrases with which `words` starts, in the order of the list.
    fn at_start_of<'a>(&'a self, words: &'a [String]) -> impl Iterator<Item = &'a Phrase<T>> {
        let first = words.first().map_or("", String::as_str);
        let all = self.starting_with(first).iter();
        all.filter(|phrase| {
            words.len() >= phrase.words.len()
                && words
                    .iter()
                    .zip(&phrase.words)
                    .all(|(word, expected)| word == expected)
        })
    }

    /// Whether `words` contains one of the phrases.
    fn occur_in(&self, words: &[String]) -> bool {
        (0..words.len()).any(|from| self.at_start_of(&words[from..]).next().is_some())
    }
}

/// The lists above, indexed for lookup.
struct Lists {
    small_talk: Phrases<SmallTalk>,
    reach: Phrases<()>,
    person: Phrases<()>,
    trouble: Phrases<()>,
    more: Phrases<()>,
    connectives: Phrases<()>,
    references: Phrases<()>,
    synonyms: Phrases<&'static str>,
    stop_words: HashSet<&'static str>,
}

static LISTS: LazyLock<Lists> = LazyLock::new(|| Lists {
    small_talk: Phrases::of(SMALL_TALK.iter().copied()),
    reach: Phrases::of([((), REACH)]),
    person: Phrases::of([((), PERSON)]),
    trouble: Phrases::of([((), TROUBLE)]),
    more: Phrases::of([((), MORE)]),
    connectives: Phrases::of([((), CONNECTIVES)]),
    references: Phrases::of([((), REFERENCES)]),
    synonyms: Phrases::of(SYNONYMS.iter().map(|group| (*group, *group))),
    stop_words: STOP_WORDS.split_ascii_whitespace().collect(),
});

/// The names of a conversation's participants. They say little about what is asked.
#[derive(Clone, Copy, Debug)]
pub struct Participants<'a> {
    /// The agent's name.
    pub agent: &'a str,
    /// The company whose staff ask. Its name has little weight in their questions.
    pub company: Option<&'a str>,
}

/// Parses a message.
pub fn parse(message: &str, participants: Participants<'_>) -> Question {
    let message_words = words(message);
    let (rest, kind) = without_small_talk(&message_words);
    let mut terms = terms(&rest);
    let company = words(participants.company.unwrap_or_default());
    for term in terms.iter_mut().filter(|term| is_one_of(term, &company)) {
        term.weight = WEAK_WEIGHT;
    }
    let agent = words(participants.agent);
    let names_only_agent = terms.iter().all(|term| agent.contains(&term.word));
    let has_trouble = LISTS.trouble.occur_in(&rest);
    let is_small_talk = (names_only_agent || message_words.len() == 1) && !has_trouble;
    let continues = LISTS.connectives.at_start_of(&rest).next().is_some();
    let refers = terms.len() <= 2 && LISTS.references.occur_in(&rest);
    Question {
        small_talk: kind.filter(|_| is_small_talk),
        is_follow_up: continues || refers || terms.len() <= 1,
        wants_more: has_trouble || LISTS.more.occur_in(&rest),
        terms,
    }
}

/// Parses a message after correcting its spelling. `correct` returns the word that replaces a term,
/// if there is one.
///
/// # Errors
/// Those of `correct`.
pub fn parse_corrected<E>(
    message: &str,
    participants: Participants<'_>,
    correct: impl Fn(&Term) -> Result<Option<String>, E>,
) -> Result<Question, E> {
    let question = parse(message, participants);
    let mut message_words = words(message);
    let agent = words(participants.agent);
    let mut is_corrected = false;
    for term in &question.terms {
        if agent.contains(&term.word) {
            continue;
        }
        if let Some(corrected) = correct(term)? {
            is_corrected = true;
            for word in message_words.iter_mut().filter(|word| **word == term.word) {
                word.clone_from(&corrected);
            }
        }
    }
    Ok(if is_corrected {
        parse(&message_words.join(" "), participants)
    } else {
        question
    })
}

/// Whether a term is one of these words, or the possessive form of one.
fn is_one_of(term: &Term, words: &[String]) -> bool {
    let bare = term.word.strip_suffix('s').unwrap_or(&term.word);
    words.iter().any(|word| *word == term.word || word == bare)
}

/// Whether a word is a stop word.
pub fn is_stop_word(word: &str) -> bool {
    LISTS.stop_words.contains(word)
}

/// Splits text into words without case and accents. Apostrophes are dropped.
fn words(text: &str) -> Vec<String> {
    terms::of_question(&text.replace(['\'', '’'], ""))
}

/// Removes small-talk phrases and returns their kind. Phrases of one word stay, because they may be
/// part of a question.
fn without_small_talk(words: &[String]) -> (Vec<String>, Option<SmallTalk>) {
    let mut rest = Vec::new();
    let mut kinds = Vec::new();
    let mut from = 0;
    while from < words.len() {
        let found = LISTS.small_talk.at_start_of(&words[from..]).next();
        let found = found.map(|phrase| (phrase.value, phrase.words.len()));
        let found =
            found.or_else(|| Some((SmallTalk::Person, person_request_len(&words[from..])?)));
        let length = found.map_or(1, |(_, length)| length);
        if length == 1 {
            rest.push(words[from].clone());
        }
        kinds.extend(found.map(|(kind, _)| kind));
        from += length;
    }
    (rest, kinds.into_iter().min())
}

/// The number of words of the request for a person with which `words` starts, if it does.
fn person_request_len(words: &[String]) -> Option<usize> {
    let reach = LISTS.reach.at_start_of(words).next()?.words.len();
    let person = LISTS
        .person
        .at_start_of(&words[reach..])
        .next()?
        .words
        .len();
    Some(reach + person)
}

/// The terms of a message: the words and synonym phrases that are not stop words, each meaning
/// once.
fn terms(words: &[String]) -> Vec<Term> {
    let mut terms = Vec::new();
    let mut meanings: Vec<&str> = Vec::new();
    let mut from = 0;
    while from < words.len() {
        let word = words[from].as_str();
        let singular = word.strip_suffix('s').unwrap_or(word);
        let singular_phrases = LISTS.synonyms.starting_with(singular).iter();
        let singular_phrases = singular_phrases.filter(|phrase| phrase.whole == singular);
        let group = LISTS
            .synonyms
            .at_start_of(&words[from..])
            .chain(singular_phrases)
            .max_by_key(|phrase| (phrase.whole.len(), phrase.position));
        let length = group.map_or(1, |phrase| phrase.words.len());
        let meaning = group.map_or(singular, |phrase| phrase.value);
        let is_digit = word.len() == 1 && word.as_bytes()[0].is_ascii_digit();
        let is_stop = group.is_none() && (is_digit || is_stop_word(word));
        if !is_stop && !meanings.contains(&meaning) {
            meanings.push(meaning);
            let word = words[from..from + length].join(" ");
            let synonyms = group.map_or("", |phrase| phrase.value).split(", ");
            terms.push(Term {
                synonyms: synonyms
                    .filter(|other| *other != word && !other.is_empty())
                    .map(str::to_owned)
                    .collect(),
                weight: if WEAK_WORDS.contains(&word.as_str()) {
                    WEAK_WEIGHT
                } else {
                    1.0
                },
                word,
            });
        }
        from += length;
    }
    if terms.len() > MAX_TERMS {
        terms.drain(MAX_TERMS / 2..terms.len() - MAX_TERMS / 2);
    }
    terms
}
