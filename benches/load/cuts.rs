//! Streams that are cut at random bytes and resumed, while the server is killed from time to time.
//! Afterwards each reader must have the stored message exactly once, and complete.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::{join_all, try_join_all};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::client::{Connection, runtime};
use crate::numbers::Random;
use crate::report::{Aim, Report};
use crate::requests::{self, QUESTIONS};
use crate::server::{self, Server};
use crate::streams::{Event, Events, Next};
use crate::{Failed, SEED_FILE};

/// The number of concurrent conversations.
const TALKS: usize = 32;
/// The maximum number of questions that a conversation sends at once. All but the first are queued.
const MAX_QUESTIONS: usize = 4;
/// The number of cut streams between two kills of the server.
const CUTS_PER_KILL: usize = 250;
/// The maximum numbers of bytes to read of a reply. Some cuts are in its head, some after its end.
const BYTES: [usize; 4] = [800, 1_500, 3_000, 9_000];
/// The timeout of each step, including the restart of a killed server.
const TIMEOUT: Duration = Duration::from_secs(60);
/// The interval of a client's retries.
const RETRY_DELAY: Duration = Duration::from_millis(5);
/// The maximum number of reported failures. One is enough to fail the run.
const MAX_REPORTED: usize = 10;

/// The current address of the server, and the number of its start.
#[derive(Clone, Copy)]
struct Now {
    address: SocketAddr,
    start: usize,
}

/// The state that all conversations share.
struct Run {
    now: watch::Receiver<Now>,
    wanted: usize,
    cuts: AtomicUsize,
    in_heads: AtomicUsize,
    answers: AtomicUsize,
    /// The number of streams that a kill broke.
    broken: AtomicUsize,
    /// The number of answers that restarted after a kill while a reader followed them.
    restarted: AtomicUsize,
    failures: Mutex<Vec<String>>,
}

impl Run {
    fn is_over(&self) -> bool {
        self.cuts.load(Ordering::Relaxed) >= self.wanted || !self.failures().is_empty()
    }

