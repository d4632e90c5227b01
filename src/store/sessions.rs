//! Sessions: created, listed by keyset ranges, changed, and deleted with their dependent rows.

use super::sql::{Reader, Row, params};
use super::{WriteTx, idempotency, removal, search, search_index};
use crate::error::{Code, Error, Result};
use crate::model::caller::{Actor, Caller, Reach};
use crate::model::clock::{Millis, Timestamp};
use crate::model::ids::{ChannelId, SessionId, Tick};
use crate::model::names::{AgentId, CompanyId, M365TenantId, TenantNo};
use crate::model::session::{
    Decision, ListedSession, Metadata, Session, SessionInternals, Snippet,
};
use crate::model::tenant::Tenant;
use crate::model::words::{Rule, SessionChannel};
use crate::resolver::Company;
use crate::terms::{self, Phrase};

macro_rules! select {
    ($rest:expr) => {
        concat!(
            "SELECT s.created_at AS created_at, s.channel_id AS channel_id, s.id AS id, s.agent_id AS agent_id, \
             t.client_id AS client_id, s.channel AS channel, s.title AS title, s.archived_at AS archived_at, \
             s.updated_at AS updated_at, s.show_agent_progress_steps AS show_agent_progress_steps, \
             s.psa_company_id AS psa_company_id, s.created_by_kind AS created_by_kind, s.created_by_id AS created_by_id, \
             s.created_by_name AS created_by_name, s.shared AS shared, s.message_count AS message_count, \
             s.metadata AS metadata, s.rule AS rule, s.tenant_no AS tenant_no, s.platform_tenant_no AS platform_tenant_no, \
             s.company_seq AS company_seq, s.inbound_m365_tenant_id AS inbound_m365_tenant_id, \
             t.rate_limit_per_minute AS rate_limit_per_minute \
             FROM sessions s JOIN tenants t ON t.tenant_no = s.tenant_no ",
            $rest
        )
    };
}

fn record(row: &Row<'_>) -> Result<Session> {
    let created_at = Timestamp(row.get("created_at")?);
    let channel_id = row.get("channel_id")?;
    Ok(Session {
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
        end_company_id: row.get("psa_company_id")?,
        created_by: Actor {
            kind: row.get("created_by_kind")?,
            id: row.get("created_by_id")?,
            name: row.get("created_by_name")?,
        },
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
        },
    })
}

const BY_ID: &str = select!("WHERE s.seq = ?1 AND s.id = ?2");

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
    /// The client's metadata.
    pub metadata: Metadata,
    /// The metadata as JSON, serialized outside the writer.
    pub metadata_json: String,
}

const INSERT: &str = "
INSERT INTO sessions (seq, id, tenant_no, agent_id, channel, title, show_agent_progress_steps, channel_seq, channel_id, psa_company_id,
                      inbound_m365_tenant_id, rule, created_by_kind, created_by_id, created_by_name, platform_tenant_no, metadata,
                      company_seq, created_at, updated_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?19)";

impl NewSession {
    /// The session as it is created.
    pub(super) fn into_session(self, id: SessionId, now: Millis) -> Session {
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
            end_company_id,
            created_by: self.created_by,
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
            },
        }
    }
}

/// Creates a session. Without a title, this is one statement.
pub fn insert(tx: &mut WriteTx<'_>, mut new: NewSession) -> Result<Session> {
    let id: SessionId = tx.new_id()?;
    let now = tx.now();
    let metadata = std::mem::take(&mut new.metadata_json);
    let session = new.into_session(id, now);
    let internals = &session.internals;
    tx.execute(
        INSERT,
        params![
            id.tick(),
            id,
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
            now,
        ],
    )?;
    if let Some(title) = &session.title {
        search_index::add_title(tx, internals.tenant, id.tick(), title)?;
    }
    Ok(session)
}

/// The sessions that a caller can list.
#[derive(Clone, Debug)]
pub enum Scope {
    /// All sessions of a tenant.
    Tenant(TenantNo),
    /// The sessions that accounts of a platform tenant created in another tenant.
    Platform {
        /// The tenant that the sessions act for.
        acting: TenantNo,
        /// The home tenant of the accounts.
        home: TenantNo,
    },
    /// A user's own sessions and the shared ones of other users.
    User {
        /// The user's tenant.
        tenant: TenantNo,
        /// The user's id.
        user: String,
    },
}

