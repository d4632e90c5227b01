//! Nodes of one database: real servers on ports that they keep over restarts.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Mutex;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::database::Database;
use crate::process::{DEMO_WORLD, FABRIKAM, NORTHWIND, Reply, Server, finish, program, read_reply};
use crate::scripted_model::ScriptedModel;
use crate::support::ApiClient;
use crate::watchdog::watch;

/// How long a client waits for a reply before it asks another node.
const PATIENCE: Duration = Duration::from_secs(4);

/// The nodes, and the folder in which they run.
pub struct Group {
    pub database: Database,
    folder: TempDir,
    nodes: Vec<Node>,
    arguments: Vec<String>,
    silence: Duration,
}

struct Node {
    address: SocketAddr,
    url: String,
    server: Mutex<Option<Server>>,
}

/// The silence of a dead node in tests that have one stand still.
pub const SILENCE: Duration = Duration::from_millis(2_000);

impl Group {
    /// Starts two nodes on a new database of the demo world.
    pub fn of_two(model: &ScriptedModel) -> Self {
        let database = Database::make();
        let url = database.url().to_owned();
        Self::start(database, &[url.clone(), url], model, &[])
    }

    /// Starts a node for each URL of the database.
    pub fn start(
        database: Database,
        urls: &[String],
        model: &ScriptedModel,
        flags: &[&str],
    ) -> Self {
        watch();
        let model = format!("--model-url={}", model.url());
        let base = [
            "--env=demo",
            "--model-fast=quick",
            "--model-smart=deep",
            &model,
        ];
        let group = Self {
            folder: TempDir::new().unwrap(),
            nodes: urls.iter().map(|url| Node::at(url)).collect(),
            arguments: base
                .iter()
                .chain(flags)
                .map(|flag| (*flag).to_owned())
                .collect(),
            silence: SILENCE,
            database,
        };
        let mut import = program(["--env", "demo", "import", DEMO_WORLD]);
        let import = import
            .current_dir(group.folder.path())
            .env("SWITCHBOARD_DATABASE", &urls[0]);
        let done = finish(import);
        assert_eq!(done.code, 0, "{done:?}");
        group
            .database
            .run("UPDATE tenants SET rate_limit_per_minute = NULL");
        for node in 0..urls.len() {
            group.run(node);
        }
        group.until_joined();
        group
    }

    /// Runs a command on the database; returns its stdout.
    pub fn command(&self, arguments: &[&str]) -> String {
        let mut command = program(arguments);
        let command = command
            .current_dir(self.folder.path())
            .env("SWITCHBOARD_DATABASE", self.database.url());
        let done = finish(command);
        assert_eq!(done.code, 0, "{done:?}");
        done.stdout
    }

    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Starts a node that does not run.
    pub fn run(&self, node: usize) {
        let node = &self.nodes[node];
        let listen = format!("--listen={}", node.address);
        let mut command = program(["serve", &listen]);
        if !self
            .arguments
            .iter()
            .any(|argument| argument.starts_with("--rate-limit"))
        {
            command.arg("--rate-limit=0");
        }
        command
            .args(&self.arguments)
            .current_dir(self.folder.path())
            .env("SWITCHBOARD_DATABASE", &node.url)
            .env(
                "SWITCHBOARD_TEST_NODE_SILENCE_MS",
                self.silence.as_millis().to_string(),
            );
        *node.server.lock().unwrap() = Some(Server::start(command));
    }

    /// Waits until all nodes that run have joined, and no other has.
    pub fn until_joined(&self) {
        let running = self
            .nodes
            .iter()
            .filter(|node| node.server.lock().unwrap().is_some());
        let addresses: Vec<String> = running.map(|node| format!("'{}'", node.address)).collect();
        let count = i64::try_from(addresses.len()).unwrap();
        let of_them = format!(
            "SELECT count(*) FROM nodes WHERE address IN ({})",
            addresses.join(",")
        );
        self.database.until(&of_them, count);
        self.database.until("SELECT count(*) FROM nodes", count);
    }

