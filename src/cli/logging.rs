//! The log on stderr: one thread writes what has come together, so that a request waits neither for it nor for others' lines.

use std::io::{self, Write};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use log::kv::{Error as KvError, Key, Value, VisitSource};
use log::{Level, Record};

use super::flags::LogFormat;
use crate::http::ACCESS_LOG;
use crate::model::clock::{Clock, TimeText};

/// How long a line waits for others: a busy server writes a few big pieces instead of a line a request.
const GATHER: Duration = Duration::from_millis(5);
/// Bytes that may wait; beyond them whoever logs waits for stderr, as without this thread.
const MOST: usize = 1_024 * 1_024;

/// Starts the log.
pub(super) fn start(format: LogFormat) {
    env_logger::Builder::from_env(
        env_logger::Env::default().default_filter_or("warn,switchboard=info"),
    )
    .format(move |line, record| match format {
        LogFormat::Text => write_text(line, record, &now()),
        LogFormat::Json => write_json(line, record, &now()),
    })
    .target(env_logger::Target::Pipe(Box::new(Log)))
    .init();
    let thread = thread::Builder::new().name("log".to_owned());
    if let Err(error) = thread.spawn(|| LINES.write_what_comes()) {
        log::warn!("the log comes late: it has no thread ({error})");
    }
    match format {
        LogFormat::Text => {}
        // Whoever reads JSON reads nothing else.
        LogFormat::Json => std::panic::set_hook(Box::new(|panic| {
            log::error!("{panic}");
            finish();
        })),
    }
}

/// Writes what waits, before the program ends.
pub(super) fn finish() {
    LINES.write_out();
}

/// Writes why a server failed as a line of JSON, whatever of the log is wanted.
pub(super) fn write_failure(why: &str) {
    let arguments = format_args!("{why}");
    let record = Record::builder()
        .level(Level::Error)
        .target("switchboard")
        .args(arguments)
        .build();
    let mut line = Vec::new();
    // A vector takes whatever is written to it.
    let _ = write_json(&mut line, &record, &now());
    LINES.add(&line);
    finish();
}

fn now() -> TimeText {
    TimeText::of(Clock::System.now())
}

/// `[time LEVEL target] field … message`; a request's fields say all, so that its message is left out.
fn write_text(line: &mut impl Write, record: &Record<'_>, time: &TimeText) -> io::Result<()> {
    let (level, target) = (record.level(), record.target());
    write!(line, "[{} {level:<5} {target}]", time.as_str())?;
    record
        .key_values()
        .visit(&mut Texts(line))
        .map_err(io::Error::other)?;
    if target != ACCESS_LOG {
        write!(line, " {}", record.args())?;
    }
    writeln!(line)
}

/// The values of a record's fields, in their order.
struct Texts<'a, W>(&'a mut W);

impl<'kvs, W: Write> VisitSource<'kvs> for Texts<'_, W> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), KvError> {
        let written = match value.to_f64() {
            Some(ms) if key.as_str() == "ms" => write!(self.0, " {ms:.1}ms"),
            Some(_) | None => write!(self.0, " {value}"),
        };
        written.map_err(|_| unwritten())
    }
}

/// One JSON object: time, level, target, message, and each field by its name.
fn write_json(line: &mut impl Write, record: &Record<'_>, time: &TimeText) -> io::Result<()> {
    let (level, target) = (record.level(), record.target());
    write!(
        line,
        "{{\"time\":\"{}\",\"level\":\"{level}\",\"target\":",
        time.as_str()
    )?;
    serde_json::to_writer(&mut *line, target)?;
    write!(line, ",\"message\":")?;
    serde_json::to_writer(&mut *line, record.args())?;
    record
        .key_values()
        .visit(&mut Members(line))
        .map_err(io::Error::other)?;
    writeln!(line, "}}")
}

/// A record's fields as members of an object that has some already.
struct Members<'a, W>(&'a mut W);

