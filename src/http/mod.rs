//! The HTTP layer: `edge` routes and admits requests, and each resource has a file of handlers.

mod agents;
mod app_packages;
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
mod guide;
mod installs;
mod keys;
mod listener;
mod login_command;
mod messages;
mod meta;
mod metrics;
mod new_sessions;
mod node_turns;
mod pages;
mod sessions;
mod stats;
mod teams;
mod tenant;
mod tenants;
mod tokens;
mod turns;
mod users;

use std::any::Any;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::http::header;
use actix_web::middleware::{DefaultHeaders, from_fn};
use actix_web::rt::net::TcpStream;
use actix_web::{App as ActixApp, HttpServer, web};
use tokio::sync::{Semaphore, watch};

pub use self::edge::middleware::ACCESS_LOG;
use self::edge::page::CompressedFiles;
use self::edge::reply_limiter::ReplyLimiter;
use self::edge::routing::{PathRoutes, RouterFactory};
use self::edge::{middleware, refusal_audit};
pub use self::listener::Listener;
use crate::auth::Authenticator;
use crate::auth::attempts::Attempts;
use crate::auth::rate_limit::{Limits, RateLimiter};
use crate::config::ServerConfig;
use crate::limits::{FairSemaphore, OncePerMinute};
use crate::model::ids::Tick;
use crate::store::Store;
use crate::teams::Teams;
use crate::teams::deliver::Deliverer;
use crate::turns::copies::NodeKey;
use crate::turns::engine::Engine;
use crate::turns::respond::Responders;
use crate::turns::signals::Signals;

/// Unsent bytes that the kernel buffers per connection. Its own limit is several megabytes.
const MAX_UNSENT_BYTES: u32 = 128 * 1_024;

/// Connections that the listener for `/metrics` accepts.
const MAX_SCRAPE_CONNECTIONS: usize = 32;

/// The state that all handlers share.
pub struct App {
    /// The database and the other files of the data folder.
    pub store: Store,
    /// Checks credentials.
    pub authenticator: Authenticator,
    /// Limits the requests of each platform account and of each tenant.
    pub limiter: Arc<RateLimiter>,
    /// Throttles wrong sign-in codes.
    pub attempts: Attempts,
    /// Wakes the handlers that wait for an event in a session.
    pub signals: Signals,
    /// Records forbidden attempts as audit events.
    refusal_audit: refusal_audit::RefusalAudit,
    /// Runs the turns.
    pub engine: Engine,
    /// The Teams bots.
    pub teams: Arc<Teams>,
    /// Sends what the Teams bots say, if there are any.
    pub deliverer: Option<Deliverer>,
    /// Proves other nodes of the same database.
    node_key: NodeKey,
    /// Limits the copies of turns that other nodes receive.
    node_copies: Arc<Semaphore>,
    /// Throttles the log lines about links, by their text.
    link_warnings: OncePerMinute<&'static str>,
    /// The documentation, compressed.
    pages: CompressedFiles,
    /// Limits concurrent uploads.
    pub uploads: FairSemaphore<Tick>,
    /// Limits the bytes of replies.
    replies: ReplyLimiter,
    /// The metrics of requests and streams.
    metrics: metrics::Metrics,
    /// The configuration.
    pub config: ServerConfig,
    draining: AtomicBool,
    stage: watch::Sender<Stage>,
}

/// The stages of a shutdown, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The server runs.
    Serving,
    /// New work is refused. Running turns may finish.
    Draining,
    /// Turns that were still running are aborted. Nothing waits for them any longer.
    CutOff,
}

impl App {
    /// Builds the shared state and starts the engine.
    ///
    /// # Errors
    /// The engine's threads cannot be started; the file of the Teams bots cannot be used.
    pub fn new(
        store: Store,
        authenticator: Authenticator,
        responders: Responders,
        config: ServerConfig,
    ) -> io::Result<Arc<Self>> {
        let signals = Signals::default();
        if store.node().is_some() {
            signals.reach_nodes(store.clone());
        }
        let teams = Teams::new(config.teams.clone()).map_err(io::Error::other)?;
        let node_key = NodeKey::new(authenticator.node_key());
        let concurrency = usize::from(config.turn_concurrency);
        let limits = Limits {
            per_tenant: config.rate_limit,
            per_platform_account: config.platform_rate_limit,
        };
        let engine = Engine::new(
            store.clone(),
            signals.clone(),
            responders,
            concurrency,
            node_key.clone(),
        )?;
        let deliverer = teams.deliverer(&store, &engine, &signals);
        Ok(Arc::new(Self {
            deliverer: deliverer.map_err(io::Error::other)?,
            limiter: Arc::new(RateLimiter::new(limits, store.clone())),
            attempts: Attempts::new(store.clock().clone()),
            engine,
            teams: Arc::new(teams),
            node_key,
            node_copies: node_turns::limiter(),
            uploads: attachments::upload_limiter(config.timeouts.uploads),
            pages: CompressedFiles::default(),
            replies: ReplyLimiter::new(),
            link_warnings: OncePerMinute::default(),
            metrics: metrics::Metrics::new(store.now(), &all_routes(&config, &store)),
            store,
            authenticator,
            signals,
            refusal_audit: refusal_audit::RefusalAudit::default(),
            config,
            draining: AtomicBool::new(false),
            stage: watch::Sender::new(Stage::Serving),
        }))
    }

