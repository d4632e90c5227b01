//! `serve`: runs the server, from the lock on its data folder to the end of its shutdown.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::rt::System;
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout, timeout_at};

use super::listen::{self, Bound, ListenAddress};
use super::{
    Common, Failed, Serve, ServerFlags, column, environment, login_link, open_files, print,
};
use crate::auth::Authenticator;
use crate::auth::signing::SigningSecret;
use crate::error::Code;
use crate::http::{self, App};
use crate::model::words::Role;
use crate::store::import::Resumer;
use crate::store::postgres::NodeAddress;
use crate::store::sqlite::check;
use crate::store::{Store, database_file, tenants};
use crate::text::counted;
use crate::turns::respond::Responders;

/// How long to wait until the database file is closed, after the server has stopped.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a shutdown may remove the words of deleted sessions from the search index.
const REMOVAL_TIMEOUT: Duration = Duration::from_secs(2);
/// How long requests may take to end after a shutdown has cut answers off.
///
/// A shorter `--drain-seconds` shortens this time too.
const REQUEST_GRACE: Duration = Duration::from_secs(5);
/// The interval of the clean-up of expired data.
const CLEAN_UP_EVERY: Duration = Duration::from_secs(600);
/// The interval of indexing new messages, so that a search has few messages left to index.
const INDEX_EVERY: Duration = Duration::from_secs(5);

pub(super) fn run(common: &Common, arguments: &Serve) -> Result<(), Failed> {
    let (store, lock) = common.place()?.open_to_serve()?;
    let environment = environment::of(&store, common)?;
    let bound = match listen::handed_over()? {
        Some(bound) => bound,
        None => listen::bind(&arguments.listen, "--listen")?,
    };
    environment::remember(&store, &environment)?;
    if let Some(lock) = &lock {
        login_link::announce(lock, &arguments.server, &bound.address);
    }
    if !SigningSecret::is_of(&store)? {
        welcome(&store, &arguments.server, &bound.address)?;
    }
    until_stopped(store, &environment, &arguments.server, bound)
}

/// Prints at the first start how to sign in: a link if there is one tenant, or how to get one.
fn welcome(store: &Store, flags: &ServerFlags, address: &ListenAddress) -> Result<(), Failed> {
    let tenants = store.read_now(tenants::all)?;
    let url = flags.public_url.clone().or_else(|| address.url());
    match (tenants.as_slice(), url) {
        ([], _) => Ok(()),
        ([tenant], Some(url)) => {
            let link = login_link::make(store, tenant, Role::Admin, &url)?;
            print(format_args!(
                "Sign in as an administrator of {} (the link works once, for 15 minutes): {link}",
                column(&tenant.name)
            ))
        }
        ([_, ..], _) => print("To sign in, run: switchboard login-link --tenant CLIENT_ID"),
    }
}

/// Logs which data the server works on, and how a person signs in.
fn log_data(app: &App) {
    let (what, flag) = match app.store.folder() {
        Some(folder) => {
            let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
            let flag = format!(" --data {}", quoted(&folder));
            (format!("data folder {}", folder.display()), flag)
        }
        None => (format!("database {}", app.store.place()), String::new()),
    };
    let (count, next) = match app.store.read_now(tenants::count) {
        Ok(0) => (
            0,
            "create a tenant with: switchboard tenants create --client-id ID --name NAME",
        ),
        Ok(count) => (
            count,
            "sign in with a link of: switchboard login-link --tenant CLIENT_ID",
        ),
        Err(error) => return log::warn!("cannot count the tenants: {error}"),
    };
    log::info!(
        "{what}: {}; {next}{flag}",
        counted(count, "tenant", "tenants")
    );
}

