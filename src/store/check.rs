//! Checks a database: damage, rows that contradict each other, and chats that would be refused.

use super::health::{self, Viewer};
use super::sql::Reader;
use super::{Store, consistency, postgres, sqlite, tenants};
use crate::error::Result;
use crate::model::directory::DirectoryRule;

/// The results of a check.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Faults of the database's files, as the engine reports them.
    pub damage: Vec<String>,
    /// Rows that contradict each other in a database without such faults.
    pub contradictions: Vec<String>,
    /// Chats that would be refused for lack of a mapping.
    pub warnings: Vec<String>,
    /// What was not checked, and how to have it checked.
    pub skipped: Vec<String>,
    /// The number of sessions.
    pub sessions: i64,
    /// The number of messages.
    pub messages: i64,
}

const COUNTS: &str = "SELECT (SELECT count(*) FROM sessions) AS sessions, (SELECT count(*) FROM messages) AS messages";

/// Checks everything. Takes long on a large database.
pub fn run(store: &Store) -> Result<Findings> {
    if store.node().is_none() {
        return store.read_now(|reader| {
            let findings = Findings {
                damage: sqlite::check::damage(reader)?,
                contradictions: sqlite::check::contradictions(reader)?,
                ..Findings::default()
            };
            with_mappings(reader, findings)
        });
    }
    let mut findings = Findings::default();
    (findings.damage, findings.skipped) = postgres::damage(store)?;
    store.read_now(|reader| {
        postgres::take_time(reader)?;
        findings.contradictions = postgres::unchecked_references(reader)?;
        findings.contradictions.extend(consistency::broken(reader)?);
        with_mappings(reader, findings)
    })
}

/// Adds what the rows say themselves.
fn with_mappings(reader: &Reader<'_>, mut findings: Findings) -> Result<Findings> {
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
