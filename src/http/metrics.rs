//! What the server counts, for Prometheus (text exposition format 0.0.4), at `/metrics` where it was asked for.

use std::fmt::{self, Display, Write};
use std::time::Duration;

use actix_web::http::{Method, StatusCode, header};
use actix_web::{HttpResponse, web};

use super::App;
use super::edge::routing::{Address, RoutePath};
use crate::error::{Code, Result};
use crate::metrics::{Counter, Distribution, Gauge, Histogram};
use crate::model::clock::Millis;
use crate::store::turns;

const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Those that a route may take; whatever else is sent counts as one.
static METHODS: [Method; 7] = [
    Method::GET,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
    Method::HEAD,
    Method::OPTIONS,
];
/// Those that replies have, the most frequent first; whatever else the framework may give counts as one.
static STATUSES: [u16; 18] = [
    200, 201, 202, 204, 409, 404, 401, 403, 400, 429, 304, 503, 405, 308, 413, 415, 422, 500,
];
const OTHER: &str = "other";

/// Microseconds: from a look-up in memory to a reply that waits for a turn.
const TIMES: [u64; 16] = [
    250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 15_000_000, 60_000_000,
];

/// What is counted of the requests.
pub(super) struct Metrics {
    started_at: Millis,
    /// By the route's number.
    routes: Vec<Route>,
    /// By the code's place in its table.
    refusals: [Counter; Code::ALL.len()],
    /// Readers of event streams.
    pub(super) streams: Gauge,
}

struct Route {
    pattern: &'static str,
    /// By the method's place, and others.
    methods: [Calls; METHODS.len() + 1],
}

struct Calls {
    /// By the status's place, and others.
    statuses: [Counter; STATUSES.len() + 1],
    times: Histogram<{ TIMES.len() }>,
}

impl Default for Calls {
    fn default() -> Self {
        Self {
            statuses: Default::default(),
            times: Histogram::new(&TIMES),
        }
    }
}

fn place_in<T: PartialEq>(known: &[T], sought: &T) -> usize {
    let place = known.iter().position(|known| known == sought);
    place.unwrap_or(known.len())
}

impl Metrics {
    /// Over all that is served, in the order in which it is routed.
    pub(super) fn new(started_at: Millis, addresses: &[Address]) -> Self {
        let patterns = addresses.iter().map(|address| address.path);
        let routes = [RoutePath::NOWHERE.pattern].into_iter().chain(patterns);
        let route = |pattern| Route {
            pattern,
            methods: Default::default(),
        };
        Self {
            started_at,
            routes: routes.map(route).collect(),
            refusals: [const { Counter::new() }; Code::ALL.len()],
            streams: Gauge::default(),
        }
    }

    /// Counts a request by where it went and how it was answered.
    pub(super) fn answered(
        &self,
        route: RoutePath,
        method: &Method,
        status: StatusCode,
        took: Duration,
    ) {
        let Some(route) = self.routes.get(route.number) else {
            return;
        };
        let calls = &route.methods[place_in(&METHODS, method)];
        calls.statuses[place_in(&STATUSES, &status.as_u16())].add(1);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        calls.times.observe(micros);
    }

    /// Counts a refusal.
    pub(super) fn refused(&self, code: Code) {
        self.refusals[code as usize].add(1);
    }
}

/// The text that a scrape gets.
#[derive(Default)]
struct Text(String);

/// How a number of whole units is written.
type Unit = fn(u64) -> Written;

enum Written {
    Whole(u64),
    Seconds(u64),
}

impl Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(number) => write!(f, "{number}"),
            Self::Seconds(micros) => write!(f, "{}", Duration::from_micros(*micros).as_secs_f64()),
        }
    }
}

impl Text {
    fn put(&mut self, line: fmt::Arguments<'_>) {
        // A String takes whatever is written to it.
        let _ = self.0.write_fmt(line);
        self.0.push('\n');
    }

    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.put(format_args!("# HELP {name} {help}"));
        self.put(format_args!("# TYPE {name} {kind}"));
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.put(format_args!("{name} {value}"));
    }

    /// The lines of one histogram; labels as in `a="b",`.
    fn histogram(&mut self, name: &str, labels: &str, unit: Unit, read: &Distribution) {
        for (bound, count) in &read.up_to {
            let bound = unit(*bound);
            self.put(format_args!(
                "{name}_bucket{{{labels}le=\"{bound}\"}} {count}"
            ));
        }
        let (count, sum) = (read.count, unit(read.sum));
        self.put(format_args!("{name}_bucket{{{labels}le=\"+Inf\"}} {count}"));
        let labels = match labels.trim_end_matches(',') {
            "" => String::new(),
            labels => format!("{{{labels}}}"),
        };
        self.put(format_args!("{name}_sum{labels} {sum}"));
        self.put(format_args!("{name}_count{labels} {count}"));
    }
}