/// A path as a shell reads it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+@%=:,".contains(c);
    match text.chars().all(is_plain) {
        true => text,
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

/// Serves until a signal, then drains.
pub(super) fn until_stopped(
    store: Store,
    environment: &str,
    flags: &ServerFlags,
    bound: Bound,
) -> Result<(), Failed> {
    let closed = store.closed();
    let outcome = serve_until_stopped(store, environment, flags, bound);
    // The server's threads close the file shortly after the server has stopped.
    if !closed.wait(CLOSE_TIMEOUT) {
        log::warn!(
            "the database file was not closed in time; the next start applies its write-ahead log"
        );
    }
    outcome
}

/// Refuses a damaged file, because wrong routing could show one tenant's data to another.
fn refuse_damage(store: &Store) -> Result<(), Failed> {
    let Some(folder) = store.folder() else {
        return Ok(());
    };
    let found = match store.read_now(check::routing_damage) {
        Ok(damage) => damage.into_iter().next(),
        Err(error) if check::is_damage(&error) => Some(error.to_string()),
        Err(error) => return Err(error.into()),
    };
    let Some(found) = found else { return Ok(()) };
    // SQLite writes a heading above the problems of pages.
    let found = found.lines().find(|line| !line.starts_with("***"));
    let found = found.unwrap_or("its pages are inconsistent");
    let file = database_file(folder);
    Err(Failed::saying(format!(
        "{} is damaged ({found}); restore it from a backup",
        file.display()
    )))
}

/// Refuses activities without tokens on an address that others reach.
fn refuse_anonymous(flags: &ServerFlags, address: &ListenAddress) -> Result<(), Failed> {
    let is_loopback = match address {
        ListenAddress::Tcp(address) => address.ip().is_loopback(),
        ListenAddress::Unix(_) => false,
    };
    match flags.teams.teams_anonymous && !is_loopback {
        false => Ok(()),
        true => Err(Failed::saying(format!(
            "--teams-anonymous accepts activities from everybody, so that the server must listen on a loopback address, not on {address}; use --listen 127.0.0.1:8080 or leave --teams-anonymous out"
        ))),
    }
}

fn serve_until_stopped(
    store: Store,
    environment: &str,
    flags: &ServerFlags,
    bound: Bound,
) -> Result<(), Failed> {
    refuse_damage(&store)?;
    refuse_anonymous(flags, &bound.address)?;
    let signing = match &flags.signing_secret_file {
        Some(file) => SigningSecret::of_file(file),
        None => SigningSecret::of_store(&store),
    };
    let signing = signing.map_err(Failed::saying)?;
    let entra = flags.entra.verifier().map_err(Failed::saying)?;
    let authenticator = Authenticator::new(environment.to_owned(), signing).with_entra(entra);
    let responders = Responders::new(flags.model.client().map_err(Failed::saying)?);
    let app = App::new(store, authenticator, responders, flags.config())?;
    let metrics = flags
        .metrics_listen
        .as_ref()
        .map(|address| listen::bind(address, "--metrics-listen"))
        .transpose()?;
    let too_few_files = open_files::raise_limit(flags);
    let (place, address) = (bound.place(), bound.address.clone());
    let (listener, _file) = bound.into_parts();
    System::new().block_on(async move {
        match app.store.probe().await {
            Err(error) if error.is(Code::StorageFull) => log::warn!("{error}"),
            outcome => outcome?,
        }
        let host = node_address(flags, &address);
        let public_url = flags.public_url.clone();
        app.store.join(NodeAddress { host, public_url }).await;
        app.engine.recover().await?;
        // The signals are handled before the log reports the address, because a supervisor that
        // waits for that line may stop the server at once.
        let mut interrupted = signal(SignalKind::interrupt())?;
        let mut terminated = signal(SignalKind::terminate())?;
        let server = http::serve(Arc::clone(&app), listener)?;
        let metrics = match metrics {
            None => None,
            Some(bound) => {
                log::info!("metrics on {}/metrics", bound.place());
                let (listener, file) = bound.into_parts();
                let server = http::serve_metrics(Arc::clone(&app), listener)?;
                let handle = server.handle();
                actix_web::rt::spawn(async move {
                    let _file = file;
                    if let Err(error) = server.await {
                        log::error!("the metrics server stopped: {error}");
                    }
                });
                Some(handle)
            }
        };
        log::info!("listening on {place} (environment {environment})");
        log_data(&app);
        if app.store.lacks_log() {
            log::warn!("{}", check::LACKS_LOG);
        }
        if let Some(warning) = too_few_files {
            log::warn!("{warning}");
        }
        notify_systemd(NotifyState::Ready);
        app.authenticator.prepare(app.store.now());
        app.teams.prepare(app.store.now());
        if let Some(deliverer) = &app.deliverer {
            deliverer.start();
        }
        let handle = server.handle();
        let maintenance = actix_web::rt::spawn(run_maintenance(Arc::clone(&app)));
        let imports = Resumer::start(app.store.clone());
        let draining = Arc::clone(&app);
        let drained = Arc::new(Notify::new());
        let notify_drained = Arc::clone(&drained);
        actix_web::rt::spawn(async move {
            tokio::select! {
                _ = interrupted.recv() => {}
                _ = terminated.recv() => {}
            }
            log::info!("shutting down: running requests finish, new ones are refused");
            notify_systemd(NotifyState::Stopping);
            let drain = async {
                drain(&draining, &handle).await;
                notify_drained.notify_one();
            };
            tokio::select! {
                () = drain => {}
                _ = interrupted.recv() => exit_now(),
                _ = terminated.recv() => exit_now(),
            }
        });
        tokio::select! {
            outcome = server => outcome?,
            () = drained.notified() => {}
        }
        maintenance.abort();
        drop(imports);
        // A file that is not served must not contain the words of deleted sessions.
        let removal = timeout(REMOVAL_TIMEOUT, app.store.complete_removal()).await;
        if !matches!(removal, Ok(Ok(()))) {
            log::warn!("words of deleted sessions stay in the search index until the next start");
        }
        if let Some(metrics) = metrics {
            // The metrics stop last, so that a monitor can observe the drain.
            metrics.stop(false).await;
        }
        log::info!("stopped");
        Ok(())
    })
}

/// The address at which other nodes reach this one: that of `--node-address`, else the one that the
/// server listens on, with the machine's name if it listens on all addresses.
fn node_address(flags: &ServerFlags, address: &ListenAddress) -> String {
    if let Some(address) = &flags.node_address {
        return address.clone();
    }
    match address {
        ListenAddress::Tcp(address) if address.ip().is_unspecified() => {
            let name = rustix::system::uname();
            let name = name.nodename().to_string_lossy();
            format!("{name}:{}", address.port())
        }
        ListenAddress::Tcp(address) => address.to_string(),
        ListenAddress::Unix(_) => String::new(),
    }
}

/// Reports the server's state to systemd, if systemd started the server.
fn notify_systemd(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        log::warn!("could not report the server's state to systemd: {error}");
    }
}

