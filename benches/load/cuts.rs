//! Streams that are cut at random bytes and taken up again, while the server is killed now and then: what a reader
//! holds in the end must be the stored message, once and whole.

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
use crate::numbers::Numbers;
use crate::report::{Aim, Report};
use crate::requests::{self, QUESTIONS};
use crate::server::{self, Server};
use crate::streams::{Event, Events, Next};
use crate::{Failed, WORLD};

/// Conversations at one time.
const TALKS: usize = 32;
/// Questions of one conversation that are asked at once; those behind the first wait.
const MOST_QUESTIONS: usize = 4;
/// Cut streams from one kill of the server to the next.
const CUTS_PER_KILL: usize = 250;
/// How many bytes of a reply are read at most: some of the cuts are in its head, some would be behind its end.
const BYTES: [usize; 4] = [800, 1_500, 3_000, 9_000];
/// How long anything may take, a killed server's new start included.
const PATIENCE: Duration = Duration::from_secs(60);
/// How soon a client tries again.
const AGAIN: Duration = Duration::from_millis(5);
/// Failures that are told; one is enough to fail.
const TOLD: usize = 10;

/// Where the server is now, and which start of it this is.
#[derive(Clone, Copy)]
struct Now {
    address: SocketAddr,
    start: usize,
}

