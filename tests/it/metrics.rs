//! `/metrics` as Prometheus reads it: the exact format, and counts that match what happened.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::json;

use crate::database::sqlite_only;
use crate::process::{Client, FABRIKAM, NORTHWIND, Reply, Server, Workspace, read_reply};

/// Labels by name.
type Labels = BTreeMap<String, String>;

/// A family of samples.
struct Family {
    kind: String,
    samples: Vec<(String, Labels, f64)>,
}

/// The result of a scrape.
pub struct Scrape(BTreeMap<String, Family>);

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Parses `a="b",c="d"`; no value here needs an escape.
fn labels(text: &str) -> Labels {
    let mut labels = Labels::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (name, after) = rest.split_once("=\"").unwrap();
        let (value, after) = after.split_once('"').unwrap();
        assert!(is_name(name) && !value.contains('\\'), "{text}");
        let is_new = labels.insert(name.to_owned(), value.to_owned()).is_none();
        assert!(is_new, "{text}");
        rest = match after.strip_prefix(',') {
            Some(more) => {
                assert!(!more.is_empty(), "{text}");
                more
            }
            None => {
                assert_eq!(after, "", "{text}");
                after
            }
        };
    }
    labels
}

impl Scrape {
    /// Parses the text exposition format 0.0.4: each family once, with its help and type before its
    /// samples, and no duplicate sample.
    pub fn of(reply: &Reply) -> Self {
        assert_eq!(reply.status, 200, "{reply:?}");
        assert_eq!(
            reply.header("content-type"),
            Some("text/plain; version=0.0.4; charset=utf-8")
        );
        assert!(reply.body.ends_with('\n'));
        let mut families: BTreeMap<String, Family> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        let (mut helped, mut current) = (String::new(), String::new());
        for line in reply.body.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').unwrap();
                assert!(is_name(name) && help.ends_with('.'), "{line}");
                helped = name.to_owned();
            } else if let Some(typed) = line.strip_prefix("# TYPE ") {
                let (name, kind) = typed.split_once(' ').unwrap();
                assert_eq!(name, helped, "{line}");
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
                current = name.to_owned();
                let family = Family {
                    kind: kind.to_owned(),
                    samples: Vec::new(),
                };
                assert!(families.insert(current.clone(), family).is_none(), "{line}");
            } else {
                let (series, value) = line.rsplit_once(' ').unwrap();
                let (name, in_braces) = match series.split_once('{') {
                    Some((name, rest)) => (name, rest.strip_suffix('}').unwrap()),
                    None => (series, ""),
                };
                let family = families.get_mut(&current).unwrap();
                let suffix = name.strip_prefix(&current).unwrap();
                let suffixes: &[&str] = match family.kind.as_str() {
                    "histogram" => &["_bucket", "_sum", "_count"],
                    _ => &[""],
                };
                assert!(suffixes.contains(&suffix), "{line}");
                assert!(seen.insert(series.to_owned()), "{line}");
                let value: f64 = value.parse().unwrap();
                family
                    .samples
                    .push((name.to_owned(), labels(in_braces), value));
            }
        }
        let scrape = Self(families);
        scrape.assert_histograms_agree();
        scrape
    }

    /// Asserts that buckets grow up to `+Inf`, which equals the count.
    fn assert_histograms_agree(&self) {
        for (name, family) in &self.0 {
            if family.kind != "histogram" {
                continue;
            }
            let mut buckets: BTreeMap<Labels, Vec<(f64, f64)>> = BTreeMap::new();
            for (sample, labels, value) in &family.samples {
                if sample.ends_with("_bucket") {
                    let mut labels = labels.clone();
                    let bound = labels.remove("le").unwrap().replace("+Inf", "inf");
                    let bound = bound.parse().unwrap();
                    buckets.entry(labels).or_default().push((bound, *value));
                }
            }
            assert_eq!(
                buckets.len() * 2,
                family.samples.len() - buckets.values().map(Vec::len).sum::<usize>()
            );
            for (labels, buckets) in buckets {
                assert!(
                    buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1),
                    "{name}"
                );
                let (last, count) = buckets.last().unwrap();
                assert!(last.is_infinite());
                assert_eq!(self.find(&format!("{name}_count"), &labels), Some(*count));
                let sum = self.find(&format!("{name}_sum"), &labels).unwrap();
                assert!(sum >= 0.0 && (sum > 0.0 || *count == 0.0 || buckets[0].1 > 0.0));
            }
        }
    }

    fn find(&self, name: &str, wanted: &Labels) -> Option<f64> {
        let samples = self.0.values().flat_map(|family| &family.samples);
        let mut samples = samples.filter(|(found, labels, _)| found == name && labels == wanted);
        samples.next().map(|(_, _, value)| *value)
    }

    /// Whether the page has this family.
    pub fn has(&self, family: &str) -> bool {
        self.0.contains_key(family)
    }

    /// A sample's value; 0 without a sample.
    pub fn value(&self, series: &str) -> f64 {
        let (name, in_braces) = match series.split_once('{') {
            Some((name, rest)) => (name, rest.strip_suffix('}').unwrap()),
            None => (series, ""),
        };
        self.find(name, &labels(in_braces)).unwrap_or(0.0)
    }

    fn requests(&self, method: &str, route: &str, status: u16) -> f64 {
        self.value(&format!(
            "switchboard_http_requests_total{{method=\"{method}\",route=\"{route}\",status=\"{status}\"}}"
        ))
    }

    fn refusals(&self, code: &str) -> f64 {
        self.value(&format!("switchboard_refusals_total{{code=\"{code}\"}}"))
    }
}