    /// Begins the shutdown: new work is refused, and handlers that wait for an event return.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
        self.stage.send_replace(Stage::Draining);
    }

    /// Ends the streams that still wait for a turn. The caller has aborted the turns.
    pub fn cut_off(&self) {
        self.stage.send_replace(Stage::CutOff);
    }

    /// Whether new work is refused.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    /// The current stage of the shutdown.
    pub fn stage(&self) -> Stage {
        *self.stage.borrow()
    }

    /// Resolves when the shutdown reaches this stage.
    pub async fn reaches(&self, stage: Stage) {
        let mut stages = self.stage.subscribe();
        // The sender lives as long as this value, so that waiting cannot fail.
        let _ = stages.wait_for(|current| *current >= stage).await;
    }
}

/// All routes of the main listener: the API, the dashboard, if enabled the metrics, and on one node of
/// several what the other nodes call.
fn all_routes(config: &ServerConfig, store: &Store) -> Vec<PathRoutes> {
    let mut routes = edge::router::path_routes();
    routes.push(docs::path_routes());
    routes.extend(dashboard::path_routes());
    routes.extend(pages::path_routes());
    routes.push(teams::path_routes());
    routes.extend(config.metrics.then(metrics::path_routes));
    routes.extend(store.node().map(|_| node_turns::path_routes()));
    routes
}

/// Connections that the kernel queues before the server accepts them. `net.core.somaxconn` may
/// lower the number.
const LISTEN_BACKLOG: i32 = 4_096;

/// Serves on a bound listener until the returned handle stops the server.
///
/// # Errors
/// The listener cannot be used.
pub fn serve(app: Arc<App>, listener: impl Into<Listener>) -> io::Result<Server> {
    let listener = listener.into();
    // The standard library sets a backlog of 128. In a larger burst, some clients retry only after
    // a second, and the server never sees a client that sends nothing.
    match &listener {
        Listener::Tcp(listener) => socket2::SockRef::from(listener).listen(LISTEN_BACKLOG)?,
        Listener::Unix(listener) => socket2::SockRef::from(listener).listen(LISTEN_BACKLOG)?,
    }
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
    let paths = web::Data::new(login_command::Paths::of_process(app.store.folder()));
    let app = web::Data::from(app);
    let server = HttpServer::new(move || {
        ActixApp::new()
            .app_data(app.clone())
            .app_data(dashboard.clone())
            .app_data(paths.clone())
            .default_service(RouterFactory::of(all_routes(&app.config, &app.store)))
            .wrap(from_fn(middleware::handle))
    })
    .workers(workers)
    .max_connections(per_worker)
    .on_connect(move |connection, _| limit_stalled_client(connection, timeouts.stuck))
    .client_request_timeout(timeouts.head)
    .keep_alive(timeouts.keep_alive)
    .shutdown_timeout(drain_seconds)
    .disable_signals();
    let server = match listener {
        Listener::Tcp(listener) => server.listen(listener)?,
        Listener::Unix(listener) => server.listen_uds(listener)?,
    };
    Ok(server.run())
}

/// Serves only `/metrics`, on a separate listener.
///
/// # Errors
/// The listener cannot be used.
pub fn serve_metrics(app: Arc<App>, listener: impl Into<Listener>) -> io::Result<Server> {
    let timeouts = app.config.timeouts;
    let app = web::Data::from(app);
    let server = HttpServer::new(move || {
        ActixApp::new()
            .app_data(app.clone())
            .default_service(RouterFactory::of(vec![metrics::path_routes()]))
            .wrap(
                DefaultHeaders::new()
                    .add((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
                    .add((header::CACHE_CONTROL, "no-store")),
            )
    })
    .workers(1)
    .max_connections(MAX_SCRAPE_CONNECTIONS)
    .on_connect(move |connection, _| limit_stalled_client(connection, timeouts.stuck))
    .client_request_timeout(timeouts.head)
    .keep_alive(timeouts.keep_alive)
    .shutdown_timeout(0)
    .disable_signals();
    let server = match listener.into() {
        Listener::Tcp(listener) => server.listen(listener)?,
        Listener::Unix(listener) => server.listen_uds(listener)?,
    };
    Ok(server.run())
}

/// Sets socket options that bound the cost of a client that stops reading.
///
/// The framework polls a response body only while the socket accepts data. A client that stops
/// reading therefore occupies one chunk of its stream in this process and [`MAX_UNSENT_BYTES`] in
/// the kernel, until the kernel closes the connection after the timeout.
fn limit_stalled_client(connection: &dyn Any, timeout: Duration) {
    if let Some(connection) = connection.downcast_ref::<TcpStream>() {
        let connection = socket2::SockRef::from(connection);
        let result = connection
            .set_tcp_user_timeout(Some(timeout))
            .and_then(|()| connection.set_tcp_notsent_lowat(MAX_UNSENT_BYTES));
        if let Err(error) = result {
            log::debug!("cannot set the limits for a client that stops reading: {error}");
        }
    }
}
