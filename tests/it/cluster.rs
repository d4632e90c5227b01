//! PostgreSQL clusters that a test runs for itself: with settings of its own, with TLS, as a
//! standby. A cluster ends with the test, or with the process of the tests.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::process::{CommandOutput, finish, program};
use crate::watchdog::watch;

/// The password in every URL. No test may see it in any output.
pub const PASSWORD: &str = "s3cret/?:pw";
/// [`PASSWORD`] as a URL spells it.
const PASSWORD_IN_URL: &str = "s3cret%2F%3F%3Apw";
/// What every text of the password has in common.
const MARK: &str = "s3cret";

/// Makes a cluster, and runs it until its standard input ends.
const RUN: &str = include_str!("../postgres/cluster.sh");

/// A running cluster.
pub struct Cluster {
    folder: PathBuf,
    port: u16,
    child: Child,
    /// The cluster runs until this is closed.
    input: Option<ChildStdin>,
    databases: AtomicU32,
}

/// The cluster of all tests that need no settings of their own: with TLS for `localhost`.
pub fn shared() -> &'static Cluster {
    static SHARED: OnceLock<Cluster> = OnceLock::new();
    SHARED.get_or_init(|| Cluster::start(&[]))
}

/// The folder of the server's programs.
fn programs() -> PathBuf {
    let mut found: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path().join("bin"))
        .filter(|folder| folder.join("initdb").is_file())
        .collect();
    found.sort();
    found
        .pop()
        .expect("PostgreSQL is not installed: apt-get install postgresql")
}

impl Cluster {
    /// Starts a cluster with further lines of `postgresql.conf`.
    pub fn start(settings: &[&str]) -> Self {
        Self::run("-", settings)
    }

    /// Starts a standby of this cluster.
    pub fn standby(&self) -> Self {
        Self::run(&self.port.to_string(), &[])
    }

    fn run(primary: &str, settings: &[&str]) -> Self {
        watch();
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let mut command = as_operator("sh");
        command
            .args(["-c", RUN, "sh"])
            .arg(programs())
            .arg(port.to_string())
            .arg(primary);
        let mut child = command
            .args(settings)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut folder = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut folder).unwrap();
        assert!(!folder.is_empty(), "the cluster does not start");
        let cluster = Self {
            folder: folder.trim_end().into(),
            port,
            input: child.stdin.take(),
            child,
            databases: AtomicU32::new(0),
        };
        if primary == "-" {
            cluster.sql("postgres", "CREATE ROLE switchboard LOGIN; CREATE ROLE only_tls LOGIN; CREATE ROLE only_plain LOGIN");
            cluster.sql(
                "postgres",
                &format!("CREATE ROLE guarded LOGIN PASSWORD '{PASSWORD}'"),
            );
        }
        cluster
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder of the socket file and of the certificates `ca.pem` and `other.pem`.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Creates an empty database of the role `switchboard`; returns its name.
    pub fn new_database(&self) -> String {
        self.database_of("switchboard", "")
    }

    /// Creates an empty database of a role, with further options.
    pub fn database_of(&self, role: &str, options: &str) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.sql(
            "postgres",
            &format!("CREATE DATABASE {name} OWNER {role} {options}"),
        );
        name
    }

    /// The URL of a database for a role.
    pub fn url(&self, role: &str, database: &str) -> String {
        format!(
            "postgres://{role}:{PASSWORD_IN_URL}@127.0.0.1:{}/{database}",
            self.port
        )
    }

    /// How messages show [`Cluster::url`].
    pub fn shown(&self, role: &str, database: &str) -> String {
        format!("postgres://{role}@127.0.0.1:{}/{database}", self.port)
    }

    fn psql(&self, database: &str, sql: &str) -> Command {
        let mut psql = Command::new(programs().join("psql"));
        psql.args([
            "-X",
            "-q",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
            "-U",
            "postgres",
            "-h",
        ])
        .arg(&self.folder)
        .args(["-p", &self.port.to_string(), "-d", database, "-c", sql]);
        psql
    }

    /// Runs SQL as the superuser, and does not wait for its end.
    pub fn sql_in_background(&self, database: &str, sql: &str) -> Child {
        let mut psql = self.psql(database, sql);
        psql.stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// Runs SQL as the superuser; returns the rows, one a line.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        let done = finish(&mut self.psql(database, sql));
        assert_eq!(done.code, 0, "{done:?}");
        done.stdout.trim_end().to_owned()
    }

    /// Runs `pg_ctl` with these arguments. Returns whether it succeeded.
    fn tries(&self, arguments: &[&str]) -> bool {
        let mut command = as_operator("sh");
        let call = "cd / && bin=$1 data=$2 && shift 2 && exec \"$bin/pg_ctl\" -D \"$data\" \"$@\" >/dev/null";
        command
            .args(["-c", call, "sh"])
            .arg(programs())
            .arg(self.folder.join("data"));
        finish(command.args(arguments)).code == 0
    }

    /// Runs `pg_ctl` with these arguments.
    pub fn control(&self, arguments: &[&str]) {
        assert!(self.tries(arguments), "{arguments:?}");
    }

    /// Kills the server's first process; the others notice that.
    pub fn kill(&self) {
        let mut command = as_operator("sh");
        let call = "kill -9 $(head -1 \"$1/postmaster.pid\")";
        command
            .args(["-c", call, "sh"])
            .arg(self.folder.join("data"));
        assert_eq!(finish(&mut command).code, 0);
    }

    /// Starts the server again. After a kill, its other processes may have to end first.
    pub fn start_again(&self) {
        let log = self.folder.join("log");
        let started = (0..100).any(|_| self.tries(&["start", "-w", "-l", log.to_str().unwrap()]));
        assert!(started, "the server does not start again");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.input.take());
        drop(self.child.wait());
    }
}

/// A program as the user of the server: PostgreSQL refuses root.
fn as_operator(name: &str) -> Command {
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|own| {
        use std::os::unix::fs::MetadataExt;
        own.uid() == 0
    });
    if !is_root {
        return Command::new(name);
    }
    let mut command = Command::new("runuser");
    command.args(["-u", "postgres", "--", name]);
    command
}

/// The program on a database. The folder of the command lets no data folder be made.
pub fn command_on<'a>(url: &str, arguments: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = program(arguments);
    command
        .current_dir("/proc")
        .env("SWITCHBOARD_DATABASE", url);
    command
}

/// Runs a command on a database. Nothing that it prints shows the password.
pub fn run_on<'a>(url: &str, arguments: impl IntoIterator<Item = &'a str>) -> CommandOutput {
    let done = finish(&mut command_on(url, arguments));
    assert!(
        !done.stdout.contains(MARK) && !done.stderr.contains(MARK),
        "{done:?}"
    );
    done
}

/// The line with which `serve` refuses a database, without the part that every refusal begins with.
pub fn refusal_of(url: &str, shown: &str) -> String {
    let done = run_on(url, ["serve", "--listen", "127.0.0.1:0"]);
    let line = done.failure();
    let start = format!("cannot use {shown}: ");
    line.strip_prefix(&start).unwrap_or(line).to_owned()
}

/// A URL's URL with parameters.
pub fn with(url: &str, parameters: &str) -> String {
    format!("{url}?{parameters}")
}
