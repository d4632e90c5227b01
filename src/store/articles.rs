//! Knowledge articles.

use super::WriteTx;
use super::sqlite::{Reader, json};
use crate::error::{Error, Result};
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

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, title, body, url, audience, psa_company_id, agent_ids FROM knowledge_articles ",
            $rest
        )
    };
}

fn record(row: &rusqlite::Row<'_>) -> rusqlite::Result<ArticleRecord> {
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
pub fn update(tx: &mut WriteTx<'_>, article: &ArticleRecord) -> Result<()> {
    let now = tx.now();
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

fn agents(article: &ArticleRecord) -> Result<String> {
    serde_json::to_string(&article.agent_ids).map_err(|error| Error::Internal(error.into()))
}
