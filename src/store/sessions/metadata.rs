//! The pairs of a session's metadata as rows of their own, which the filter of the list reads.

use crate::error::Result;
use crate::model::session::Session;
use crate::store::WriteTx;

const ADD: &str = "
INSERT INTO session_metadata (session_seq, key, value, tenant_no, archived) VALUES (?1, ?2, ?3, ?4, ?5)";
const REMOVE: &str = "DELETE FROM session_metadata WHERE session_seq = ?1";
const SET_ARCHIVED: &str = "UPDATE session_metadata SET archived = ?2 WHERE session_seq = ?1";

/// Adds the pairs of a new session.
pub(super) fn add(tx: &WriteTx<'_>, session: &Session) -> Result<()> {
    let (seq, tenant) = (session.id.tick(), session.internals.tenant);
    let archived = session.archived_at.is_some();
    for (key, value) in &session.metadata {
        tx.execute(ADD, (seq, key, value, tenant, archived))?;
    }
    Ok(())
}

/// Makes the pairs those of a session that was changed.
pub(super) fn update(tx: &WriteTx<'_>, before: &Session, session: &Session) -> Result<()> {
    let (seq, archived) = (session.id.tick(), session.archived_at.is_some());
    if before.metadata != session.metadata {
        tx.execute(REMOVE, [seq])?;
        return add(tx, session);
    }
    if before.archived_at.is_some() != archived && !session.metadata.is_empty() {
        tx.execute(SET_ARCHIVED, (seq, archived))?;
    }
    Ok(())
}
