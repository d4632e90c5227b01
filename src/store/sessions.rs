//! Sessions: created, changed, and deleted with their dependent rows.

use std::borrow::Cow;

use super::sql::{Reader, Row, params};
use super::{WriteTx, idempotency, removal, search_index};
use crate::error::{Code, Error, Refusal, Result};
use crate::model::caller::{Actor, Caller, Reach};
use crate::model::clock::{Millis, Timestamp};
use crate::model::ids::{ChannelId, SessionId};
use crate::model::names::{AgentId, ExternalId, M365TenantId, TenantNo};
use crate::model::session::{Decision, EndUser, ExternalCall, Metadata, Session, SessionInternals};
use crate::model::tenant::Tenant;
use crate::model::words::{Rule, SessionChannel};
use crate::resolver::{Company, Resolution};

macro_rules! select_session {
    ($rest:expr) => {
        concat!(
            "SELECT s.created_at AS created_at, s.channel_id AS channel_id, s.id AS id, s.agent_id AS agent_id, \
             t.client_id AS client_id, s.channel AS channel, s.title AS title, s.archived_at AS archived_at, \
             s.updated_at AS updated_at, s.show_agent_progress_steps AS show_agent_progress_steps, \
             s.psa_company_id AS psa_company_id, s.created_by_kind AS created_by_kind, s.created_by_id AS created_by_id, \
             s.created_by_name AS created_by_name, s.shared AS shared, s.message_count AS message_count, \
             s.metadata AS metadata, s.rule AS rule, s.tenant_no AS tenant_no, s.platform_tenant_no AS platform_tenant_no, \
             s.company_seq AS company_seq, s.inbound_m365_tenant_id AS inbound_m365_tenant_id, \
             t.rate_limit_per_minute AS rate_limit_per_minute, c.relay_prefix AS relay_prefix, \
             s.external_id AS external_id, s.external_bot_id AS external_bot_id, \
             s.external_m365_tenant_id AS external_m365_tenant_id, s.end_user_id AS end_user_id, \
             s.end_user_name AS end_user_name, s.end_user_email AS end_user_email \
             FROM sessions s JOIN tenants t ON t.tenant_no = s.tenant_no LEFT JOIN channels c ON c.seq = s.channel_seq ",
            $rest
        )
    };
}

mod lists;
mod metadata;

pub use self::lists::{OTHERS, RANGES, Scope, SessionFilter, is_indexed, page, search_page};

fn record(row: &Row<'_>) -> Result<Session> {
    let created_at = Timestamp(row.get("created_at")?);
    let channel_id = row.get("channel_id")?;
    let mut session = Session {
        id: row.get("id")?,
        agent_id: row.get("agent_id")?,
        client_id: row.get("client_id")?,
        channel: row.get("channel")?,
        title: row.get("title")?,
        archived_at: row.get::<Option<i64>>("archived_at")?.map(Timestamp),
        created_at,
        updated_at: Timestamp(row.get("updated_at")?),
        show_agent_progress_steps: row.get("show_agent_progress_steps")?,
        channel_id,
        relay_prefix: row.get("relay_prefix")?,
        end_company_id: row.get("psa_company_id")?,
        created_by: Actor {
            kind: row.get("created_by_kind")?,
            id: row.get("created_by_id")?,
            name: row.get("created_by_name")?,
        },
        external_id: None,
        end_user: None,
        shared: row.get("shared")?,
        message_count: row.get("message_count")?,
        metadata: row.json("metadata")?,
        resolution: Decision {
            rule: row.get("rule")?,
            channel_id,
            decided_at: created_at,
        },
        internals: SessionInternals {
            tenant: row.get("tenant_no")?,
            rate_limit_per_minute: row.get("rate_limit_per_minute")?,
            platform_tenant: row.get("platform_tenant_no")?,
            company: row.get("company_seq")?,
            pinned_by: row.get("inbound_m365_tenant_id")?,
            external_call: ExternalCall::default(),
        },
    };
    session.external_id = row.get("external_id")?;
    if session.external_id.is_some() {
        session.internals.external_call = ExternalCall {
            bot: row.get("external_bot_id")?,
            directory: row.get("external_m365_tenant_id")?,
        };
    }
    if let Some(id) = row.get("end_user_id")? {
        session.end_user = Some(EndUser {
            id,
            name: row.get("end_user_name")?,
            email: row.get("end_user_email")?,
        });
    }
    Ok(session)
}

