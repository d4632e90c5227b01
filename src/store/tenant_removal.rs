//! Deletes a tenant with everything that belongs to it, in small changes, so that the changes of a
//! running server do not wait. A deletion that was interrupted is continued by the next one.

use super::sql::Reader;
use super::{Extent, Store, WriteTx, articles, companies, sessions};
use crate::error::{Error, Result};
use crate::model::ids::{ArticleId, SessionId};
use crate::model::names::{CompanyId, TenantNo};

/// Rows that one change removes.
const STEP_ROWS: usize = 64;
/// How often the deletion begins again because a request wrote for the tenant meanwhile.
const ATTEMPTS: usize = 5;

/// What a tenant has, before its deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TenantContents {
    /// The sessions, archived or not.
    pub sessions: i64,
    /// The client companies.
    pub companies: i64,
    /// The knowledge articles.
    pub articles: i64,
    /// The users who sign in through Entra ID.
    pub users: i64,
    /// The API keys, revoked or not.
    pub api_keys: i64,
}

const CONTENTS: &str = "
SELECT (SELECT count(*) FROM sessions WHERE tenant_no = ?1) AS sessions,
       (SELECT count(*) FROM end_companies WHERE tenant_no = ?1) AS companies,
       (SELECT count(*) FROM knowledge_articles WHERE tenant_no = ?1) AS articles,
       (SELECT count(*) FROM users WHERE tenant_no = ?1) AS users,
       (SELECT count(*) FROM api_keys WHERE tenant_no = ?1) AS api_keys";

/// Counts what a tenant has.
pub fn contents(reader: &Reader<'_>, tenant: TenantNo) -> Result<TenantContents> {
    reader.one(CONTENTS, [tenant], |row| {
        Ok(TenantContents {
            sessions: row.get("sessions")?,
            companies: row.get("companies")?,
            articles: row.get("articles")?,
            users: row.get("users")?,
            api_keys: row.get("api_keys")?,
        })
    })
}

const PLATFORM_KEY: &str = "
SELECT name FROM api_keys
WHERE tenant_no = ?1 AND platform = 1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > ?2)
ORDER BY seq LIMIT 1";
const IMPORT: &str = "SELECT 1 FROM imports WHERE tenant_no = ?1 LIMIT 1";

/// Refuses the tenant of the platform, and a tenant that an import works on.
///
/// # Errors
/// A message for the operator.
pub fn check(tx: &WriteTx<'_>, tenant: TenantNo) -> Result<()> {
    let key: Option<String> = tx
        .reader()
        .optional(PLATFORM_KEY, (tenant, tx.now()), |row| row.get("name"))?;
    if let Some(key) = key {
        return Err(Error::internal(format!(
            "this tenant is the platform's own: its platform key {key:?} acts for all tenants; revoke its platform keys first"
        )));
    }
    match tx.reader().optional(IMPORT, [tenant], |_| Ok(()))? {
        None => Ok(()),
        Some(()) => Err(Error::internal(
            "an import of this tenant's companies runs; delete the tenant after the import",
        )),
    }
}

const END_KEYS: &str =
    "UPDATE api_keys SET revoked_at = ?2 WHERE tenant_no = ?1 AND revoked_at IS NULL";
const CLEAR_REPLIES: &str = "
UPDATE idempotency_keys SET reply = NULL
WHERE location = '/tenants/' || (SELECT client_id FROM tenants WHERE tenant_no = ?1)";
const END_DIRECTORY: &str = "UPDATE tenants SET entra_tenant_id = NULL WHERE tenant_no = ?1";

/// Locks everybody of the tenant out, before anything is removed.
fn lock_out(tx: &mut WriteTx<'_>, tenant: TenantNo) -> Result<()> {
    check(tx, tenant)?;
    tx.execute(END_KEYS, (tenant, tx.now()))?;
    tx.execute(CLEAR_REPLIES, [tenant])?;
    tx.execute(END_DIRECTORY, [tenant]).map(drop)
}

/// The rows without contents of their own: first what leads into the tenant, then what refers to it.
/// A row goes before the rows that it refers to.
const ROWS: [&str; 14] = [
    "DELETE FROM teams_deliveries WHERE seq IN (SELECT seq FROM teams_deliveries WHERE tenant_no = ?1 LIMIT ?2)",
    "DELETE FROM teams_conversations WHERE conversation_no IN (
       SELECT conversation_no FROM teams_conversations WHERE tenant_no = ?1 LIMIT ?2)",
    "DELETE FROM sign_in_codes WHERE sha256 IN (SELECT sha256 FROM sign_in_codes WHERE tenant_no = ?1 LIMIT ?2)",
    "DELETE FROM sign_ins WHERE jti IN (SELECT jti FROM sign_ins WHERE tenant_no = ?1 LIMIT ?2)",
    "DELETE FROM installs WHERE seq IN (SELECT seq FROM installs WHERE tenant_no = ?1 LIMIT ?2)",
    "DELETE FROM channels WHERE seq IN (SELECT seq FROM channels WHERE tenant_no = ?1 LIMIT ?2)",
    "DELETE FROM session_tokens WHERE jti IN (SELECT jti FROM session_tokens WHERE tenant_no = ?1 LIMIT ?2)",
    // A platform key of the tenant may have minted tokens for the sessions of other tenants.
    "DELETE FROM session_tokens WHERE jti IN (
       SELECT t.jti FROM session_tokens t JOIN api_keys k ON k.seq = t.minted_by_key WHERE k.tenant_no = ?1 LIMIT ?2)",
    "DELETE FROM api_keys WHERE seq IN (SELECT seq FROM api_keys WHERE tenant_no = ?1 LIMIT ?2)",
    "DELETE FROM users WHERE tenant_no = ?1
       AND user_id IN (SELECT user_id FROM users WHERE tenant_no = ?1 LIMIT ?2)",
    "DELETE FROM unlinked_tenants WHERE tenant_no = ?1
       AND m365_tenant_id IN (SELECT m365_tenant_id FROM unlinked_tenants WHERE tenant_no = ?1 LIMIT ?2)",
    // Replies of the tenant's accounts, whose ids begin with the tenant's number and a slash, and
    // replies to others about what is the tenant's.
    "DELETE FROM idempotency_keys WHERE (account_id, key) IN (
       SELECT account_id, key FROM idempotency_keys WHERE account_id > CAST(?1 AS TEXT) || '/' AND account_id < CAST(?1 AS TEXT) || '0' LIMIT ?2)",
    "DELETE FROM idempotency_keys WHERE (account_id, key) IN (
       SELECT account_id, key FROM idempotency_keys WHERE tenant_no = ?1 AND location IS NOT NULL LIMIT ?2)",
    "DELETE FROM audit_events WHERE seq IN (SELECT seq FROM audit_events WHERE tenant_no = ?1 LIMIT ?2)",
];

