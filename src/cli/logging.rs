//! The log on stderr. One thread writes lines in batches, so that a request waits for no write.

use std::io::{self, Write};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use log::kv::{Error as KvError, Key, Value, VisitSource};
use log::{Level, Record};

use super::flags::LogFormat;
use crate::http::ACCESS_LOG;
use crate::model::clock::{Clock, TimeText};

/// How long a line waits for more lines, so that a busy server writes a few large batches.
const BATCH_DELAY: Duration = Duration::from_millis(5);
/// The maximum number of buffered bytes. Beyond it, threads that log wait for stderr
/// (backpressure).
const MAX_BUFFERED: usize = 1_024 * 1_024;

/// The lines that the log contains unless the variable `RUST_LOG` selects others.
const DEFAULT_FILTER: &str = "warn,switchboard=info";

/// Starts the log.
pub(super) fn start(format: LogFormat) {
    let filter = std::env::var("RUST_LOG").ok();
    let filter = filter.filter(|filter| !filter.trim().is_empty());
    env_logger::Builder::new()
        .parse_filters(filter.as_deref().unwrap_or(DEFAULT_FILTER))
        .format(move |line, record| match format {
            LogFormat::Text => write_text(line, record, &now()),
            LogFormat::Json => write_json(line, record, &now()),
        })
        .target(env_logger::Target::Pipe(Box::new(Log)))
        .init();
    let thread = thread::Builder::new().name("log".to_owned());
    if let Err(error) = thread.spawn(|| BUFFER.write_batches()) {
        log::warn!("log lines are written late, because their thread did not start: {error}");
    }
    match format {
        LogFormat::Text => {}
        // A reader of JSON lines cannot parse the default panic message.
        LogFormat::Json => std::panic::set_hook(Box::new(|panic| {
            log::error!("{panic}");
            finish();
        })),
    }
}

/// Writes the buffered lines, before the program exits.
pub(super) fn finish() {
    BUFFER.write_out();
}

/// Writes the reason why a server failed as a JSON line, whatever `RUST_LOG` selects.
pub(super) fn write_failure(why: &str) {
    let arguments = format_args!("{why}");
    let record = Record::builder()
        .level(Level::Error)
        .target("switchboard")
        .args(arguments)
        .build();
    let mut line = Vec::new();
    // Writing to a vector cannot fail.
    let _ = write_json(&mut line, &record, &now());
    BUFFER.add(&line);
    finish();
}

fn now() -> TimeText {
    TimeText::of(Clock::System.now())
}

/// Writes `[time LEVEL target] field … message`.
///
/// An access log line has no message, because its fields are complete.
fn write_text(line: &mut impl Write, record: &Record<'_>, time: &TimeText) -> io::Result<()> {
    let (level, target) = (record.level(), record.target());
    write!(line, "[{} {level:<5} {target}]", time.as_str())?;
    record
        .key_values()
        .visit(&mut TextFields(line))
        .map_err(io::Error::other)?;
    if target != ACCESS_LOG {
        write!(line, " {}", record.args())?;
    }
    writeln!(line)
}

/// Writes the values of a record's fields, in their order.
struct TextFields<'a, W>(&'a mut W);

impl<'kvs, W: Write> VisitSource<'kvs> for TextFields<'_, W> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), KvError> {
        let written = match value.to_f64() {
            Some(ms) if key.as_str() == "ms" => write!(self.0, " {ms:.1}ms"),
            Some(_) | None => write!(self.0, " {value}"),
        };
        written.map_err(|_| write_error())
    }
}

/// Writes a JSON object: time, level, target, message, and each field by its name.
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
        .visit(&mut JsonFields(line))
        .map_err(io::Error::other)?;
    writeln!(line, "}}")
}

/// Writes a record's fields as further members of a JSON object.
struct JsonFields<'a, W>(&'a mut W);

impl<'kvs, W: Write> VisitSource<'kvs> for JsonFields<'_, W> {
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
        write().map_err(|_| write_error())
    }
}

fn write_error() -> KvError {
    KvError::msg("cannot write a field of a log line")
}

/// A writer that adds each line to the buffer.
struct Log;

impl Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        BUFFER.add(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

static BUFFER: Buffer = Buffer {
    lines: Mutex::new(Vec::new()),
    not_empty: Condvar::new(),
    batch: Mutex::new(Vec::new()),
};

/// The lines that are not yet written to stderr.
struct Buffer {
    lines: Mutex<Vec<u8>>,
    not_empty: Condvar,
    /// The batch that is being written. Its lock is held from before the swap with `lines` until
    /// the write is done, which keeps the order of lines. The swap also reuses its allocation.
    batch: Mutex<Vec<u8>>,
}

impl Buffer {
    fn add(&self, line: &[u8]) {
        let mut lines = lock(&self.lines);
        let was_empty = lines.is_empty();
        lines.extend_from_slice(line);
        let is_full = lines.len() > MAX_BUFFERED;
        drop(lines);
        if is_full {
            self.write_out();
        } else if was_empty {
            self.not_empty.notify_one();
        }
    }

    fn write_batches(&self) {
        loop {
            let is_empty = |lines: &mut Vec<u8>| lines.is_empty();
            let lines = self.not_empty.wait_while(lock(&self.lines), is_empty);
            drop(lines.unwrap_or_else(PoisonError::into_inner));
            thread::sleep(BATCH_DELAY);
            self.write_out();
        }
    }

    fn write_out(&self) {
        let mut batch = lock(&self.batch);
        std::mem::swap(&mut *lock(&self.lines), &mut *batch);
        // Without stderr, nobody can read the error.
        let _ = io::stderr().write_all(&batch);
        batch.clear();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;

    /// Formats a record as text and as JSON.
    fn formatted(target: &str, fields: &[(&str, Value<'_>)], message: &str) -> (String, Json) {
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
    fn an_access_log_line_is_its_fields_and_each_has_a_name_in_json() {
        let fields = [
            ("id", Value::from("one")),
            ("status", Value::from(201)),
            ("ms", Value::from(1.26)),
        ];
        let (text, object) = formatted(ACCESS_LOG, &fields, "request");
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
    fn a_record_with_control_characters_is_one_line_of_json() {
        let odd = "a \"quoted\"\nline\u{7}";
        let (text, object) = formatted("elsewhere", &[("turn", Value::from(odd))], odd);
        assert_eq!(
            text,
            format!("[2025-11-24T16:00:00.007Z WARN  elsewhere] {odd} {odd}\n")
        );
        assert_eq!(object["turn"], odd);
        assert_eq!(object["message"], odd);
    }
}