/// What the search index has of a session itself: the title and the name of the person.
fn heading(session: &Session) -> Option<Cow<'_, str>> {
    let name = session
        .end_user
        .as_ref()
        .and_then(|user| user.name.as_deref());
    search_index::heading(session.title.as_deref(), name)
}

const BY_ID: &str = select_session!("WHERE s.seq = ?1 AND s.id = ?2");

/// The session with this id, of any tenant.
pub fn by_id(reader: &Reader<'_>, id: SessionId) -> Result<Option<Session>> {
    reader.optional(BY_ID, (id.tick(), id), record)
}

/// The session with this id, if the caller may go as far with it as `need`.
///
/// # Errors
/// `not_found` for a session that does not exist, and for one that the caller may not see;
/// `forbidden` for one that the caller may only read.
pub fn within_reach(
    reader: &Reader<'_>,
    caller: &Caller,
    id: SessionId,
    need: Reach,
) -> Result<Session> {
    let session = by_id(reader, id)?.ok_or(Code::NotFound)?;
    match caller.reach(&session.facts()) {
        Reach::None => Err(Code::NotFound.into()),
        reach if reach < need => Err(Code::Forbidden.into()),
        Reach::Read | Reach::Write | Reach::Own => Ok(session),
    }
}

const TENANT_OF: &str = "SELECT tenant_no FROM sessions WHERE seq = ?1 AND id = ?2";

/// The tenant that a session acts for.
///
/// # Errors
/// `not_found` if the session no longer exists.
pub fn tenant_of(reader: &Reader<'_>, id: SessionId) -> Result<TenantNo> {
    let found = reader.optional(TENANT_OF, (id.tick(), id), |row| row.get("tenant_no"))?;
    found.ok_or_else(|| Code::NotFound.into())
}

/// A session to create.
#[derive(Clone, Debug)]
pub struct NewSession {
    /// The tenant that the session acts for.
    pub tenant: Tenant,
    /// The agent that answers.
    pub agent_id: AgentId,
    /// The kind of channel that the session comes from.
    pub channel: SessionChannel,
    /// The title.
    pub title: Option<String>,
    /// Whether clients show the agent's progress.
    pub show_agent_progress_steps: bool,
    /// The channel that the session was routed by.
    pub channel_id: Option<ChannelId>,
    /// That channel's prefix of the relay's messages. The session's row does not store it.
    pub relay_prefix: Option<String>,
    /// The company that the session is pinned to.
    pub company: Option<Company>,
    /// The M365 tenant that the session is pinned by.
    pub pinned_by: Option<M365TenantId>,
    /// The resolver's rule that decided.
    pub rule: Rule,
    /// The account that creates the session.
    pub created_by: Actor,
    /// The home tenant of that account, if it is a platform account.
    pub platform_tenant: Option<TenantNo>,
    /// The client's own id of the conversation, and what its call asked for.
    pub external: Option<(ExternalId, ExternalCall)>,
    /// The person who talks in the session.
    pub end_user: Option<EndUser>,
    /// The client's metadata.
    pub metadata: Metadata,
    /// The metadata as JSON, serialized outside the writer.
    pub metadata_json: String,
}

macro_rules! insert_session {
    ($rest:expr) => {
        concat!(
            "
INSERT INTO sessions (seq, id, tenant_no, agent_id, channel, title, show_agent_progress_steps, channel_seq, channel_id, psa_company_id,
                      inbound_m365_tenant_id, rule, created_by_kind, created_by_id, created_by_name, platform_tenant_no, metadata,
                      company_seq, created_at, updated_at, external_id, external_bot_id, external_m365_tenant_id,
                      end_user_id, end_user_name, end_user_email)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?19, ?20, ?21, ?22, ?23, ?24, ?25)",
            $rest
        )
    };
}