/// The filters of a list of sessions.
#[derive(Clone, Debug, Default)]
pub struct SessionFilter {
    /// Whether the session is archived; none for both.
    pub archived: Option<bool>,
    /// The agent that answers.
    pub agent: Option<AgentId>,
    /// The channel that the session was routed by.
    pub channel: Option<ChannelId>,
    /// The company that the session is pinned to.
    pub company: Option<CompanyId>,
}

/// The query of a range: the keys of its index, the scope, and the filters of other indexes.
macro_rules! range {
    ($keys:literal) => {
        select!(concat!(
            "WHERE s.tenant_no = ?1 AND s.archived = ?2 AND s.seq < ?3 AND ",
            $keys,
            " AND (?4 IS NULL OR s.agent_id = ?4)
              AND (?5 IS NULL OR s.channel_seq = ?5)
              AND (?6 IS NULL OR s.psa_company_id = ?6)
              AND (?7 IS NULL OR s.platform_tenant_no = ?7)
              AND (?8 IS NULL OR s.shared = 1 OR (s.created_by_kind = 'dashboard_user' AND s.created_by_id = ?8))
              ORDER BY s.seq DESC LIMIT ?9"
        ))
    };
}

const OF_TENANT: &str = range!("1 = 1");
const OF_PLATFORM: &str = range!("s.platform_tenant_no = ?7");
const OF_COMPANY: &str = range!("s.psa_company_id = ?6");
const OF_CHANNEL: &str = range!("s.channel_seq = ?5");
const OF_AGENT: &str = range!("s.agent_id = ?4");
const OF_USER: &str = range!("s.created_by_kind = 'dashboard_user' AND s.created_by_id = ?8");
const SHARED: &str = range!("s.shared = 1");

/// The index and the SQL of each range, for the test of the query plans.
pub const RANGES: &[(&str, &str)] = &[
    ("sessions_newest", OF_TENANT),
    ("sessions_of_platform", OF_PLATFORM),
    ("sessions_of_company", OF_COMPANY),
    ("sessions_of_channel", OF_CHANNEL),
    ("sessions_of_agent", OF_AGENT),
    ("sessions_of_user", OF_USER),
    ("sessions_shared", SHARED),
];

/// Whether one index answers a list, so that a page reads no more rows than it returns. Otherwise
/// it may pass over any number of rows.
///
/// An index for each combination of filters would cost every new session more than these lists are
/// worth.
pub fn is_indexed(scope: &Scope, filter: &SessionFilter) -> bool {
    let SessionFilter {
        archived: _,
        agent,
        channel,
        company,
    } = filter;
    let filters = [agent.is_some(), channel.is_some(), company.is_some()];
    let filters = filters.into_iter().filter(|is_set| *is_set).count();
    match scope {
        Scope::Tenant(_) => filters <= 1,
        Scope::Platform { .. } | Scope::User { .. } => filters == 0,
    }
}

/// A page of sessions older than a tick, newest first.
///
/// A page merges one or more index ranges, each read newest first.
pub fn page(
    reader: &Reader<'_>,
    scope: &Scope,
    filter: &SessionFilter,
    before: Tick,
    limit: usize,
) -> Result<Vec<Session>> {
    let ranges: &[&str] = match scope {
        _ if filter.company.is_some() => &[OF_COMPANY],
        _ if filter.channel.is_some() => &[OF_CHANNEL],
        Scope::User { .. } => &[OF_USER, SHARED],
        Scope::Platform { .. } => &[OF_PLATFORM],
        Scope::Tenant(_) if filter.agent.is_some() => &[OF_AGENT],
        Scope::Tenant(_) => &[OF_TENANT],
    };
    let archived: &[bool] = match filter.archived {
        Some(true) => &[true],
        Some(false) => &[false],
        None => &[false, true],
    };
    let mut found: Vec<Session> = Vec::new();
    for sql in ranges {
        for archived in archived {
            found.extend(range(reader, sql, scope, filter, *archived, before, limit)?);
        }
    }
    found.sort_unstable_by_key(|session| std::cmp::Reverse(session.id.tick()));
    found.dedup_by_key(|session| session.id);
    found.truncate(limit);
    Ok(found)
}

fn range(
    reader: &Reader<'_>,
    sql: &str,
    scope: &Scope,
    filter: &SessionFilter,
    archived: bool,
    before: Tick,
    limit: usize,
) -> Result<Vec<Session>> {
    let (tenant, home, user) = match scope {
        Scope::Tenant(tenant) => (tenant, None, None),
        Scope::Platform { acting, home } => (acting, Some(home), None),
        Scope::User { tenant, user } => (tenant, None, Some(user)),
    };
    let channel = filter.channel.map(|channel| channel.tick());
    reader.all(
        sql,
        params![
            tenant,
            archived,
            before,
            filter.agent,
            channel,
            filter.company,
            home,
            user,
            limit
        ],
        record,
    )
}