/// Requests a path without the API's prefix and without a credential.
pub fn ask(address: &str, method: &str, path: &str) -> Reply {
    let mut stream = TcpStream::connect(address).unwrap();
    let head = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    read_reply(&mut stream).unwrap()
}

fn start_server() -> (Workspace, Server) {
    let workspace = Workspace::with_demo_world();
    let server = workspace.serve(["--env", "demo", "--rate-limit", "0", "--metrics"]);
    (workspace, server)
}

fn scrape(server: &Server) -> Scrape {
    Scrape::of(&ask(server.address(), "GET", "/metrics"))
}

fn begin_session(client: &Client) -> String {
    let created = client.post(NORTHWIND, "/chat/sessions", &json!({"agent_id": 102}));
    assert_eq!(created.status, 201, "{created:?}");
    created.data()["id"].as_str().unwrap().to_owned()
}

#[test]
fn there_are_no_metrics_unless_they_are_enabled() {
    let workspace = Workspace::with_demo_world();
    let server = workspace.serve_demo_world();
    for path in ["/metrics", "/public-api/metrics"] {
        let reply = ask(server.address(), "GET", path);
        assert_eq!((reply.status, reply.code().as_str()), (404, "not_found"));
    }
}

#[test]
fn metrics_are_served_without_the_prefix_and_without_a_credential_for_get_only() {
    let (_place, server) = start_server();
    scrape(&server);
    let reply = ask(server.address(), "GET", "/public-api/metrics");
    assert_eq!((reply.status, reply.code().as_str()), (404, "not_found"));
    let reply = ask(server.address(), "POST", "/metrics");
    assert_eq!(
        (reply.status, reply.code().as_str()),
        (405, "method_not_allowed")
    );
    assert_eq!(reply.header("allow"), Some("GET, HEAD, OPTIONS"));
    let document = server.client().get("", "/openapi.json");
    assert!(!document.body.contains("/metrics"));
}

