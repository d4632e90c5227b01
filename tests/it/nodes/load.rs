//! Writers who repeat what got no reply, readers who go on at any node, and a slow model.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::book::{Asked, Book, Kept};
use super::group::Group;
use super::reader::{PAUSE, Wanted, read};
use crate::event_reader::{Event, text_of};
use crate::process::{FABRIKAM, NORTHWIND, Reply as HttpReply};
use crate::random::{Random, seed};
use crate::scripted_model::{Reply, ScriptedModel, chunk, text_chunk};

/// How long a test waits for an expected state; only a failing test waits this long.
const TIMEOUT: Duration = Duration::from_secs(90);
const WRITERS: usize = 8;
const READERS: usize = 50;
/// Readers of each session. The last one follows it.
const READERS_OF_SESSION: usize = 5;
/// Messages of a session: fewer than the limit of queued turns.
const MESSAGES: usize = 3;
/// Words of an answer, and the pause before each.
const WORDS: usize = 12;
const WORD_PAUSE: Duration = Duration::from_millis(15);

/// The answer of a run of a turn. No two runs have the same words.
pub fn answer(run: usize, mark: &str) -> String {
    let words: Vec<String> = (0..WORDS).map(|word| format!(" {run}.{word}")).collect();
    format!("Run {run} answers mark={mark};{}", words.concat())
}

/// Asserts that a text is the whole answer of one run to a message.
pub fn assert_answer(text: &str, mark: &str) {
    let run = text
        .strip_prefix("Run ")
        .and_then(|rest| rest.split(' ').next());
    let run = run.and_then(|run| run.parse().ok());
    assert_eq!(
        Some(text.to_owned()),
        run.map(|run| answer(run, mark)),
        "mark {mark}"
    );
}

/// A model whose answers name the mark of the last message, word by word.
pub fn slow_model() -> ScriptedModel {
    ScriptedModel::answering(|run, request| {
        let body = request.body.to_string();
        let (_, last) = body.rsplit_once("mark=").expect("the message has a mark");
        let (mark, _) = last.split_once(';').expect("the mark ends");
        let mut reply = Reply::events("");
        for word in answer(run, mark).split_inclusive(' ') {
            reply = reply.then_pause(WORD_PAUSE).then(text_chunk(word));
        }
        let end = json!({"choices": [{"delta": {}, "finish_reason": "stop"}]});
        reply.then(chunk(end) + "data: [DONE]\n\n")
    })
}

/// What happened under load.
pub struct Report {
    pub acknowledged: usize,
    pub sessions: usize,
    /// How long readers had nothing after their connections broke.
    pub gaps: Vec<Duration>,
}

/// The load while it runs.
pub struct Load<'a> {
    group: &'a Group,
    acknowledged: AtomicUsize,
    is_over: AtomicBool,
    kept: Mutex<Vec<Kept>>,
    gaps: Mutex<Vec<Duration>>,
    seed: u64,
}

/// Ends the writers when the test fails, too.
struct OverAtEnd<'a>(&'a AtomicBool);

