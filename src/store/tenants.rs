//! Tenants: each is an MSP.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use super::rules::{Violation, refuse, unfit_directory};
use super::sql::{Keyset, Reader, Row, Rows, params};
use super::{WriteTx, agents, folder, installs};
use crate::error::{Code, Error, Refusal, Result};
use crate::input::draft::{PagesDraft, TenantDraft};
use crate::model::clock::Timestamp;
use crate::model::directory::{DirectoryId, DirectoryRule};
use crate::model::ids::Tick;
use crate::model::names::{BotId, ClientId, M365TenantId, TenantNo};
use crate::resolver::Tenant;

/// A tenant as `GET /tenant` returns it (contract, section 7).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct TenantRecord {
    /// The tenant's name in the API.
    pub client_id: ClientId,
    /// The tenant's name for people.
    pub name: String,
    /// The M365 tenant with which the MSP's people sign in.
    pub entra_tenant_id: Option<M365TenantId>,
    /// Days for which idle and archived sessions are kept; null: for ever.
    pub retention_days: Option<i64>,
    /// The address of the MSP's website.
    pub website_url: Option<String>,
    /// The address of the MSP's privacy statement.
    pub privacy_url: Option<String>,
    /// The address of the MSP's terms of use.
    pub terms_url: Option<String>,
    /// Requests per minute; null: the server's limit, 0: no limit.
    #[serde(skip)]
    pub rate_limit_per_minute: Option<i64>,
    /// The time of creation.
    pub created_at: Timestamp,
    /// The tenant's number in the database.
    #[serde(skip)]
    pub no: TenantNo,
}

impl TenantRecord {
    /// The fields of a new tenant.
    pub fn as_new(&self) -> NewTenant {
        NewTenant {
            client_id: self.client_id.clone(),
            name: self.name.clone(),
            entra_tenant_id: self.entra_tenant_id.clone(),
            rate_limit_per_minute: self.rate_limit_per_minute,
            retention_days: self.retention_days,
            website_url: self.website_url.clone(),
            privacy_url: self.privacy_url.clone(),
            terms_url: self.terms_url.clone(),
        }
    }
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT tenant_no, client_id, name, entra_tenant_id, retention_days, rate_limit_per_minute, website_url, privacy_url, terms_url, \
             created_at, seq FROM tenants ",
            $rest
        )
    };
}

const BY_CLIENT_ID: &str = select!("WHERE client_id = ?1");
const BY_NO: &str = select!("WHERE tenant_no = ?1");
const ALL: &str = select!("ORDER BY seq");
const OLDEST: &str = select!("ORDER BY seq LIMIT ?1");

fn record(row: &Row<'_>) -> Result<TenantRecord> {
    Ok(TenantRecord {
        client_id: row.get("client_id")?,
        name: row.get("name")?,
        entra_tenant_id: row.get("entra_tenant_id")?,
        retention_days: row.get("retention_days")?,
        website_url: row.get("website_url")?,
        privacy_url: row.get("privacy_url")?,
        terms_url: row.get("terms_url")?,
        rate_limit_per_minute: row.get("rate_limit_per_minute")?,
        created_at: Timestamp(row.get("created_at")?),
        no: row.get("tenant_no")?,
    })
}

/// The tenant with this `client_id`.
pub fn by_client_id(reader: &Reader<'_>, client_id: &ClientId) -> Result<Option<TenantRecord>> {
    reader.optional(BY_CLIENT_ID, [client_id], record)
}

/// The tenant with this number.
pub fn by_no(reader: &Reader<'_>, no: TenantNo) -> Result<TenantRecord> {
    reader.one(BY_NO, [no], record)
}

macro_rules! select_facts {
    ($rest:literal) => {
        concat!(
            "SELECT tenant_no, client_id, name AS tenant_name, rate_limit_per_minute FROM tenants ",
            $rest
        )
    };
}

const FACTS_BY_CLIENT_ID: &str = select_facts!("WHERE client_id = ?1");
const FACTS_BY_NO: &str = select_facts!("WHERE tenant_no = ?1");

