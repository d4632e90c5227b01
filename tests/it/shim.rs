//! A preloaded library between the program and the system, which records writes, makes calls fail,
//! fills the disk and moves the clock.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use rustix::io::Errno;

use crate::process::Workspace;

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/faults/shim.c");

/// Calls on the data folder, and calls that accept a connection, in the order of the control file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Write,
    Read,
    Sync,
    /// Syncs of the main file alone, which also count as [`Call::Sync`].
    SyncMain,
    Truncate,
    Open,
    Accept,
}

/// The way in which a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The call returns an error.
    With(Errno),
    /// The process ends at the call, as by SIGKILL.
    Death,
}

impl Failure {
    fn number(self) -> i64 {
        match self {
            Self::With(error) => error.raw_os_error().into(),
            Self::Death => -1,
        }
    }
}

/// The number of values per call in the control file.
const NUMBERS: u64 = 5;
/// The number of calls in the control file.
const CALLS: u64 = 7;

/// The library and its control file for one workspace.
pub struct Shim {
    folder: PathBuf,
    control: File,
    control_path: PathBuf,
    record: PathBuf,
}

impl Shim {
    /// A shim for programs that run on this workspace's data folder.
    pub fn of(workspace: &Workspace) -> Self {
        let control_path = workspace.path().join("control");
        let numbers = usize::try_from((NUMBERS * CALLS + 2) * 8).unwrap();
        fs::write(&control_path, vec![0; numbers]).unwrap();
        Self {
            folder: workspace.data(),
            control: File::options()
                .read(true)
                .write(true)
                .open(&control_path)
                .unwrap(),
            control_path,
            record: workspace.path().join("record"),
        }
    }

    /// Preloads the library into a command.
    pub fn under(&self, mut command: Command) -> Command {
        command
            .env("LD_PRELOAD", library())
            .env("FAULTS_FOLDER", &self.folder)
            .env("FAULTS_CONTROL", &self.control_path);
        command
    }

    /// Preloads the library and records the command's writes.
    pub fn recording(&self, command: Command) -> Command {
        let mut command = self.under(command);
        command.env("FAULTS_RECORD", &self.record);
        command
    }

    /// The path of the recording.
    pub fn record(&self) -> &Path {
        &self.record
    }

    /// The current length of the recording.
    pub fn recorded(&self) -> u64 {
        fs::metadata(&self.record).map_or(0, |record| record.len())
    }

    /// Lets this number of calls pass from now on, and fails the given number after them.
    pub fn fail(&self, call: Call, failure: Failure, passing: i64, failing: i64) {
        self.put(call, 3, failure.number());
        loop {
            let failed = self.failed(call);
            let from = self.seen(call) + passing;
            self.put(call, 1, from);
            self.put(call, 2, from.saturating_add(failing));
            // Otherwise the calls to fail happened while this was set up.
            if self.seen(call) <= from || self.failed(call) > failed {
                return;
            }
        }
    }

    /// Lets all calls pass again.
    pub fn heal(&self, call: Call) {
        self.put(call, 2, 0);
    }

    /// The number of calls so far.
    pub fn seen(&self, call: Call) -> i64 {
        self.get(call, 0)
    }

    /// The number of failed calls so far.
    pub fn failed(&self, call: Call) -> i64 {
        self.get(call, 4)
    }

    /// Limits the data folder to this number of bytes; 0 removes the limit.
    pub fn limit_to(&self, bytes: u64) {
        let bytes = i64::try_from(bytes).unwrap();
        self.write(NUMBERS * CALLS, bytes);
    }

    /// Sets the offset of the program's clock, forward or back.
    pub fn set_clock_ahead(&self, by_ms: i64) {
        self.write(NUMBERS * CALLS + 1, by_ms);
    }

    fn put(&self, call: Call, which: u64, number: i64) {
        self.write(call as u64 * NUMBERS + which, number);
    }

    fn write(&self, place: u64, number: i64) {
        let written = self.control.write_all_at(&number.to_ne_bytes(), place * 8);
        written.unwrap();
    }

    fn get(&self, call: Call, which: u64) -> i64 {
        let mut number = [0; 8];
        let workspace = (call as u64 * NUMBERS + which) * 8;
        self.control.read_exact_at(&mut number, workspace).unwrap();
        i64::from_ne_bytes(number)
    }
}

/// The total size of a folder's files.
pub fn bytes_in(folder: &Path) -> u64 {
    fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().metadata().unwrap().len())
        .sum()
}

/// The library, compiled once.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| compile().unwrap())
}

fn compile() -> io::Result<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (library, draft) = (folder.join("faults.so"), tempfile::tempdir_in(folder)?);
    let compiled = draft.path().join("faults.so");
    let done = Command::new("cc")
        .args([
            "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-pthread", "-o",
        ])
        .arg(&compiled)
        .arg(SOURCE)
        .arg("-ldl")
        .output()?;
    assert!(done.status.success(), "{done:?}");
    // Replace the library atomically, because other tests may be using the old one.
    fs::rename(&compiled, &library)?;
    Ok(library)
}
