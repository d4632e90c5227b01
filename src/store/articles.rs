//! Knowledge articles: their records, their rules, and which of them a session may see.

use schemars::JsonSchema;
use serde::Serialize;

use super::rules::{Violation, refuse};
use super::sql::{Keyset, Reader, Row, Rows, params};
use super::{WriteTx, agents, companies, idempotency};
use crate::error::{Code, Error, Refusal, Result};
use crate::input::draft::ArticleDraft;
use crate::model::clock::Timestamp;
use crate::model::ids::{ArticleId, Tick};
use crate::model::names::{AgentId, CompanyId, CompanyRow, TenantNo};
use crate::model::words::Audience;

/// A knowledge article as the API returns it (contract, section 6).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ArticleRecord {
    /// The article's id.
    pub id: ArticleId,
    /// The article's title.
    pub title: String,
    /// The article's text, in Markdown.
    pub body: String,
    /// The address of the article's page.
    pub url: Option<String>,
    /// The people who may see the article.
    pub audience: Audience,
    /// The company that the article is for; null: all companies.
    pub end_company_id: Option<CompanyId>,
    /// The agents that use the article; empty: all agents.
    pub agent_ids: Vec<AgentId>,
    /// The time of creation.
    pub created_at: Timestamp,
    /// The time of the last change.
    pub updated_at: Timestamp,
}

impl ArticleRecord {
    /// A new article with the defaults of its fields. The default audience is MSP, which shows the
    /// article to the fewest people.
    pub fn fresh(id: ArticleId, title: String) -> Self {
        Self {
            id,
            title,
            body: String::new(),
            url: None,
            audience: Audience::Msp,
            end_company_id: None,
            agent_ids: Vec::new(),
            created_at: Timestamp(0),
            updated_at: Timestamp(0),
        }
    }

    /// The article with the draft's fields.
    #[must_use]
    pub fn changed(&self, draft: &ArticleDraft) -> Self {
        let (draft, before) = (draft.clone(), self.clone());
        Self {
            id: before.id,
            title: draft.title.over(before.title.clone(), before.title),
            body: draft.body.over(before.body.clone(), before.body),
            url: draft.url.over_optional(before.url),
            audience: draft.audience.over(before.audience, Audience::Msp),
            end_company_id: draft.end_company_id.over_optional(before.end_company_id),
            agent_ids: draft.agent_ids.over(before.agent_ids, Vec::new()),
            created_at: before.created_at,
            updated_at: before.updated_at,
        }
    }
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, title, body, url, audience, psa_company_id, agent_ids, created_at, updated_at FROM knowledge_articles ",
            $rest
        )
    };
}

fn record(row: &Row<'_>) -> Result<ArticleRecord> {
    let agent_ids: Vec<i64> = row.json("agent_ids")?;
    Ok(ArticleRecord {
        id: row.get("id")?,
        title: row.get("title")?,
        body: row.get("body")?,
        url: row.get("url")?,
        audience: row.get("audience")?,
        end_company_id: row.get("psa_company_id")?,
        agent_ids: agent_ids.into_iter().map(AgentId).collect(),
        created_at: Timestamp(row.get("created_at")?),
        updated_at: Timestamp(row.get("updated_at")?),
    })
}

const ALL: &str = select!("WHERE tenant_no = ?1 ORDER BY seq");

/// All articles of a tenant, oldest first.
pub fn all(reader: &Reader<'_>, tenant: TenantNo) -> Result<Vec<ArticleRecord>> {
    reader.all(ALL, [tenant], record)
}

const BY_ID: &str = select!("WHERE seq = ?1 AND id = ?2 AND tenant_no = ?3");

/// The tenant's article of this id.
pub fn by_id(
    reader: &Reader<'_>,
    tenant: TenantNo,
    id: ArticleId,
) -> Result<Option<ArticleRecord>> {
    reader.optional(BY_ID, (id.tick(), id, tenant), record)
}

/// The filter of a list of articles. Each field that is set narrows the list.
#[derive(Clone, Debug, Default)]
pub struct ArticleFilter {
    /// Articles for this audience.
    pub audience: Option<Audience>,
    /// Articles for this company only.
    pub company: Option<CompanyId>,
    /// Articles that this agent uses.
    pub agent: Option<AgentId>,
    /// Articles whose title contains these words.
    pub q: Option<String>,
}

