//! A PostgreSQL cluster that a test may kill. It ends with the test, or with the process of the
//! tests.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};

use super::database::Database;
use crate::process::finish;

/// Makes a cluster, and runs it until its standard input ends. The server cannot run as root.
const RUN: &str = r#"
set -e
trap '' INT TERM
bin=$1 port=$2 primary=$3
folder=$(mktemp -d "${TMPDIR:-/tmp}/switchboard-nodes-XXXXXX")
data=$folder/data log=$folder/log
cd "$folder"
if [ -z "$primary" ]; then
    "$bin/initdb" -D "$data" -U postgres --auth=trust -E UTF8 --locale=C.UTF-8 --no-sync >"$log"
    printf "listen_addresses = '127.0.0.1'\nfsync = off\nmax_connections = 200\n" >>"$data/postgresql.conf"
else
    "$bin/pg_basebackup" -D "$data" -h 127.0.0.1 -p "$primary" -U postgres -R -X stream -c fast --no-sync 2>>"$log"
    printf "primary_conninfo = 'host=127.0.0.1 port=%s user=postgres application_name=second'\n" \
        "$primary" >>"$data/postgresql.auto.conf"
fi
printf "port = %s\nunix_socket_directories = '%s'\n" "$port" "$folder" >>"$data/postgresql.auto.conf"
"$bin/pg_ctl" start -w -D "$data" -l "$log" >/dev/null || { cat "$log" >&2; exit 1; }
echo "$folder"
cat >/dev/null
"$bin/pg_ctl" stop -m immediate -D "$data" >/dev/null 2>&1 || true
cd /
rm -rf "$folder"
"#;

/// A running cluster.
pub struct Cluster {
    folder: PathBuf,
    port: u16,
    child: Child,
    /// The cluster is removed when this is closed.
    input: Option<ChildStdin>,
}

/// The folder of the server's programs.
fn programs() -> PathBuf {
    let folders = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten();
    let mut found: Vec<PathBuf> = folders
        .map(|entry| entry.unwrap().path().join("bin"))
        .filter(|folder| folder.join("initdb").is_file())
        .collect();
    found.sort();
    found
        .pop()
        .expect("PostgreSQL is not installed; run: apt-get install postgresql")
}

/// A program as the user of the server: PostgreSQL refuses root.
fn as_operator(name: &str) -> Command {
    if !std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0) {
        return Command::new(name);
    }
    let mut command = Command::new("runuser");
    command.args(["-u", "postgres", "--", name]);
    command
}

impl Cluster {
    /// Starts an empty cluster.
    pub fn start() -> Self {
        Self::run(None)
    }

    /// Starts a standby of this cluster, and has every commit wait for it.
    pub fn synchronous_standby(&self) -> Self {
        let standby = Self::run(Some(self.port));
        let all = self.database("postgres");
        all.run("ALTER SYSTEM SET synchronous_standby_names = 'second'");
        all.run("SELECT pg_reload_conf()");
        all.until(
            "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'",
            1,
        );
        standby
    }

    fn run(primary: Option<u16>) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let mut command = as_operator("sh");
        command
            .args(["-c", RUN, "sh"])
            .arg(programs())
            .arg(port.to_string());
        command.arg(primary.map(|port| port.to_string()).unwrap_or_default());
        let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = pipes.spawn().unwrap();
        let mut folder = String::new();
        let stdout = child.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut folder).unwrap();
        assert!(!folder.is_empty(), "the cluster does not start");
        Self {
            folder: folder.trim_end().into(),
            port,
            input: child.stdin.take(),
            child,
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// A database of the cluster.
    pub fn database(&self, name: &str) -> Database {
        Database::at(format!(
            "postgres://postgres@127.0.0.1:{}/{name}",
            self.port
        ))
    }

    /// Runs `pg_ctl`. Returns whether it succeeded.
    pub fn control(&self, arguments: &[&str]) -> bool {
        let mut command = as_operator("sh");
        let call = "cd / && bin=$1 data=$2 && shift 2 && exec \"$bin/pg_ctl\" -D \"$data\" \"$@\" >/dev/null";
        command.args(["-c", call, "sh"]).arg(programs());
        command.arg(self.folder.join("data")).args(arguments);
        finish(&mut command).code == 0
    }

    /// Stops the server in one of its modes.
    pub fn stop(&self, mode: &str) {
        assert!(self.control(&["stop", "-w", "-m", mode]));
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
        let started = (0..100).any(|_| self.control(&["start", "-w", "-l", log.to_str().unwrap()]));
        assert!(started, "the server does not start again");
    }

    /// Makes a standby the primary.
    pub fn promote(&self) {
        assert!(self.control(&["promote", "-w"]));
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.input.take());
        drop(self.child.wait());
    }
}
