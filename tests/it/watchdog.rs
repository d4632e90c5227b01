//! Ends a run in which a test hangs, and names the test.

use std::collections::HashMap;
use std::process::{self, Command};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use crate::random::number;

/// How long a test may take, unless `SWITCHBOARD_TEST_SECONDS` is set. No test takes nearly as
/// long.
const LIMIT_S: u64 = 600;
/// The interval of the checks.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// The running tests, by thread.
static RUNNING: OnceLock<Mutex<HashMap<ThreadId, Running>>> = OnceLock::new();

thread_local! {
    static WATCHED: Watched = Watched::new();
}

struct Running {
    test: String,
    since: Instant,
}

/// Removes a test's thread from the list when the thread ends.
struct Watched;

impl Watched {
    fn new() -> Self {
        // Other threads have no test name: those that a test starts, and the main thread of a
        // serial run.
        if let Some(test) = thread::current().name().filter(|name| name.contains("::")) {
            let (test, since) = (test.to_owned(), Instant::now());
            running().insert(thread::current().id(), Running { test, since });
        }
        Self
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        running().remove(&thread::current().id());
    }
}

fn running() -> MutexGuard<'static, HashMap<ThreadId, Running>> {
    RUNNING
        .get_or_init(|| {
            thread::spawn(check);
            Mutex::default()
        })
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
}

fn check() {
    let limit = number("SWITCHBOARD_TEST_SECONDS").unwrap_or(LIMIT_S);
    loop {
        thread::sleep(POLL_INTERVAL);
        let running = running();
        let late = |running: &&Running| running.since.elapsed().as_secs() > limit;
        if let Some(late) = running.values().find(late) {
            eprintln!("{} has not ended within {limit} s", late.test);
            // Child processes of tests are killed too.
            let own = process::id().to_string();
            drop(Command::new("pkill").args(["-KILL", "-P", &own]).status());
            process::exit(101);
        }
    }
}

/// Watches the calling test. Every helper that a test may wait for calls this.
pub fn watch() {
    WATCHED.with(|_| ());
}

/// Waits for an expected condition, which takes much less than a minute.
pub fn until(wanted: &str, mut is_so: impl FnMut() -> bool) {
    watch();
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < deadline, "still not so: {wanted}");
        thread::yield_now();
    }
}
