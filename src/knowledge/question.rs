//! What a message asks: the words to look for, whether it leans on what was said before, and small talk.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use super::passage_index::Term;

/// A message, read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Question {
    /// Its content words.
    pub terms: Vec<Term>,
    /// Whether it cannot be understood without the messages before it.
    pub leans_on_earlier: bool,
    /// Whether it says that what was shown did not help, or asks for something else.
    pub wants_more: bool,
    /// Set when it is nothing but small talk.
    pub small_talk: Option<SmallTalk>,
}

/// Kinds of small talk. Of several in one message the first of this list gets the reply.
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

/// Content words of a message beyond these are left out from its middle: what is wanted stands at an end.
const MOST_TERMS: usize = 48;

/// Longer phrases stand before those that they contain.
const KINDS: &[(SmallTalk, &str)] = &[
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

/// What begins the wish for a person, and what ends it.
const REACH: &str = "talk to, talk with, speak to, speak with, chat with, connect me to, \
     connect me with, put me through to, transfer me to";
const PERSON: &str = "a human being, a real person, a real human, a live agent, a human, a person, \
     an agent, an operator, somebody, someone";

/// Words that say that something is still wrong, whatever politeness stands around them.
const TROUBLE: &str = "still, doesnt, didnt, wont, cant, isnt, fails, failed, broken, not working";

/// What asks for something else than was shown.
const MORE: &str = "else, more, other, another";

/// What a message that goes on with a topic may begin with.
const CONNECTIVES: &str = "and, or, but, also, then, what about, how about, same";

/// What stands for something that was named before.
const REFERENCES: &str = "it, its, this, that, thats, these, those, them, they, same, instead";

/// Words that do not tell one question from another, those that only say that there is a problem included.
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

/// Words that say what to do, or what happens, rather than with what: they count little.
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

/// What they count.
const WEAK: f64 = 0.4;

/// Words that people use for the same thing. As [`words`] gives them.
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

/// Phrases that say something each, found by their first words; each of these says what its list says.
struct Phrases<T>(HashMap<&'static str, Vec<Phrase<T>>>);

struct Phrase<T> {
    /// Its place among all of them.
    place: usize,
    whole: &'static str,
    words: Vec<&'static str>,
    says: T,
}

impl<T: Copy> Phrases<T> {
    fn of(lists: impl IntoIterator<Item = (T, &'static str)>) -> Self {
        let mut found: HashMap<_, Vec<_>> = HashMap::new();
        let lists = lists.into_iter();
        let phrases = lists.flat_map(|(says, list)| list.split(", ").map(move |one| (says, one)));
        for (place, (says, whole)) in phrases.enumerate() {
            let words: Vec<_> = whole.split(' ').collect();
            found.entry(words[0]).or_default().push(Phrase {
                place,
                whole,
                words,
                says,
            });
        }
        Self(found)
    }

    /// Those that begin with a word.
    fn from(&self, word: &str) -> &[Phrase<T>] {
        self.0.get(word).map_or(&[], Vec::as_slice)
    }

    /// Those that words begin with, in their order.
    fn at<'a>(&'a self, words: &'a [String]) -> impl Iterator<Item = &'a Phrase<T>> {
        let first = words.first().map_or("", String::as_str);
        let all = self.from(first).iter();
        all.filter(|phrase| {
            words.len() >= phrase.words.len()
                && words
                    .iter()
                    .zip(&phrase.words)
                    .all(|(said, word)| said == word)
        })
    }

    /// Whether one of them stands anywhere among words.
    fn are_in(&self, words: &[String]) -> bool {
        (0..words.len()).any(|from| self.at(&words[from..]).next().is_some())
    }
}

/// The lists above, as they are asked.
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
    small_talk: Phrases::of(KINDS.iter().copied()),
    reach: Phrases::of([((), REACH)]),
    person: Phrases::of([((), PERSON)]),
    trouble: Phrases::of([((), TROUBLE)]),
    more: Phrases::of([((), MORE)]),
    connectives: Phrases::of([((), CONNECTIVES)]),
    references: Phrases::of([((), REFERENCES)]),
    synonyms: Phrases::of(SYNONYMS.iter().map(|group| (*group, *group))),
    stop_words: STOP_WORDS.split_ascii_whitespace().collect(),
});

/// Who talks.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a> {
    /// The agent's name.
    pub agent: &'a str,
    /// The company whose staff ask: to them its name tells little.
    pub company: Option<&'a str>,
}