const SESSIONS: &str = "SELECT id FROM sessions WHERE tenant_no = ?1 LIMIT ?2";
const ARTICLES: &str = "SELECT id FROM knowledge_articles WHERE tenant_no = ?1 LIMIT ?2";
const COMPANIES: &str = "SELECT psa_company_id FROM end_companies WHERE tenant_no = ?1 LIMIT ?2";

const KEYS_OF_SESSION: &str = "DELETE FROM idempotency_keys WHERE session_seq = ?1";

/// Deletes some of the tenant's sessions. Returns how many.
fn some_sessions(tx: &mut WriteTx<'_>, tenant: TenantNo) -> Result<usize> {
    let params = (tenant, STEP_ROWS);
    let found: Vec<SessionId> = tx.reader().all(SESSIONS, params, |row| row.get("id"))?;
    for id in &found {
        tx.execute(KEYS_OF_SESSION, [id.tick()])?;
        sessions::delete(tx, *id)?;
    }
    Ok(found.len())
}

/// Deletes some of the tenant's articles. Returns how many.
fn some_articles(tx: &mut WriteTx<'_>, tenant: TenantNo) -> Result<usize> {
    let params = (tenant, STEP_ROWS);
    let found: Vec<ArticleId> = tx.reader().all(ARTICLES, params, |row| row.get("id"))?;
    for id in &found {
        articles::delete(tx, tenant, *id)?;
    }
    Ok(found.len())
}

/// Deletes some of the tenant's companies. Returns how many.
fn some_companies(tx: &mut WriteTx<'_>, tenant: TenantNo) -> Result<usize> {
    let params = (tenant, STEP_ROWS);
    let found: Vec<CompanyId> = tx
        .reader()
        .all(COMPANIES, params, |row| row.get("psa_company_id"))?;
    for id in &found {
        if let Some(company) = companies::by_id(tx.reader(), tenant, id)? {
            companies::delete(tx, tenant, &company)?;
        }
    }
    Ok(found.len())
}

const DELETE_AGENTS: &str = "DELETE FROM agents WHERE tenant_no = ?1";
const DELETE: &str = "DELETE FROM tenants WHERE tenant_no = ?1";

/// Deletes the tenant's own row, and its agents: a tenant without its managed agent is damage.
fn last_row(tx: &mut WriteTx<'_>, tenant: TenantNo) -> Result<()> {
    tx.execute(DELETE_AGENTS, [tenant])?;
    tx.execute(DELETE, [tenant])?;
    tx.scrub_log();
    Ok(())
}

impl Store {
    /// Deletes a tenant: its sessions with their messages, files and words in the search index, its
    /// companies, articles, agents, channels, keys, users and audit events.
    ///
    /// # Errors
    /// Those of [`check`]; an error of the disk, after which the next call goes on.
    pub async fn delete_tenant(&self, tenant: TenantNo) -> Result<()> {
        self.write(Extent::Configuration, move |tx| lock_out(tx, tenant))
            .await?;
        let mut attempt = 1;
        loop {
            self.delete_rows_of_tenant(tenant).await?;
            let last = self.write(Extent::Configuration, move |tx| last_row(tx, tenant));
            match last.await {
                // A row that a request wrote meanwhile still refers to the tenant.
                Err(Error::Internal(_)) if attempt < ATTEMPTS => attempt += 1,
                outcome => return outcome,
            }
        }
    }

    async fn delete_rows_of_tenant(&self, tenant: TenantNo) -> Result<()> {
        for sql in ROWS {
            let step = move |tx: &mut WriteTx<'_>| tx.execute(sql, (tenant, STEP_ROWS));
            while self.write(Extent::Configuration, step).await? > 0 {}
        }
        for step in [some_sessions, some_articles, some_companies] {
            let step = move |tx: &mut WriteTx<'_>| step(tx, tenant);
            while self.write(Extent::Configuration, step).await? > 0 {
                self.keep_up_with_removal().await?;
            }
        }
        self.complete_removal().await
    }
}