/// Waits for running answers and then for running requests, up to `--drain-seconds`.
async fn drain(app: &App, server: &ServerHandle) {
    let limit = Duration::from_secs(app.config.drain_seconds);
    let end = Instant::now() + limit;
    app.drain();
    app.engine.finish(limit).await;
    if let Some(deliverer) = &app.deliverer {
        // The answers that have ended in time are sent, under the node's lease.
        let rest = end.saturating_duration_since(Instant::now());
        deliverer.stop(rest.max(REQUEST_GRACE.min(limit))).await;
    }
    app.engine.leave().await;
    app.cut_off();
    let end = end.max(Instant::now() + REQUEST_GRACE.min(limit));
    if timeout_at(end, server.stop(true)).await.is_err() {
        log::warn!("some requests were cut off");
    }
}

/// Exits without waiting, at the second signal.
fn exit_now() -> ! {
    super::logging::finish();
    std::process::exit(1)
}

/// Cleans up expired data and indexes new messages, in the background.
async fn run_maintenance(app: Arc<App>) {
    let store = &app.store;
    match store.missing_in_search().await {
        Ok(0) => {}
        Ok(missing) => log::info!(
            "the search index is built again after the upgrade: {} to go; until then, a search may miss old messages",
            counted(missing, "message", "messages")
        ),
        Err(error) => log::warn!("the search index cannot be read: {error}"),
    }
    let mut clean_up = tokio::time::interval(CLEAN_UP_EVERY);
    let mut index = tokio::time::interval(INDEX_EVERY);
    loop {
        let outcome: crate::error::Result<()> = tokio::select! {
            _ = clean_up.tick() => {
                async {
                    let Some(_lock) = store.clean_up_lock().await? else {
                        return Ok(());
                    };
                    store.purge_idempotency_keys().await?;
                    store.purge_session_tokens().await?;
                    store.purge_sign_ins().await?;
                    store.purge_attachments().await?;
                    store.purge_teams().await?;
                    // Readers of their streams check again, and find them gone.
                    let signals = app.signals.clone();
                    let removed = store.purge_sessions(move |session| signals.announce(session)).await?;
                    if removed > 0 {
                        log::info!(
                            "removed {} idle for longer than the tenant's retention_days",
                            counted(removed, "session", "sessions")
                        );
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
            log::warn!("maintenance failed and will be retried: {error}");
        }
    }
}