/// The tenant of a row with the columns `tenant_no`, `client_id`, `tenant_name` and
/// `rate_limit_per_minute`.
pub(super) fn facts(row: &Row<'_>) -> Result<Tenant> {
    Ok(Tenant {
        no: row.get("tenant_no")?,
        client_id: row.get("client_id")?,
        name: row.get("tenant_name")?,
        rate_limit_per_minute: row.get("rate_limit_per_minute")?,
    })
}

/// The resolver's view of the tenant with this `client_id`.
pub fn facts_by_client_id(reader: &Reader<'_>, client_id: &ClientId) -> Result<Option<Tenant>> {
    reader.optional(FACTS_BY_CLIENT_ID, [client_id], facts)
}

const FACTS_OF_DIRECTORY: &str = select_facts!("WHERE entra_tenant_id = ?1");

/// The resolver's view of the tenant whose people sign in with this directory.
pub fn of_directory(reader: &Reader<'_>, directory: &M365TenantId) -> Result<Option<Tenant>> {
    reader.optional(FACTS_OF_DIRECTORY, [directory], facts)
}

/// The resolver's view of the tenant with this number.
pub fn facts_by_no(reader: &Reader<'_>, no: TenantNo) -> Result<Tenant> {
    reader.one(FACTS_BY_NO, [no], facts)
}

/// The oldest tenants, up to `limit`.
pub fn oldest(reader: &Reader<'_>, limit: i64) -> Result<Vec<TenantRecord>> {
    reader.all(OLDEST, [limit], record)
}

/// All tenants, oldest first.
pub fn all(reader: &Reader<'_>) -> Result<Vec<TenantRecord>> {
    reader.all(ALL, (), record)
}

const COUNT: &str = "SELECT count(*) AS count FROM tenants";

/// The number of tenants.
pub fn count(reader: &Reader<'_>) -> Result<i64> {
    reader.one(COUNT, (), |row| row.get("count"))
}

/// The fields that a tenant is created with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NewTenant {
    /// The tenant's name in the API.
    pub client_id: ClientId,
    /// The tenant's name for people.
    pub name: String,
    /// The M365 tenant with which the MSP's people sign in.
    pub entra_tenant_id: Option<M365TenantId>,
    /// Requests per minute; `None` for the server's limit, 0 for no limit.
    pub rate_limit_per_minute: Option<i64>,
    /// Days for which idle sessions are kept; `None` for ever.
    pub retention_days: Option<i64>,
    /// The address of the MSP's website.
    pub website_url: Option<String>,
    /// The address of the MSP's privacy statement.
    pub privacy_url: Option<String>,
    /// The address of the MSP's terms of use.
    pub terms_url: Option<String>,
}

impl NewTenant {
    /// A new tenant with the defaults of its other fields.
    pub fn fresh(client_id: ClientId) -> Self {
        Self {
            client_id,
            name: String::new(),
            entra_tenant_id: None,
            rate_limit_per_minute: None,
            retention_days: None,
            website_url: None,
            privacy_url: None,
            terms_url: None,
        }
    }

    /// The details of the audit event of the tenant's creation.
    pub fn details(&self) -> Result<Map<String, Value>> {
        match serde_json::to_value(self) {
            Ok(Value::Object(details)) => Ok(details),
            Ok(_) => Err(Error::internal("a tenant is an object")),
            Err(error) => Err(Error::Internal(error.into())),
        }
    }

    /// The tenant with the draft's fields.
    #[must_use]
    pub fn changed(&self, draft: &TenantDraft) -> Self {
        let draft = draft.clone();
        Self {
            client_id: self.client_id.clone(),
            name: draft.name.over(self.name.clone(), self.name.clone()),
            entra_tenant_id: draft
                .entra_tenant_id
                .map(DirectoryId::into_id)
                .over_optional(self.entra_tenant_id.clone()),
            rate_limit_per_minute: draft
                .rate_limit_per_minute
                .over_optional(self.rate_limit_per_minute),
            retention_days: draft.retention_days.over_optional(self.retention_days),
            ..self.with_pages(&draft.pages)
        }
    }

