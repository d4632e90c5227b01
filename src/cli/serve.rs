//! `serve`: the server, from its lock to its drained end.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::rt::System;
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout, timeout_at};

use super::{Common, Failed, Serve, ServerFlags, column, login_link, open, print};
use crate::auth::Authenticator;
use crate::auth::signing::SigningSecret;
use crate::http::{self, App};
use crate::model::words::Role;
use crate::store::sqlite::check;
use crate::store::{Store, database_file, tenants};
use crate::turns::respond::Responders;

/// How long to wait for the file to be closed, once the server has ended.
const CLOSING: Duration = Duration::from_secs(5);
/// How long the words of deleted sessions may take to leave the search index behind the requests.
const REMOVAL: Duration = Duration::from_secs(2);
/// How long requests may take to end behind the answers that were cut off, in a drain of at least so long.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// How often what is past its time is removed.
const CLEAN_UP_EVERY: Duration = Duration::from_secs(600);
/// How often new messages enter the search index, so that a search has little left to add.
const INDEX_EVERY: Duration = Duration::from_secs(5);

pub(super) fn run(common: &Common, arguments: &Serve) -> Result<(), Failed> {
    let store = open(common)?;
    let _lock = store.lock_for_serving()?;
    let listener = bind(arguments.listen)?;
    if !SigningSecret::is_in(store.folder()) {
        welcome(&store, &arguments.server, listener.local_addr()?)?;
    }
    until_stopped(store, &common.environment, &arguments.server, listener)
}

fn bind(address: SocketAddr) -> Result<TcpListener, Failed> {
    TcpListener::bind(address)
        .map_err(|error| Failed::saying(format!("cannot listen on {address}: {error}")))
}

/// Tells at the first start how to sign in: by a link where there is one tenant, else how to get one.
fn welcome(store: &Store, flags: &ServerFlags, address: SocketAddr) -> Result<(), Failed> {
    let tenants = store.read_now(tenants::all)?;
    match tenants.as_slice() {
        [] => Ok(()),
        [tenant] => {
            let url = login_link::base(flags.public_url.as_deref(), address);
            let link = login_link::make(store, tenant, Role::Admin, &url)?;
            print(format_args!(
                "Sign in as an administrator of {}, once and within 15 minutes: {link}",
                column(&tenant.name)
            ))
        }
        [_, ..] => print("To sign in: switchboard login-link --tenant CLIENT_ID"),
    }
}

/// Serves until a signal says to stop, then drains.
pub(super) fn until_stopped(
    store: Store,
    environment: &str,
    flags: &ServerFlags,
    listener: TcpListener,
) -> Result<(), Failed> {
    let closed = store.closed();
    let outcome = serve_until_stopped(store, environment, flags, listener);
    // The server's threads let go of the file a moment after the server has ended.
    if !closed.wait(CLOSING) {
        log::warn!(
            "the database file was not closed in time; its log is taken up at the next start"
        );
    }
    outcome
}

/// Whoever is routed by a damaged file could be shown what is somebody else's.
fn refuse_damage(store: &Store) -> Result<(), Failed> {
    let found = match store.read_now(check::routing_damage) {
        Ok(damage) => damage.into_iter().next(),
        Err(error) if check::is_damage(&error) => Some(error.to_string()),
        Err(error) => return Err(error.into()),
    };
    let Some(found) = found else { return Ok(()) };
    // SQLite writes a heading above what it finds in pages.
    let found = found.lines().find(|line| !line.starts_with("***"));
    let found = found.unwrap_or("its pages contradict each other");
    let file = database_file(store.folder());
    Err(Failed::saying(format!(
        "{} is damaged ({found}); restore it from a backup",
        file.display()
    )))
}

