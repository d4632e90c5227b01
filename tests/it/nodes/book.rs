//! What was acknowledged, and whether the database and every node say the same.

use std::collections::{BTreeMap, BTreeSet};

use super::group::Group;
use super::load::assert_answer;
use crate::event_reader::pair;
use crate::process::{FABRIKAM, NORTHWIND};

/// An acknowledged message.
#[derive(Clone, Debug)]
pub struct Asked {
    pub message: String,
    pub turn: String,
    pub since: String,
    pub text: String,
    pub mark: String,
}

/// An acknowledged session with its messages.
#[derive(Clone, Debug)]
pub struct Kept {
    pub key: &'static str,
    pub title: String,
    pub session: String,
    pub asked: Vec<Asked>,
}

/// Sessions whose messages are read at every node.
const SAMPLE: usize = 40;

const UNSETTLED: &str = "SELECT count(*) FROM turns WHERE terminal_tick IS NULL";
/// Each turn with its message, its answers and its logs.
const TURNS: &str = "
SELECT s.title, t.since_tick, t.terminal_tick, t.status, u.seq AS question_seq, u.content AS question, a.seq AS answer_seq,
       coalesce(a.content, '') AS answer, l.last_tick,
       (SELECT count(*) FROM turn_logs o WHERE o.turn_seq = t.seq) AS logs
FROM turns t JOIN sessions s ON s.seq = t.session_seq JOIN messages u ON u.id = t.user_message_id
LEFT JOIN messages a ON a.id = t.assistant_message_id LEFT JOIN turn_logs l ON l.turn_seq = t.seq
ORDER BY s.title, t.seq";

pub struct Book<'a> {
    group: &'a Group,
    kept: Vec<Kept>,
}

impl<'a> Book<'a> {
    pub fn new(group: &'a Group, kept: Vec<Kept>) -> Self {
        Self { group, kept }
    }

    pub fn check(&self) {
        let database = &self.group.database;
        database.until(UNSETTLED, 0);
        self.group.until_joined();
        let asked: usize = self.kept.iter().map(|kept| kept.asked.len()).sum();
        let count = |sql: &str| usize::try_from(database.number(sql)).unwrap();
        assert_eq!(
            count("SELECT count(*) FROM sessions"),
            self.kept.len(),
            "sessions"
        );
        assert_eq!(count("SELECT count(*) FROM turns"), asked, "turns");
        assert_eq!(count("SELECT count(*) FROM turn_logs"), asked, "logs");
        assert_eq!(
            count("SELECT count(*) FROM messages WHERE role = 'user'"),
            asked,
            "messages"
        );
        assert_eq!(
            count("SELECT count(*) FROM messages WHERE role = 'assistant'"),
            asked,
            "answers"
        );
        self.check_turns();
        self.check_lists();
        for kept in self.kept.iter().rev().take(SAMPLE) {
            self.check_messages(kept);
        }
    }

    fn check_turns(&self) {
        let mut turns: BTreeMap<String, Vec<_>> = BTreeMap::new();
        for row in self.group.database.rows(TURNS) {
            turns.entry(row.get("title")).or_default().push(row);
        }
        for kept in &self.kept {
            let rows = turns
                .get(&kept.title)
                .unwrap_or_else(|| panic!("{} is lost", kept.title));
            assert_eq!(rows.len(), kept.asked.len(), "{}", kept.title);
            let mut before = -1_i64;
            let mut terminal_before = -1_i64;
            for (row, asked) in rows.iter().zip(&kept.asked) {
                let number = |name: &str| row.get::<_, i64>(name);
                assert_eq!(row.get::<_, &str>("question"), asked.text);
                assert_eq!(row.get::<_, &str>("status"), "COMPLETED", "{}", asked.mark);
                assert_answer(row.get("answer"), &asked.mark);
                assert_eq!(number("logs"), 1);
                assert_eq!(
                    number("terminal_tick"),
                    number("last_tick"),
                    "{}",
                    asked.mark
                );
                // A session's messages, turns and events have one order.
                assert!(before < number("question_seq"), "{}", asked.mark);
                assert!(
                    number("question_seq") < number("answer_seq"),
                    "{}",
                    asked.mark
                );
                assert!(terminal_before < number("terminal_tick"), "{}", asked.mark);
                assert!(
                    number("since_tick") < number("terminal_tick"),
                    "{}",
                    asked.mark
                );
                before = number("question_seq");
                terminal_before = number("terminal_tick");
            }
            let cursors: Vec<_> = kept.asked.iter().map(|asked| pair(&asked.since)).collect();
            assert!(cursors.is_sorted_by(|one, next| one < next), "{cursors:?}");
        }
    }