/// Reads a message.
pub fn read(message: &str, talk: Names<'_>) -> Question {
    let said = words(message);
    let (rest, kind) = without_small_talk(&said);
    let mut terms = terms(&rest);
    let own = words(talk.company.unwrap_or_default());
    for term in terms.iter_mut().filter(|term| is_of(term, &own)) {
        term.weight = WEAK;
    }
    let names = words(talk.agent);
    let only_names = terms.iter().all(|term| names.contains(&term.word));
    let trouble = LISTS.trouble.are_in(&rest);
    let small_talk = (only_names || said.len() == 1) && !trouble;
    let goes_on = LISTS.connectives.at(&rest).next().is_some();
    let refers = terms.len() <= 2 && LISTS.references.are_in(&rest);
    Question {
        small_talk: kind.filter(|_| small_talk),
        leans_on_earlier: goes_on || refers || terms.len() <= 1,
        wants_more: trouble || LISTS.more.are_in(&rest),
        terms,
    }
}

/// Reads a message in which `spelt` may know a word that was meant by another.
///
/// # Errors
/// Those of `spelt`.
pub fn read_spelt<E>(
    message: &str,
    talk: Names<'_>,
    spelt: impl Fn(&Term) -> Result<Option<String>, E>,
) -> Result<Question, E> {
    let question = read(message, talk);
    let mut said = words(message);
    let names = words(talk.agent);
    let mut is_changed = false;
    for term in &question.terms {
        if names.contains(&term.word) {
            continue;
        }
        if let Some(meant) = spelt(term)? {
            is_changed = true;
            for word in said.iter_mut().filter(|word| **word == term.word) {
                word.clone_from(&meant);
            }
        }
    }
    Ok(if is_changed {
        read(&said.join(" "), talk)
    } else {
        question
    })
}

/// Whether a term is one of these words, or the genitive of one.
fn is_of(term: &Term, words: &[String]) -> bool {
    let bare = term.word.strip_suffix('s').unwrap_or(&term.word);
    words.iter().any(|word| *word == term.word || word == bare)
}

/// Whether a word does not tell one question from another.
pub fn is_stop_word(word: &str) -> bool {
    LISTS.stop_words.contains(word)
}

/// Lower-case words without apostrophes; everything else that is no letter or digit parts words.
fn words(text: &str) -> Vec<String> {
    let text = text.replace(['\'', '’'], "").to_lowercase();
    let parts = text.split(|character: char| !character.is_alphanumeric());
    parts
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

/// The words outside small talk, and the kind of that. Single words stay: they may be part of a question.
fn without_small_talk(said: &[String]) -> (Vec<String>, Option<SmallTalk>) {
    let mut rest = Vec::new();
    let mut kinds = Vec::new();
    let mut from = 0;
    while from < said.len() {
        let found = LISTS.small_talk.at(&said[from..]).next();
        let found = found.map(|phrase| (phrase.says, phrase.words.len()));
        let found = found.or_else(|| Some((SmallTalk::Person, wish_for_a_person(&said[from..])?)));
        let length = found.map_or(1, |(_, length)| length);
        if length == 1 {
            rest.push(said[from].clone());
        }
        kinds.extend(found.map(|(kind, _)| kind));
        from += length;
    }
    (rest, kinds.into_iter().min())
}

/// How many words at the beginning say that a person is wanted, if any do.
fn wish_for_a_person(words: &[String]) -> Option<usize> {
    let reach = LISTS.reach.at(words).next()?.words.len();
    let person = LISTS.person.at(&words[reach..]).next()?.words.len();
    Some(reach + person)
}

fn terms(words: &[String]) -> Vec<Term> {
    let mut terms = Vec::new();
    let mut meant: Vec<&str> = Vec::new();
    let mut from = 0;
    while from < words.len() {
        let word = words[from].as_str();
        let singular = word.strip_suffix('s').unwrap_or(word);
        let as_one = LISTS.synonyms.from(singular).iter();
        let as_one = as_one.filter(|phrase| phrase.whole == singular);
        let group = LISTS
            .synonyms
            .at(&words[from..])
            .chain(as_one)
            .max_by_key(|phrase| (phrase.whole.len(), phrase.place));
        let length = group.map_or(1, |phrase| phrase.words.len());
        let meaning = group.map_or(singular, |phrase| phrase.says);
        let digit = word.len() == 1 && word.as_bytes()[0].is_ascii_digit();
        let stop = group.is_none() && (digit || is_stop_word(word));
        if !stop && !meant.contains(&meaning) {
            meant.push(meaning);
            let word = words[from..from + length].join(" ");
            let synonyms = group.map_or("", |phrase| phrase.says).split(", ");
            terms.push(Term {
                synonyms: synonyms
                    .filter(|other| *other != word && !other.is_empty())
                    .map(str::to_owned)
                    .collect(),
                weight: if WEAK_WORDS.contains(&word.as_str()) {
                    WEAK
                } else {
                    1.0
                },
                word,
            });
        }
        from += length;
    }
    if terms.len() > MOST_TERMS {
        terms.drain(MOST_TERMS / 2..terms.len() - MOST_TERMS / 2);
    }
    terms
}
