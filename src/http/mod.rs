//! The HTTP layer: `edge` takes requests in and sends envelopes out; each resource has a file of handlers.

mod agents;
mod articles;
mod attachments;
mod audit_events;
mod auth;
mod channels;
mod companies;
mod dashboard;
mod docs;
pub mod edge;
mod events;
mod installs;
mod keys;
mod messages;
mod meta;
mod metrics;
mod sessions;
mod stats;
mod tenant;
mod tenants;
mod tokens;
mod turns;
mod users;

use std::any::Any;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::middleware::from_fn;
use actix_web::rt::net::TcpStream;
use actix_web::{App as ActixApp, HttpServer, web};
use tokio::sync::watch;

pub use self::edge::middleware::ACCESS_LOG;
use self::edge::routing::{Address, Routing};
use self::edge::{middleware, refusal_audit, upload_limiter};
use crate::auth::Authenticator;
use crate::auth::attempts::Attempts;
use crate::auth::rate_limit::RateLimiter;
use crate::config::ServerConfig;
use crate::store::Store;
use crate::turns::engine::Engine;
use crate::turns::respond::Responders;
use crate::turns::signals::Signals;

/// Bytes that the system takes for a client ahead of what it can send; without a limit they are megabytes.
const UNSENT: u32 = 128 * 1_024;

/// Connections of those who fetch `/metrics` at its own address.
const SCRAPERS: usize = 32;

/// What every handler works with.
pub struct App {
    /// The data folder.
    pub store: Store,
    /// Who calls.
    pub authenticator: Authenticator,
    /// How often.
    pub limiter: RateLimiter,
    /// How often a code of a sign-in link is tried in vain.
    pub attempts: Attempts,
    /// Who waits for what.
    pub signals: Signals,
    /// Who was refused what, for the audit events.
    refusal_audit: refusal_audit::RefusalAudit,
    /// Who answers.
    pub engine: Engine,
    /// Room for the uploads that are received at one time.
    pub uploads: upload_limiter::UploadLimiter,
    /// What is counted.
    metrics: metrics::Metrics,
    /// The configuration.
    pub config: ServerConfig,
    draining: AtomicBool,
    stage: watch::Sender<Stage>,
}

/// How far a shutdown has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// There is none.
    Serving,
    /// No new work is taken; answers that run may end.
    Draining,
    /// Answers that had not ended were cut off, so that nobody need wait for one.
    CutOff,
}

impl App {
    /// Everything that a server needs.
    ///
    /// # Errors
    /// The threads that answer cannot be made.
    pub fn new(
        store: Store,
        authenticator: Authenticator,
        responders: Responders,
        config: ServerConfig,
    ) -> io::Result<Arc<Self>> {
        let signals = Signals::default();
        let concurrency = usize::from(config.turn_concurrency);
        Ok(Arc::new(Self {
            limiter: RateLimiter::new(config.rate_limit),
            attempts: Attempts::default(),
            engine: Engine::new(store.clone(), signals.clone(), responders, concurrency)?,
            uploads: upload_limiter::UploadLimiter::new(config.timeouts.uploads),
            metrics: metrics::Metrics::new(store.now(), &addresses(&config)),
            store,
            authenticator,
            signals,
            refusal_audit: refusal_audit::RefusalAudit::default(),
            config,
            draining: AtomicBool::new(false),
            stage: watch::Sender::new(Stage::Serving),
        }))
    }

    /// Takes no new work from now on; what waits for something is told to end.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
        self.stage.send_replace(Stage::Draining);
    }

    /// Has those end too who wait for an answer that was cut off.
    pub fn cut_off(&self) {
        self.stage.send_replace(Stage::CutOff);
    }

    /// Whether new work is refused.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    /// How far the shutdown has come.
    pub fn stage(&self) -> Stage {
        *self.stage.borrow()
    }

    /// Resolves when the shutdown has come so far.
    pub async fn comes_to(&self, stage: Stage) {
        let mut stages = self.stage.subscribe();
        // The sender lives as long as this value, so that waiting cannot fail.
        let _ = stages.wait_for(|come_to| *come_to >= stage).await;
    }
}

/// Everything that is served where the API is.
fn addresses(config: &ServerConfig) -> Vec<Address> {
    let mut addresses = edge::router::addresses();
    addresses.extend(dashboard::addresses());
    addresses.extend(config.metrics.then(metrics::address));
    addresses
}

/// Connections that the system takes before the server does; it may allow fewer (`net.core.somaxconn`).
const WAITING_CONNECTIONS: i32 = 4_096;

/// Serves on a bound listener until it is stopped by its handle.
///
/// # Errors
/// The listener cannot be used.
pub fn serve(app: Arc<App>, listener: TcpListener) -> io::Result<Server> {
    // The standard library asks for 128. Of more that come at once some would wait for a second, and who says nothing for ever.
    socket2::SockRef::from(&listener).listen(WAITING_CONNECTIONS)?;
    let workers = app.config.workers.map_or_else(
        || std::thread::available_parallelism().map_or(2, std::num::NonZero::get),
        usize::from,
    );
    let per_worker = (app.config.max_connections as usize).div_ceil(workers);
    let drain_seconds = app.config.drain_seconds;
    let timeouts = app.config.timeouts;
    let dashboard = web::Data::new(dashboard::Dashboard::new(
        app.config.entra_sign_in.as_ref(),
    )?);
    let app = web::Data::from(app);
    let server = HttpServer::new(move || {
        ActixApp::new()
            .app_data(app.clone())
            .app_data(dashboard.clone())
            .default_service(Routing::of(addresses(&app.config)))
            .wrap(from_fn(middleware::handle))
    })
    .workers(workers)
    .max_connections(per_worker)
    .on_connect(move |connection, _| cut_off_when_stuck(connection, timeouts.stuck))
    .client_request_timeout(timeouts.head)
    .keep_alive(timeouts.keep_alive)
    .shutdown_timeout(drain_seconds)
    .disable_signals()
    .listen(listener)?
    .run();
    Ok(server)
}

/// Serves `/metrics` alone, on a listener of its own.
///
/// # Errors
/// The listener cannot be used.
pub fn serve_metrics(app: Arc<App>, listener: TcpListener) -> io::Result<Server> {
    let timeouts = app.config.timeouts;
    let app = web::Data::from(app);
    let server = HttpServer::new(move || {
        ActixApp::new()
            .app_data(app.clone())
            .default_service(Routing::of(vec![metrics::address()]))
    })
    .workers(1)
    .max_connections(SCRAPERS)
    .on_connect(move |connection, _| cut_off_when_stuck(connection, timeouts.stuck))
    .client_request_timeout(timeouts.head)
    .keep_alive(timeouts.keep_alive)
    .shutdown_timeout(0)
    .disable_signals()
    .listen(listener)?
    .run();
    Ok(server)
}

/// Has the system end a connection whose client takes nothing, and hold little of what is still to be sent on it.
///
/// Nobody writes to a client that does not read: its stream is asked for more only when there is room. What such a
/// client holds is one piece of a stream here and [`UNSENT`] in the system, until the system ends the connection.
fn cut_off_when_stuck(connection: &dyn Any, timeouts: Duration) {
    if let Some(connection) = connection.downcast_ref::<TcpStream>() {
        let connection = socket2::SockRef::from(connection);
        let set = connection
            .set_tcp_user_timeout(Some(timeouts))
            .and_then(|()| connection.set_tcp_notsent_lowat(UNSENT));
        if let Err(error) = set {
            log::debug!("a connection has no limit for a client that takes nothing: {error}");
        }
    }
}
