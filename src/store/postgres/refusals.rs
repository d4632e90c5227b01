//! Why a server cannot be used, in sentences that say what to do about it.

use std::error::Error as _;
use std::io;

use rustls::CertificateError;
use tokio_postgres::config::Host;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config};

use super::errors::describe;

/// The oldest version of the server, as `server_version_num` spells it.
const OLDEST_SERVER: i32 = 150_000;

/// What a connection sees of its server, its database and its role.
const FACTS: &str = "
SELECT CAST(current_setting('server_version_num') AS integer) AS version, current_setting('server_version') AS shown_version,
       current_setting('synchronous_commit') AS synchronous_commit, current_setting('fsync') AS fsync,
       current_setting('server_encoding') AS encoding, pg_is_in_recovery() AS is_standby,
       current_setting('default_transaction_read_only') AS read_only, current_user::text AS role,
       coalesce(current_schema()::text, '') AS schema_name,
       coalesce(has_schema_privilege(current_schema(), 'CREATE') AND has_schema_privilege(current_schema(), 'USAGE'), false) AS may_create";

/// What decides whether a server, a database and a role can be used.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    version: i32,
    shown_version: String,
    synchronous_commit: String,
    fsync: String,
    encoding: String,
    is_standby: bool,
    read_only: String,
    role: String,
    schema: String,
    may_create: bool,
}

impl Facts {
    /// Asks the server.
    pub(super) async fn read(client: &Client) -> Result<Self, tokio_postgres::Error> {
        let row = client.query_one(FACTS, &[]).await?;
        Ok(Self {
            version: row.try_get("version")?,
            shown_version: row.try_get("shown_version")?,
            synchronous_commit: row.try_get("synchronous_commit")?,
            fsync: row.try_get("fsync")?,
            encoding: row.try_get("encoding")?,
            is_standby: row.try_get("is_standby")?,
            read_only: row.try_get("read_only")?,
            role: row.try_get("role")?,
            schema: row.try_get("schema_name")?,
            may_create: row.try_get("may_create")?,
        })
    }

    /// Whether the server asks its disk to keep what it has written.
    pub(super) fn has_fsync(&self) -> bool {
        self.fsync != "off"
    }

    /// Why this server cannot be used: it would lose or change what it acknowledges, or it lets the
    /// role change nothing.
    pub(super) fn refusal(&self) -> Option<String> {
        if self.version < OLDEST_SERVER {
            return Some(format!(
                "the server is PostgreSQL {}; use version 15 or later",
                self.shown_version
            ));
        }
        if self.is_standby {
            return Some(
                "the server is a standby, which takes no changes; name the primary, or all hosts and target_session_attrs=read-write".to_owned(),
            );
        }
        if self.read_only == "on" {
            return Some(
                "the database takes no changes; set default_transaction_read_only to off"
                    .to_owned(),
            );
        }
        if self.synchronous_commit == "off" {
            return Some(
                "synchronous_commit is off, so that a crash would lose acknowledged changes; set it to on for the server, the database and the role".to_owned(),
            );
        }
        if self.encoding != "UTF8" {
            return Some(format!(
                "the database has the encoding {}; create one with: CREATE DATABASE name ENCODING 'UTF8' TEMPLATE template0",
                self.encoding
            ));
        }
        if !self.may_create {
            let (role, schema) = (&self.role, &self.schema);
            let schema = if schema.is_empty() { "public" } else { schema };
            return Some(format!(
                "the role {role} may not create tables; let it own the database, or run: GRANT USAGE, CREATE ON SCHEMA {schema} TO {role}"
            ));
        }
        None
    }
}

/// Where a host is, as a URL names it: the port is left out if it is the usual one.
pub(super) fn place(config: &Config) -> String {
    let port = config.get_ports().first().copied().unwrap_or(5432);
    let name = match (config.get_hosts().first(), config.get_hostaddrs().first()) {
        (Some(Host::Tcp(name)), _) if name.contains(':') => format!("[{name}]"),
        (Some(Host::Tcp(name)), _) => name.clone(),
        (Some(Host::Unix(folder)), _) => folder.display().to_string(),
        (None, Some(address)) => address.to_string(),
        (None, None) => String::new(),
    };
    match port {
        5432 => name,
        port => format!("{name}:{port}"),
    }
}

/// Why a host is given up that has not answered in time.
pub(super) fn is_silent(config: &Config) -> String {
    format!(
        "{} does not answer as PostgreSQL does; correct the host and the port, or let this machine through the firewall",
        place(config)
    )
}