    /// The tenant with the draft's addresses.
    #[must_use]
    pub fn with_pages(&self, draft: &PagesDraft) -> Self {
        let draft = draft.clone();
        Self {
            website_url: draft.website_url.over_optional(self.website_url.clone()),
            privacy_url: draft.privacy_url.over_optional(self.privacy_url.clone()),
            terms_url: draft.terms_url.over_optional(self.terms_url.clone()),
            ..self.clone()
        }
    }
}

macro_rules! page {
    ($range:literal) => {
        concat!(
            select!("WHERE seq < ?3"),
            $range,
            " AND (?1 IS NULL OR tenant_no IN (
                SELECT c.tenant_no FROM channels c WHERE c.bot_id = ?1 AND c.deleted_at IS NULL
                UNION SELECT i.tenant_no FROM installs i WHERE i.bot_id = ?1))
              AND (?2 IS NULL OR entra_tenant_id = ?2)
              ORDER BY seq DESC LIMIT ?4"
        )
    };
}

const PAGE: &str = page!("");
/// At most one tenant, by the index of the directories. A test reads the query plan.
pub const OF_SIGN_IN: &str = page!(" AND entra_tenant_id = ?2");

/// The filter of the list of tenants. Each field that is set narrows the list.
#[derive(Clone, Debug, Default)]
pub struct TenantFilter {
    /// Tenants with a channel of this bot that is not deleted, or an install of this bot.
    pub bot_id: Option<BotId>,
    /// The tenant whose people sign in with this directory.
    pub entra_tenant_id: Option<M365TenantId>,
    /// Tenants whose name and `client_id` contain these words.
    pub q: Option<String>,
}

/// A page of all tenants that are older than `before`, newest first, each with its tick.
pub fn page(
    reader: &Reader<'_>,
    filter: &TenantFilter,
    before: Tick,
    limit: usize,
) -> Result<Rows<(Tick, TenantRecord)>> {
    let range = match filter.entra_tenant_id {
        Some(_) => OF_SIGN_IN,
        None => PAGE,
    };
    reader.page_matching(
        filter.q.as_deref().map(|q| (q, &["name", "client_id"][..])),
        [range, range],
        Keyset { before, limit },
        params![filter.bot_id, filter.entra_tenant_id],
        |row| {
            let tenant = record(row)?;
            Ok((row.get("seq")?, tenant))
        },
    )
}

const INSERT: &str = "
INSERT INTO tenants (seq, client_id, name, entra_tenant_id, rate_limit_per_minute, retention_days, created_at, tenant_no,
                     website_url, privacy_url, terms_url)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
RETURNING tenant_no";

/// Inserts a tenant without its managed agent.
///
/// # Errors
/// `already_exists` if the `client_id` or the directory is taken.
pub fn insert(tx: &mut WriteTx<'_>, new: &NewTenant) -> Result<TenantNo> {
    if by_client_id(tx.reader(), &new.client_id)?.is_some() {
        return Err(Refusal::new(Code::AlreadyExists)
            .saying(format!(
                "The tenant {} already exists. Choose another client_id.",
                new.client_id
            ))
            .with("field", "client_id")
            .into());
    }
    refuse(taken_directory(tx.reader(), None, new)?)?;
    let (now, seq) = (tx.now(), tx.tick());
    let no = folder::next_tenant_no(tx)?;
    tx.returning_one(
        INSERT,
        params![
            seq,
            new.client_id,
            new.name,
            new.entra_tenant_id,
            new.rate_limit_per_minute,
            new.retention_days,
            now,
            no,
            new.website_url,
            new.privacy_url,
            new.terms_url,
        ],
        |row| row.get("tenant_no"),
    )
}

/// Creates a tenant and its managed `NEO_SUPPORT` agent.
///
/// # Errors
/// `already_exists` if the `client_id` or the directory is taken; `install_conflict` if another
/// tenant's bot is installed for the directory.
pub fn create(tx: &mut WriteTx<'_>, new: &NewTenant) -> Result<TenantNo> {
    let tenant = insert(tx, new)?;
    check_sign_in_directory(tx.reader(), tenant)?;
    agents::insert_managed(tx, tenant)?;
    Ok(tenant)
}

