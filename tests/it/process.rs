//! The real program for tests: commands, servers, signals, and a plain HTTP client.

use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::database::Database;
use crate::watchdog::watch;

/// How long a test waits for an expected event; only a failing test waits this long.
const TIMEOUT: Duration = Duration::from_secs(180);

/// The seed file of the demo world.
pub const DEMO_WORLD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/demo.json");
/// The demo world's keys.
pub const RELAY: &str = "neo_sk_demo_relay0000platform";
pub const NORTHWIND: &str = "neo_sk_demo_northwind00000000";
pub const FABRIKAM: &str = "neo_sk_demo_fabrikam000000000";

/// What an import tells at its end of the companies in the demo world.
pub const DEMO_FINDINGS: &str = "warning: northwind-it: The companies 1003 \"Fourth Coffee\", 1004 \"Fourth Coffee Roastery\" share the M365 tenant c0ffee00-be4d-4ade-8d0e-decafdecaf00. Leave exactly one of them linked.\n";

/// The arguments that serve the demo world on a free port, without a rate limit.
pub const SERVE: [&str; 7] = [
    "serve",
    "--listen",
    "127.0.0.1:0",
    "--env",
    "demo",
    "--rate-limit",
    "0",
];

/// A temporary folder of one test, which contains the data folder.
pub struct Workspace {
    sql: Database,
    folder: TempDir,
}

impl Workspace {
    pub fn new() -> Self {
        watch();
        let folder = tempfile::tempdir().unwrap();
        Self {
            sql: Database::of(folder.path().join("data")),
            folder,
        }
    }

    /// A workspace whose data folder holds the demo world.
    pub fn with_demo_world() -> Self {
        let workspace = Self::new();
        let done = workspace.run(["--env", "demo", "import", DEMO_WORLD]);
        assert_eq!(done.code, 0, "{done:?}");
        workspace
    }