const INSERT: &str = insert_session!("");
/// The unique index decides between two calls that arrive at once.
const INSERT_UNLESS_TAKEN: &str = insert_session!(
    " ON CONFLICT (tenant_no, external_id, created_by_kind, created_by_id) WHERE external_id IS NOT NULL AND archived_at IS NULL DO NOTHING"
);

impl NewSession {
    /// A session as the resolver has decided it, of nobody and without a text of its own.
    pub fn of(resolution: Resolution, channel: SessionChannel, created_by: Actor) -> Self {
        let routed = resolution.channel;
        Self {
            agent_id: resolution.agent.id,
            channel,
            title: None,
            show_agent_progress_steps: (routed.as_ref())
                .is_none_or(|channel| channel.show_agent_progress_steps),
            channel_id: routed.as_ref().map(|channel| channel.id),
            relay_prefix: routed.and_then(|channel| channel.relay_prefix),
            tenant: resolution.tenant,
            company: resolution.company,
            pinned_by: resolution.pinned_by,
            rule: resolution.rule,
            created_by,
            platform_tenant: None,
            external: None,
            end_user: None,
            metadata: Metadata::new(),
            metadata_json: "{}".to_owned(),
        }
    }

    /// Whether the session is a row that nothing refers to and that no other can be in the way of.
    pub fn is_plain(&self) -> bool {
        let has_more = self.external.is_some() || self.end_user.is_some();
        self.title.is_none() && self.metadata.is_empty() && !has_more
    }

    /// The session as it is created.
    pub(super) fn into_session(self, id: SessionId, now: Millis) -> Session {
        let (external_id, external_call) = match self.external {
            Some((id, call)) => (Some(id), call),
            None => (None, ExternalCall::default()),
        };
        let (end_company_id, company) = match self.company {
            Some(company) => (Some(company.id), Some(company.row)),
            None => (None, None),
        };
        let now = Timestamp(now);
        Session {
            id,
            agent_id: self.agent_id,
            client_id: self.tenant.client_id,
            channel: self.channel,
            title: self.title,
            archived_at: None,
            created_at: now,
            updated_at: now,
            show_agent_progress_steps: self.show_agent_progress_steps,
            channel_id: self.channel_id,
            relay_prefix: self.relay_prefix,
            end_company_id,
            created_by: self.created_by,
            external_id,
            end_user: self.end_user,
            shared: false,
            message_count: 0,
            metadata: self.metadata,
            resolution: Decision {
                rule: self.rule,
                channel_id: self.channel_id,
                decided_at: now,
            },
            internals: SessionInternals {
                tenant: self.tenant.no,
                rate_limit_per_minute: self.tenant.rate_limit_per_minute,
                platform_tenant: self.platform_tenant,
                company,
                pinned_by: self.pinned_by,
                external_call,
            },
        }
    }
}

/// Creates a session.
///
/// # Errors
/// `already_exists` if the account has an open session with the external id in the tenant.
pub fn insert(tx: &mut WriteTx<'_>, new: NewSession) -> Result<Session> {
    match insert_or_find(tx, new)? {
        (session, Origin::New) => Ok(session),
        (open, Origin::Same | Origin::Other) => Err(taken(&open).into()),
    }
}

/// Where the session of a create comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The create made it.
    New,
    /// It is the account's open session with the external id, and the create is about the same
    /// conversation and was decided in the same way.
    Same,
    /// It is the account's open session with the external id, of another conversation.
    Other,
}

/// How often an insertion is tried that finds the external id taken by a session that is archived
/// in the same moment.
const ATTEMPTS: usize = 3;

