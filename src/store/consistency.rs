//! Rules that hold in every database, and the rows that break them.

use super::sql::{FromValue, Reader, Value};
use crate::error::{Error, Result};

/// Each rule with a query for the rows that break it. The queries run at every schema version.
const RULES: &[(&str, &str)] = &[
    (
        // Several answers to one question count once.
        "a session's message_count is not the number of its messages",
        "SELECT s.id AS what FROM sessions s
         WHERE s.message_count <> (
           SELECT count(CASE WHEN m.role = 'user' THEN 1 END) + count(DISTINCT CASE WHEN m.role = 'assistant' THEN t.user_message_id END)
           FROM messages m LEFT JOIN turns t ON t.seq = m.turn_seq WHERE m.session_seq = s.seq) LIMIT 20",
    ),
    (
        "a user's message has no turn",
        "SELECT m.id AS what FROM messages m LEFT JOIN turns t ON t.seq = m.turn_seq
         WHERE t.seq IS NULL OR t.session_seq <> m.session_seq LIMIT 20",
    ),
    (
        "a turn's message is missing",
        "SELECT t.id AS what FROM turns t
         WHERE NOT EXISTS (SELECT 1 FROM messages m WHERE m.session_seq = t.session_seq AND m.id = t.user_message_id) LIMIT 20",
    ),
    (
        "a turn belongs to another tenant than its session",
        "SELECT t.id AS what FROM turns t JOIN sessions s ON s.seq = t.session_seq WHERE s.tenant_no <> t.tenant_no LIMIT 20",
    ),
    (
        "an attachment's content is missing, or has another size than recorded",
        "SELECT a.id AS what FROM attachments a LEFT JOIN attachment_contents c ON c.attachment_seq = a.seq
         WHERE a.bytes IS DISTINCT FROM octet_length(c.content) LIMIT 20",
    ),
    (
        "an attachment's message is missing, or belongs to another session",
        "SELECT a.id AS what FROM attachments a LEFT JOIN messages m ON m.seq = a.message_seq
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
        "SELECT i.id AS what FROM installs i JOIN channels c ON c.seq = i.channel_seq
         WHERE c.tenant_no <> i.tenant_no OR (c.deleted_at IS NULL AND c.bot_id IS DISTINCT FROM i.bot_id) OR c.audience <> 'END_USER' LIMIT 20",
    ),
    (
        "a pinned session has no company",
        "SELECT id AS what FROM sessions WHERE inbound_m365_tenant_id IS NOT NULL AND psa_company_id IS NULL LIMIT 20",
    ),
];

/// What names a row: its name, or its id in hexadecimal digits.
struct What(String);

impl FromValue for What {
    fn from_value(value: Value<'_>) -> Option<Self> {
        match value {
            Value::Text(name) => Some(Self(name.to_owned())),
            Value::Blob(id) => Some(Self(id.iter().map(|byte| format!("{byte:02X}")).collect())),
            Value::Null(_) | Value::Integer(_) => None,
        }
    }
}

/// The rows that break a rule. A rule that an invalid value makes unanswerable counts as a finding,
/// so that it does not hide those of the other rules.
pub(super) fn broken(reader: &Reader<'_>) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for (rule, sql) in RULES {
        match reader.all(sql, (), |row| row.get::<What>("what")) {
            Ok(broken) => found.extend(broken.iter().map(|what| format!("{rule}: {}", what.0))),
            Err(Error::Internal(cause)) => {
                found.push(format!("cannot check whether {rule}: {cause}"));
            }
            Err(refused) => return Err(refused),
        }
    }
    Ok(found)
}
