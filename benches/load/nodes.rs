//! What two nodes of one database add: the delay of a reader at the node that does not run the
//! turn, and the time until the turns of a killed node run on the other one.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use actix_web::{HttpResponse, web};
use bytes::Bytes;
use futures_util::future::try_join_all;
use futures_util::stream;

use crate::Failed;
use crate::ceilings::InProcessServer;
use crate::client::{ask_each, made_sessions, runtime};
use crate::measure::{Target as _, median};
use crate::postgres::{Cluster, Nodes, Session};
use crate::report::{Aim, Report};
use crate::requests::{self, QUESTIONS};
use crate::server::Server;
use crate::streams::Events;

/// The deltas of each answer, and the time between two of them.
const DELTAS: usize = 40;
const PAUSE: Duration = Duration::from_millis(10);
/// The number of sessions with a reader at each node, and of the answers of each.
const SESSIONS: usize = 16;
const ANSWERS: usize = 8;
/// The number of kills, and of the turns that each interrupts.
const KILLS: usize = 15;
const TURNS: usize = 8;
/// The timeout of a take-over.
const TAKE_OVER: Duration = Duration::from_secs(60);
/// The maximum delay of a first delta at the other node.
const MAX_DELAY_MS: f64 = 20.0;

const NEWEST_LEASE: &str =
    "SELECT lease_no FROM nodes ORDER BY started_at DESC, lease_no DESC LIMIT 1";

/// Measures on nodes of their own, whose model is in this process.
pub fn measure_nodes(cluster: &Cluster, folder: &Path, report: &mut Report) -> Result<(), Failed> {
    let model = model()?;
    let url = format!("http://{}/v1", model.address());
    let flags = [
        "--model-url",
        &url,
        "--model-fast",
        "m",
        "--model-smart",
        "m",
    ]
    .map(str::to_owned);
    let mut nodes = Nodes::start(cluster, "nodes", 2, &flags, folder)?;
    measure_readers(&nodes, report)?;

    let session = Session::open(&nodes.url)?;
    let mut taken_ms = Vec::new();
    while taken_ms.len() < KILLS {
        let survivor = nodes.servers.remove(0);
        let killed = nodes.servers.remove(0);
        taken_ms.extend(take_over_ms(&session, killed)?);
        let log = folder.join(format!("nodes-again-{}.log", taken_ms.len()));
        nodes.servers = vec![survivor, Server::start_node(&nodes.url, &flags, &log)?];
    }
    let worst = taken_ms.iter().copied().fold(0.0, f64::max);
    report.figure(
        "turns of a killed node run elsewhere, p50 ms",
        median(taken_ms),
        None,
    );
    report.figure(format!("the same, longest of {KILLS}, ms"), worst, None);
    Ok(())
}

/// A model that answers every question at the same pace.
fn model() -> Result<InProcessServer, Failed> {
    InProcessServer::start(|config| {
        config.default_service(web::to(|_: Bytes| async {
            let parts = stream::unfold(0, |sent| async move {
                tokio::time::sleep(PAUSE).await;
                let part = if sent < DELTAS {
                    format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"word{sent} \"}}}}]}}\n\n")
                } else {
                    "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n".to_owned()
                };
                (sent <= DELTAS).then_some((Ok::<_, Infallible>(Bytes::from(part)), sent + 1))
            });
            HttpResponse::Ok().content_type("text/event-stream").streaming(parts)
        }));
    })
}

/// When the first delta of an answer and the others came to a reader, by their cursors.
struct Heard {
    first: String,
    all: HashMap<String, Instant>,
}

