//! Checks a database: damage, rows that contradict each other, and chats that would be refused.

use rusqlite::ErrorCode;

use crate::error::{Error, Result};
use crate::model::directory::DirectoryRule;
use crate::store::health::{self, Viewer};
use crate::store::sql::Reader;
use crate::store::tenants;

/// The results of a check.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Faults of the file, as SQLite reports them.
    pub damage: Vec<String>,
    /// Rows that contradict each other in a file without such faults.
    pub contradictions: Vec<String>,
    /// Chats that would be refused for lack of a mapping.
    pub warnings: Vec<String>,
    /// The number of sessions.
    pub sessions: i64,
    /// The number of messages.
    pub messages: i64,
}

const INTEGRITY: &str = "PRAGMA integrity_check";
const FOREIGN_KEYS: &str = "PRAGMA foreign_key_check";
const COUNTS: &str = "SELECT (SELECT count(*) FROM sessions) AS sessions, (SELECT count(*) FROM messages) AS messages";

/// Rules that hold in every database, each with a query for the rows that break it. The queries run
/// at every schema version.
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
        "an attachment's content is missing, or has another size than recorded",
        "SELECT hex(a.id) AS what FROM attachments a LEFT JOIN attachment_contents c ON c.attachment_seq = a.seq
         WHERE a.bytes IS DISTINCT FROM length(c.content) LIMIT 20",
    ),
    (
        "an attachment's message is missing, or belongs to another session",
        "SELECT hex(a.id) AS what FROM attachments a LEFT JOIN messages m ON m.seq = a.message_seq
         WHERE a.message_seq IS NOT NULL AND m.session_seq IS DISTINCT FROM a.session_seq LIMIT 20",
    ),
    (
        "a tenant has no NEO_SUPPORT agent",
        "SELECT client_id AS what FROM tenants t
         WHERE NOT EXISTS (SELECT 1 FROM agents a WHERE a.tenant_no = t.tenant_no AND a.managed_agent_key = 'NEO_SUPPORT')",
    ),
    (
        "a channel's agent is missing, belongs to another tenant, or has another audience",
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

/// The warning about a copy without its write-ahead log.
pub const LACKS_LOG: &str = "a server had this database open when it was copied, and the copy has no write-ahead log \
                             (switchboard.db-wal): the last changes before the copy may be missing, unless Litestream made it; \
                             'switchboard backup' makes a complete copy";

/// Checks everything. Takes long on a large database.
pub fn run(reader: &Reader<'_>) -> Result<Findings> {
    let mut findings = Findings {
        damage: damage(reader)?,
        contradictions: contradictions(reader)?,
        ..Findings::default()
    };
    for tenant in tenants::all(reader)? {
        let health = health::of_tenant(
            reader,
            tenant.no,
            usize::MAX,
            DirectoryRule::Guid,
            Viewer::Operator,
        )?;
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

/// The faults that SQLite finds in a file, at any schema version.
pub fn damage(reader: &Reader<'_>) -> Result<Vec<String>> {
    let mut damage: Vec<String> = reader.all(INTEGRITY, (), |row| row.get("integrity_check"))?;
    damage.retain(|line| line != "ok");
    Ok(damage)
}

/// Checks of the tables by which requests are routed, including that their rows agree with their
/// indexes. These tables are small even in a large database.
const ROUTING: [&str; 8] = [
    "PRAGMA integrity_check('tenants')",
    "PRAGMA integrity_check('agents')",
    "PRAGMA integrity_check('end_companies')",
    "PRAGMA integrity_check('company_directories')",
    "PRAGMA integrity_check('channels')",
    "PRAGMA integrity_check('installs')",
    "PRAGMA integrity_check('api_keys')",
    "PRAGMA integrity_check('users')",
];

/// The faults that SQLite finds in the tables by which requests are routed. Quick enough for every
/// start.
pub fn routing_damage(reader: &Reader<'_>) -> Result<Vec<String>> {
    let mut damage: Vec<String> = Vec::new();
    for sql in ROUTING {
        damage.extend(reader.all::<String>(sql, (), |row| row.get("integrity_check"))?);
    }
    damage.retain(|line| line != "ok");
    Ok(damage)
}

/// Whether an error means that the file is damaged. If the disk fails instead, a backup would not
/// help.
pub fn is_damage(error: &Error) -> bool {
    let Error::Internal(cause) = error else {
        return false;
    };
    let error = cause.downcast_ref::<rusqlite::Error>();
    error.and_then(rusqlite::Error::sqlite_error_code) == Some(ErrorCode::DatabaseCorrupt)
}

/// Rows that contradict each other, at any schema version. A rule that an invalid value makes
/// unanswerable counts as a finding, so that it does not hide those of the other rules.
pub fn contradictions(reader: &Reader<'_>) -> Result<Vec<String>> {
    let orphans: Vec<String> = reader.all(FOREIGN_KEYS, (), |row| row.get("table"))?;
    let missing = |table| format!("a row of {table} refers to a missing row");
    let mut found: Vec<String> = orphans.into_iter().map(missing).collect();
    for (rule, sql) in CONSISTENCY {
        match reader.all(sql, (), |row| row.get::<String>("what")) {
            Ok(broken) => found.extend(broken.iter().map(|what| format!("{rule}: {what}"))),
            Err(Error::Internal(cause)) => {
                found.push(format!("cannot check whether {rule}: {cause}"));
            }
            Err(refused) => return Err(refused),
        }
    }
    Ok(found)
}
