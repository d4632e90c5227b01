//! Lists of sessions: keyset ranges of indexes, filters and search.

use super::record;
use crate::error::Result;
use crate::model::ids::{ChannelId, Tick};
use crate::model::names::{AgentId, CompanyId, ExternalId, TenantNo};
use crate::model::session::{ListedSession, Metadata, Session, Snippet};
use crate::store::search;
use crate::store::sql::{Reader, params};
use crate::terms::{self, Phrase};

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
    /// The id of the person who talks in the session.
    pub end_user: Option<String>,
    /// The client's own id of the conversation.
    pub external_id: Option<ExternalId>,
    /// Pairs that the session's metadata has.
    pub metadata: Metadata,
}

/// A query with all filters, after those that its index answers.
macro_rules! narrowed {
    ($keys:expr, $order:literal) => {
        select_session!(concat!(
            $keys,
            " AND (?4 IS NULL OR s.agent_id = ?4)
              AND (?5 IS NULL OR s.channel_seq = ?5)
              AND (?6 IS NULL OR s.psa_company_id = ?6)
              AND (?7 IS NULL OR s.platform_tenant_no = ?7)
              AND (?8 IS NULL OR s.shared = 1 OR (s.created_by_kind = 'dashboard_user' AND s.created_by_id = ?8))
              AND (?10 IS NULL OR s.end_user_id = ?10)
              AND (?11 IS NULL OR s.external_id = ?11) ",
            $order
        ))
    };
}

/// The query of a range: the keys of its index, the scope, and the filters of other indexes.
macro_rules! range {
    ($keys:literal) => {
        narrowed!(
            concat!(
                "WHERE s.tenant_no = ?1 AND s.archived = ?2 AND s.seq < ?3 AND ",
                $keys
            ),
            "ORDER BY s.seq DESC LIMIT ?9"
        )
    };
}

const OF_TENANT: &str = range!("1 = 1");
const OF_PLATFORM: &str = range!("s.platform_tenant_no = ?7");
const OF_COMPANY: &str = range!("s.psa_company_id = ?6");
const OF_CHANNEL: &str = range!("s.channel_seq = ?5");
const OF_END_USER: &str = range!("s.end_user_id = ?10");
const OF_AGENT: &str = range!("s.agent_id = ?4");
const OF_USER: &str = range!("s.created_by_kind = 'dashboard_user' AND s.created_by_id = ?8");
const SHARED: &str = range!("s.shared = 1");
const OF_EXTERNAL_ARCHIVED: &str = narrowed!(
    "WHERE s.tenant_no = ?1 AND s.external_id = ?11 AND s.archived_at IS NOT NULL AND +s.archived = ?2 AND s.seq < ?3",
    "ORDER BY s.seq DESC LIMIT ?9"
);
/// There are as many rows as accounts that have given the id. The pluses keep the engines from the
/// order of other indexes.
const OF_EXTERNAL_OPEN: &str = narrowed!(
    "WHERE s.tenant_no = ?1 AND s.external_id = ?11 AND s.archived_at IS NULL AND +s.archived = ?2 AND +s.seq < ?3",
    "ORDER BY +s.seq DESC LIMIT ?9"
);
const OF_METADATA: &str = narrowed!(
    "JOIN session_metadata m ON m.session_seq = s.seq
     WHERE m.tenant_no = ?1 AND m.key = ?12 AND m.value = ?13 AND m.archived = ?2 AND m.session_seq < ?3",
    "ORDER BY m.session_seq DESC LIMIT ?9"
);

