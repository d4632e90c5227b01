//! Captures the log lines of all tests of this binary.

use std::sync::{Mutex, OnceLock};

use log::kv::{Error, Key, Value, VisitSource};
use log::{LevelFilter, Log, Metadata, Record};

static LOG: OnceLock<CapturedLog> = OnceLock::new();

/// The captured lines of all tests of this binary.
pub struct CapturedLog {
    lines: Mutex<Vec<String>>,
}

/// Starts the capture; earlier lines are not in it.
pub fn open() -> &'static CapturedLog {
    LOG.get_or_init(|| {
        log::set_logger(&Writer).unwrap();
        log::set_max_level(LevelFilter::Info);
        CapturedLog {
            lines: Mutex::default(),
        }
    })
}

impl CapturedLog {
    /// The captured lines.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }
}

/// A level and the values of the fields, which come before the message as in the text format.
struct Line(String);

impl<'kvs> VisitSource<'kvs> for Line {
    fn visit_pair(&mut self, _: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
        self.0 += &format!(" {value}");
        Ok(())
    }
}

struct Writer;

impl Log for Writer {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        if let Some(book) = LOG.get() {
            let mut line = Line(record.level().to_string());
            record.key_values().visit(&mut line).unwrap();
            let line = format!("{} {}", line.0, record.args());
            book.lines.lock().unwrap().push(line);
        }
    }

    fn flush(&self) {}
}
