//! The Prometheus metrics at `/metrics` (text exposition format 0.0.4), if they are enabled.

mod postgres;

use std::fmt::{self, Display, Write};
use std::time::Duration;

use actix_web::http::{Method, StatusCode, header};
use actix_web::{HttpResponse, web};
use futures_util::future::join;

use super::App;
use super::edge::routing::{MatchedRoute, PathRoutes};
use crate::error::{Code, Result};
use crate::metrics::{Counter, Distribution, Gauge, Histogram};
use crate::model::clock::Millis;
use crate::store::{teams_outbox, turns};
use crate::teams::Handled;
use crate::teams::deliver::Deliverer;

const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The methods that have a label of their own. All other methods share one label.
static METHODS: [Method; 7] = [
    Method::GET,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
    Method::HEAD,
    Method::OPTIONS,
];
/// The status codes that have a label of their own, the most frequent first. All other status codes
/// share one label.
static STATUSES: [u16; 18] = [
    200, 201, 202, 204, 409, 404, 401, 403, 400, 429, 304, 503, 405, 308, 413, 415, 422, 500,
];
const OTHER: &str = "other";

/// Upper bounds of the duration buckets, in microseconds: from a read in memory to a reply that
/// waits for a turn.
const DURATION_BOUNDS: [u64; 16] = [
    250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 15_000_000, 60_000_000,
];

/// The metrics of requests and streams.
pub(super) struct Metrics {
    started_at: Millis,
    /// By [`MatchedRoute::index`].
    routes: Vec<RouteMetrics>,
    /// By the code's position in [`Code::ALL`].
    refusals: [Counter; Code::ALL.len()],
    /// Open event streams.
    pub(super) streams: Gauge,
    /// Connections that ended because the client took nothing of a long reply.
    pub(super) clients_cut_off: Counter,
}

struct RouteMetrics {
    pattern: &'static str,
    /// By position in [`METHODS`]. The last entry is for other methods.
    methods: [MethodMetrics; METHODS.len() + 1],
}

struct MethodMetrics {
    /// By position in [`STATUSES`]. The last entry is for other status codes.
    statuses: [Counter; STATUSES.len() + 1],
    durations: Histogram<{ DURATION_BOUNDS.len() }>,
}

impl Default for MethodMetrics {
    fn default() -> Self {
        Self {
            statuses: Default::default(),
            durations: Histogram::new(&DURATION_BOUNDS),
        }
    }
}

/// The position of an item, or the position after the last item if the slice does not contain it.
fn index_in<T: PartialEq>(items: &[T], item: &T) -> usize {
    let position = items.iter().position(|other| other == item);
    position.unwrap_or(items.len())
}

impl Metrics {
    /// Metrics for these routes, in the order of the router.
    pub(super) fn new(started_at: Millis, paths: &[PathRoutes]) -> Self {
        let patterns = paths.iter().map(|path| path.path);
        let routes = [MatchedRoute::NONE.pattern].into_iter().chain(patterns);
        let route = |pattern| RouteMetrics {
            pattern,
            methods: Default::default(),
        };
        Self {
            started_at,
            routes: routes.map(route).collect(),
            refusals: [const { Counter::new() }; Code::ALL.len()],
            streams: Gauge::default(),
            clients_cut_off: Counter::new(),
        }
    }

    /// Counts a request by its route, method and status, and observes its duration.
    pub(super) fn count_reply(
        &self,
        route: MatchedRoute,
        method: &Method,
        status: StatusCode,
        elapsed: Duration,
    ) {
        let Some(route) = self.routes.get(route.index) else {
            return;
        };
        let metrics = &route.methods[index_in(&METHODS, method)];
        metrics.statuses[index_in(&STATUSES, &status.as_u16())].add(1);
        let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        metrics.durations.observe(micros);
    }

    /// Counts a refusal by its code.
    pub(super) fn count_refusal(&self, code: Code) {
        self.refusals[code as usize].add(1);
    }
}

/// The text of a scrape.
#[derive(Default)]
struct Exposition(String);

/// The unit of a histogram: a constructor of [`SampleValue`].
type Unit = fn(u64) -> SampleValue;

/// A sample's value in its unit.
enum SampleValue {
    Count(u64),
    /// Microseconds, which are printed as seconds.
    Seconds(u64),
}

impl Display for SampleValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(number) => write!(f, "{number}"),
            Self::Seconds(micros) => write!(f, "{}", Duration::from_micros(*micros).as_secs_f64()),
        }
    }
}

