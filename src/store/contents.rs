//! What a file holds: how much of each, and how new it is.

use super::sql::Reader;
use crate::error::Result;
use crate::model::clock::Millis;

/// What a file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    /// Tenants (MSPs).
    pub tenants: i64,
    /// Their API keys, ended ones too.
    pub api_keys: i64,
    /// Their client companies.
    pub end_companies: i64,
    /// Their channels, deleted ones too.
    pub channels: i64,
    /// Their knowledge articles.
    pub knowledge_articles: i64,
    /// Chat sessions.
    pub sessions: i64,
    /// The sessions' messages.
    pub messages: i64,
    /// The sessions' files.
    pub attachments: i64,
    /// When the newest session was made.
    pub newest_session: Option<Millis>,
    /// When the newest message was.
    pub newest_message: Option<Millis>,
    /// When the newest change of the configuration was recorded.
    pub newest_audit_event: Option<Millis>,
}

const CONTENTS: &str = "
SELECT (SELECT count(*) FROM tenants) AS tenants,
       (SELECT count(*) FROM api_keys) AS api_keys,
       (SELECT count(*) FROM end_companies) AS end_companies,
       (SELECT count(*) FROM channels) AS channels,
       (SELECT count(*) FROM knowledge_articles) AS knowledge_articles,
       (SELECT count(*) FROM sessions) AS sessions,
       (SELECT count(*) FROM messages) AS messages,
       (SELECT count(*) FROM attachments) AS attachments,
       (SELECT created_at FROM sessions ORDER BY seq DESC LIMIT 1) AS newest_session,
       (SELECT created_at FROM messages ORDER BY seq DESC LIMIT 1) AS newest_message,
       (SELECT created_at FROM audit_events ORDER BY seq DESC LIMIT 1) AS newest_audit_event";

/// Counts everything; long on a large file.
///
/// # Errors
/// The file cannot be read.
pub fn of(reader: &Reader<'_>) -> Result<Contents> {
    reader.one(CONTENTS, (), |row| {
        Ok(Contents {
            tenants: row.get("tenants")?,
            api_keys: row.get("api_keys")?,
            end_companies: row.get("end_companies")?,
            channels: row.get("channels")?,
            knowledge_articles: row.get("knowledge_articles")?,
            sessions: row.get("sessions")?,
            messages: row.get("messages")?,
            attachments: row.get("attachments")?,
            newest_session: row.get("newest_session")?,
            newest_message: row.get("newest_message")?,
            newest_audit_event: row.get("newest_audit_event")?,
        })
    })
}