/// The index and the SQL of each range, for the test of the query plans.
pub const RANGES: &[(&str, &str)] = &[
    ("sessions_newest", OF_TENANT),
    ("sessions_of_platform", OF_PLATFORM),
    ("sessions_of_company", OF_COMPANY),
    ("sessions_of_channel", OF_CHANNEL),
    ("sessions_of_end_user", OF_END_USER),
    ("sessions_of_agent", OF_AGENT),
    ("sessions_of_user", OF_USER),
    ("sessions_shared", SHARED),
    ("sessions_external_archived", OF_EXTERNAL_ARCHIVED),
];
/// The index and the SQL of the lists that are no range of an index of sessions.
pub const OTHERS: [(&str, &str); 2] = [
    ("sessions_external", OF_EXTERNAL_OPEN),
    ("session_metadata_newest", OF_METADATA),
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
        end_user,
        external_id,
        metadata,
    } = filter;
    let filters = [
        agent.is_some(),
        channel.is_some(),
        company.is_some(),
        end_user.is_some(),
        external_id.is_some(),
    ];
    let filters = filters.into_iter().filter(|is_set| *is_set).count() + metadata.len();
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
        _ if !filter.metadata.is_empty() => &[OF_METADATA],
        _ if filter.external_id.is_some() => &[OF_EXTERNAL_OPEN, OF_EXTERNAL_ARCHIVED],
        _ if filter.end_user.is_some() => &[OF_END_USER],
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
            let range = Range {
                sql,
                scope,
                filter,
                archived: *archived,
                limit,
            };
            found.extend(range.read(reader, before)?);
        }
    }
    found.sort_unstable_by_key(|session| std::cmp::Reverse(session.id.tick()));
    found.dedup_by_key(|session| session.id);
    found.truncate(limit);
    Ok(found)
}

/// Whether a session's metadata has all pairs of the filter.
fn has_pairs(session: &Session, filter: &SessionFilter) -> bool {
    let mut pairs = filter.metadata.iter();
    pairs.all(|(key, value)| session.metadata.get(key) == Some(value))
}

/// One range of an index.
struct Range<'a> {
    sql: &'static str,
    scope: &'a Scope,
    filter: &'a SessionFilter,
    archived: bool,
    limit: usize,
}

impl Range<'_> {
    /// The newest sessions of the range that are older than a tick.
    fn read(&self, reader: &Reader<'_>, before: Tick) -> Result<Vec<Session>> {
        let Some((key, value)) = self.filter.metadata.first_key_value() else {
            return self.part(reader, before, None);
        };
        // The index answers one pair. A page that lacks the others is followed by the next one.
        let (mut found, mut before) = (Vec::new(), before);
        loop {
            let part = self.part(reader, before, Some((key, value)))?;
            let last = part.last().filter(|_| part.len() == self.limit);
            let last = last.map(|session| session.id.tick());
            let matching = part.into_iter().filter(|one| has_pairs(one, self.filter));
            found.extend(matching);
            match last {
                Some(last) if found.len() < self.limit => before = last,
                Some(_) | None => return Ok(found),
            }
        }
    }

    fn part(
        &self,
        reader: &Reader<'_>,
        before: Tick,
        pair: Option<(&String, &String)>,
    ) -> Result<Vec<Session>> {
        let Self { scope, filter, .. } = self;
        let (tenant, home, user) = match scope {
            Scope::Tenant(tenant) => (tenant, None, None),
            Scope::Platform { acting, home } => (acting, Some(home), None),
            Scope::User { tenant, user } => (tenant, None, Some(user)),
        };
        let channel = filter.channel.map(|channel| channel.tick());
        macro_rules! all {
            ($($more:expr),*) => {
                reader.all(
                    self.sql,
                    params![
                        tenant, self.archived, before, filter.agent, channel, filter.company, home, user,
                        self.limit, filter.end_user, filter.external_id $(, $more)*
                    ],
                    record,
                )
            };
        }
        match pair {
            Some((key, value)) => all!(key, value),
            None => all!(),
        }
    }
}

const ONE_OF_SCOPE: &str = select_session!(
    "WHERE s.seq = ?3 AND s.tenant_no = ?1
       AND (?2 IS NULL OR s.archived = ?2)
       AND (?4 IS NULL OR s.agent_id = ?4)
       AND (?5 IS NULL OR s.channel_seq = ?5)
       AND (?6 IS NULL OR s.psa_company_id = ?6)
       AND (?7 IS NULL OR s.platform_tenant_no = ?7)
       AND (?8 IS NULL OR s.shared = 1 OR (s.created_by_kind = 'dashboard_user' AND s.created_by_id = ?8))
       AND (?9 IS NULL OR s.end_user_id = ?9)
       AND (?10 IS NULL OR s.external_id = ?10)"
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
                params![
                    tenant,
                    filter.archived,
                    one.session,
                    filter.agent,
                    channel,
                    filter.company,
                    home,
                    user,
                    filter.end_user,
                    filter.external_id,
                ],
                record,
            )?;
            let Some(session) = session.filter(|session| has_pairs(session, filter)) else {
                continue;
            };
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
