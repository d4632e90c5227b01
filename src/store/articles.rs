//! Knowledge articles.

use super::WriteTx;
use super::sqlite::{Reader, Row, json};
use crate::draft::ArticleDraft;
use crate::error::{Code, Error, Refusal, Result};
use crate::model::ids::ArticleId;
use crate::model::names::{AgentId, CompanyId, TenantNo};
use crate::model::words::Audience;

/// A knowledge article.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArticleRecord {
    /// Its id.
    pub id: ArticleId,
    /// Its title.
    pub title: String,
    /// Its text, in Markdown.
    pub body: String,
    /// Where it can be read.
    pub url: Option<String>,
    /// Who may see it.
    pub audience: Audience,
    /// The company that it is for; `None`: all of them.
    pub end_company_id: Option<CompanyId>,
    /// The agents that use it; empty: all of them.
    pub agent_ids: Vec<AgentId>,
}

impl ArticleRecord {
    /// An article before anything is said of it. It is for the MSP's own people unless it says otherwise: the less shown.
    pub fn fresh(id: ArticleId, title: String) -> Self {
        Self {
            id,
            title,
            body: String::new(),
            url: None,
            audience: Audience::Msp,
            end_company_id: None,
            agent_ids: Vec::new(),
        }
    }

    /// What it becomes.
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
        }
    }
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, title, body, url, audience, psa_company_id, agent_ids FROM knowledge_articles ",
            $rest
        )
    };
}

fn record(row: &Row<'_>) -> rusqlite::Result<ArticleRecord> {
    let agent_ids: Vec<i64> = json(row, "agent_ids")?;
    Ok(ArticleRecord {
        id: row.get("id")?,
        title: row.get("title")?,
        body: row.get("body")?,
        url: row.get("url")?,
        audience: row.get("audience")?,
        end_company_id: row.get("psa_company_id")?,
        agent_ids: agent_ids.into_iter().map(AgentId).collect(),
    })
}

const ALL: &str = select!("WHERE tenant_no = ?1 ORDER BY seq");

/// All articles of a tenant, oldest first.
///
/// # Errors
/// The file cannot be read.
pub fn all(reader: &Reader<'_>, tenant: TenantNo) -> Result<Vec<ArticleRecord>> {
    reader.all(ALL, [tenant], record)
}

const TITLED: &str = select!("WHERE tenant_no = ?1 AND title = ?2");

/// The tenant's article of this title.
///
/// # Errors
/// The file cannot be read.
pub fn titled(reader: &Reader<'_>, tenant: TenantNo, title: &str) -> Result<Option<ArticleRecord>> {
    reader.optional(TITLED, (tenant, title), record)
}

const INSERT: &str = "
INSERT INTO knowledge_articles (seq, id, tenant_no, title, body, url, audience, psa_company_id, agent_ids, created_at, updated_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?10)";

/// Makes an article.
///
/// # Errors
/// A unique index: the title is taken. A foreign key: no such company.
pub fn insert(tx: &mut WriteTx<'_>, tenant: TenantNo, article: &ArticleRecord) -> Result<()> {
    let now = tx.now();
    changed(tx, tenant)?;
    tx.reader()
        .execute(
            INSERT,
            (
                article.id.tick(),
                article.id,
                tenant,
                &article.title,
                &article.body,
                &article.url,
                article.audience,
                &article.end_company_id,
                agents(article)?,
                now,
            ),
        )
        .map(drop)
}

const UPDATE: &str = "
UPDATE knowledge_articles SET title = ?2, body = ?3, url = ?4, audience = ?5, psa_company_id = ?6, agent_ids = ?7, updated_at = ?8
WHERE seq = ?1";

/// Writes what can change of an article.
///
/// # Errors
/// As [`insert`].
pub fn update(tx: &mut WriteTx<'_>, tenant: TenantNo, article: &ArticleRecord) -> Result<()> {
    let now = tx.now();
    changed(tx, tenant)?;
    tx.reader()
        .execute(
            UPDATE,
            (
                article.id.tick(),
                &article.title,
                &article.body,
                &article.url,
                article.audience,
                &article.end_company_id,
                agents(article)?,
                now,
            ),
        )
        .map(drop)
}

const NAMING: &str = select!(
    "WHERE tenant_no = ?1 AND agent_ids <> '[]'
       AND EXISTS (SELECT 1 FROM json_each(agent_ids) AS named WHERE named.value = ?2) ORDER BY seq"
);

/// Takes an agent that goes out of the articles that name it.
///
/// # Errors
/// `agent_in_use` when an article names no other: it would be for all agents then.
pub fn forget_agent(tx: &mut WriteTx<'_>, tenant: TenantNo, agent: AgentId) -> Result<()> {
    for mut article in tx.reader().all(NAMING, (tenant, agent), record)? {
        article.agent_ids.retain(|id| *id != agent);
        if article.agent_ids.is_empty() {
            return Err(Refusal::new(Code::AgentInUse)
                .saying(format!(
                    "The article {:?} is for this agent alone. Remove the article, or name other agents in it, first.",
                    article.title
                ))
                .with("article_id", article.id.to_string())
                .into());
        }
        update(tx, tenant, &article)?;
    }
    Ok(())
}

const CHANGED: &str =
    "UPDATE tenants SET knowledge_version = knowledge_version + 1 WHERE tenant_no = ?1";

/// What was built from a tenant's articles is stale from now on.
fn changed(tx: &mut WriteTx<'_>, tenant: TenantNo) -> Result<()> {
    tx.reader().execute(CHANGED, [tenant]).map(drop)
}

const VERSION: &str = "SELECT knowledge_version FROM tenants WHERE tenant_no = ?1";

/// Grows with every change of a tenant's articles.
///
/// # Errors
/// The file cannot be read.
pub fn version(reader: &Reader<'_>, tenant: TenantNo) -> Result<i64> {
    reader.one(VERSION, [tenant], |row| row.get("knowledge_version"))
}

/// Which articles a session may see (contract, section 6).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Sight {
    /// The acting tenant.
    pub tenant: TenantNo,
    /// The agent that answers.
    pub agent: AgentId,
    /// Whom it answers.
    pub audience: Audience,
    /// The company that the session is pinned to.
    pub company: Option<CompanyId>,
}

const VISIBLE_TO_MSP: &str = select!("WHERE tenant_no = ?1 ORDER BY seq");
const VISIBLE_TO_END_USERS: &str = select!(
    "WHERE tenant_no = ?1 AND audience = 'END_USER' AND (psa_company_id IS NULL OR psa_company_id = ?2) ORDER BY seq"
);

/// The articles that a session may see, oldest first.
///
/// # Errors
/// The file cannot be read.
pub fn visible(reader: &Reader<'_>, sight: &Sight) -> Result<Vec<ArticleRecord>> {
    let mut articles = match sight.audience {
        Audience::Msp => reader.all(VISIBLE_TO_MSP, [sight.tenant], record)?,
        Audience::EndUser => {
            reader.all(VISIBLE_TO_END_USERS, (sight.tenant, &sight.company), record)?
        }
    };
    articles
        .retain(|article| article.agent_ids.is_empty() || article.agent_ids.contains(&sight.agent));
    Ok(articles)
}

fn agents(article: &ArticleRecord) -> Result<String> {
    serde_json::to_string(&article.agent_ids).map_err(|error| Error::Internal(error.into()))
}