const ONE_OF_SCOPE: &str = select!(
    "WHERE s.seq = ?3 AND s.tenant_no = ?1
       AND (?2 IS NULL OR s.archived = ?2)
       AND (?4 IS NULL OR s.agent_id = ?4)
       AND (?5 IS NULL OR s.channel_seq = ?5)
       AND (?6 IS NULL OR s.psa_company_id = ?6)
       AND (?7 IS NULL OR s.platform_tenant_no = ?7)
       AND (?8 IS NULL OR s.shared = 1 OR (s.created_by_kind = 'dashboard_user' AND s.created_by_id = ?8))"
);

/// A page of the sessions whose titles and messages contain all of these phrases, newest first.
pub fn search_page(
    reader: &Reader<'_>,
    scope: &Scope,
    filter: &SessionFilter,
    phrases: &[Phrase],
    before: Tick,
    limit: usize,
) -> Result<Vec<ListedSession>> {
    let (tenant, home, user) = match scope {
        Scope::Tenant(tenant) => (*tenant, None, None),
        Scope::Platform { acting, home } => (*acting, Some(home), None),
        Scope::User { tenant, user } => (*tenant, None, Some(user)),
    };
    let channel = filter.channel.map(|channel| channel.tick());
    let mut found = Vec::new();
    let mut search = search::SessionSearch::new(reader, tenant, phrases, before)?;
    while let Some(matches) = search.step()? {
        for one in matches.filter(|one| one.session < before) {
            let session = reader.optional(
                ONE_OF_SCOPE,
                (
                    tenant,
                    filter.archived,
                    one.session,
                    filter.agent,
                    channel,
                    &filter.company,
                    home,
                    user,
                ),
                record,
            )?;
            let Some(session) = session else { continue };
            found.push(ListedSession {
                session,
                snippet: Some(snippet(reader, one.message, phrases)?),
            });
            if found.len() == limit {
                return Ok(found);
            }
        }
    }
    Ok(found)
}

/// The characters of a message in which a snippet is looked for.
const SNIPPET_SOURCE_CHARS: usize = 65_536;
const SNIPPET_SOURCE: &str =
    "SELECT id, substr(content, 1, CAST(?2 AS INTEGER)) AS content FROM messages WHERE seq = ?1";

fn snippet(
    reader: &Reader<'_>,
    message: Option<Tick>,
    phrases: &[Phrase],
) -> Result<Option<Snippet>> {
    let Some(message) = message else {
        return Ok(None);
    };
    reader.optional(SNIPPET_SOURCE, (message, SNIPPET_SOURCE_CHARS), |row| {
        let message_id = row.get("id")?;
        let content: String = row.get("content")?;
        let terms::Snippet { text, marks } = terms::snippet(&content, phrases);
        Ok(Snippet {
            message_id,
            text,
            marks,
        })
    })
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

const UPDATE: &str = "
UPDATE sessions SET title = ?2, archived = ?3, archived_at = ?4, shared = ?5, metadata = ?6, updated_at = ?7 WHERE seq = ?1";

/// Changes a session. Returns the session after the change.
///
/// # Errors
/// `not_found` if the session no longer exists.
pub fn change(tx: &mut WriteTx<'_>, id: SessionId, change: SessionChange) -> Result<Session> {
    let mut session = by_id(tx.reader(), id)?.ok_or(Code::NotFound)?;
    let now = Timestamp(tx.now());
    if let Some(title) = change.title {
        search_index::replace_title(
            tx,
            session.internals.tenant,
            id.tick(),
            session.title.as_deref(),
            title.as_deref(),
        )?;
        session.title = title;
    }
    match change.archived {
        Some(true) => session.archived_at = session.archived_at.or(Some(now)),
        Some(false) => session.archived_at = None,
        None => {}
    }
    session.shared = change.shared.unwrap_or(session.shared);
    session.metadata = change.metadata.unwrap_or(session.metadata);
    session.updated_at = now;
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
    search_index::replace_title(tx, tenant, id.tick(), session.title.as_deref(), None)?;
    removal::queue(tx, tenant, id.tick())?;
    idempotency::clear_session(tx, id)?;
    tx.execute(DELETE, (id.tick(), id)).map(drop)
}
