//! A model's thoughts: who sees them, and which models begin their answers within one (contract,
//! section 13, Reasoning).

use super::sql::Reader;
use super::{WriteTx, agents, channels, sessions};
use crate::error::Result;
use crate::model::caller::{Caller, Who};
use crate::model::ids::SessionId;
use crate::model::session::Session;
use crate::model::words::{Audience, Rule};
use crate::resolver::Channel;

/// Whether a caller sees the thoughts in a session.
pub fn are_shown(reader: &Reader<'_>, caller: &Caller, session: &Session) -> Result<bool> {
    let is_technician = match &caller.who {
        Who::ServiceAccount { .. } | Who::DashboardUser { .. } => true,
        Who::EndUserSession { .. } => false,
    };
    are_shown_to(reader, is_technician, session)
}

/// Whether anybody sees the thoughts in a session, so that they are stored with its answers.
pub fn are_kept(reader: &Reader<'_>, session: SessionId) -> Result<bool> {
    match sessions::by_id(reader, session)? {
        Some(session) => are_shown_to(reader, true, &session),
        None => Ok(false),
    }
}

fn are_shown_to(reader: &Reader<'_>, is_technician: bool, session: &Session) -> Result<bool> {
    let channel = match session.channel_id {
        Some(channel) => channels::facts_of(reader, channel)?,
        None => None,
    };
    // The session has the channel's setting of its beginning.
    let is_quiet = |channel: &Channel| !channel.show_agent_progress_steps;
    if !session.show_agent_progress_steps || channel.as_ref().is_some_and(is_quiet) {
        return Ok(false);
    }
    if is_technician && !is_white_label(session, channel.as_ref()) {
        return Ok(true);
    }
    agents::shows_reasoning(reader, session.internals.tenant, session.agent_id)
}

/// Whether a session is a client company's: pinned or tried as one, or reached through an
/// `END_USER` channel.
fn is_white_label(session: &Session, channel: Option<&Channel>) -> bool {
    session.end_company_id.is_some()
        || session.resolution.rule == Rule::WhiteLabelInstall
        || (session.channel_id.is_some()
            && channel.is_none_or(|channel| channel.audience == Audience::EndUser))
}

/// A model of a server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ModelName {
    /// The URL that answers.
    pub endpoint: String,
    /// The model's name there.
    pub model: String,
}

const IS_UNOPENED: &str = "SELECT 1 FROM unopened_models WHERE endpoint = ?1 AND model = ?2";

/// Whether a model's answers are known to begin within a thought.
pub fn is_unopened(reader: &Reader<'_>, name: &ModelName) -> Result<bool> {
    let found = reader.optional(IS_UNOPENED, (&name.endpoint, &name.model), |_| Ok(()))?;
    Ok(found.is_some())
}

const LEARN: &str = "
INSERT INTO unopened_models (endpoint, model, learned_at) VALUES (?1, ?2, ?3) ON CONFLICT (endpoint, model) DO NOTHING";

/// Records that a model's answers begin within a thought.
pub fn learn_unopened(tx: &mut WriteTx<'_>, name: &ModelName) -> Result<()> {
    let now = tx.now();
    tx.execute(LEARN, (&name.endpoint, &name.model, now))
        .map(drop)
}

const UNLEARN: &str = "DELETE FROM unopened_models WHERE endpoint = ?1 AND model = ?2";

/// Records that a model's answers no longer begin within a thought.
pub fn unlearn_unopened(tx: &mut WriteTx<'_>, name: &ModelName) -> Result<()> {
    tx.execute(UNLEARN, (&name.endpoint, &name.model)).map(drop)
}