/// Has a reader at each node follow each session. The reader at the node that runs a turn has its
/// events first; the other one's delay counts.
fn measure_readers(nodes: &Nodes<'_>, report: &mut Report) -> Result<(), Failed> {
    let addresses = [nodes.servers[0].address, nodes.servers[1].address];
    let create = requests::create_with_articles();
    let sessions = made_sessions(addresses[0], &create, SESSIONS)?;
    let heard = runtime()?.block_on(try_join_all(
        sessions
            .iter()
            .map(|session| ask_and_compare(addresses, session)),
    ))?;
    let delays = heard.into_iter().flatten();
    let (first_ms, delta_ms): (Vec<f64>, Vec<Vec<f64>>) = delays.unzip();
    let mut delta_ms = delta_ms.concat();
    let what = "another node's reader, first delta over the owner's, p50 ms";
    report.figure(what, median(first_ms), Some(Aim::AtMost(MAX_DELAY_MS)));
    let what = "another node's reader, a delta over the owner's";
    report.figure(
        format!("{what}, p50 ms"),
        median(delta_ms.iter().copied()),
        None,
    );
    delta_ms.sort_by(f64::total_cmp);
    let p99 = delta_ms.get(delta_ms.len() * 99 / 100).copied();
    report.figure(format!("{what}, p99 ms"), p99.unwrap_or(f64::NAN), None);
    Ok(())
}

/// Returns the delays of the first delta and of all deltas of each answer, in milliseconds.
async fn ask_and_compare(
    addresses: [SocketAddr; 2],
    session: &str,
) -> Result<Vec<(f64, Vec<f64>)>, Failed> {
    let follow = requests::follow(session);
    let mut one = Events::open(addresses[0], &follow, usize::MAX).await?;
    let mut other = Events::open(addresses[1], &follow, usize::MAX).await?;
    let mut delays = Vec::new();
    for (number, question) in QUESTIONS.iter().cycle().take(ANSWERS).enumerate() {
        let append = requests::append(session, question, None);
        let mut connection = crate::client::Connection::open(addresses[number % 2]).await?;
        let asked = async {
            let (status, _) = connection.exchange(&append).await?;
            (status == 202)
                .then_some(())
                .ok_or_else(|| format!("an append was refused: {status}").into())
        };
        let ((), one, other) = tokio::try_join!(asked, hear(&mut one), hear(&mut other))?;
        let delay = |(cursor, at): (&String, &Instant)| -> Result<f64, Failed> {
            let there = other
                .all
                .get(cursor)
                .ok_or("a reader at another node missed a delta")?;
            let later = at.max(there).duration_since(*at.min(there));
            Ok(later.as_secs_f64() * 1e3)
        };
        let first = (&one.first, &one.all[&one.first]);
        let all = one.all.iter().map(delay).collect::<Result<_, _>>()?;
        delays.push((delay(first)?, all));
    }
    Ok(delays)
}

/// Reads an answer.
async fn hear(events: &mut Events) -> Result<Heard, Failed> {
    let mut heard = Heard {
        first: String::new(),
        all: HashMap::new(),
    };
    loop {
        let event = events.event().await?;
        if event.is_terminal() {
            return match event.kind() {
                "finish" => Ok(heard),
                kind => Err(format!("an answer ended with {kind}").into()),
            };
        }
        if event.kind() == "text-delta" {
            if heard.all.is_empty() {
                heard.first.clone_from(&event.cursor);
            }
            heard.all.insert(event.cursor, Instant::now());
        }
    }
}

/// Kills a node with running turns. Returns the milliseconds until another node runs all of them,
/// or none if the node ran none.
fn take_over_ms(session: &Session, node: Server) -> Result<Option<f64>, Failed> {
    let lease: i64 = session.value(NEWEST_LEASE)?;
    let create = requests::create_with_articles();
    let sessions = made_sessions(node.address, &create, TURNS)?;
    let asks = sessions
        .iter()
        .map(|id| requests::append(id, QUESTIONS[0], None));
    ask_each(node.address, asks.collect())?;
    let of_node = format!(
        "SELECT count(*) FROM turns WHERE terminal_tick IS NULL AND (owner_lease IS NULL OR owner_lease = {lease})"
    );
    let begun = Instant::now();
    let interrupted: i64 = session.value(&format!(
        "SELECT count(*) FROM turns WHERE terminal_tick IS NULL AND owner_lease = {lease}"
    ))?;
    if interrupted == 0 {
        return Ok(None);
    }
    drop(node);
    let killed = Instant::now();
    while session.value::<i64>(&of_node)? > 0 {
        if begun.elapsed() > TAKE_OVER {
            return Err("the turns of a killed node were not taken over in time".into());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(Some(killed.elapsed().as_secs_f64() * 1e3))
}
