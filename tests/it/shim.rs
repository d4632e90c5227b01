//! The program with a library between it and the system: what it writes is recorded, calls fail, the disk is full, the clock jumps.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use rustix::io::Errno;

use crate::process::Workspace;

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/faults/shim.c");

/// Calls of the program on its data folder, and those that take a connection; in the order of the control file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Write,
    Read,
    Sync,
    /// Those of the main file alone, which are among the others too.
    SyncMain,
    Truncate,
    Open,
    Accept,
}

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// With an error.
    With(Errno),
    /// The process ends there, as by SIGKILL.
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

/// Numbers that the control file has of each call.
const NUMBERS: u64 = 5;
/// Calls that it has them of.
const CALLS: u64 = 7;

/// What stands between the program and the system in one place.
pub struct Shim {
    folder: PathBuf,
    control: File,
    control_path: PathBuf,
    record: PathBuf,
}

impl Shim {
    /// For programs that run in this place, on its data folder.
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

    /// Puts it under a command.
    pub fn under(&self, mut command: Command) -> Command {
        command
            .env("LD_PRELOAD", library())
            .env("FAULTS_FOLDER", &self.folder)
            .env("FAULTS_CONTROL", &self.control_path);
        command
    }

    /// The same, and has what the command writes recorded.
    pub fn recording(&self, command: Command) -> Command {
        let mut command = self.under(command);
        command.env("FAULTS_RECORD", &self.record);
        command
    }

    /// Where the record is.
    pub fn record(&self) -> &Path {
        &self.record
    }

    /// How long the record is by now.
    pub fn recorded(&self) -> u64 {
        fs::metadata(&self.record).map_or(0, |record| record.len())
    }

    /// Lets so many calls from now on pass, and fails so many behind them.
    pub fn fail(&self, call: Call, failure: Failure, passing: i64, failing: i64) {
        self.put(call, 3, failure.number());
        loop {
            let failed = self.failed(call);
            let from = self.seen(call) + passing;
            self.put(call, 1, from);
            self.put(call, 2, from.saturating_add(failing));
            // Else those that were to fail went by before this was said.
            if self.seen(call) <= from || self.failed(call) > failed {
                return;
            }
        }
    }

    /// Lets all calls pass, however many were to fail.
    pub fn heal(&self, call: Call) {
        self.put(call, 2, 0);
    }

    /// How many calls there were.
    pub fn seen(&self, call: Call) -> i64 {
        self.get(call, 0)
    }

    /// How many of them failed.
    pub fn failed(&self, call: Call) -> i64 {
        self.get(call, 4)
    }

    /// Lets the data folder hold so many bytes and no more; 0 for all that there is.
    pub fn limit_to(&self, bytes: u64) {
        let bytes = i64::try_from(bytes).unwrap();
        self.write(NUMBERS * CALLS, bytes);
    }

    /// Sets the time of day so far ahead, or back.
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

/// Bytes that the files of a folder have together.
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
    // In one step, since other tests may be running with the one that was there.
    fs::rename(&compiled, &library)?;
    Ok(library)
}
