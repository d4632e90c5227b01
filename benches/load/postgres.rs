//! PostgreSQL: a server that the caller names or one of this program's own, databases on it with
//! their nodes, and pgbench.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use tokio::runtime::Runtime;
use tokio_postgres::types::FromSql;
use tokio_postgres::{Client, NoTls};

use crate::client::runtime;
use crate::measure::{Measured, Target, percentile_ms};
use crate::server::{self, Server, Stat};
use crate::{Failed, SEED_FILE};

/// The user of a server of this program's own, if this program is root: PostgreSQL refuses root.
const USER: &str = "postgres";
/// Connections of a server of this program's own, enough for pgbench with 256 clients.
const MAX_CONNECTIONS: i64 = 400;
/// Connections that pgbench leaves to the nodes.
const OF_NODES: i64 = 40;
/// The timeout until a server of this program's own answers.
const START: Duration = Duration::from_secs(30);
/// A table such as a plain program has, and an insert of one row.
const TABLE: &str = "
CREATE TABLE plain (seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_no bigint NOT NULL, agent_id bigint NOT NULL,
                    created_by text NOT NULL, metadata text NOT NULL, created_at bigint NOT NULL)";
const INSERT: &str = "INSERT INTO plain (tenant_no, agent_id, created_by, metadata, created_at) \
                      VALUES (1, 102, 'load', '{}', 1700000000000);\n";
const MAX_OF_SERVER: &str =
    "SELECT CAST(setting AS bigint) FROM pg_settings WHERE name = 'max_connections'";

/// A connection of this program.
pub struct Session {
    runtime: Runtime,
    client: Client,
}

impl Session {
    pub fn open(url: &str) -> Result<Self, Failed> {
        let runtime = runtime()?;
        let client = runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
            tokio::spawn(connection);
            Ok::<_, tokio_postgres::Error>(client)
        })?;
        Ok(Self { runtime, client })
    }

    pub fn run(&self, sql: &str) -> Result<(), Failed> {
        Ok(self.runtime.block_on(self.client.batch_execute(sql))?)
    }

    /// The value of a query's one row.
    pub fn value<T: for<'a> FromSql<'a>>(&self, sql: &str) -> Result<T, Failed> {
        let row = self.runtime.block_on(self.client.query_one(sql, &[]))?;
        Ok(row.try_get(0)?)
    }
}

/// A PostgreSQL server.
pub struct Cluster {
    url: url::Url,
    /// Its first process, if it runs on this machine.
    postmaster: Option<u32>,
    max_connections: i64,
    _own: Option<Own>,
}

impl Cluster {
    /// Uses the server of this URL of a superuser, or starts one in the folder if the URL is empty.
    pub fn open(url: &str, folder: &Path) -> Result<Self, Failed> {
        let own = if url.is_empty() {
            Some(Own::start(folder)?)
        } else {
            None
        };
        let url = url::Url::parse(own.as_ref().map_or(url, |own| &own.url))?;
        let session = Session::open(url.as_str())?;
        let settings: String = session.value(
            "SELECT concat('version ', current_setting('server_version'), ', fsync ', current_setting('fsync'))",
        )?;
        eprintln!("PostgreSQL: {settings}");
        let file: String = session.value("SELECT pg_read_file('postmaster.pid')")?;
        let postmaster = file.lines().next().and_then(|line| line.parse().ok());
        let is_here = |process: &u32| {
            let name = fs::read_to_string(format!("/proc/{process}/comm"));
            name.is_ok_and(|name| name.trim() == "postgres")
        };
        let cluster = Self {
            url,
            postmaster: postmaster.filter(is_here),
            max_connections: session.value(MAX_OF_SERVER)?,
            _own: own,
        };
        let plain = Session::open(&cluster.database("plain")?)?;
        plain.run(TABLE)?;
        Ok(cluster)
    }