/// `agent_ids` is a JSON array of numbers without spaces: each number is between two commas, after
/// the brackets have become commas.
macro_rules! page {
    ($columns:literal, $range:literal) => {
        concat!(
            "SELECT ",
            $columns,
            " FROM knowledge_articles WHERE tenant_no = ?1 AND seq < ?5 AND ",
            $range,
            " AND (?3 IS NULL OR audience = ?3)
              AND (?4 IS NULL OR agent_ids = '[]'
                OR replace(replace(agent_ids, '[', ','), ']', ',') LIKE '%,' || CAST(?4 AS TEXT) || ',%')
            ORDER BY seq DESC LIMIT ?6"
        )
    };
}

/// The SQL of the list. A test reads its query plan.
pub const PAGE: &str = page!(
    "id, title, body, url, audience, psa_company_id, agent_ids, created_at, updated_at",
    "?2 IS NULL"
);
/// The SQL of the list of one company's articles.
pub const PAGE_OF_COMPANY: &str = page!(
    "id, title, body, url, audience, psa_company_id, agent_ids, created_at, updated_at",
    "psa_company_id = ?2"
);
const FIND: &str = page!("seq, title", "(?2 IS NULL OR psa_company_id = ?2)");

/// A page of a tenant's articles that are older than `before`, newest first.
pub fn page(
    reader: &Reader<'_>,
    tenant: TenantNo,
    filter: &ArticleFilter,
    before: Tick,
    limit: usize,
) -> Result<Rows<ArticleRecord>> {
    let sql = match filter.company {
        None => PAGE,
        Some(_) => PAGE_OF_COMPANY,
    };
    reader.page_matching(
        filter.q.as_deref().map(|q| (q, &["title"][..])),
        [FIND, sql],
        Keyset { before, limit },
        params![tenant, filter.company, filter.audience, filter.agent],
        record,
    )
}

/// The violations of an article that names a company or agents that its tenant lacks.
pub(super) fn unknown_names(
    reader: &Reader<'_>,
    tenant: TenantNo,
    article: &ArticleRecord,
) -> Result<Vec<Violation>> {
    let unknown = |field: &'static str, value, reason: &str, sentence| Violation {
        field: field.into(),
        value,
        reason: reason.to_owned(),
        refusal: Refusal::new(Code::NotFound)
            .saying(sentence)
            .with("field", field),
    };
    let mut violations = Vec::new();
    if let Some(company) = &article.end_company_id
        && !companies::exists(reader, tenant, company)?
    {
        violations.push(unknown(
            "end_company_id",
            company.to_string(),
            "is not a company of this tenant",
            "No company of this tenant has that id. Check end_company_id.",
        ));
    }
    for agent in &article.agent_ids {
        if agents::of_tenant(reader, tenant, *agent)?.is_none() {
            violations.push(unknown(
                "agent_ids",
                agent.to_string(),
                "is not an agent of this tenant",
                "No agent of this tenant has that number. Check agent_ids.",
            ));
        }
    }
    Ok(violations)
}

fn check(reader: &Reader<'_>, tenant: TenantNo, article: &ArticleRecord) -> Result<()> {
    refuse(unknown_names(reader, tenant, article)?)?;
    if titled(reader, tenant, &article.title)?.is_some_and(|other| other.id != article.id) {
        return Err(Refusal::new(Code::AlreadyExists)
            .saying(
                "An article with this title already exists. Choose another title, or change that article.",
            )
            .with("field", "title")
            .into());
    }
    Ok(())
}

/// Creates an article.
///
/// # Errors
/// `not_found` with `field` for a company or an agent that the tenant lacks; `already_exists` for
/// a title that another article has.
pub fn create(
    tx: &mut WriteTx<'_>,
    tenant: TenantNo,
    draft: &ArticleDraft,
) -> Result<ArticleRecord> {
    let id = tx.new_id()?;
    let article = ArticleRecord::fresh(id, String::new()).changed(draft);
    check(tx.reader(), tenant, &article)?;
    insert(tx, tenant, &article)?;
    by_id(tx.reader(), tenant, id)?.ok_or_else(|| Code::NotFound.into())
}