/// Checks, after a tenant's directory is written, that no other tenant's bot is installed for it.
///
/// # Errors
/// `install_conflict`, which names the other tenant for the operator.
fn check_sign_in_directory(reader: &Reader<'_>, tenant: TenantNo) -> Result<()> {
    match installs::in_foreign_directories(reader, tenant)?.into_iter().next() {
        None => Ok(()),
        Some((installer, directory)) => Err(Refusal::new(Code::InstallConflict)
            .saying(format!(
                "A bot of the tenant {installer} is installed for the directory {directory}, so no other tenant can sign \
                 in with it. Remove that install first."
            ))
            .with("field", "entra_tenant_id")
            .into()),
    }
}

const OF_DIRECTORY: &str = "SELECT tenant_no FROM tenants WHERE entra_tenant_id = ?1";

/// The violation of a directory with which another tenant signs in. The violation does not name
/// that tenant. `no` is the number of a tenant that is stored already.
pub(super) fn taken_directory(
    reader: &Reader<'_>,
    no: Option<TenantNo>,
    tenant: &NewTenant,
) -> Result<Option<Violation>> {
    let Some(directory) = &tenant.entra_tenant_id else {
        return Ok(None);
    };
    let owner: Option<TenantNo> =
        reader.optional(OF_DIRECTORY, [directory], |row| row.get("tenant_no"))?;
    if owner.is_none() || owner == no {
        return Ok(None);
    }
    Ok(Some(Violation {
        field: "entra_tenant_id".into(),
        value: directory.to_string(),
        reason: "already belongs to another tenant".to_owned(),
        refusal: Refusal::new(Code::AlreadyExists)
            .saying(format!(
                "Another tenant already signs in with the directory {directory}. Check entra_tenant_id."
            ))
            .with("field", "entra_tenant_id"),
    }))
}

const UPDATE: &str = "
UPDATE tenants SET name = ?2, entra_tenant_id = ?3, rate_limit_per_minute = ?4, retention_days = ?5, website_url = ?6, privacy_url = ?7,
                   terms_url = ?8
WHERE tenant_no = ?1";

/// Writes the fields of a tenant that can change.
///
/// # Errors
/// `already_exists` if the directory is taken.
pub fn update(tx: &mut WriteTx<'_>, no: TenantNo, changed: &NewTenant) -> Result<()> {
    refuse(taken_directory(tx.reader(), Some(no), changed)?)?;
    tx.execute(
        UPDATE,
        (
            no,
            &changed.name,
            &changed.entra_tenant_id,
            changed.rate_limit_per_minute,
            changed.retention_days,
            &changed.website_url,
            &changed.privacy_url,
            &changed.terms_url,
        ),
    )
    .map(drop)
}

/// Changes a tenant. Nothing is written if nothing differs. Returns the tenant as it is stored.
///
/// # Errors
/// `validation_error` for a new directory that the rule excludes; `already_exists` for a directory
/// that another tenant signs in with; `install_conflict` for a directory that another tenant's bot
/// is installed for.
pub fn change(
    tx: &mut WriteTx<'_>,
    tenant: &TenantRecord,
    draft: &TenantDraft,
    rule: DirectoryRule,
) -> Result<TenantRecord> {
    let before = tenant.as_new();
    let stored = before.entra_tenant_id.as_ref();
    let named = &draft.entra_tenant_id;
    refuse(unfit_directory("entra_tenant_id", named, stored, rule))?;
    let after = before.changed(draft);
    if after != before {
        update(tx, tenant.no, &after)?;
        check_sign_in_directory(tx.reader(), tenant.no)?;
    }
    by_no(tx.reader(), tenant.no)
}

const SET_PAGES: &str =
    "UPDATE tenants SET website_url = ?2, privacy_url = ?3, terms_url = ?4 WHERE tenant_no = ?1";

/// Changes the addresses of a tenant's pages. Nothing is written if nothing differs.
///
/// # Errors
/// Those of the database.
pub fn change_pages(tx: &mut WriteTx<'_>, tenant: &TenantRecord, draft: &PagesDraft) -> Result<()> {
    let before = tenant.as_new();
    let after = before.with_pages(draft);
    if after == before {
        return Ok(());
    }
    tx.execute(
        SET_PAGES,
        (
            tenant.no,
            after.website_url,
            after.privacy_url,
            after.terms_url,
        ),
    )
    .map(drop)
}
