//! Growth: the bytes that a session and a message add to the file, its tables and its indexes.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use switchboard::store::database_file;

use crate::client::{ask_each, made_sessions};
use crate::measure::Target as _;
use crate::report::Report;
use crate::requests::{self, QUESTIONS};
use crate::server::{self, Server};
use crate::{Failed, SEED_FILE};

/// The number of sessions. Each gets one question and its answer.
const SESSIONS: usize = 20_000;
/// The timeout for indexing all messages.
const TIMEOUT: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// The minimum share of the growth at which a table or an index is reported.
const MIN_REPORTED: f64 = 0.02;

/// The sizes of the whole file and of each table and index, in bytes.
struct Bytes {
    whole: f64,
    parts: BTreeMap<String, f64>,
}

/// Measures on a server of its own, which is stopped before each reading.
pub fn measure_growth(folder: &Path, report: &mut Report) -> Result<(), Failed> {
    let data = folder.join("growth");
    server::import(&data, SEED_FILE)?;
    let log = folder.join("growth.log");
    // The first start creates the files that a server needs.
    Server::start(&data, &log)?.stop()?;
    let empty = sizes(&data)?;

    let server = Server::start(&data, &log)?;
    let create = requests::create_with_articles();
    let sessions = made_sessions(server.address, &create, SESSIONS)?;
    server.stop()?;
    let with_sessions = sizes(&data)?;
    report_growth("a session", &empty, &with_sessions, SESSIONS, report);

    let server = Server::start(&data, &log)?;
    let asks = sessions.iter().zip(QUESTIONS.iter().cycle());
    let asks = asks.map(|(id, question)| requests::append(id, question, None));
    ask_each(server.address, asks.collect())?;
    server.settle()?;
    let text = wait_for_index(&data)?;
    server.stop()?;
    let with_messages = sizes(&data)?;
    let messages = SESSIONS * 2;
    report.figure("a message, bytes of its text", text / messages as f64, None);
    report_growth(
        "a message",
        &with_sessions,
        &with_messages,
        messages,
        report,
    );
    Ok(())
}

/// Waits until every message is indexed, and returns the bytes of the messages' texts.
fn wait_for_index(data: &Path) -> Result<f64, Failed> {
    let connection = Connection::open(database_file(data))?;
    let latest = Instant::now() + TIMEOUT;
    let mut is_behind = connection.prepare(
        "SELECT (SELECT max(seq) FROM messages) > (SELECT done_seq FROM search_progress WHERE what = 'messages')",
    )?;
    while is_behind.query_row([], |row| row.get(0))? {
        if Instant::now() > latest {
            return Err("the messages were not indexed in time".into());
        }
        std::thread::sleep(POLL_INTERVAL);
    }
    let bytes = "SELECT sum(octet_length(content)) FROM messages";
    Ok(connection.query_row(bytes, [], |row| row.get::<_, i64>(0))? as f64)
}

fn sizes(data: &Path) -> Result<Bytes, Failed> {
    let file = database_file(data);
    let connection = Connection::open(&file)?;
    let mut sizes = connection.prepare("SELECT name, pgsize FROM dbstat WHERE aggregate = TRUE")?;
    let parts = sizes.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)? as f64)))?;
    Ok(Bytes {
        whole: file.metadata()?.len() as f64,
        parts: parts.collect::<rusqlite::Result<_>>()?,
    })
}

/// Reports the bytes that each of `number` rows added, and to which table or index.
fn report_growth(what: &str, before: &Bytes, after: &Bytes, number: usize, report: &mut Report) {
    let whole = after.whole - before.whole;
    report.figure(
        format!("{what}, bytes of the file"),
        whole / number as f64,
        None,
    );
    let grown = after.parts.iter().map(|(name, bytes)| {
        let had = before.parts.get(name).copied().unwrap_or(0.0);
        (name, bytes - had)
    });
    let mut grown: Vec<_> = grown
        .filter(|(_, bytes)| bytes / whole > MIN_REPORTED)
        .collect();
    grown.sort_by(|(_, one), (_, other)| other.total_cmp(one));
    for (name, bytes) in grown {
        report.figure(
            format!("{what}, bytes of {name}"),
            bytes / number as f64,
            None,
        );
    }
}