impl Exposition {
    fn line(&mut self, line: fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = self.0.write_fmt(line);
        self.0.push('\n');
    }

    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.line(format_args!("{name} {value}"));
    }

    /// Writes the lines of one histogram. Labels end with a comma, as in `a="b",`.
    fn histogram(&mut self, name: &str, labels: &str, unit: Unit, distribution: &Distribution) {
        for (bound, count) in &distribution.up_to {
            let bound = unit(*bound);
            self.line(format_args!(
                "{name}_bucket{{{labels}le=\"{bound}\"}} {count}"
            ));
        }
        let (count, sum) = (distribution.count, unit(distribution.sum));
        self.line(format_args!("{name}_bucket{{{labels}le=\"+Inf\"}} {count}"));
        let labels = match labels.trim_end_matches(',') {
            "" => String::new(),
            labels => format!("{{{labels}}}"),
        };
        self.line(format_args!("{name}_sum{labels} {sum}"));
        self.line(format_args!("{name}_count{labels} {count}"));
    }
}

impl Metrics {
    /// The labels and metrics of each route and method that was called.
    fn called(&self) -> impl Iterator<Item = (String, &MethodMetrics)> {
        self.routes.iter().flat_map(|route| {
            route
                .methods
                .iter()
                .enumerate()
                .filter_map(|(index, metrics)| {
                    let is_called = metrics.statuses.iter().any(|status| status.get() > 0);
                    let method = METHODS.get(index).map_or(OTHER, Method::as_str);
                    is_called.then(|| {
                        (
                            format!("method=\"{method}\",route=\"{}\",", route.pattern),
                            metrics,
                        )
                    })
                })
        })
    }

    fn write_requests(&self, text: &mut Exposition) {
        let name = "switchboard_http_requests_total";
        text.family(name, "counter", "Requests by method, route and status.");
        for (labels, metrics) in self.called() {
            for (index, count) in metrics.statuses.iter().enumerate() {
                let count = count.get();
                if count == 0 {
                    continue;
                }
                match STATUSES.get(index) {
                    Some(status) => {
                        text.line(format_args!(
                            "{name}{{{labels}status=\"{status}\"}} {count}"
                        ));
                    }
                    None => text.line(format_args!("{name}{{{labels}status=\"{OTHER}\"}} {count}")),
                }
            }
        }
        let name = "switchboard_http_request_duration_seconds";
        text.family(
            name,
            "histogram",
            "Time from a request to the head of its reply, by method and route.",
        );
        for (labels, metrics) in self.called() {
            text.histogram(
                name,
                &labels,
                SampleValue::Seconds,
                &metrics.durations.read(),
            );
        }
        let name = "switchboard_refusals_total";
        text.family(name, "counter", "Refused requests by error code.");
        for (code, count) in Code::ALL.iter().zip(&self.refusals) {
            let (code, count) = (code.as_str(), count.get());
            text.line(format_args!("{name}{{code=\"{code}\"}} {count}"));
        }
    }
}

fn write_store(app: &App, text: &mut Exposition) {
    let writer = app.store.writer_metrics();
    text.single(
        "switchboard_write_queue_depth",
        "gauge",
        "Changes that wait for the writer.",
        writer.waiting(),
    );
    let name = "switchboard_commit_changes";
    text.family(name, "histogram", "Changes per commit.");
    text.histogram(name, "", SampleValue::Count, &writer.changes.read());
    let name = "switchboard_commit_duration_seconds";
    text.family(
        name,
        "histogram",
        "Duration of a commit, including its changes.",
    );
    text.histogram(name, "", SampleValue::Seconds, &writer.times.read());
    text.single(
        "switchboard_commit_failures_total",
        "counter",
        "Failed commits; all of their changes were refused.",
        writer.failures.get(),
    );
    let sizes = app.store.sizes();
    text.single(
        "switchboard_database_bytes",
        "gauge",
        "Size of the database.",
        sizes.database,
    );
    if let Some(log) = sizes.log {
        text.single(
            "switchboard_wal_bytes",
            "gauge",
            "Size of the write-ahead log.",
            log,
        );
    }
    text.family(
        "switchboard_engine_info",
        "gauge",
        "What holds the data, as a label.",
    );
    let engine = app.store.engine_name();
    text.line(format_args!(
        "switchboard_engine_info{{engine=\"{engine}\"}} 1"
    ));
}

/// Writes the turns by status, with the API's names of the statuses.
fn write_turns(app: &App, queued: Option<i64>, text: &mut Exposition) {
    let name = "switchboard_turns_current";
    text.family(name, "gauge", "Queued and running turns by status.");
    if let Some(queued) = queued {
        text.line(format_args!("{name}{{status=\"QUEUED\"}} {queued}"));
    }
    let running = app.engine.running();
    text.line(format_args!("{name}{{status=\"RUNNING\"}} {running}"));
    let name = "switchboard_turns_ended_total";
    text.family(name, "counter", "Ended turns by status.");
    let ended = app.engine.counters();
    for (status, count) in [
        ("COMPLETED", &ended.completed),
        ("FAILED", &ended.failed),
        ("CANCELLED", &ended.cancelled),
    ] {
        let count = count.get();
        text.line(format_args!("{name}{{status=\"{status}\"}} {count}"));
    }
}