    /// Kills a node with SIGKILL.
    pub fn kill(&self, node: usize) {
        self.take(node).crash();
    }

    /// Stops a node as an operator does; returns its log.
    pub fn stop(&self, node: usize) -> Vec<String> {
        self.take(node).stop()
    }

    fn take(&self, node: usize) -> Server {
        self.nodes[node]
            .server
            .lock()
            .unwrap()
            .take()
            .expect("the node runs")
    }

    /// Sends a node a signal.
    pub fn signal(&self, node: usize, name: &str) {
        let server = self.nodes[node].server.lock().unwrap();
        server.as_ref().expect("the node runs").signal(name);
    }

    /// Waits for a line in a node's log.
    pub fn wait_for_log(&self, node: usize, wanted: &str) -> String {
        let server = self.nodes[node].server.lock().unwrap();
        server.as_ref().expect("the node runs").wait_for_log(wanted)
    }

    pub fn address(&self, node: usize) -> SocketAddr {
        self.nodes[node].address
    }

    /// The lease of a node.
    pub fn lease(&self, node: usize) -> i64 {
        self.database.lease_of(&self.address(node).to_string())
    }

    /// A client of one node.
    pub fn client(&self, node: usize, key: &str) -> ApiClient {
        ApiClient::new(self.address(node), Some(format!("Bearer {key}")))
    }

    pub fn northwind(&self, node: usize) -> ApiClient {
        self.client(node, NORTHWIND)
    }

    /// A client of each node.
    pub fn northwinds(&self) -> Vec<ApiClient> {
        (0..self.len()).map(|node| self.northwind(node)).collect()
    }

    pub fn fabrikam(&self, node: usize) -> ApiClient {
        self.client(node, FABRIKAM)
    }

    /// Makes one call to a node, which may be dead or stand still.
    ///
    /// # Errors
    /// There is no whole reply in time.
    pub fn call(
        &self,
        node: usize,
        method: &str,
        key: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> io::Result<Reply> {
        use std::io::Write;
        let mut stream = self.connect(node)?;
        let body = body.map_or_else(String::new, Value::to_string);
        let mut text = format!(
            "{method} /public-api{path} HTTP/1.1\r\nhost: nodes\r\nconnection: close\r\nauthorization: Bearer {key}\r\n"
        );
        for (name, value) in headers {
            text += &format!("{name}: {value}\r\n");
        }
        if !body.is_empty() {
            text += &format!(
                "content-type: application/json\r\ncontent-length: {}\r\n",
                body.len()
            );
        }
        stream.write_all(format!("{text}\r\n{body}").as_bytes())?;
        let reply = read_reply(&mut stream)?;
        // A node that stood still for long refuses what it had not read until then.
        match reply.status {
            408 => Err(io::ErrorKind::TimedOut.into()),
            _ => Ok(reply),
        }
    }

    /// Connects to a node, for reads that end after a while.
    pub fn connect(&self, node: usize) -> io::Result<TcpStream> {
        let stream = TcpStream::connect_timeout(&self.nodes[node].address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for node in &self.nodes {
                let server = node.server.lock().unwrap();
                let log = server.as_ref().map(Server::log).unwrap_or_default();
                let is_bad = |line: &&String| {
                    line.contains("ERROR") || line.contains("error") || line.contains("WARN")
                };
                let bad: Vec<&String> = log.iter().filter(is_bad).collect();
                eprintln!(
                    "{}: {:#?}",
                    node.address,
                    &bad[bad.len().saturating_sub(25)..]
                );
            }
        }
    }
}

impl Node {
    /// A node that keeps a port.
    fn at(url: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Self {
            address: listener.local_addr().unwrap(),
            url: url.to_owned(),
            server: Mutex::new(None),
        }
    }
}