fn serve_until_stopped(
    store: Store,
    environment: &str,
    flags: &ServerFlags,
    listener: TcpListener,
) -> Result<(), Failed> {
    refuse_damage(&store)?;
    let signing = SigningSecret::of_folder(store.folder()).map_err(Failed::saying)?;
    let entra = flags.entra.verifier().map_err(Failed::saying)?;
    let authenticator = Authenticator::new(environment.to_owned(), signing).with_entra(entra);
    let responders = Responders::new(flags.model.client().map_err(Failed::saying)?);
    let app = App::new(store, authenticator, responders, flags.config())?;
    let metrics = flags.metrics_listen.map(bind).transpose()?;
    let address = listener.local_addr()?;
    System::new().block_on(async move {
        app.engine.recover().await?;
        // Before anybody is told that it listens: whoever waits for that may stop it at once.
        let mut interrupted = signal(SignalKind::interrupt())?;
        let mut terminated = signal(SignalKind::terminate())?;
        let server = http::serve(Arc::clone(&app), listener)?;
        let metrics = match metrics {
            None => None,
            Some(listener) => {
                log::info!("metrics on http://{}/metrics", listener.local_addr()?);
                let server = http::serve_metrics(Arc::clone(&app), listener)?;
                let handle = server.handle();
                actix_web::rt::spawn(async move {
                    if let Err(error) = server.await {
                        log::error!("metrics are served no longer: {error}");
                    }
                });
                Some(handle)
            }
        };
        log::info!("listening on http://{address} (environment {environment})");
        tell_systemd(NotifyState::Ready);
        app.authenticator.prepare(app.store.now());
        let handle = server.handle();
        let keeper = actix_web::rt::spawn(run_maintenance(Arc::clone(&app)));
        let draining = Arc::clone(&app);
        let is_cut_off = Arc::new(Notify::new());
        let cut_off = Arc::clone(&is_cut_off);
        actix_web::rt::spawn(async move {
            tokio::select! {
                _ = interrupted.recv() => {}
                _ = terminated.recv() => {}
            }
            log::info!("shutting down: running requests end, no new ones are taken");
            tell_systemd(NotifyState::Stopping);
            let drain = async {
                drain(&draining, &handle).await;
                cut_off.notify_one();
            };
            tokio::select! {
                () = drain => {}
                _ = interrupted.recv() => end_at_once(),
                _ = terminated.recv() => end_at_once(),
            }
        });
        tokio::select! {
            outcome = server => outcome?,
            () = is_cut_off.notified() => {}
        }
        keeper.abort();
        // What was deleted a moment ago is to be nowhere in a file that nobody serves.
        let removal = timeout(REMOVAL, app.store.complete_removal()).await;
        if !matches!(removal, Ok(Ok(()))) {
            log::warn!("words of deleted sessions stay in the search index until the next start");
        }
        if let Some(metrics) = metrics {
            // Last, so that the drain can be watched.
            metrics.stop(false).await;
        }
        log::info!("stopped");
        Ok(())
    })
}

/// Tells how the server is, where systemd started it.
fn tell_systemd(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        log::warn!("systemd could not be told how the server is: {error}");
    }
}

/// Lets the answers end, then the requests, all within the time that there is for it.
async fn drain(app: &App, server: &ServerHandle) {
    let limit = Duration::from_secs(app.config.drain_seconds);
    let end = Instant::now() + limit;
    app.drain();
    app.engine.stop(limit).await;
    app.cut_off();
    let end = end.max(Instant::now() + LAST_WORDS.min(limit));
    if timeout_at(end, server.stop(true)).await.is_err() {
        log::warn!("some requests were cut off");
    }
}

/// A second signal does not wait any longer.
fn end_at_once() -> ! {
    super::logging::finish();
    std::process::exit(1)
}

/// What is done beside the requests: clean-up, and the search index.
async fn run_maintenance(app: Arc<App>) {
    let store = &app.store;
    let mut clean_up = tokio::time::interval(CLEAN_UP_EVERY);
    let mut index = tokio::time::interval(INDEX_EVERY);
    loop {
        let outcome: crate::error::Result<()> = tokio::select! {
            _ = clean_up.tick() => {
                async {
                    store.purge_idempotency_keys().await?;
                    store.purge_session_tokens().await?;
                    store.purge_sign_ins().await?;
                    store.purge_attachments().await?;
                    // Whoever reads their streams is told to look again.
                    let signals = app.signals.clone();
                    let removed = store.purge_sessions(move |session| signals.notify(session)).await?;
                    if removed > 0 {
                        log::info!("{removed} sessions were idle for longer than their tenants keep them, and are gone");
                    }
                    Ok(())
                }
                .await
            }
            _ = index.tick() => {
                store.maintain_index(INDEX_EVERY).await;
                Ok(())
            }
        };
        if let Err(error) = outcome {
            log::warn!("housekeeping has to wait: {error}");
        }
    }
}