/// What all conversations share.
struct Run {
    now: watch::Receiver<Now>,
    wanted: usize,
    cuts: AtomicUsize,
    in_heads: AtomicUsize,
    answers: AtomicUsize,
    /// Streams that a kill broke.
    broken: AtomicUsize,
    /// Answers that a kill had begin again while somebody read.
    begun_again: AtomicUsize,
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

/// Cuts so many streams on a server of its own, and reports how it went.
pub fn measure_cuts(
    folder: &Path,
    wanted: usize,
    seed: u64,
    report: &mut Report,
) -> Result<(), Failed> {
    eprintln!("cut streams: --seed {seed}");
    let data = folder.join("cut");
    server::import(&data, WORLD)?;
    let start = |number: usize| Server::start(&data, &folder.join(format!("cut-{number}.log")));
    let mut server = start(0)?;
    let (place, now) = watch::channel(Now {
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
        begun_again: AtomicUsize::new(0),
        failures: Mutex::default(),
    });
    let begun = Instant::now();
    let talking = std::thread::spawn({
        let (run, runtime) = (Arc::clone(&run), runtime()?);
        move || {
            runtime.block_on(async {
                let talks = (0..TALKS as u64).map(|talk| {
                    let seed = seed.wrapping_add(talk).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
                    tokio::spawn(talk_on(Arc::clone(&run), Numbers::new(seed)))
                });
                for ended in join_all(talks).await {
                    if let Err(error) = ended {
                        run.failures()
                            .push(format!("a reader ended badly: {error}"));
                    }
                }
            });
        }
    });
    let mut kills = 0;
    while !talking.is_finished() {
        if !run.is_over() && run.cuts.load(Ordering::Relaxed) >= (kills + 1) * CUTS_PER_KILL {
            // Ended by SIGKILL, in the middle of whatever it does.
            drop(server);
            kills += 1;
            server = start(kills)?;
            place.send_replace(Now {
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
        "cut streams, broken by a kill besides",
        count(&run.broken),
        None,
    );
    let begun_again = count(&run.begun_again);
    report.figure("cut streams, answers begun again", begun_again, None);
    report.figure("cut streams, seconds", seconds, None);
    let failures = run.failures();
    let none = Some(Aim::AtMost(0.0));
    report.figure("cut streams, failures", failures.len() as f64, none);
    for failure in failures.iter().take(TOLD) {
        report.fail(format!("cut streams, --seed {seed}: {failure}"));
    }
    Ok(())
}

/// Conversation after conversation until enough streams were cut.
async fn talk_on(run: Arc<Run>, mut numbers: Numbers) {
    while !run.is_over() {
        if let Err(failure) = talk(&run, &mut numbers).await {
            run.failures().push(failure);
        }
    }
}

/// Asks a few questions at once, reads every answer through cuts, and compares them with what is stored.
async fn talk(run: &Run, numbers: &mut Numbers) -> Result<(), String> {
    let created = ask(run, &requests::create_with_articles(), &[201]).await?;
    let session = text_at(&created, "/data/id")?;
    let mut asked = Vec::new();
    for number in 0..=numbers.below(MOST_QUESTIONS) {
        let question = numbers.pick(&QUESTIONS);
        // Sent again when its reply was lost, it is accepted once all the same.
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
        let numbers = Numbers::new(numbers.next() | 1);
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

/// A question that was accepted.
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

/// Sends a request to wherever the server is, again and again while it is down.
async fn ask(run: &Run, request: &[u8], expected: &[u16]) -> Result<Value, String> {
    let latest = Instant::now() + PATIENCE;
    loop {
        let asked = async {
            let mut connection = Connection::open(run.now().address).await?;
            let (status, body) = connection.exchange(request).await?;
            Ok::<_, std::io::Error>((status, body.to_vec()))
        };
        match timeout(PATIENCE, asked).await {
            Ok(Ok((status, body))) if expected.contains(&status) => {
                return serde_json::from_slice(&body).map_err(|error| error.to_string());
            }
            Ok(Ok((status, body))) => {
                return Err(format!("{status} {}", String::from_utf8_lossy(&body)));
            }
            Ok(Err(_)) if Instant::now() < latest => tokio::time::sleep(AGAIN).await,
            Ok(Err(error)) => return Err(format!("the server does not come back: {error}")),
            Err(_) => return Err("a reply did not come".to_owned()),
        }
    }
}

/// A cursor as the pair of numbers that it is.
fn pair(cursor: &str) -> Result<(u64, u64), String> {
    cursor
        .split_once('-')
        .and_then(|(millis, sequence)| Some((millis.parse().ok()?, sequence.parse().ok()?)))
        .ok_or_else(|| format!("{cursor:?} is no cursor"))
}

/// What a reader has of one answer.
struct Held {
    events: Vec<Event>,
    /// The start of the server that began it.
    begun_in: usize,
}

impl Held {
    fn is_whole(&self) -> bool {
        self.events.last().is_some_and(Event::is_terminal)
    }

    /// Takes an event up; whether it begins the answer again.
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
            return Err(format!("{last:?}, then {event:?}"));
        }
        if last.is_terminal() {
            return Err(format!("behind the end comes {event:?}"));
        }
        if is_start {
            // Only a kill has an answer begin again, and then under the same ids.
            if start == self.begun_in {
                return Err(format!("the answer begins again with {event:?}"));
            }
            if event.envelope != self.events[0].envelope {
                return Err(format!("{:?} begins again as {event:?}", self.events[0]));
            }
            self.events.clear();
            self.begun_in = start;
        }
        self.events.push(event);
        Ok(is_start)
    }
}

/// Reads an answer over as many connections as the cuts and kills make necessary, each from the last cursor seen.
async fn read_through_cuts(
    run: &Run,
    session: &str,
    since: &str,
    mut numbers: Numbers,
) -> Result<Vec<Event>, String> {
    let mut held = Held {
        events: Vec::new(),
        begun_in: 0,
    };
    let mut latest = Instant::now() + PATIENCE;
    while !held.is_whole() {
        let now = run.now();
        let last = held.events.last();
        let cursor = last.map_or(since, |last| &last.cursor).to_owned();
        let request = requests::resume(session, &cursor, numbers.below(2) == 0);
        let most = numbers.pick(&BYTES);
        let Ok(mut stream) = Events::open(now.address, &request, numbers.below(most)).await else {
            if Instant::now() > latest {
                return Err("the server does not come back".to_owned());
            }
            tokio::time::sleep(AGAIN).await;
            continue;
        };
        latest = Instant::now() + PATIENCE;
        let mut has_begun = false;
        loop {
            let next = timeout(PATIENCE, stream.next())
                .await
                .map_err(|_| format!("nothing comes behind {:?}", held.events.last()))?
                .map_err(|error| error.to_string())?;
            match next {
                Next::Begins => has_begun = true,
                Next::Comment => {}
                Next::Event(event) => {
                    if held.take(event, now.start)? {
                        run.begun_again.fetch_add(1, Ordering::Relaxed);
                    }
                }
                Next::Done | Next::End => {
                    if !held.is_whole() {
                        return Err(format!("the end comes behind {:?}", held.events.last()));
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
                    // Only a kill may break a stream; the next start says that there was one.
                    let mut place = run.now.clone();
                    timeout(PATIENCE, place.wait_for(|new| new.start > now.start))
                        .await
                        .map_err(|_| "a stream broke on a living server")?
                        .map_err(|_| "the server was not started again")?;
                    break;
                }
                Next::Refused(status) => {
                    return Err(format!("{status} from {cursor}, which it gave"));
                }
            }
        }
    }
    Ok(held.events)
}

/// The envelopes' types, neighbouring deltas as one and without sources: the same for every answer.
const SHAPE: [&str; 7] = [
    "start",
    "start-step",
    "text-start",
    "text-delta",
    "text-end",
    "finish-step",
    "finish",
];

/// Every accepted question is stored once, with one answer, which is what its reader holds.
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
                _ => Err(format!("{} has not one message of {role}", asked.turn)),
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
                "{} is stored, and held is {text:?}",
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
            return Err(format!("{} reads as {shape:?}", asked.turn));
        }
    }
    Ok(())
}
