//! Looks a data folder over: is the file whole, does it agree with itself, and who would be refused today.

use rusqlite::ErrorCode;

use crate::error::{Error, Result};
use crate::store::sql::Reader;
use crate::store::{health, tenants};

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// The file is not whole.
    pub damage: Vec<String>,
    /// It is whole and can be read, but its rows contradict each other.
    pub contradictions: Vec<String>,
    /// Chats that would be refused for want of a mapping.
    pub warnings: Vec<String>,
    /// Sessions in the file.
    pub sessions: i64,
    /// Messages in the file.
    pub messages: i64,
}

const INTEGRITY: &str = "PRAGMA integrity_check";
const FOREIGN_KEYS: &str = "PRAGMA foreign_key_check";
const COUNTS: &str = "SELECT (SELECT count(*) FROM sessions) AS sessions, (SELECT count(*) FROM messages) AS messages";

/// Rules that hold in every file, each with the rows that break it; the schema of any version lets them be asked.
const CONSISTENCY: &[(&str, &str)] = &[
    (
        "a session's message_count is not the number of its messages",
        "SELECT hex(s.id) AS what FROM sessions s
         WHERE s.message_count <> (SELECT count(*) FROM messages m WHERE m.session_seq = s.seq) LIMIT 20",
    ),
    (
        "a user's message has no turn",
        "SELECT hex(m.id) AS what FROM messages m LEFT JOIN turns t ON t.seq = m.turn_seq
         WHERE t.seq IS NULL OR t.session_seq <> m.session_seq LIMIT 20",
    ),
    (
        "a turn's message is missing",
        "SELECT hex(t.id) AS what FROM turns t
         WHERE NOT EXISTS (SELECT 1 FROM messages m WHERE m.session_seq = t.session_seq AND m.id = t.user_message_id) LIMIT 20",
    ),
    (
        "a turn belongs to another tenant than its session",
        "SELECT hex(t.id) AS what FROM turns t JOIN sessions s ON s.seq = t.session_seq WHERE s.tenant_no <> t.tenant_no LIMIT 20",
    ),
    (
        "a file's content is missing, or not of the size that is said of it",
        "SELECT hex(a.id) AS what FROM attachments a LEFT JOIN attachment_contents c ON c.attachment_seq = a.seq
         WHERE a.bytes IS DISTINCT FROM length(c.content) LIMIT 20",
    ),
    (
        "a file's message is missing, or another session's",
        "SELECT hex(a.id) AS what FROM attachments a LEFT JOIN messages m ON m.seq = a.message_seq
         WHERE a.message_seq IS NOT NULL AND m.session_seq IS DISTINCT FROM a.session_seq LIMIT 20",
    ),
    (
        "a tenant has no NEO_SUPPORT agent",
        "SELECT client_id AS what FROM tenants t
         WHERE NOT EXISTS (SELECT 1 FROM agents a WHERE a.tenant_no = t.tenant_no AND a.managed_agent_key = 'NEO_SUPPORT')",
    ),
    (
        "a living channel's agent is missing, another tenant's, or of another audience",
        "SELECT internal_name AS what FROM channels c
         WHERE deleted_at IS NULL AND NOT EXISTS (
           SELECT 1 FROM agents a WHERE a.agent_id = c.agent_id AND a.tenant_no = c.tenant_no AND a.audience = c.audience) LIMIT 20",
    ),
    (
        "an install does not agree with its channel",
        "SELECT hex(i.id) AS what FROM installs i JOIN channels c ON c.seq = i.channel_seq
         WHERE c.tenant_no <> i.tenant_no OR (c.deleted_at IS NULL AND c.bot_id IS DISTINCT FROM i.bot_id) OR c.audience <> 'END_USER' LIMIT 20",
    ),
    (
        "a pinned session has no company",
        "SELECT hex(id) AS what FROM sessions WHERE inbound_m365_tenant_id IS NOT NULL AND psa_company_id IS NULL LIMIT 20",
    ),
];

/// Looks at everything; long on a large file.
///
/// # Errors
/// The file cannot be read at all.
pub fn run(reader: &Reader<'_>) -> Result<Findings> {
    let mut findings = Findings {
        damage: damage(reader)?,
        contradictions: contradictions(reader)?,
        ..Findings::default()
    };
    for tenant in tenants::all(reader)? {
        let health = health::of_tenant(reader, tenant.no, usize::MAX)?;
        let warnings = health.messages();
        findings
            .warnings
            .extend(warnings.map(|message| format!("{}: {message}", tenant.client_id)));
    }
    (findings.sessions, findings.messages) = reader.one(COUNTS, (), |row| {
        Ok((row.get("sessions")?, row.get("messages")?))
    })?;
    Ok(findings)
}

/// What SQLite itself finds wrong with a file, of whatever version.
///
/// # Errors
/// The file cannot be read at all.
pub fn damage(reader: &Reader<'_>) -> Result<Vec<String>> {
    let mut damage: Vec<String> = reader.all(INTEGRITY, (), |row| row.get("integrity_check"))?;
    damage.retain(|line| line != "ok");
    Ok(damage)
}

/// The tables that say who answers, acting for whom and for which company, whose rows are to agree with their indexes: small ones
/// also in a large file.
const ROUTING: [&str; 7] = [
    "PRAGMA integrity_check('tenants')",
    "PRAGMA integrity_check('agents')",
    "PRAGMA integrity_check('end_companies')",
    "PRAGMA integrity_check('channels')",
    "PRAGMA integrity_check('installs')",
    "PRAGMA integrity_check('api_keys')",
    "PRAGMA integrity_check('users')",
];

/// What SQLite finds wrong with what requests are routed by; quick enough for every start.
///
/// # Errors
/// The file cannot be read at all.
pub fn routing_damage(reader: &Reader<'_>) -> Result<Vec<String>> {
    let mut damage: Vec<String> = Vec::new();
    for sql in ROUTING {
        damage.extend(reader.all::<String>(sql, (), |row| row.get("integrity_check"))?);
    }
    damage.retain(|line| line != "ok");
    Ok(damage)
}

/// Whether a file could not be read since it is damaged; where a disk fails, a backup would not help.
pub fn is_damage(error: &Error) -> bool {
    let Error::Internal(cause) = error else {
        return false;
    };
    let error = cause.downcast_ref::<rusqlite::Error>();
    error.and_then(rusqlite::Error::sqlite_error_code) == Some(ErrorCode::DatabaseCorrupt)
}

/// Where the rows of a whole file, of whatever version, contradict each other. A rule that a value does not let be asked is told
/// as one: it must not hide what the others find.
///
/// # Errors
/// The file cannot be read at all.
pub fn contradictions(reader: &Reader<'_>) -> Result<Vec<String>> {
    let orphans: Vec<String> = reader.all(FOREIGN_KEYS, (), |row| row.get("table"))?;
    let missing = |table| format!("a row of {table} refers to one that is missing");
    let mut found: Vec<String> = orphans.into_iter().map(missing).collect();
    for (rule, sql) in CONSISTENCY {
        match reader.all(sql, (), |row| row.get::<String>("what")) {
            Ok(broken) => found.extend(broken.iter().map(|what| format!("{rule}: {what}"))),
            Err(Error::Internal(cause)) => {
                found.push(format!("cannot tell whether {rule}: {cause}"));
            }
            Err(refused) => return Err(refused),
        }
    }
    Ok(found)
}
