//! Where the database is: the URL of `--database`, TLS, and what every connection sets.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, Connection, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::errors::describe;
use super::refusals::{self, Facts};
use super::tls::{self, Trust};
use crate::store::OpenError;

/// How long an attempt to connect to one host may take, until the server accepts the role.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What every connection sets. A statement or a lock that takes longer is refused as `overloaded`.
/// A later change of the server's configuration does not turn `synchronous_commit` off.
/// A node that stands still within a change keeps its locks from the others for 10 s at most.
const SETTINGS: &str = "
SET application_name = 'switchboard';
SET client_min_messages = warning;
SET statement_timeout = '60s';
SET lock_timeout = '10s';
SET idle_in_transaction_session_timeout = '10s';
SET DateStyle = 'ISO';
SET standard_conforming_strings = on;
SELECT set_config('synchronous_commit', CASE s WHEN 'off' THEN 'on' ELSE s END, false)
FROM current_setting('synchronous_commit') s";

/// A database on a PostgreSQL server, as `--database` names it.
#[derive(Clone)]
pub struct Target {
    /// One configuration for each host, in the order of the URL.
    hosts: Vec<Config>,
    tls: MakeRustlsConnect,
    shown: String,
}

/// The URL without its password, for logs and messages.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// Why no host could be used: a sentence for the operator.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct ConnectError(String);

type Stream = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream;

impl Target {
    /// Whether this is the URL of a PostgreSQL database.
    pub fn is_url(text: &str) -> bool {
        text.starts_with("postgres://") || text.starts_with("postgresql://")
    }

    /// Parses a URL as libpq does, with `sslmode` up to `verify-full`, `sslrootcert`, and several
    /// hosts.
    ///
    /// # Errors
    /// A sentence for the operator. It never holds the password.
    pub fn parse(text: &str) -> Result<Self, OpenError> {
        let failed = |reason: String| OpenError(format!("--database: {reason}"));
        if !Self::is_url(text) {
            return Err(failed(
                "give a URL such as postgres://USER:PASSWORD@HOST:5432/DATABASE?sslmode=verify-full"
                    .to_owned(),
            ));
        }
        // A password may hold a question mark: the parameters begin after the name of the role.
        let name_end = text.find('@').unwrap_or_default();
        let (place, query) = match text[name_end..].find('?') {
            Some(at) => (&text[..name_end + at], &text[name_end + at + 1..]),
            None => (text, ""),
        };
        let (mut mode, mut roots) = (None, None);
        let mut others: Vec<&str> = Vec::new();
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let decoded = || percent_encoding::percent_decode_str(value).decode_utf8_lossy();
            match name {
                "sslmode" => mode = Some(decoded().into_owned()),
                "sslrootcert" => roots = Some(decoded().into_owned()),
                _ => others.push(parameter),
            }
        }
        let plain = match others.is_empty() {
            true => place.to_owned(),
            false => format!("{place}?{}", others.join("&")),
        };
        let config: Config = plain.parse().map_err(|error: tokio_postgres::Error| {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            failed(format!(
                "the URL is not valid: {}",
                cause.unwrap_or_else(|| error.to_string())
            ))
        })?;
        let (ssl, trust) = match (mode.as_deref(), &roots) {
            (None | Some("prefer" | "allow"), _) => (SslMode::Prefer, Trust::Any),
            (Some("disable"), _) => (SslMode::Disable, Trust::Any),
            (Some("require"), None) => (SslMode::Require, Trust::Any),
            (Some("require" | "verify-ca"), _) => (SslMode::Require, Trust::Chain),
            (Some("verify-full"), _) => (SslMode::Require, Trust::Name),
            (Some(other), _) => {
                return Err(failed(format!(
                    "sslmode={other} is not known; use disable, prefer, require, verify-ca or verify-full"
                )));
            }
        };
        if config.get_dbname().is_none() && config.get_user().is_none() {
            return Err(failed("the URL names no database".to_owned()));
        }
        let hosts = each_host(&config, ssl).map_err(failed)?;
        let tls = MakeRustlsConnect::new(tls::config(trust, roots.as_deref()).map_err(failed)?);
        let shown = shown(&hosts);
        Ok(Self { hosts, tls, shown })
    }

    /// Opens a connection. The returned future drives it.
    pub(super) async fn connect(
        &self,
    ) -> Result<(Client, impl Future<Output = ()> + Send + 'static), ConnectError> {
        let (client, connection) = self.connect_raw().await?;
        let driven = async move {
            if let Err(error) = connection.await {
                log::debug!("a connection to the database ended: {}", describe(&error));
            }
        };
        Ok((client, driven))
    }

    /// As [`Target::connect`], with the messages of the server, for the connection that listens.
    /// Hosts are tried in the order of the URL.
    pub(super) async fn connect_raw(
        &self,
    ) -> Result<(Client, Connection<Socket, Stream>), ConnectError> {
        let mut reasons = Vec::with_capacity(self.hosts.len());
        for config in &self.hosts {
            let limit = config.get_connect_timeout().copied();
            let attempt = config.connect(self.tls.clone());
            match timeout(limit.unwrap_or(CONNECT_TIMEOUT), attempt).await {
                Ok(Ok(connected)) => return Ok(connected),
                Ok(Err(error)) => reasons.push(refusals::explain(&error, config)),
                Err(_) => reasons.push(refusals::is_silent(config)),
            }
        }
        Err(ConnectError(reasons.join("; ")))
    }

    /// Sets up a connection.
    pub(super) async fn prepare(client: &Client) -> Result<(), tokio_postgres::Error> {
        client.batch_execute(SETTINGS).await
    }

    /// Refuses a server that cannot keep what it acknowledges, or that the role cannot use.
    pub(super) async fn check(&self, client: &Client, is_server: bool) -> Result<(), OpenError> {
        let failed = |reason: String| OpenError(format!("cannot use {self}: {reason}"));
        let facts = Facts::read(client).await;
        let facts = facts.map_err(|error| failed(self.explain(&error)))?;
        if let Some(refusal) = facts.refusal() {
            return Err(failed(refusal));
        }
        if is_server && !facts.has_fsync() {
            log::warn!(
                "{self}: fsync is off; a crash of the server's machine can lose or damage data"
            );
        }
        Ok(())
    }

    /// Why a statement failed at the start, and what to do.
    pub(super) fn explain(&self, error: &tokio_postgres::Error) -> String {
        match self.hosts.first() {
            Some(config) => refusals::explain(error, config),
            None => describe(error),
        }
    }
}