impl Drop for OverAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Runs the load while `breaks` breaks things. Checks afterwards that nothing is lost, doubled,
/// mixed up or left undone.
pub fn under_load(group: &Group, breaks: impl FnOnce(&Load<'_>)) -> Report {
    let load = Load {
        group,
        acknowledged: AtomicUsize::new(0),
        is_over: AtomicBool::new(false),
        kept: Mutex::default(),
        gaps: Mutex::default(),
        seed: seed(),
    };
    thread::scope(|scope| {
        let (tell, told) = sync_channel(READERS);
        let told = Arc::new(Mutex::new(told));
        for reader in 0..READERS {
            let (load, told) = (&load, Arc::clone(&told));
            scope.spawn(move || load.read(reader, &told));
        }
        drop(told);
        for writer in 0..WRITERS {
            let (load, tell) = (&load, tell.clone());
            scope.spawn(move || load.write(writer, &tell));
        }
        drop(tell);
        let _over = OverAtEnd(&load.is_over);
        breaks(&load);
    });
    let kept = load.kept.into_inner().unwrap();
    let sessions = kept.len();
    Book::new(group, kept).check();
    Report {
        acknowledged: load.acknowledged.into_inner(),
        sessions,
        gaps: load.gaps.into_inner().unwrap(),
    }
}

/// A session to read.
type ToRead = (Arc<Kept>, usize);

impl Load<'_> {
    /// Waits until this number of further writes is acknowledged; returns the time.
    pub fn wait_for(&self, writes: usize) -> Duration {
        let begun = Instant::now();
        let until = self.acknowledged.load(Ordering::SeqCst) + writes;
        while self.acknowledged.load(Ordering::SeqCst) < until {
            assert!(
                begun.elapsed() < TIMEOUT,
                "nothing is acknowledged any more"
            );
            thread::sleep(Duration::from_millis(2));
        }
        begun.elapsed()
    }

    fn random(&self, of: usize) -> Random {
        Random::new(self.seed.wrapping_add(of as u64 * 7_919))
    }

    fn write(&self, writer: usize, tell: &SyncSender<ToRead>) {
        let mut random = self.random(writer);
        let (key, agent, tenant) = match writer % 2 {
            0 => (NORTHWIND, 102, "northwind"),
            _ => (FABRIKAM, 202, "fabrikam"),
        };
        for number in 0.. {
            if self.is_over.load(Ordering::SeqCst) {
                return;
            }
            let title = format!("{tenant}-{writer}-{number}");
            let body = json!({"agent_id": agent, "title": title});
            let created = self.ask(&mut random, "/chat/sessions", key, Some(&title), &body);
            assert_eq!(created.status, 201, "{created:?}");
            self.acknowledged.fetch_add(1, Ordering::SeqCst);
            let session = created.data()["id"].as_str().unwrap().to_owned();
            let path = format!("/chat/sessions/{session}/messages");
            let mut asked = Vec::new();
            for message in 0..MESSAGES {
                let mark = format!("{title}-{message}");
                let text = format!("Please answer. mark={mark};");
                let body = json!({"message": text, "client_message_id": mark});
                let reply = self.ask(&mut random, &path, key, None, &body);
                let accepted = match reply.status {
                    202 => reply.data(),
                    409 if reply.code() == "duplicate_client_message" => {
                        reply.json()["error"]["details"].take()
                    }
                    _ => panic!("{reply:?}"),
                };
                self.acknowledged.fetch_add(1, Ordering::SeqCst);
                let text_of = |name: &str| accepted[name].as_str().unwrap().to_owned();
                asked.push(Asked {
                    message: text_of("user_message_id"),
                    turn: text_of("chat_turn_id"),
                    since: text_of("since_cursor"),
                    text,
                    mark,
                });
            }
            let kept = Kept {
                key,
                title,
                session,
                asked,
            };
            self.kept.lock().unwrap().push(kept.clone());
            let kept = Arc::new(kept);
            for reader in 0..READERS_OF_SESSION {
                if tell.send((Arc::clone(&kept), reader)).is_err() {
                    return;
                }
            }
        }
    }

    /// Asks any node, and repeats the request at any other until there is an answer.
    fn ask(
        &self,
        random: &mut Random,
        path: &str,
        key: &str,
        once: Option<&str>,
        body: &Value,
    ) -> HttpReply {
        let deadline = Instant::now() + TIMEOUT;
        let headers: Vec<(&str, &str)> = once
            .map(|once| ("idempotency-key", once))
            .into_iter()
            .collect();
        loop {
            let node = random.below(self.group.len());
            let reply = self
                .group
                .call(node, "POST", key, path, &headers, Some(body));
            match reply {
                Ok(reply) if reply.status != 503 => return reply,
                failed => assert!(Instant::now() < deadline, "{path}: {failed:?}"),
            }
            thread::sleep(PAUSE);
        }
    }

    fn read(&self, reader: usize, told: &Mutex<Receiver<ToRead>>) {
        let mut random = self.random(100 + reader);
        loop {
            let next = told.lock().unwrap().recv();
            let Ok((kept, number)) = next else { return };
            let mut gaps = Vec::new();
            if number == READERS_OF_SESSION - 1 {
                let wanted = Wanted {
                    key: kept.key,
                    session: &kept.session,
                    since: "0-0",
                    turns: kept.asked.len(),
                };
                let got = read(self.group, &mut random, &wanted);
                gaps.extend(got.gaps);
                for (turn, asked) in got.turns.iter().zip(&kept.asked) {
                    assert_turn(turn, asked);
                }
            } else {
                for asked in &kept.asked {
                    let wanted = Wanted {
                        key: kept.key,
                        session: &kept.session,
                        since: &asked.since,
                        turns: 1,
                    };
                    let got = read(self.group, &mut random, &wanted);
                    gaps.extend(got.gaps);
                    assert_turn(&got.turns[0], asked);
                }
            }
            self.gaps.lock().unwrap().extend(gaps);
        }
    }
}

/// A turn is complete, from its one start to its one end, and answers its message.
fn assert_turn(events: &[Event], asked: &Asked) {
    let kinds: Vec<&str> = events.iter().map(Event::kind).collect();
    assert_eq!(
        (kinds.first(), kinds.last()),
        (Some(&"start"), Some(&"finish")),
        "{asked:?}: {events:?}"
    );
    assert_eq!(
        events[0].envelope["messageMetadata"]["chat_turn_id"],
        asked.turn.as_str()
    );
    assert_eq!(
        kinds.iter().filter(|kind| **kind == "text-start").count(),
        1,
        "{events:?}"
    );
    assert_answer(&text_of(events), &asked.mark);
}

/// A quantile of times, in milliseconds.
pub fn quantile(times: &[Duration], percent: usize) -> u128 {
    let mut sorted: Vec<u128> = times.iter().map(Duration::as_millis).collect();
    sorted.sort_unstable();
    sorted
        .get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1)))
        .copied()
        .unwrap_or(0)
}

impl Report {
    /// Tells the numbers of a case.
    pub fn tell(&self, case: &str, take_overs: &[Duration]) {
        println!(
            "{case}: {} writes acknowledged, {} sessions; taken over after p50 {} ms, p99 {} ms; {} streams broke, their readers had nothing for p50 {} ms, p99 {} ms",
            self.acknowledged,
            self.sessions,
            quantile(take_overs, 50),
            quantile(take_overs, 99),
            self.gaps.len(),
            quantile(&self.gaps, 50),
            quantile(&self.gaps, 99),
        );
    }
}