/// Why a connection or its first statement failed, and what to do.
pub(super) fn explain(error: &tokio_postgres::Error, config: &Config) -> String {
    let place = place(config);
    if let Some(told) = error.as_db_error() {
        let told = (told.code(), told.message());
        return explain_refusal(told, config).unwrap_or_else(|| describe(error));
    }
    let cause = error.source();
    if error.to_string().starts_with("error parsing response") {
        return not_postgres(&place);
    }
    if let Some(failure) = cause.and_then(|cause| cause.downcast_ref::<io::Error>()) {
        return explain_io(failure, &place, config);
    }
    match cause.map(ToString::to_string).as_deref() {
        Some("server does not support TLS") => format!(
            "the server at {place} has no TLS; set ssl = on there, or use sslmode=disable if you trust the network"
        ),
        Some("password missing") => format!(
            "the server at {place} asks for a password; give it in SWITCHBOARD_DATABASE or in the file of --database-file"
        ),
        _ if error.is_closed() || cause.is_none() => not_postgres(&place),
        _ => format!("{place}: {}", describe(error)),
    }
}

fn not_postgres(place: &str) -> String {
    format!("{place} does not speak PostgreSQL's protocol; correct the host and the port")
}

/// What the server refused, by its code and its message.
fn explain_refusal((code, message): (&SqlState, &str), config: &Config) -> Option<String> {
    let database = config.get_dbname().or(config.get_user()).unwrap_or("name");
    let role = config.get_user().unwrap_or("role");
    let what_to_do = if *code == SqlState::INVALID_PASSWORD {
        "correct the password in the URL".to_owned()
    } else if *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION {
        "create the role, or let it in with a line of pg_hba.conf on the server".to_owned()
    } else if *code == SqlState::INVALID_CATALOG_NAME {
        format!(
            "create it with: CREATE DATABASE {database} OWNER {role} ENCODING 'UTF8' TEMPLATE template0"
        )
    } else if *code == SqlState::INSUFFICIENT_PRIVILEGE {
        format!("let the role {role} own the database {database} and its tables")
    } else if *code == SqlState::TOO_MANY_CONNECTIONS {
        "raise max_connections of the server, or lower --database-connections".to_owned()
    } else if *code == SqlState::CANNOT_CONNECT_NOW {
        "try again when the server is up".to_owned()
    } else {
        return None;
    };
    Some(format!("{message}; {what_to_do}"))
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "what is not explained is told as the system tells it"
)]
fn explain_io(failure: &io::Error, place: &str, config: &Config) -> String {
    if let Some(tls) = failure
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>())
    {
        return explain_tls(tls, place);
    }
    match failure.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => {
            format!("no server listens at {place}; start it, or correct the host and the port")
        }
        io::ErrorKind::TimedOut => is_silent(config),
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::InvalidData
        | io::ErrorKind::InvalidInput
        | io::ErrorKind::ConnectionReset => not_postgres(place),
        io::ErrorKind::PermissionDenied if failure.get_ref().is_some() => {
            format!("{place} is a standby or takes no changes; name the primary among the hosts")
        }
        _ if failure.to_string() == "bytes remaining on stream" => not_postgres(place),
        _ if failure.to_string().contains("lookup address") => {
            format!("the name of the host {place} is not known; correct the URL")
        }
        _ => format!("{place}: {failure}"),
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "what is not explained is told as the library tells it"
)]
fn explain_tls(error: &rustls::Error, place: &str) -> String {
    let rustls::Error::InvalidCertificate(problem) = error else {
        return match error {
            rustls::Error::InvalidMessage(_) => not_postgres(place),
            other => format!("TLS with {place} fails: {other}"),
        };
    };
    match problem {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => format!(
            "the certificate of {place} is of an unknown CA; name the file with its CA's certificate in sslrootcert"
        ),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!(
                "the certificate of {place} is for another name; use a name that the certificate has, or sslmode=verify-ca"
            )
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            format!("the certificate of {place} has expired; renew it")
        }
        other => format!("the certificate of {place} is not valid: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            version: 150_000,
            shown_version: "15.0".to_owned(),
            synchronous_commit: "on".to_owned(),
            fsync: "on".to_owned(),
            encoding: "UTF8".to_owned(),
            is_standby: false,
            read_only: "off".to_owned(),
            role: "switchboard".to_owned(),
            schema: "public".to_owned(),
            may_create: true,
        }
    }

    #[test]
    fn a_server_older_than_15_is_refused_with_its_version() {
        let old = Facts {
            version: 140_019,
            shown_version: "14.19 (Debian 14.19-1)".to_owned(),
            ..facts()
        };
        assert_eq!(
            old.refusal().unwrap(),
            "the server is PostgreSQL 14.19 (Debian 14.19-1); use version 15 or later"
        );
        for version in [150_000, 150_018, 180_000] {
            let new = Facts { version, ..facts() };
            assert_eq!(new.refusal(), None);
        }
    }

    #[test]
    fn every_setting_that_keeps_acknowledged_changes_is_taken() {
        for setting in ["on", "local", "remote_write", "remote_apply"] {
            let synchronous_commit = setting.to_owned();
            let safe = Facts {
                synchronous_commit,
                ..facts()
            };
            assert_eq!(safe.refusal(), None);
        }
    }
}
