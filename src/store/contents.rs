//! Counts what a database holds, and how recent it is.

use super::sql::Reader;
use crate::error::Result;
use crate::model::clock::Millis;

/// The counts and the newest times of a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    /// Tenants (MSPs).
    pub tenants: i64,
    /// API keys, including expired and revoked ones.
    pub api_keys: i64,
    /// Client companies.
    pub end_companies: i64,
    /// Channels, including deleted ones.
    pub channels: i64,
    /// Knowledge articles.
    pub knowledge_articles: i64,
    /// Chat sessions.
    pub sessions: i64,
    /// Messages.
    pub messages: i64,
    /// Attachments.
    pub attachments: i64,
    /// When the newest session was created.
    pub newest_session: Option<Millis>,
    /// When the newest message was stored.
    pub newest_message: Option<Millis>,
    /// When the newest audit event was recorded.
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

/// Counts everything. Takes long on a large database.
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