    /// Makes a database in place of one of an earlier run. Returns its URL.
    pub fn database(&self, name: &str) -> Result<String, Failed> {
        let name = format!("switchboard_load_{name}");
        let session = Session::open(self.url.as_str())?;
        session.run(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"))?;
        session.run(&format!(
            "CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'"
        ))?;
        Ok(self.url_of(&name))
    }

    fn url_of(&self, name: &str) -> String {
        let mut url = self.url.clone();
        url.set_path(name);
        url.into()
    }

    /// Returns the processor time of all processes of the server.
    fn cpu(&self) -> Option<Duration> {
        let postmaster = self.postmaster?;
        let first = Stat::of(postmaster)?;
        let processes = fs::read_dir("/proc").ok()?.filter_map(|entry| {
            let process = entry.ok()?.file_name().to_str()?.parse().ok()?;
            Stat::of(process).filter(|stat| stat.parent == postmaster)
        });
        let running: Duration = processes.map(|stat| stat.spent).sum();
        Some(first.spent + first.spent_by_children + running)
    }

    /// Whether the server has connections for so many clients beside the nodes.
    pub fn allows(&self, clients: usize) -> bool {
        i64::try_from(clients).is_ok_and(|clients| clients + OF_NODES <= self.max_connections)
    }

    /// Has pgbench insert rows, each in a transaction of its own, for at least a second.
    pub fn insert_rows(&self, clients: usize, duration: Duration) -> Result<Measured, Failed> {
        let folder = tempfile::tempdir()?;
        let script = folder.path().join("insert.sql");
        fs::write(&script, INSERT)?;
        let log = folder.path().join("log");
        // The time to connect counts, and without a row there is no rate.
        let seconds = duration.as_secs_f64() + clients as f64 / 50.0;
        let before = self.cpu();
        let done = Command::new(program("pgbench")?)
            .args(["--no-vacuum", "--protocol", "prepared", "--jobs", "1"])
            .args(["--client", &clients.to_string()])
            .args(["--time", &seconds.ceil().to_string()])
            .arg("--log")
            .arg(format!("--log-prefix={}", log.display()))
            .arg("--file")
            .arg(&script)
            .arg(self.url_of("switchboard_load_plain"))
            .stdin(Stdio::null())
            .output()?;
        let spent = self.cpu().zip(before).map(|(after, before)| after - before);
        let printed = String::from_utf8_lossy(&done.stdout);
        let rate = printed
            .lines()
            .find_map(|line| line.strip_prefix("tps = ")?.split(' ').next());
        let Some(per_second) = rate.filter(|_| done.status.success()) else {
            let error = String::from_utf8_lossy(&done.stderr);
            return Err(format!("pgbench: {}: {printed}{error}", done.status).into());
        };
        let mut latencies_us = Vec::new();
        for entry in folder.path().read_dir()? {
            let path = entry?.path();
            if path != script {
                let log = fs::read_to_string(path)?;
                let us = log
                    .lines()
                    .filter_map(|line| line.split(' ').nth(2)?.parse::<u32>().ok());
                latencies_us.extend(us);
            }
        }
        latencies_us.sort_unstable();
        let inserted = latencies_us.len();
        Ok(Measured {
            requests: inserted,
            per_second: per_second.parse()?,
            p50_ms: percentile_ms(&latencies_us, 0.50),
            p99_ms: percentile_ms(&latencies_us, 0.99),
            errors: 0,
            server_cpu_us: None,
            database_cpu_us: spent.map(|spent| spent.as_secs_f64() * 1e6 / inserted as f64),
            first_error: None,
        })
    }
}

/// A server of this program's own. Dropping the value stops it.
struct Own {
    url: String,
    child: Child,
}

impl Own {
    fn start(folder: &Path) -> Result<Self, Failed> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let home = folder.join("postgres");
        fs::create_dir(&home)?;
        let home = home.canonicalize()?;
        let ids = if geteuid().is_root() {
            Some((id("-u")?, id("-g")?))
        } else {
            None
        };
        if let Some((user, group)) = ids {
            chown(&home, Some(user), Some(group))?;
        }
        let command = |name: &str| -> Result<Command, Failed> {
            let mut command = Command::new(program(name)?);
            if let Some((user, group)) = ids {
                command.uid(user).gid(group);
            }
            command
                .current_dir(&home)
                .stdin(Stdio::null())
                .stdout(Stdio::null());
            Ok(command)
        };
        let data = home.join("data");
        let made = command("initdb")?
            .args([
                "--auth=trust",
                "--encoding=UTF8",
                "--locale=C",
                "--username",
                USER,
                "--pgdata",
            ])
            .arg(&data)
            .output()?;
        if !made.status.success() {
            return Err(format!("initdb: {}", String::from_utf8_lossy(&made.stderr)).into());
        }
        let log = folder.join("postgres.log");
        let child = command("postgres")?
            .arg("-D")
            .arg(&data)
            .args([
                "-c",
                "listen_addresses=127.0.0.1",
                "-c",
                "unix_socket_directories=",
            ])
            .args(["-c", &format!("port={port}")])
            .args(["-c", &format!("max_connections={MAX_CONNECTIONS}")])
            .stderr(fs::File::create(&log)?)
            .spawn()?;
        let mut own = Self {
            url: format!("postgres://{USER}@127.0.0.1:{port}/postgres"),
            child,
        };
        let latest = Instant::now() + START;
        while Session::open(&own.url).is_err() {
            if Instant::now() > latest || own.child.try_wait()?.is_some() {
                let log = fs::read_to_string(&log)?;
                return Err(format!("PostgreSQL did not start: {log}").into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(own)
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // An immediate shutdown: the folder is removed.
        let _ = kill_process(Pid::from_child(&self.child), Signal::QUIT);
        let _ = self.child.wait();
    }
}

/// Returns the number of the user or the group of a server of this program's own.
fn id(which: &str) -> Result<u32, Failed> {
    let said = Command::new("id").args([which, USER]).output()?;
    let number = String::from_utf8_lossy(&said.stdout).trim().parse();
    number.map_err(|_| format!("there is no user {USER}; run as another user than root").into())
}

/// Returns the path of one of PostgreSQL's programs: on the path, or where Debian has the newest.
fn program(name: &str) -> Result<PathBuf, Failed> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut found: Vec<PathBuf> = std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .collect();
    if let Ok(versions) = fs::read_dir("/usr/lib/postgresql") {
        let mut versions: Vec<_> = versions.flatten().map(|entry| entry.path()).collect();
        versions.sort();
        found.extend(
            versions
                .iter()
                .rev()
                .map(|version| version.join("bin").join(name)),
        );
    }
    let found = found.into_iter().find(|program| program.is_file());
    found.ok_or_else(|| {
        format!("PostgreSQL's {name} was not found; install PostgreSQL 15 or later, or add its programs to PATH").into()
    })
}

/// The nodes of one database. Clients connect to them in turn.
pub struct Nodes<'a> {
    pub url: String,
    pub servers: Vec<Server>,
    cluster: &'a Cluster,
    connected: AtomicUsize,
}

impl<'a> Nodes<'a> {
    /// Starts a number of nodes on a new database.
    pub fn start(
        cluster: &'a Cluster,
        name: &str,
        number: usize,
        flags: &[String],
        folder: &Path,
    ) -> Result<Self, Failed> {
        let url = cluster.database(name)?;
        server::import_into(&url, SEED_FILE)?;
        let start =
            |node| Server::start_node(&url, flags, &folder.join(format!("{name}-{node}.log")));
        Ok(Self {
            servers: (0..number).map(start).collect::<Result<_, _>>()?,
            url,
            cluster,
            connected: AtomicUsize::new(0),
        })
    }
}

impl Target for Nodes<'_> {
    fn address(&self) -> SocketAddr {
        let turn = self.connected.fetch_add(1, Ordering::Relaxed);
        self.servers[turn % self.servers.len()].address
    }

    fn cpu(&self) -> Option<Duration> {
        self.servers.iter().map(Target::cpu).sum()
    }

    fn database_cpu(&self) -> Option<Duration> {
        self.cluster.cpu()
    }
}