    /// A workspace whose data folder holds no tenant.
    pub fn without_tenants() -> Self {
        let workspace = Self::new();
        let file = workspace.file("empty.json", r#"{"tenants": []}"#);
        workspace.ok(["import", &file]);
        workspace
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    pub fn database(&self) -> PathBuf {
        self.data().join("switchboard.db")
    }

    /// The database, for states that no command can create.
    pub fn sql(&self) -> &Database {
        &self.sql
    }

    /// Opens the database of a data folder without a server, after a full checkpoint.
    pub fn closed_file(&self) -> rusqlite::Connection {
        let file = rusqlite::Connection::open(self.database()).unwrap();
        file.pragma_update(None, "wal_checkpoint", "TRUNCATE")
            .unwrap();
        file
    }

    /// Writes a file next to the data folder; returns its path.
    pub fn file(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        let path = self.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// The program in this workspace and on its data folder, without the test's environment
    /// variables.
    pub fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = program(arguments);
        command.current_dir(self.path());
        self.sql.name_to(&mut command);
        command
    }

    /// Runs a command to its end.
    pub fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> CommandOutput {
        finish(&mut self.command(arguments))
    }

    /// Runs a command, which must succeed; returns its stdout.
    pub fn ok<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> String {
        let done = self.run(arguments);
        assert_eq!(done.code, 0, "{done:?}");
        done.stdout
    }

    /// What `check` prints of a database that a server of this process has open.
    pub fn check_of(database: &Database) -> String {
        let mut command = program(["check"]);
        database.name_to(&mut command);
        finish(&mut command).stdout
    }

    /// Starts `serve` on a free port and waits until it listens.
    pub fn serve<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Server {
        let mut command = self.command(["serve", "--listen", "127.0.0.1:0"]);
        command.args(arguments);
        Server::start(command)
    }

    /// Starts `serve` for the demo world's keys.
    pub fn serve_demo_world(&self) -> Server {
        self.serve(["--env", "demo", "--rate-limit", "0"])
    }

    /// Creates a key; returns its id and the key.
    pub fn new_key(&self, tenant: &str, name: &str) -> (String, String) {
        id_and_key(&self.ok(["keys", "create", "--tenant", tenant, "--name", name]))
    }
}

/// Parses the output of a command that creates a key: the id first, the key on the last line.
pub fn id_and_key(stdout: &str) -> (String, String) {
    let id = stdout.split('\t').next().unwrap();
    let key = stdout.lines().last().unwrap();
    (id.to_owned(), key.to_owned())
}

/// The program without the test's environment variables.
pub fn program<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_switchboard"));
    for (name, _) in std::env::vars_os() {
        let name_text = name.to_string_lossy();
        if name_text.starts_with("SWITCHBOARD_") || name_text.starts_with("RUST_LOG") {
            command.env_remove(&name);
        }
    }
    // Most tests name directories, so that they can be told apart. Tests of the ids themselves
    // remove the variable.
    command.env("SWITCHBOARD_ANY_TENANT_ID", "true");
    command.args(arguments).stdin(Stdio::null());
    command
}

/// The exit code and the output of a command.
#[derive(Debug)]
pub struct CommandOutput {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl CommandOutput {
    /// The one line on stderr of a failed command.
    pub fn failure(&self) -> &str {
        assert_eq!(self.code, 1, "{self:?}");
        // The PostgreSQL server of the tests need not sync, of which a server warns.
        let lines = self.stderr.lines();
        let lines: Vec<&str> = lines
            .filter(|line| !line.contains("fsync is off"))
            .collect();
        assert_eq!(lines.len(), 1, "{self:?}");
        assert!(lines[0].len() > 10, "{self:?}");
        lines[0]
    }
}

impl From<Output> for CommandOutput {
    fn from(output: Output) -> Self {
        Self {
            code: output
                .status
                .code()
                .unwrap_or_else(|| panic!("ended by a signal: {output:?}")),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// Runs a command to its end.
pub fn finish(command: &mut Command) -> CommandOutput {
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let _watch = Watch::over(&child);
    child.wait_with_output().unwrap().into()
}

/// Sends a process a signal.
fn send(signal: &str, process: u32) -> bool {
    Command::new("kill")
        .arg(format!("-{signal}"))
        .arg(process.to_string())
        .stderr(Stdio::null())
        .status()
        .unwrap()
        .success()
}

/// Kills a process that does not end by itself, so that a test fails instead of hanging.
struct Watch {
    _over: Sender<()>,
}

impl Watch {
    fn over(child: &Child) -> Self {
        let process = child.id();
        let (over, done) = channel();
        thread::spawn(move || {
            if done.recv_timeout(TIMEOUT) == Err(RecvTimeoutError::Timeout) {
                send("KILL", process);
            }
        });
        Self { _over: over }
    }
}

/// The lines of a process, collected as they are written.
struct Lines {
    heard: Arc<(Mutex<Heard>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Heard {
    lines: Vec<String>,
    ended: bool,
}

impl Lines {
    fn of(stream: impl Read + Send + 'static) -> Self {
        let heard = Arc::new((Mutex::new(Heard::default()), Condvar::new()));
        let hearing = Arc::clone(&heard);
        let thread = thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                hearing.0.lock().unwrap().lines.push(line);
                hearing.1.notify_all();
            }
            hearing.0.lock().unwrap().ended = true;
            hearing.1.notify_all();
        });
        Self {
            heard,
            thread: Some(thread),
        }
    }

    fn wait_for(&self, wanted: &str) -> Option<String> {
        let deadline = Instant::now() + TIMEOUT;
        let mut heard = self.heard.0.lock().unwrap();
        loop {
            if let Some(line) = heard.lines.iter().find(|line| line.contains(wanted)) {
                return Some(line.clone());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if heard.ended || left.is_zero() {
                return None;
            }
            heard = self.heard.1.wait_timeout(heard, left).unwrap().0;
        }
    }

    fn all(&self) -> Vec<String> {
        self.heard.0.lock().unwrap().lines.clone()
    }

    fn until_the_end(&mut self) -> Vec<String> {
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
        self.all()
    }
}

/// A running `serve` or `demo`; dropping it kills the process.
pub struct Server {
    child: Child,
    stdout: Lines,
    stderr: Lines,
    address: String,
}

impl Server {
    /// Starts a server and waits until it logs that it listens.
    pub fn start(command: Command) -> Self {
        Self::try_start(command)
            .unwrap_or_else(|done| panic!("the server did not come up: {done:?}"))
    }

    /// [`Server::start`] for a server that may refuse to start.
    pub fn try_start(mut command: Command) -> Result<Self, CommandOutput> {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = Lines::of(child.stdout.take().unwrap());
        let mut stderr = Lines::of(child.stderr.take().unwrap());
        let Some(line) = stderr.wait_for("listening on ") else {
            child.kill().unwrap();
            return Err(CommandOutput {
                code: child.wait().unwrap().code().unwrap_or(-1),
                stdout: stdout.until_the_end().join("\n"),
                stderr: stderr.until_the_end().join("\n"),
            });
        };
        // A server on a socket file has no address.
        let (_, rest) = line.split_once("listening on ").unwrap();
        let rest = rest.strip_prefix("http://").unwrap_or(rest);
        let address = rest.split_whitespace().next().unwrap().to_owned();
        Ok(Self {
            child,
            stdout,
            stderr,
            address,
        })
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    pub fn port(&self) -> u16 {
        self.address.rsplit_once(':').unwrap().1.parse().unwrap()
    }

    pub fn client(&self) -> Client {
        Client {
            address: self.address.clone(),
        }
    }

    /// The log so far.
    pub fn log(&self) -> Vec<String> {
        self.stderr.all()
    }

    /// Waits for a log line that contains this.
    pub fn wait_for_log(&self, wanted: &str) -> String {
        self.stderr
            .wait_for(wanted)
            .unwrap_or_else(|| panic!("no line says {wanted:?}: {:#?}", self.stderr.all()))
    }

    /// Waits for a line on stdout that contains this.
    pub fn wait_for_stdout(&self, wanted: &str) -> String {
        self.stdout
            .wait_for(wanted)
            .unwrap_or_else(|| panic!("no line says {wanted:?}: {:#?}", self.stdout.all()))
    }

    /// The lines on stdout so far.
    pub fn stdout_lines(&self) -> Vec<String> {
        self.stdout.all()
    }

    /// Sends a signal, such as `TERM`.
    pub fn signal(&self, name: &str) {
        assert!(send(name, self.child.id()));
    }

    /// The path of this name below `/proc/PID`.
    pub fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.child.id()))
    }

    /// Kills the server with SIGKILL, like a crash.
    pub fn crash(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for the exit; returns the status and the whole log.
    pub fn wait(mut self) -> (ExitStatus, Vec<String>) {
        let _watch = Watch::over(&self.child);
        // The exit closes stderr, so reading to the end needs no polling.
        let log = self.stderr.until_the_end();
        (self.child.wait().unwrap(), log)
    }

    /// Stops the server as an operator does; returns the whole log.
    pub fn stop(self) -> Vec<String> {
        self.signal("TERM");
        let (status, log) = self.wait();
        assert_eq!(status.code(), Some(0), "{log:#?}");
        log
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The process may have ended already; then there is nothing to do.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A plain HTTP client with one connection per call.
#[derive(Clone)]
pub struct Client {
    address: String,
}

/// A reply, undecoded.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Reply {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The data of a success.
    pub fn data(&self) -> Value {
        self.json()["data"].take()
    }

    /// The code of a refusal.
    pub fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap().to_owned()
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

impl Client {
    pub fn new(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
        }
    }

    pub fn get(&self, key: &str, path: &str) -> Reply {
        self.call("GET", key, path, &[], None).unwrap()
    }

    pub fn post(&self, key: &str, path: &str, body: &Value) -> Reply {
        self.call("POST", key, path, &[], Some(body)).unwrap()
    }

    /// Makes one call.
    ///
    /// # Errors
    /// The server goes away before the end of its reply.
    pub fn call(
        &self,
        method: &str,
        key: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> io::Result<Reply> {
        self.send(method, key, &format!("/public-api{path}"), headers, body)
    }

    /// Sends an activity to the Teams bots, without a token.
    ///
    /// # Errors
    /// Those of [`Client::call`].
    pub fn post_activity(&self, activity: &Value) -> io::Result<Reply> {
        self.send("POST", "", "/api/messages", &[], Some(activity))
    }

    fn send(
        &self,
        method: &str,
        key: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> io::Result<Reply> {
        let mut stream = TcpStream::connect(&self.address)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_nodelay(true)?;
        let body = body.map_or_else(String::new, Value::to_string);
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n",
            self.address
        );
        if !key.is_empty() {
            head += &format!("authorization: Bearer {key}\r\n");
        }
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        if !body.is_empty() {
            head += &format!(
                "content-type: application/json\r\ncontent-length: {}\r\n",
                body.len()
            );
        }
        stream.write_all(format!("{head}\r\n{body}").as_bytes())?;
        read_reply(&mut stream)
    }
}

/// Reads one reply with a known length.
pub fn read_reply(stream: &mut impl Read) -> io::Result<Reply> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 8_192];
    loop {
        if let Some(reply) = whole_reply(&bytes) {
            return Ok(reply);
        }
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend_from_slice(&buffer[..read]);
    }
}

fn whole_reply(bytes: &[u8]) -> Option<Reply> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let mut reply = Reply {
        status,
        head,
        body: String::new(),
    };
    let length: usize = match reply.header("content-length") {
        Some(length) => length.parse().unwrap(),
        None => 0,
    };
    let body = bytes.get(end + 4..end + 4 + length)?;
    reply.body = String::from_utf8(body.to_vec()).unwrap();
    Some(reply)
}