    /// Every tenant's list has its own sessions alone, in one order, over pages of all nodes.
    fn check_lists(&self) {
        for (key, tenant) in [(NORTHWIND, "northwind-"), (FABRIKAM, "fabrikam-")] {
            let sessions = self.pages(key, "/chat/sessions?page_size=50");
            let ids: Vec<&str> = sessions
                .iter()
                .map(|session| session["id"].as_str().unwrap())
                .collect();
            let different: BTreeSet<&str> = ids.iter().copied().collect();
            let expected: BTreeSet<&str> = self
                .kept
                .iter()
                .filter(|kept| kept.key == key)
                .map(|kept| kept.session.as_str())
                .collect();
            assert_eq!(ids.len(), different.len(), "a session is listed twice");
            assert_eq!(different, expected);
            assert!(ids.is_sorted_by(|one, next| one > next), "{ids:?}");
            for session in &sessions {
                assert!(
                    session["title"].as_str().unwrap().starts_with(tenant),
                    "{session}"
                );
            }
        }
    }

    /// A session's messages, over pages of all nodes: each question with its answer behind it.
    fn check_messages(&self, kept: &Kept) {
        let path = format!("/chat/sessions/{}/messages?page_size=2", kept.session);
        let messages = self.pages(kept.key, &path);
        let ids: Vec<&str> = messages
            .iter()
            .map(|message| message["id"].as_str().unwrap())
            .collect();
        assert!(ids.is_sorted_by(|one, next| one < next), "{ids:?}");
        let of = |role: &'static str| {
            messages
                .iter()
                .filter(move |message| message["role"] == role)
        };
        let questions: Vec<&str> = of("user")
            .map(|message| message["id"].as_str().unwrap())
            .collect();
        let expected: Vec<&str> = kept
            .asked
            .iter()
            .map(|asked| asked.message.as_str())
            .collect();
        assert_eq!(questions, expected);
        let mut marks: BTreeSet<&str> =
            kept.asked.iter().map(|asked| asked.mark.as_str()).collect();
        for answer in of("assistant") {
            let text = answer["content"].as_str().unwrap();
            let mark = text
                .split_once("mark=")
                .and_then(|(_, rest)| rest.split_once(';'))
                .unwrap()
                .0;
            assert!(marks.remove(mark), "{text}");
            assert_answer(text, mark);
        }
        assert!(marks.is_empty(), "{marks:?}");
    }

    /// All items of a list, each page from the next node.
    fn pages(&self, key: &str, path: &str) -> Vec<serde_json::Value> {
        let mut items = Vec::new();
        let mut cursor: Option<String> = None;
        for page in 0.. {
            let client = self.group.client(page % self.group.len(), key);
            let after = cursor.as_deref().map_or_else(String::new, |cursor| {
                let mut query = form_urlencoded::Serializer::new(String::new());
                format!("&{}", query.append_pair("cursor", cursor).finish())
            });
            let reply = client.get(&format!("{path}{after}")).expect(200);
            items.extend(reply.data().as_array().unwrap().clone());
            cursor = reply.next_cursor();
            if cursor.is_none() {
                break;
            }
        }
        items
    }
}