#[test]
fn every_request_is_counted_once_by_its_method_route_and_status() {
    let (_place, server) = start_server();
    let client = server.client();
    let before = scrape(&server);
    assert_eq!(before.requests("POST", "/chat/sessions", 201), 0.0);
    let session = begin_session(&client);
    begin_session(&client);
    for _ in 0..3 {
        client.get(NORTHWIND, &format!("/chat/sessions/{session}"));
    }
    client.get(FABRIKAM, &format!("/chat/sessions/{session}"));
    client.get("", "/whoami");
    client.get("", "/no/such/thing");
    client
        .call("BREW", NORTHWIND, "/whoami", &[], None)
        .unwrap();
    client.post(NORTHWIND, "/chat/sessions", &json!({"agent_id": "?"}));
    // The prefix does not change the route label.
    ask(server.address(), "GET", "/health");
    client.get("", "/health");
    ask(server.address(), "GET", "/dashboard");

    let now = scrape(&server);
    let calls = [
        ("POST", "/chat/sessions", 201, 2.0),
        ("POST", "/chat/sessions", 400, 1.0),
        ("GET", "/chat/sessions/{session_id}", 200, 3.0),
        ("GET", "/chat/sessions/{session_id}", 404, 1.0),
        ("GET", "/whoami", 401, 1.0),
        ("GET", "-", 404, 1.0),
        ("other", "/whoami", 405, 1.0),
        ("GET", "/health", 200, 2.0),
        ("GET", "/dashboard", 200, 1.0),
        ("GET", "/metrics", 200, 1.0),
    ];
    for (method, route, status, times) in calls {
        assert_eq!(
            now.requests(method, route, status),
            times,
            "{method} {route} {status}"
        );
    }
    let requests = &now.0["switchboard_http_requests_total"].samples;
    assert_eq!(requests.len(), calls.len());
    for (method, route, times) in [
        ("POST", "/chat/sessions", 3.0),
        ("GET", "/chat/sessions/{session_id}", 4.0),
    ] {
        let timed = format!(
            "switchboard_http_request_duration_seconds_count{{method=\"{method}\",route=\"{route}\"}}"
        );
        assert_eq!(now.value(&timed), times, "{timed}");
    }
    for (code, times) in [
        ("validation_error", 1.0),
        ("unauthorized", 1.0),
        ("not_found", 2.0),
        ("method_not_allowed", 1.0),
        ("rate_limited", 0.0),
        ("internal_error", 0.0),
    ] {
        assert_eq!(now.refusals(code), times, "{code}");
    }
    // Every code exists from the start, so that the first refusal shows as an increase.
    let codes = &before.0["switchboard_refusals_total"].samples;
    assert!(
        codes
            .iter()
            .any(|(_, labels, _)| labels["code"] == "storage_full")
    );
}