/// The configuration of each host of a URL: each is tried in turn, for a limited time, and the
/// reason of each failure is told.
fn each_host(config: &Config, ssl: SslMode) -> Result<Vec<Config>, String> {
    let (names, addresses) = (config.get_hosts(), config.get_hostaddrs());
    let ports = config.get_ports();
    let count = names.len().max(addresses.len());
    if count == 0 {
        return Err("the URL names no host".to_owned());
    }
    let is_each = |length: usize| length == 0 || length == count;
    if !is_each(names.len())
        || !is_each(addresses.len())
        || (ports.len() > 1 && !is_each(ports.len()))
    {
        return Err("the URL has another number of hosts than of addresses or ports".to_owned());
    }
    let one = |index: usize| {
        let mut host = of_all_hosts(config);
        host.ssl_mode(ssl);
        host.port(ports.get(index).or(ports.first()).copied().unwrap_or(5432));
        match names.get(index) {
            Some(Host::Tcp(name)) => {
                host.host(name);
            }
            // There is no TLS on a socket file.
            Some(Host::Unix(folder)) => {
                host.host_path(folder).ssl_mode(SslMode::Disable);
            }
            None => {}
        }
        if let Some(address) = addresses.get(index) {
            host.hostaddr(*address);
        }
        host
    };
    Ok((0..count).map(one).collect())
}

/// What the hosts of a URL share.
fn of_all_hosts(url: &Config) -> Config {
    let mut config = Config::new();
    if let Some(user) = url.get_user() {
        config.user(user);
    }
    if let Some(password) = url.get_password() {
        config.password(password);
    }
    if let Some(database) = url.get_dbname() {
        config.dbname(database);
    }
    if let Some(options) = url.get_options() {
        config.options(options);
    }
    config
        .connect_timeout(
            url.get_connect_timeout()
                .copied()
                .unwrap_or(CONNECT_TIMEOUT),
        )
        .tcp_user_timeout(Duration::from_secs(20))
        .keepalives_idle(Duration::from_secs(20))
        .keepalives_interval(Duration::from_secs(5))
        .keepalives_retries(3)
        .target_session_attrs(url.get_target_session_attrs())
        .channel_binding(url.get_channel_binding())
        .ssl_negotiation(url.get_ssl_negotiation());
    config
}

/// The URL without its password and its parameters. It is made of the parts of the URL that can be
/// shown, so that no spelling of the URL shows the password.
fn shown(hosts: &[Config]) -> String {
    let mut text = "postgres://".to_owned();
    let first = hosts.first();
    if let Some(user) = first.and_then(Config::get_user) {
        text.push_str(user);
        text.push('@');
    }
    let places: Vec<String> = hosts.iter().map(refusals::place).collect();
    text.push_str(&places.join(","));
    text.push('/');
    text.push_str(first.and_then(Config::get_dbname).unwrap_or_default());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_its_password() {
        for (url, expected) in [
            ("postgres://u:s3cret@h/db", "postgres://u@h/db"),
            (
                "postgres://u:s3c?ret@h/db?sslmode=disable",
                "postgres://u@h/db",
            ),
            (
                "postgres://u:s3c/ret@h1:1,h2:5432/db",
                "postgres://u@h1:1,h2/db",
            ),
            (
                "postgresql://h/db?password=s3cret&user=u",
                "postgres://u@h/db",
            ),
            (
                "postgres://u:s3cret@%2Frun%2Fpg:5433/db",
                "postgres://u@/run/pg:5433/db",
            ),
            (
                "postgres:///db?host=/run/pg&password=s3cret",
                "postgres:///run/pg/db",
            ),
        ] {
            assert_eq!(Target::parse(url).unwrap().to_string(), expected);
        }
    }

    #[test]
    fn a_url_that_cannot_be_used_is_told_without_its_password() {
        for url in [
            "mysql://u:s3cret@h/db",
            "postgres://u:s3cret@h:port/db",
            "postgres://u:s3cret@h/db?sslmode=maybe",
            "postgres://u:s3cret@h/db?sslrootcert=/does/not/exist&sslmode=verify-ca",
            "postgres://u:s3cret@h/db?nonsense=1",
            "postgres://u:s3cret@/db",
            "postgres://u:s3cret@h1:1,h2:2/db?port=3",
            "u:s3cret@h/db",
        ] {
            let error = Target::parse(url).unwrap_err().to_string();
            assert!(
                error.starts_with("--database: ") && !error.contains("s3cret"),
                "{error}"
            );
        }
    }
}
