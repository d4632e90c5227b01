//! The log on stderr: one thread writes what has come together, so that a request waits neither for it nor for others' lines.

use std::io::{self, Write};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// How long a line waits for others: a busy server writes a few big pieces instead of a line a request.
const GATHER: Duration = Duration::from_millis(5);
/// Bytes that may wait; beyond them whoever logs waits for stderr, as without this thread.
const MOST: usize = 1_024 * 1_024;

/// Starts the log.
pub(super) fn start() {
    env_logger::Builder::from_env(
        env_logger::Env::default().default_filter_or("warn,switchboard=info"),
    )
    .format_timestamp_millis()
    .target(env_logger::Target::Pipe(Box::new(Log)))
    .init();
    let thread = thread::Builder::new().name("log".to_owned());
    if let Err(error) = thread.spawn(|| LINES.write_what_comes()) {
        log::warn!("the log comes late: it has no thread ({error})");
    }
}

/// Writes what waits, before the program ends.
pub(super) fn finish() {
    LINES.write_out();
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