/// Writes the activities of Teams by what became of them.
fn write_teams(app: &App, text: &mut Exposition) {
    let name = "switchboard_teams_activities_total";
    text.family(name, "counter", "Activities of Teams by outcome.");
    for outcome in Handled::ALL {
        let (label, count) = (outcome.as_str(), app.teams.activities.get(outcome));
        text.line(format_args!("{name}{{outcome=\"{label}\"}} {count}"));
    }
}

/// Writes the deliveries to Teams by state.
fn write_deliveries(
    app: &App,
    deliverer: &Deliverer,
    backlog: Option<(i64, Option<Millis>)>,
    text: &mut Exposition,
) {
    let counters = deliverer.counters();
    let name = "switchboard_teams_deliveries_total";
    text.family(name, "counter", "Ended deliveries to Teams by state.");
    for (state, count) in [
        ("SENT", &counters.sent),
        ("GIVEN_UP", &counters.given_up),
        ("CANCELLED", &counters.cancelled),
    ] {
        let count = count.get();
        text.line(format_args!("{name}{{state=\"{state}\"}} {count}"));
    }
    text.single(
        "switchboard_teams_delivery_retries_total",
        "counter",
        "Deliveries to Teams that failed and are tried again.",
        counters.retries.get(),
    );
    let Some((waiting, oldest)) = backlog else {
        return;
    };
    text.single(
        "switchboard_teams_deliveries_waiting",
        "gauge",
        "Deliveries to Teams that wait or are being sent.",
        waiting,
    );
    let age = oldest.map_or(0, |oldest| app.store.now().saturating_sub(oldest).max(0));
    text.single(
        "switchboard_teams_oldest_delivery_seconds",
        "gauge",
        "Age of the oldest delivery to Teams that waits; 0 if none does.",
        Duration::from_millis(age.unsigned_abs()).as_secs_f64(),
    );
}

/// Answers a scrape.
async fn scrape(app: web::Data<App>) -> Result<HttpResponse> {
    // If the read fails, this sample is omitted: a failing server needs its other metrics most.
    let status = async {
        let node = app.store.node()?;
        Some((node, node.status().await.ok()))
    };
    let (queued, status) = join(app.store.read_on_pool(turns::queued), status).await;
    let mut text = Exposition::default();
    app.metrics.write_requests(&mut text);
    text.single(
        "switchboard_streams",
        "gauge",
        "Open event streams.",
        app.metrics.streams.get(),
    );
    text.single(
        "switchboard_reply_bytes",
        "gauge",
        "Bytes of large replies that are built, or that clients have not taken yet.",
        app.replies.bytes(),
    );
    text.single(
        "switchboard_clients_cut_off_total",
        "counter",
        "Clients that were cut off because they took nothing of a reply for too long.",
        app.metrics.clients_cut_off.get(),
    );
    write_turns(&app, queued.ok(), &mut text);
    write_teams(&app, &mut text);
    if let Some(deliverer) = &app.deliverer {
        let backlog = app.store.read_on_pool(teams_outbox::backlog).await;
        write_deliveries(&app, deliverer, backlog.ok(), &mut text);
    }
    write_store(&app, &mut text);
    if let Some((node, status)) = status {
        postgres::write(node, status.as_ref(), &mut text);
    }
    text.single(
        "switchboard_writable",
        "gauge",
        "1 if the last commit succeeded.",
        u8::from(app.store.is_writable()),
    );
    text.single(
        "switchboard_draining",
        "gauge",
        "1 if the server is shutting down and refuses new work.",
        u8::from(app.is_draining()),
    );
    text.family(
        "switchboard_build_info",
        "gauge",
        "The server's version, as a label.",
    );
    text.line(format_args!(
        "switchboard_build_info{{version=\"{}\"}} 1",
        env!("CARGO_PKG_VERSION")
    ));
    text.single(
        "process_start_time_seconds",
        "gauge",
        "Start time of the server, in Unix seconds.",
        Duration::from_millis(app.metrics.started_at.unsigned_abs()).as_secs_f64(),
    );
    Ok(HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, CONTENT_TYPE))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .body(text.0))
}

/// The route of the metrics.
pub(super) fn path_routes() -> PathRoutes {
    PathRoutes::public_get("/metrics", web::get().to(scrape))
}