    fn failures(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Now {
        *self.now.borrow()
    }
}

/// Cuts a number of streams on a server of its own, and reports the result.
pub fn measure_cuts(
    folder: &Path,
    wanted: usize,
    seed: u64,
    report: &mut Report,
) -> Result<(), Failed> {
    eprintln!("cut streams: --seed {seed}");
    let data = folder.join("cut");
    server::import(&data, SEED_FILE)?;
    let start = |number: usize| Server::start(&data, &folder.join(format!("cut-{number}.log")));
    let mut server = start(0)?;
    let (sender, now) = watch::channel(Now {
        address: server.address,
        start: 0,
    });
    let run = Arc::new(Run {
        now,
        wanted,
        cuts: AtomicUsize::new(0),
        in_heads: AtomicUsize::new(0),
        answers: AtomicUsize::new(0),
        broken: AtomicUsize::new(0),
        restarted: AtomicUsize::new(0),
        failures: Mutex::default(),
    });
    let begun = Instant::now();
    let talking = std::thread::spawn({
        let (run, runtime) = (Arc::clone(&run), runtime()?);
        move || {
            runtime.block_on(async {
                let talks = (0..TALKS as u64).map(|talk| {
                    let seed = seed.wrapping_add(talk).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
                    tokio::spawn(talk_on(Arc::clone(&run), Random::new(seed)))
                });
                for ended in join_all(talks).await {
                    if let Err(error) = ended {
                        run.failures().push(format!("a reader failed: {error}"));
                    }
                }
            });
        }
    });
    let mut kills = 0;
    while !talking.is_finished() {
        if !run.is_over() && run.cuts.load(Ordering::Relaxed) >= (kills + 1) * CUTS_PER_KILL {
            // Dropping the server sends SIGKILL, at whatever point the server is.
            drop(server);
            kills += 1;
            server = start(kills)?;
            sender.send_replace(Now {
                address: server.address,
                start: kills,
            });
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let seconds = begun.elapsed().as_secs_f64();
    drop(talking.join());
    let count = |counted: &AtomicUsize| counted.load(Ordering::Relaxed) as f64;
    report.figure("cut streams", count(&run.cuts), None);
    report.figure("cut streams, cut in the head", count(&run.in_heads), None);
    report.figure("cut streams, answers compared", count(&run.answers), None);
    report.figure("cut streams, kills of the server", kills as f64, None);
    report.figure(
        "cut streams, also broken by a kill",
        count(&run.broken),
        None,
    );
    let restarted = count(&run.restarted);
    report.figure("cut streams, answers restarted", restarted, None);
    report.figure("cut streams, seconds", seconds, None);
    let failures = run.failures();
    let none = Some(Aim::AtMost(0.0));
    report.figure("cut streams, failures", failures.len() as f64, none);
    for failure in failures.iter().take(MAX_REPORTED) {
        report.fail(format!("cut streams, --seed {seed}: {failure}"));
    }
    Ok(())
}

/// Runs conversations until enough streams are cut.
async fn talk_on(run: Arc<Run>, mut numbers: Random) {
    while !run.is_over() {
        if let Err(failure) = talk(&run, &mut numbers).await {
            run.failures().push(failure);
        }
    }
}

/// Sends a few questions at once, reads each answer through cuts, and compares it with the stored
/// one.
async fn talk(run: &Run, numbers: &mut Random) -> Result<(), String> {
    let created = ask(run, &requests::create_with_articles(), &[201]).await?;
    let session = text_at(&created, "/data/id")?;
    let mut asked = Vec::new();
    for number in 0..=numbers.below(MAX_QUESTIONS) {
        let question = numbers.pick(&QUESTIONS);
        // A question that is sent again after a lost reply must be accepted once only.
        let append = requests::append(&session, question, Some(&format!("message-{number}")));
        let accepted = ask(run, &append, &[202, 409]).await?;
        let ids = match accepted.pointer("/error/details") {
            Some(of_first) => of_first,
            None => &accepted["data"],
        };
        asked.push(Asked {
            question,
            message: text_at(ids, "/user_message_id")?,
            turn: text_at(ids, "/chat_turn_id")?,
            since: text_at(ids, "/since_cursor")?,
        });
    }
    let reading = asked.iter().map(|asked| {
        let numbers = Random::new(numbers.next() | 1);
        let session = &session;
        async move {
            read_through_cuts(run, session, &asked.since, numbers)
                .await
                .map_err(|failure| format!("{session} from {}: {failure}", asked.since))
        }
    });
    let read = try_join_all(reading).await?;
    let stored = ask(run, &requests::messages(&session), &[200]).await?;
    compare(&asked, &read, &stored["data"]).map_err(|failure| format!("{session}: {failure}"))?;
    run.answers.fetch_add(asked.len(), Ordering::Relaxed);
    Ok(())
}

/// An accepted question.
struct Asked {
    question: &'static str,
    message: String,
    turn: String,
    since: String,
}

fn text_at(value: &Value, path: &str) -> Result<String, String> {
    let found = value.pointer(path).and_then(Value::as_str);
    found
        .map(str::to_owned)
        .ok_or_else(|| format!("{value} has no {path}"))
}

/// Sends a request to the current address of the server, and retries while the server is down.
async fn ask(run: &Run, request: &[u8], expected: &[u16]) -> Result<Value, String> {
    let latest = Instant::now() + TIMEOUT;
    loop {
        let asked = async {
            let mut connection = Connection::open(run.now().address).await?;
            let (status, body) = connection.exchange(request).await?;
            Ok::<_, std::io::Error>((status, body.to_vec()))
        };
        match timeout(TIMEOUT, asked).await {
            Ok(Ok((status, body))) if expected.contains(&status) => {
                return serde_json::from_slice(&body).map_err(|error| error.to_string());
            }
            Ok(Ok((status, body))) => {
                return Err(format!("{status} {}", String::from_utf8_lossy(&body)));
            }
            Ok(Err(_)) if Instant::now() < latest => tokio::time::sleep(RETRY_DELAY).await,
            Ok(Err(error)) => return Err(format!("the server did not restart in time: {error}")),
            Err(_) => return Err("a reply timed out".to_owned()),
        }
    }
}

/// Parses a cursor into its two numbers.
fn pair(cursor: &str) -> Result<(u64, u64), String> {
    cursor
        .split_once('-')
        .and_then(|(millis, sequence)| Some((millis.parse().ok()?, sequence.parse().ok()?)))
        .ok_or_else(|| format!("{cursor:?} is not a cursor"))
}

/// The part of an answer that a reader has received.
struct Received {
    events: Vec<Event>,
    /// The number of the server's start in which the answer began.
    begun_in: usize,
}

impl Received {
    fn is_complete(&self) -> bool {
        self.events.last().is_some_and(Event::is_terminal)
    }

    /// Adds an event, and returns whether it restarts the answer.
    fn take(&mut self, event: Event, start: usize) -> Result<bool, String> {
        let is_start = event.kind() == "start";
        let Some(last) = self.events.last() else {
            if !is_start {
                return Err(format!("an answer begins with {event:?}"));
            }
            self.begun_in = start;
            self.events.push(event);
            return Ok(false);
        };
        if pair(&last.cursor)? >= pair(&event.cursor)? {
            return Err(format!(
                "{event:?} follows {last:?}, but its cursor is not greater"
            ));
        }
        if last.is_terminal() {
            return Err(format!("{event:?} follows the end"));
        }
        if is_start {
            // An answer restarts only after a kill, and then with the same ids.
            if start == self.begun_in {
                return Err(format!("the answer restarts without a kill: {event:?}"));
            }
            if event.envelope != self.events[0].envelope {
                return Err(format!("{:?} restarts as {event:?}", self.events[0]));
            }
            self.events.clear();
            self.begun_in = start;
        }
        self.events.push(event);
        Ok(is_start)
    }
}

/// Reads an answer over as many connections as the cuts and kills require, each from the last
/// cursor.
async fn read_through_cuts(
    run: &Run,
    session: &str,
    since: &str,
    mut numbers: Random,
) -> Result<Vec<Event>, String> {
    let mut received = Received {
        events: Vec::new(),
        begun_in: 0,
    };
    let mut latest = Instant::now() + TIMEOUT;
    while !received.is_complete() {
        let now = run.now();
        let last = received.events.last();
        let cursor = last.map_or(since, |last| &last.cursor).to_owned();
        let request = requests::resume(session, &cursor, numbers.below(2) == 0);
        let most = numbers.pick(&BYTES);
        let Ok(mut stream) = Events::open(now.address, &request, numbers.below(most)).await else {
            if Instant::now() > latest {
                return Err("the server did not restart in time".to_owned());
            }
            tokio::time::sleep(RETRY_DELAY).await;
            continue;
        };
        latest = Instant::now() + TIMEOUT;
        let mut has_begun = false;
        loop {
            let next = timeout(TIMEOUT, stream.next())
                .await
                .map_err(|_| format!("nothing follows {:?} in time", received.events.last()))?
                .map_err(|error| error.to_string())?;
            match next {
                Next::Begins => has_begun = true,
                Next::Comment => {}
                Next::Event(event) => {
                    if received.take(event, now.start)? {
                        run.restarted.fetch_add(1, Ordering::Relaxed);
                    }
                }
                Next::Done | Next::End => {
                    if !received.is_complete() {
                        return Err(format!(
                            "the stream ends after {:?}",
                            received.events.last()
                        ));
                    }
                    break;
                }
                Next::Cut => {
                    run.cuts.fetch_add(1, Ordering::Relaxed);
                    if !has_begun {
                        run.in_heads.fetch_add(1, Ordering::Relaxed);
                    }
                    break;
                }
                Next::Broken => {
                    run.broken.fetch_add(1, Ordering::Relaxed);
                    // Only a kill may break a stream. The number of the next start proves the kill.
                    let mut receiver = run.now.clone();
                    timeout(TIMEOUT, receiver.wait_for(|new| new.start > now.start))
                        .await
                        .map_err(|_| "a stream broke without a kill")?
                        .map_err(|_| "the server was not restarted")?;
                    break;
                }
                Next::Refused(status) => {
                    return Err(format!("{status} for {cursor}, which the server sent"));
                }
            }
        }
    }
    Ok(received.events)
}

/// The types of an answer's envelopes, with adjacent deltas merged and sources removed.
const SHAPE: [&str; 7] = [
    "start",
    "start-step",
    "text-start",
    "text-delta",
    "text-end",
    "finish-step",
    "finish",
];

/// Checks that each accepted question is stored once, with one answer, which its reader received.
fn compare(asked: &[Asked], read: &[Vec<Event>], stored: &Value) -> Result<(), String> {
    let stored = stored.as_array().ok_or("no messages")?;
    if stored.len() != asked.len() * 2 {
        return Err(format!(
            "{} questions and {} messages",
            asked.len(),
            stored.len()
        ));
    }
    for (asked, events) in asked.iter().zip(read) {
        let of_turn = |role: &str| {
            let mut found = stored
                .iter()
                .filter(|item| item["role"] == role && item["chat_turn_id"] == asked.turn.as_str());
            match (found.next(), found.next()) {
                (Some(one), None) => Ok(one),
                _ => Err(format!(
                    "{} does not have exactly one message of {role}",
                    asked.turn
                )),
            }
        };
        let question = of_turn("user")?;
        if question["id"] != asked.message.as_str() || question["content"] != asked.question {
            return Err(format!("{question} was not asked"));
        }
        let answer = of_turn("assistant")?;
        let text: String = events.iter().map(Event::text).collect();
        if answer["content"] != text.as_str() {
            return Err(format!(
                "{} is stored, but {text:?} was received",
                answer["content"]
            ));
        }
        let start = json!({
            "type": "start", "messageId": answer["id"], "messageMetadata": { "chat_turn_id": asked.turn }
        });
        let mut shape: Vec<&str> = events.iter().map(Event::kind).collect();
        shape.retain(|kind| !kind.starts_with("source-"));
        shape.dedup_by(|one, other| one == other && *one == "text-delta");
        if shape != SHAPE || events[0].envelope != start {
            return Err(format!("{} has the envelopes {shape:?}", asked.turn));
        }
    }
    Ok(())
}
