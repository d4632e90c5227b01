//! The program under load: the built binary on a data folder, as an operator runs it.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::Failed;
use crate::client::ask;
use crate::measure::Target;
use crate::requests;

/// The environment of the keys in the seed file.
pub const ENVIRONMENT: &str = "bench";
/// The highest possible limit, so that requests are counted and none is refused.
pub const RATE_LIMIT: i64 = 1_000_000;
/// The limit of the relay's account per minute, more than a server can serve.
pub const PLATFORM_RATE_LIMIT: &str = "10000000";
const PROGRAM: &str = env!("CARGO_BIN_EXE_switchboard");
/// The timeout until a server listens.
const START: Duration = Duration::from_secs(30);

/// A running server. Dropping the value kills it.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
}

impl Server {
    /// Starts a server on a folder, with its default log.
    pub fn start(data: &Path, log: &Path) -> Result<Self, Failed> {
        Self::serve(program(data), &[], log)
    }

    /// As [`Server::start`], for bots of Teams without tokens.
    pub fn start_with_bots(data: &Path, log: &Path) -> Result<Self, Failed> {
        Self::serve(program(data), &bot_flags(), log)
    }

    /// Starts a node on a database, with further flags.
    pub fn start_node(url: &str, flags: &[String], log: &Path) -> Result<Self, Failed> {
        Self::serve(program_on(url), flags, log)
    }

    fn serve(mut serve: Command, flags: &[String], log: &Path) -> Result<Self, Failed> {
        serve.args(["serve", "--listen", "127.0.0.1:0", "--rate-limit"]);
        serve.arg(RATE_LIMIT.to_string());
        serve.args(["--platform-rate-limit", PLATFORM_RATE_LIMIT]);
        serve.args(flags);
        Self::run(serve, log)
    }

    /// Starts a server, and returns how long it took to report its address.
    ///
    /// The time includes the few milliseconds that the log waits for more lines.
    pub fn start_timed(data: &Path, log: &Path) -> Result<(Self, Duration), Failed> {
        let begun = Instant::now();
        let server = Self::start(data, log)?;
        ask(server.address, &requests::ready(), 1)?;
        Ok((server, begun.elapsed()))
    }

    /// Runs a server that reports its address in its log.
    pub fn run(mut command: Command, log: &Path) -> Result<Self, Failed> {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(log)?)
            .spawn()?;
        let mut server = Self {
            child,
            address: ([127, 0, 0, 1], 0).into(),
        };
        let latest = Instant::now() + START;
        loop {
            let written = fs::read_to_string(log)?;
            if let Some(address) = address_in(&written) {
                server.address = address;
                return Ok(server);
            }
            if Instant::now() > latest || server.child.try_wait()?.is_some() {
                return Err(format!("the server did not listen in time: {written}").into());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Stops the server as an operator does, so that its file contains all that it wrote.
    pub fn stop(mut self) -> Result<(), Failed> {
        let process = Pid::from_child(&self.child);
        kill_process(process, Signal::TERM)?;
        let ended = self.child.wait()?;
        if !ended.success() {
            return Err(format!("the server failed: {ended}").into());
        }
        Ok(())
    }

    /// The server's process, for a profiler.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// Returns the resident memory of the server's process in bytes, from `/proc`.
    pub fn resident(&self) -> Result<u64, Failed> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process()))?;
        let kib = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:")?.strip_suffix("kB"))
            .ok_or("/proc does not say how much memory the server uses")?;
        Ok(kib.trim().parse::<u64>()? * 1_024)
    }
}

impl Target for Server {
    fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns user and system time from `/proc`, in hundredths of a second; `None` without
    /// `/proc`.
    fn cpu(&self) -> Option<Duration> {
        Some(Stat::of(self.process())?.spent)
    }
}

/// The flags of a server whose bots work without tokens and call this machine.
pub fn bot_flags() -> Vec<String> {
    ["--teams-anonymous", "--teams-service-hosts", "127.0.0.1"]
        .map(str::to_owned)
        .into()
}

/// What `/proc` says about a process.
pub struct Stat {
    pub parent: u32,
    /// User and system time, in hundredths of a second.
    pub spent: Duration,
    /// That of children that have ended.
    pub spent_by_children: Duration,
}

impl Stat {
    /// Returns `None` if there is no such process, or no `/proc`.
    pub fn of(process: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        let (_, fields) = stat.rsplit_once(") ")?;
        let fields: Vec<&str> = fields.split(' ').collect();
        let ticks = |index: usize| fields.get(index)?.parse::<u64>().ok();
        Some(Self {
            parent: fields.get(1)?.parse().ok()?,
            spent: Duration::from_millis((ticks(11)? + ticks(12)?) * 10),
            spent_by_children: Duration::from_millis((ticks(13)? + ticks(14)?) * 10),
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Acknowledged changes are on disk, so there is nothing to wait for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Imports a seed file into a data folder, which is created.
pub fn import(data: &Path, seed_file: &str) -> Result<(), Failed> {
    import_by(program(data), seed_file)
}

/// Imports a seed file into a database.
pub fn import_into(url: &str, seed_file: &str) -> Result<(), Failed> {
    import_by(program_on(url), seed_file)
}

fn import_by(mut program: Command, seed_file: &str) -> Result<(), Failed> {
    let file = tempfile::NamedTempFile::new()?;
    fs::write(file.path(), seed_file)?;
    let done = program
        .stdin(Stdio::null())
        .arg("import")
        .arg(file.path())
        .output()?;
    if !done.status.success() {
        return Err(format!("import: {}", String::from_utf8_lossy(&done.stderr)).into());
    }
    Ok(())
}

/// Checks a data folder that no server uses, with every page of its file.
pub fn check(data: &Path) -> Result<(), Failed> {
    let checked = program(data).arg("check").output()?;
    if !checked.status.success() {
        return Err(format!("check: {}", String::from_utf8_lossy(&checked.stderr)).into());
    }
    Ok(())
}

fn program(data: &Path) -> Command {
    let mut command = plain_program();
    command.arg("--data").arg(data);
    command
}

/// The program on a PostgreSQL database. A process list does not show a variable.
fn program_on(url: &str) -> Command {
    let mut command = plain_program();
    command.env("SWITCHBOARD_DATABASE", url);
    command
}

fn plain_program() -> Command {
    let mut command = Command::new(PROGRAM);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SWITCHBOARD_") {
            command.env_remove(name);
        }
    }
    command.env_remove("RUST_LOG").args(["--env", ENVIRONMENT]);
    command
}

fn address_in(log: &str) -> Option<SocketAddr> {
    let (_, rest) = log.split_once("listening on http://")?;
    rest.split_once(' ')?.0.parse().ok()
}