/// Changes an article. Nothing is written if nothing differs.
///
/// # Errors
/// As [`create`].
pub fn change(
    tx: &mut WriteTx<'_>,
    tenant: TenantNo,
    before: &ArticleRecord,
    draft: &ArticleDraft,
) -> Result<()> {
    let after = before.changed(draft);
    if after == *before {
        return Ok(());
    }
    check(tx.reader(), tenant, &after)?;
    update(tx, tenant, &after)
}

const DELETE: &str = "DELETE FROM knowledge_articles WHERE seq = ?1";

/// Deletes an article, and clears the stored reply that shows it.
pub fn delete(tx: &mut WriteTx<'_>, tenant: TenantNo, id: ArticleId) -> Result<()> {
    bump_version(tx, tenant)?;
    tx.scrub_log();
    tx.execute(DELETE, [id.tick()])?;
    idempotency::clear(tx, tenant, &path_to(id))
}

/// The path of an article in the API, below the prefix.
pub fn path_to(id: ArticleId) -> String {
    format!("/knowledge-articles/{id}")
}

const TITLED: &str = select!("WHERE tenant_no = ?1 AND title = ?2");

/// The tenant's article of this title.
pub fn titled(reader: &Reader<'_>, tenant: TenantNo, title: &str) -> Result<Option<ArticleRecord>> {
    reader.optional(TITLED, (tenant, title), record)
}

const INSERT: &str = "
INSERT INTO knowledge_articles (seq, id, tenant_no, title, body, url, audience, psa_company_id, agent_ids, created_at, updated_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?10)";

/// Inserts an article.
///
/// # Errors
/// `internal_error` if the title is taken or the company does not exist.
pub fn insert(tx: &mut WriteTx<'_>, tenant: TenantNo, article: &ArticleRecord) -> Result<()> {
    let now = tx.now();
    bump_version(tx, tenant)?;
    tx.execute(
        INSERT,
        params![
            article.id.tick(),
            article.id,
            tenant,
            &article.title,
            &article.body,
            &article.url,
            article.audience,
            &article.end_company_id,
            named_agents(article)?,
            now
        ],
    )
    .map(drop)
}

const UPDATE: &str = "
UPDATE knowledge_articles SET title = ?2, body = ?3, url = ?4, audience = ?5, psa_company_id = ?6, agent_ids = ?7, updated_at = ?8
WHERE seq = ?1";

/// Writes the fields of an article that can change.
pub fn update(tx: &mut WriteTx<'_>, tenant: TenantNo, article: &ArticleRecord) -> Result<()> {
    let now = tx.now();
    bump_version(tx, tenant)?;
    tx.execute(
        UPDATE,
        (
            article.id.tick(),
            &article.title,
            &article.body,
            &article.url,
            article.audience,
            &article.end_company_id,
            named_agents(article)?,
            now,
        ),
    )
    .map(drop)
}

const OF_COMPANY: &str =
    "SELECT id FROM knowledge_articles WHERE tenant_no = ?1 AND psa_company_id = ?2";
const DELETE_OF_COMPANY: &str =
    "DELETE FROM knowledge_articles WHERE tenant_no = ?1 AND psa_company_id = ?2";

/// Deletes the articles that are for one company only. Returns how many.
pub fn delete_of_company(
    tx: &mut WriteTx<'_>,
    tenant: TenantNo,
    company: &CompanyId,
) -> Result<usize> {
    let of_company: Vec<ArticleId> = tx
        .reader()
        .all(OF_COMPANY, (tenant, company), |row| row.get("id"))?;
    for id in of_company {
        idempotency::clear(tx, tenant, &path_to(id))?;
    }
    let deleted = tx.execute(DELETE_OF_COMPANY, (tenant, company))?;
    if deleted > 0 {
        bump_version(tx, tenant)?;
    }
    Ok(deleted)
}