impl<'kvs, W: Write> VisitSource<'kvs> for Members<'_, W> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), KvError> {
        let mut write = || {
            write!(self.0, ",")?;
            serde_json::to_writer(&mut *self.0, key.as_str())?;
            write!(self.0, ":")?;
            let written = match (value.to_u64(), value.to_f64()) {
                (Some(number), _) => serde_json::to_writer(&mut *self.0, &number),
                (None, Some(number)) => serde_json::to_writer(&mut *self.0, &number),
                (None, None) => serde_json::to_writer(&mut *self.0, &format_args!("{value}")),
            };
            Ok::<_, io::Error>(written?)
        };
        write().map_err(|_| unwritten())
    }
}

fn unwritten() -> KvError {
    KvError::msg("a field was not written")
}

/// Takes lines.
struct Log;

impl Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        LINES.add(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

static LINES: Lines = Lines {
    waiting: Mutex::new(Vec::new()),
    some: Condvar::new(),
    turn: Mutex::new(Vec::new()),
};

/// Lines that wait for their turn on stderr.
struct Lines {
    waiting: Mutex<Vec<u8>>,
    some: Condvar,
    /// Held from before lines are taken until they are written, which keeps their order. It has room for the next ones.
    turn: Mutex<Vec<u8>>,
}

impl Lines {
    fn add(&self, line: &[u8]) {
        let mut waiting = hold(&self.waiting);
        let is_first = waiting.is_empty();
        waiting.extend_from_slice(line);
        let is_much = waiting.len() > MOST;
        drop(waiting);
        if is_much {
            self.write_out();
        } else if is_first {
            self.some.notify_one();
        }
    }

    fn write_what_comes(&self) {
        loop {
            let none = |waiting: &mut Vec<u8>| waiting.is_empty();
            let some = self.some.wait_while(hold(&self.waiting), none);
            drop(some.unwrap_or_else(PoisonError::into_inner));
            thread::sleep(GATHER);
            self.write_out();
        }
    }

    fn write_out(&self) {
        let mut taken = hold(&self.turn);
        std::mem::swap(&mut *hold(&self.waiting), &mut *taken);
        // With stderr gone there is nobody left to tell.
        let _ = io::stderr().write_all(&taken);
        taken.clear();
    }
}

fn hold<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;

    /// A record in both forms.
    fn written(target: &str, fields: &[(&str, Value<'_>)], message: &str) -> (String, Json) {
        let time = &TimeText::of(1_764_000_000_007);
        let (mut text, mut object) = (Vec::new(), Vec::new());
        for (form, line) in [(LogFormat::Text, &mut text), (LogFormat::Json, &mut object)] {
            let arguments = format_args!("{message}");
            let record = Record::builder()
                .level(Level::Warn)
                .target(target)
                .key_values(&fields)
                .args(arguments)
                .build();
            match form {
                LogFormat::Text => write_text(line, &record, time).unwrap(),
                LogFormat::Json => write_json(line, &record, time).unwrap(),
            }
        }
        let object = String::from_utf8(object).unwrap();
        assert_eq!(object.matches('\n').count(), 1, "{object}");
        let text = String::from_utf8(text).unwrap();
        (text, serde_json::from_str(&object).unwrap())
    }

    #[test]
    fn a_request_s_line_is_its_fields_and_each_has_a_name_in_json() {
        let fields = [
            ("id", Value::from("one")),
            ("status", Value::from(201)),
            ("ms", Value::from(1.26)),
        ];
        let (text, object) = written(ACCESS_LOG, &fields, "request");
        assert_eq!(
            text,
            "[2025-11-24T16:00:00.007Z WARN  switchboard::access] one 201 1.3ms\n"
        );
        assert_eq!(
            object,
            json!({
                "time": "2025-11-24T16:00:00.007Z", "level": "WARN", "target": "switchboard::access", "message": "request",
                "id": "one", "status": 201, "ms": 1.26,
            })
        );
    }

    #[test]
    fn whatever_stands_in_a_text_is_one_line_of_json() {
        let odd = "a \"quoted\"\nline\u{7}";
        let (text, object) = written("elsewhere", &[("turn", Value::from(odd))], odd);
        assert_eq!(
            text,
            format!("[2025-11-24T16:00:00.007Z WARN  elsewhere] {odd} {odd}\n")
        );
        assert_eq!(object["turn"], odd);
        assert_eq!(object["message"], odd);
    }
}