/// Creates a session, unless the account has an open one with the same external id in the tenant. Of
/// two concurrent calls, one creates the session and the other one finds it.
///
/// The creation of a plain session is one statement.
pub fn insert_or_find(tx: &mut WriteTx<'_>, mut new: NewSession) -> Result<(Session, Origin)> {
    let id: SessionId = tx.new_id()?;
    let json = std::mem::take(&mut new.metadata_json);
    let asked = new.into_session(id, tx.now());
    for _ in 0..ATTEMPTS {
        if insert_row(tx, &asked, &json)? {
            if let Some(heading) = heading(&asked) {
                search_index::add_title(tx, asked.internals.tenant, id.tick(), &heading)?;
            }
            metadata::add(tx, &asked)?;
            return Ok((asked, Origin::New));
        }
        if let Some(found) = found(tx.reader(), &asked)? {
            return Ok(found);
        }
    }
    Err(Code::Overloaded.into())
}

/// Stores the row of a session. Returns false if its external id is taken.
fn insert_row(tx: &WriteTx<'_>, session: &Session, metadata: &str) -> Result<bool> {
    let internals = &session.internals;
    let user = session.end_user.as_ref();
    let sql = match session.external_id {
        Some(_) => INSERT_UNLESS_TAKEN,
        None => INSERT,
    };
    let rows = tx.execute(
        sql,
        params![
            session.id.tick(),
            session.id,
            internals.tenant,
            session.agent_id,
            session.channel,
            session.title,
            session.show_agent_progress_steps,
            session.channel_id.map(|channel| channel.tick()),
            session.channel_id,
            session.end_company_id,
            internals.pinned_by,
            session.resolution.rule,
            session.created_by.kind,
            session.created_by.id,
            session.created_by.name,
            internals.platform_tenant,
            metadata,
            internals.company,
            session.created_at.0,
            session.external_id,
            internals.external_call.bot,
            internals.external_call.directory,
            user.map(|user| &user.id),
            user.and_then(|user| user.name.as_ref()),
            user.and_then(|user| user.email.as_ref()),
        ],
    )?;
    Ok(rows > 0)
}

/// The SQL that finds the open session of an account. A test reads the query plan.
pub const OPEN: &str = select_session!(
    "WHERE s.tenant_no = ?1 AND s.external_id = ?2 AND s.archived_at IS NULL AND s.created_by_kind = ?3 AND s.created_by_id = ?4"
);

/// The open session that has the tenant, the external id and the account of this one.
fn open_twin(reader: &Reader<'_>, session: &Session) -> Result<Option<Session>> {
    let Some(id) = &session.external_id else {
        return Ok(None);
    };
    let (tenant, account) = (session.internals.tenant, &session.created_by);
    reader.optional(OPEN, (tenant, id, account.kind, &account.id), record)
}

fn found(reader: &Reader<'_>, asked: &Session) -> Result<Option<(Session, Origin)>> {
    let open = open_twin(reader, asked)?;
    Ok(open.map(|open| match open.is_same_conversation(asked) {
        true => (open, Origin::Same),
        false => (open, Origin::Other),
    }))
}

/// The open session that [`insert_or_find`] would find.
pub fn find_open(reader: &Reader<'_>, new: NewSession) -> Result<Option<(Session, Origin)>> {
    // Only what the two have in common is compared, which is neither the id nor the time.
    let asked = new.into_session(SessionId::from_bytes([0; 16]), 0);
    found(reader, &asked)
}

/// The refusal of an external id that an open session has.
pub fn taken(open: &Session) -> Refusal {
    Refusal::new(Code::AlreadyExists)
        .saying("An open session of this account has this external_id already. Use that session, archive it first, or send if_exists: return.")
        .with("field", "external_id")
        .with("session_id", open.id.to_string())
}

/// The changes of a PATCH. `None` keeps a field.
#[derive(Clone, Debug, Default)]
pub struct SessionChange {
    /// The new title; `Some(None)` removes the title.
    pub title: Option<Option<String>>,
    /// Whether the session is archived.
    pub archived: Option<bool>,
    /// Whether the tenant's other users may read the session.
    pub shared: Option<bool>,
    /// The client's metadata.
    pub metadata: Option<Metadata>,
}