impl Metrics {
    /// Each route and method that was called.
    fn calls(&self) -> impl Iterator<Item = (String, &Calls)> {
        self.routes.iter().flat_map(|route| {
            route
                .methods
                .iter()
                .enumerate()
                .filter_map(|(place, calls)| {
                    let called = calls.statuses.iter().any(|status| status.get() > 0);
                    let method = METHODS.get(place).map_or(OTHER, Method::as_str);
                    called.then(|| {
                        (
                            format!("method=\"{method}\",route=\"{}\",", route.pattern),
                            calls,
                        )
                    })
                })
        })
    }

    fn write_requests(&self, text: &mut Text) {
        let name = "switchboard_http_requests_total";
        text.family(name, "counter", "Requests by method, route and status.");
        for (labels, calls) in self.calls() {
            for (place, count) in calls.statuses.iter().enumerate() {
                let count = count.get();
                if count == 0 {
                    continue;
                }
                match STATUSES.get(place) {
                    Some(status) => {
                        text.put(format_args!(
                            "{name}{{{labels}status=\"{status}\"}} {count}"
                        ));
                    }
                    None => text.put(format_args!("{name}{{{labels}status=\"{OTHER}\"}} {count}")),
                }
            }
        }
        let name = "switchboard_http_request_duration_seconds";
        text.family(
            name,
            "histogram",
            "Time until a reply's head was there, by method and route.",
        );
        for (labels, calls) in self.calls() {
            text.histogram(name, &labels, Written::Seconds, &calls.times.read());
        }
        let name = "switchboard_refusals_total";
        text.family(name, "counter", "Refusals by their code.");
        for (code, count) in Code::ALL.iter().zip(&self.refusals) {
            let (code, count) = (code.as_str(), count.get());
            text.put(format_args!("{name}{{code=\"{code}\"}} {count}"));
        }
    }
}

fn write_store(app: &App, text: &mut Text) {
    let writer = app.store.writer_metrics();
    text.single(
        "switchboard_write_queue_depth",
        "gauge",
        "Changes that wait for the writer.",
        writer.waiting(),
    );
    let name = "switchboard_commit_changes";
    text.family(name, "histogram", "Changes in one commit.");
    text.histogram(name, "", Written::Whole, &writer.changes.read());
    let name = "switchboard_commit_duration_seconds";
    text.family(
        name,
        "histogram",
        "Time of one commit, its changes included.",
    );
    text.histogram(name, "", Written::Seconds, &writer.times.read());
    text.single(
        "switchboard_commit_failures_total",
        "counter",
        "Commits that failed; every change in them was refused.",
        writer.failures.get(),
    );
    let sizes = app.store.sizes();
    for (name, help, bytes) in [
        (
            "switchboard_database_bytes",
            "Size of the database file.",
            sizes.database,
        ),
        (
            "switchboard_wal_bytes",
            "Size of its write-ahead log.",
            sizes.log,
        ),
    ] {
        text.single(name, "gauge", help, bytes);
    }
}

/// Turns, by the words that the API has for their states.
fn write_turns(app: &App, queued: Option<i64>, text: &mut Text) {
    let name = "switchboard_turns_current";
    text.family(name, "gauge", "Turns that wait for an answer, or get one.");
    if let Some(queued) = queued {
        text.put(format_args!("{name}{{status=\"QUEUED\"}} {queued}"));
    }
    let running = app.engine.running();
    text.put(format_args!("{name}{{status=\"RUNNING\"}} {running}"));
    let name = "switchboard_turns_ended_total";
    text.family(name, "counter", "Turns that have ended, by how.");
    let ended = app.engine.counters();
    for (status, count) in [
        ("COMPLETED", &ended.completed),
        ("FAILED", &ended.failed),
        ("CANCELLED", &ended.cancelled),
    ] {
        let count = count.get();
        text.put(format_args!("{name}{{status=\"{status}\"}} {count}"));
    }
}

/// Answers a scrape.
async fn scrape(app: web::Data<App>) -> Result<HttpResponse> {
    // What cannot be read at the moment is left out: all else is wanted then most of all.
    let queued = app.store.read_aside(turns::queued).await.ok();
    let mut text = Text::default();
    app.metrics.write_requests(&mut text);
    text.single(
        "switchboard_streams",
        "gauge",
        "Readers of event streams.",
        app.metrics.streams.get(),
    );
    write_turns(&app, queued, &mut text);
    write_store(&app, &mut text);
    text.single(
        "switchboard_writable",
        "gauge",
        "1 if the last commit went well.",
        u8::from(app.store.is_writable()),
    );
    text.single(
        "switchboard_draining",
        "gauge",
        "1 if the server shuts down and takes no new work.",
        u8::from(app.is_draining()),
    );
    text.family(
        "switchboard_build_info",
        "gauge",
        "The version, as a label.",
    );
    text.put(format_args!(
        "switchboard_build_info{{version=\"{}\"}} 1",
        env!("CARGO_PKG_VERSION")
    ));
    text.single(
        "process_start_time_seconds",
        "gauge",
        "When the server was started, in Unix seconds.",
        Duration::from_millis(app.metrics.started_at.unsigned_abs()).as_secs_f64(),
    );
    Ok(HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, CONTENT_TYPE))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .body(text.0))
}

/// Its address.
pub(super) fn address() -> Address {
    Address::to_fetch("/metrics", || web::to(scrape))
}