#[test]
fn metrics_of_commits_turns_and_streams_are_accurate() {
    let (_place, server) = start_server();
    let client = server.client();
    let before = scrape(&server);
    assert_eq!(before.value("switchboard_streams"), 0.0);
    let session = begin_session(&client);
    let path = format!("/chat/sessions/{session}");

    let mut stream = TcpStream::connect(server.address()).unwrap();
    let head = format!(
        "GET /public-api{path}/events?follow=true HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {NORTHWIND}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    assert_eq!(read_reply(&mut stream).unwrap().status, 200);
    assert_eq!(scrape(&server).value("switchboard_streams"), 1.0);

    let said = client.post(
        NORTHWIND,
        &format!("{path}/messages"),
        &json!({"message": "VPN?"}),
    );
    let turn = said.data()["chat_turn_id"].as_str().unwrap().to_owned();
    client.get(NORTHWIND, &format!("{path}/turns/{turn}?wait_seconds=30"));
    let now = scrape(&server);
    for (series, value) in [
        ("switchboard_turns_ended_total{status=\"COMPLETED\"}", 1.0),
        ("switchboard_turns_ended_total{status=\"FAILED\"}", 0.0),
        ("switchboard_turns_ended_total{status=\"CANCELLED\"}", 0.0),
        ("switchboard_turns_current{status=\"QUEUED\"}", 0.0),
        ("switchboard_write_queue_depth", 0.0),
        ("switchboard_commit_failures_total", 0.0),
        ("switchboard_writable", 1.0),
        ("switchboard_draining", 0.0),
        (
            concat!(
                "switchboard_build_info{version=\"",
                env!("CARGO_PKG_VERSION"),
                "\"}"
            ),
            1.0,
        ),
    ] {
        assert_eq!(now.value(series), value, "{series}");
    }
    // A session, a message with its turn, the turn's start, its end: four changes.
    let changes = |scrape: &Scrape| scrape.value("switchboard_commit_changes_sum");
    assert!(changes(&now) >= changes(&before) + 4.0);
    let commits =
        |scrape: &Scrape, of: &str| scrape.value(&format!("switchboard_commit_{of}_count"));
    assert_eq!(commits(&now, "changes"), commits(&now, "duration_seconds"));
    assert!(commits(&now, "changes") <= changes(&now));

    drop(stream);
    // The server notices that the reader is gone at its next write.
    server.signal("TERM");
    server.wait();
}

#[test]
fn metrics_of_a_data_folder_have_the_sizes_of_its_files_and_no_nodes() {
    sqlite_only!();
    let (workspace, server) = start_server();
    begin_session(&server.client());
    let now = scrape(&server);
    let bytes = std::fs::metadata(workspace.database()).unwrap().len();
    #[expect(clippy::cast_precision_loss, reason = "a small file's size")]
    let bytes = bytes as f64;
    assert_eq!(now.value("switchboard_database_bytes"), bytes);
    assert!(now.value("switchboard_wal_bytes") > 0.0);
    assert_eq!(now.value("switchboard_engine_info{engine=\"sqlite\"}"), 1.0);
    for name in [
        "nodes",
        "leases_lost_total",
        "database_waiting",
        "notifications_total",
    ] {
        assert!(!now.has(&format!("switchboard_{name}")), "{name}");
    }
    server.stop();
}

#[test]
fn metrics_with_their_own_address_are_served_only_there() {
    let workspace = Workspace::with_demo_world();
    let server = workspace.serve(["--env", "demo", "--metrics-listen", "127.0.0.1:0"]);
    let line = server.wait_for_log("metrics on http://");
    let (_, address) = line.split_once("http://").unwrap();
    let address = address.strip_suffix("/metrics").unwrap();
    let read = Scrape::of(&ask(address, "GET", "/metrics"));
    assert_eq!(read.value("switchboard_writable"), 1.0);
    for path in ["/", "/health", "/public-api/health", "/dashboard"] {
        let reply = ask(address, "GET", path);
        assert_eq!(reply.status, 404, "{path}");
        assert_eq!(reply.header("cache-control"), Some("no-store"));
    }
    assert_eq!(ask(server.address(), "GET", "/metrics").status, 404);
    server.stop();
}

#[test]
fn a_cors_preflight_is_counted_under_no_route_for_any_path() {
    let workspace = Workspace::with_demo_world();
    let origin = "https://chat.example.com";
    let server = workspace.serve(["--env", "demo", "--metrics", "--cors-origin", origin]);
    for path in ["/whoami", "/no/such/thing"] {
        let headers = [("origin", origin), ("access-control-request-method", "GET")];
        let client = server.client();
        let reply = client.call("OPTIONS", "", path, &headers, None).unwrap();
        assert_eq!(reply.status, 204, "{reply:?}");
    }
    let now = scrape(&server);
    assert_eq!(now.requests("OPTIONS", "-", 204), 2.0);
    let timed = "switchboard_http_request_duration_seconds_count{method=\"OPTIONS\",route=\"-\"}";
    assert_eq!(now.value(timed), 2.0);
}

#[test]
fn open_connections_to_the_metrics_address_are_limited() {
    let workspace = Workspace::with_demo_world();
    let server = workspace.serve(["--env", "demo", "--metrics-listen", "127.0.0.1:0"]);
    let line = server.wait_for_log("metrics on http://");
    let (_, address) = line.split_once("http://").unwrap();
    let address = address.strip_suffix("/metrics").unwrap();
    let asks = || {
        let mut stream = TcpStream::connect(address).unwrap();
        let head = format!("HEAD /metrics HTTP/1.1\r\nhost: {address}\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        stream
    };
    let is_answered = |stream: &mut TcpStream| {
        let mut reply = [0; 12];
        stream
            .read_exact(&mut reply)
            .map(|()| reply == *b"HTTP/1.1 200")
    };
    let mut kept: Vec<TcpStream> = (0..32).map(|_| asks()).collect();
    for stream in &mut kept {
        assert!(is_answered(stream).unwrap());
    }
    let mut waits = asks();
    waits
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    let error = is_answered(&mut waits).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    kept.clear();
    waits.set_read_timeout(None).unwrap();
    assert!(is_answered(&mut waits).unwrap());
    server.stop();
}

#[test]
fn a_metrics_address_in_use_is_reported_in_one_sentence() {
    let workspace = Workspace::with_demo_world();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let done = workspace.run([
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--metrics-listen",
        &taken,
    ]);
    assert_eq!(done.code, 1, "{done:?}");
    assert!(
        done.stderr.contains(&format!("cannot listen on {taken}")),
        "{done:?}"
    );
}