/// The refusal to open a session again whose external id another open session has.
fn reopened_too_late(open: &Session) -> Refusal {
    Refusal::new(Code::AlreadyExists)
        .saying("Another open session has the external_id of this one. Archive that session first.")
        .with("field", "archived")
        .with("session_id", open.id.to_string())
}

const UPDATE: &str = "
UPDATE sessions SET title = ?2, archived = ?3, archived_at = ?4, shared = ?5, metadata = ?6, updated_at = ?7 WHERE seq = ?1";

/// Changes a session. Returns the session after the change.
///
/// # Errors
/// `not_found` if the session no longer exists; `already_exists` if another open session has the
/// external id of a session that is to be open again.
pub fn change(tx: &mut WriteTx<'_>, id: SessionId, change: SessionChange) -> Result<Session> {
    let mut session = by_id(tx.reader(), id)?.ok_or(Code::NotFound)?;
    let (before, now) = (session.clone(), Timestamp(tx.now()));
    if let Some(title) = change.title {
        session.title = title;
        replace_heading(tx, &before, &session)?;
    }
    match change.archived {
        Some(true) => session.archived_at = session.archived_at.or(Some(now)),
        Some(false) if session.archived_at.is_some() => {
            if let Some(open) = open_twin(tx.reader(), &session)? {
                return Err(reopened_too_late(&open).into());
            }
            session.archived_at = None;
        }
        Some(false) => {}
        None => {}
    }
    session.shared = change.shared.unwrap_or(session.shared);
    session.metadata = change.metadata.unwrap_or(session.metadata);
    session.updated_at = now;
    metadata::update(tx, &before, &session)?;
    let metadata =
        serde_json::to_string(&session.metadata).map_err(|error| Error::Internal(error.into()))?;
    tx.execute(
        UPDATE,
        (
            id.tick(),
            &session.title,
            session.archived_at.is_some(),
            session.archived_at.map(|at| at.0),
            session.shared,
            metadata,
            now.0,
        ),
    )?;
    Ok(session)
}

fn replace_heading(tx: &WriteTx<'_>, before: &Session, session: &Session) -> Result<()> {
    let (tenant, seq) = (session.internals.tenant, session.id.tick());
    let (before, after) = (heading(before), heading(session));
    search_index::replace_title(tx, tenant, seq, before.as_deref(), after.as_deref())
}

const SET_END_USER: &str = "
UPDATE sessions SET end_user_id = ?2, end_user_name = ?3, end_user_email = ?4, updated_at = ?5 WHERE seq = ?1";

/// Names the person who talks in a session that has none. Returns the session.
///
/// # Errors
/// `not_found` if the session no longer exists.
pub fn fill_end_user(tx: &mut WriteTx<'_>, id: SessionId, user: EndUser) -> Result<Session> {
    let mut session = by_id(tx.reader(), id)?.ok_or(Code::NotFound)?;
    if session.end_user.is_some() {
        return Ok(session);
    }
    let before = session.clone();
    session.updated_at = Timestamp(tx.now());
    let row = (id.tick(), &user.id, &user.name, &user.email, tx.now());
    tx.execute(SET_END_USER, row)?;
    session.end_user = Some(user);
    replace_heading(tx, &before, &session)?;
    Ok(session)
}

const DELETE: &str = "DELETE FROM sessions WHERE seq = ?1 AND id = ?2";

/// Deletes a session and its tokens. Its messages, turns and files are no longer found, and are
/// removed later ([`Store::complete_removal`](super::Store::complete_removal)).
///
/// # Errors
/// `not_found` if the session no longer exists.
pub fn delete(tx: &mut WriteTx<'_>, id: SessionId) -> Result<()> {
    tx.lock_session(id.tick())?;
    let session = by_id(tx.reader(), id)?.ok_or(Code::NotFound)?;
    let tenant = session.internals.tenant;
    search_index::replace_title(tx, tenant, id.tick(), heading(&session).as_deref(), None)?;
    removal::queue(tx, tenant, id.tick())?;
    idempotency::clear_session(tx, id)?;
    tx.execute(DELETE, (id.tick(), id)).map(drop)
}