const FOR_AGENTS: &str = "
SELECT seq, id, title, agent_ids FROM knowledge_articles WHERE tenant_no = ?1 AND agent_ids <> '[]' ORDER BY seq";
const SET_AGENTS: &str =
    "UPDATE knowledge_articles SET agent_ids = ?2, updated_at = ?3 WHERE seq = ?1";

/// Removes an agent from the articles that name it, before the agent is deleted. Returns how many.
/// The texts of the articles are not read.
///
/// # Errors
/// `agent_in_use` if an article names no other agent, since it would then be for all agents.
pub fn forget_agent(tx: &mut WriteTx<'_>, tenant: TenantNo, agent: AgentId) -> Result<usize> {
    let (mut naming, mut only) = (Vec::new(), None);
    tx.reader().each(FOR_AGENTS, [tenant], |row| {
        let seq: Tick = row.get("seq")?;
        let (id, title): (ArticleId, String) = (row.get("id")?, row.get("title")?);
        let named: Vec<i64> = row.json("agent_ids")?;
        let others: Vec<i64> = named.iter().copied().filter(|no| *no != agent.0).collect();
        if others.is_empty() {
            only.get_or_insert((id, title));
        } else if others.len() < named.len() {
            naming.push((seq, others));
        }
        Ok(())
    })?;
    if let Some((id, title)) = only {
        return Err(Refusal::new(Code::AgentInUse)
            .saying(format!(
                "The article {title:?} is for this agent only. Delete the article first, or name other agents in it."
            ))
            .with("article_id", id.to_string())
            .into());
    }
    let now = tx.now();
    for (seq, others) in &naming {
        let others =
            serde_json::to_string(others).map_err(|error| Error::Internal(error.into()))?;
        tx.execute(SET_AGENTS, (*seq, others, now))?;
    }
    if !naming.is_empty() {
        bump_version(tx, tenant)?;
    }
    Ok(naming.len())
}

const BUMP_VERSION: &str =
    "UPDATE tenants SET knowledge_version = knowledge_version + 1 WHERE tenant_no = ?1";

/// Makes caches of a tenant's articles stale.
fn bump_version(tx: &mut WriteTx<'_>, tenant: TenantNo) -> Result<()> {
    tx.execute(BUMP_VERSION, [tenant]).map(drop)
}

const VERSION: &str = "SELECT knowledge_version FROM tenants WHERE tenant_no = ?1";

/// The version of a tenant's articles, which grows with every change of one.
pub fn version(reader: &Reader<'_>, tenant: TenantNo) -> Result<i64> {
    reader.one(VERSION, [tenant], |row| row.get("knowledge_version"))
}

/// The scope of a session: it decides which articles the session may see (contract, section 6).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ArticleScope {
    /// The acting tenant.
    pub tenant: TenantNo,
    /// The agent that answers.
    pub agent: AgentId,
    /// The audience of the session.
    pub audience: Audience,
    /// The row of the company that the session is pinned to. A company that is gone has no articles.
    pub company: Option<CompanyRow>,
}

const VISIBLE_TO_MSP: &str = select!("WHERE tenant_no = ?1 ORDER BY seq");
const VISIBLE_TO_END_USERS: &str = select!(
    "WHERE tenant_no = ?1 AND audience = 'END_USER'
       AND (psa_company_id IS NULL
            OR psa_company_id = (SELECT e.psa_company_id FROM end_companies e WHERE e.tenant_no = ?1 AND e.seq = ?2))
     ORDER BY seq"
);

/// The articles that a session may see, oldest first.
pub fn visible(reader: &Reader<'_>, scope: &ArticleScope) -> Result<Vec<ArticleRecord>> {
    let mut articles = match scope.audience {
        Audience::Msp => reader.all(VISIBLE_TO_MSP, [scope.tenant], record)?,
        Audience::EndUser => {
            reader.all(VISIBLE_TO_END_USERS, (scope.tenant, scope.company), record)?
        }
    };
    articles
        .retain(|article| article.agent_ids.is_empty() || article.agent_ids.contains(&scope.agent));
    Ok(articles)
}

fn named_agents(article: &ArticleRecord) -> Result<String> {
    serde_json::to_string(&article.agent_ids).map_err(|error| Error::Internal(error.into()))
}
