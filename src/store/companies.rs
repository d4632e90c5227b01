//! End companies: an MSP's clients. A company can be linked to several Microsoft directories.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::Serialize;

use super::company_directories::{self, Directories, directories_of};
use super::rules::{self, Violation};
use super::sql::{Keyset, Reader, Row, Rows};
use super::{WriteTx, articles, unlinked};
use crate::error::{Code, Error, Refusal, Result};
use crate::input::draft::{COMPANY_DIRECTORIES, CompanyDraft};
use crate::input::fields::Field;
use crate::model::clock::Timestamp;
use crate::model::directory::DirectoryRule;
use crate::model::ids::Tick;
use crate::model::names::{CompanyId, CompanyRow, M365TenantId, TenantNo};
use crate::resolver::Company;

/// An end company as the API returns it (contract, section 6).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct CompanyRecord {
    /// The company's id in the MSP's PSA.
    pub psa_company_id: CompanyId,
    /// The company's name.
    pub psa_company_name: String,
    /// The links: the M365 tenants of the company's staff.
    #[serde(flatten)]
    pub directories: Directories,
    /// Instructions about the company for technicians' agents.
    pub custom_instructions: Option<String>,
    /// Instructions for the agent that talks with the company's staff.
    pub custom_instructions_for_user_facing_chat: Option<String>,
    /// The time of creation.
    pub created_at: Timestamp,
    /// The time of the last change.
    pub updated_at: Timestamp,
    /// The order of creation.
    #[serde(skip)]
    pub seq: Tick,
}

impl CompanyRecord {
    /// A new company with the defaults of its fields.
    pub fn fresh(psa_company_id: CompanyId) -> Self {
        Self {
            psa_company_id,
            psa_company_name: String::new(),
            directories: Directories::default(),
            custom_instructions: None,
            custom_instructions_for_user_facing_chat: None,
            created_at: Timestamp(0),
            updated_at: Timestamp(0),
            seq: Tick(0),
        }
    }

    /// The company with the draft's fields.
    #[must_use]
    pub fn changed(&self, draft: &CompanyDraft) -> Self {
        let directories = draft.directories().map(Directories::from);
        let (draft, before) = (draft.clone(), self.clone());
        Self {
            psa_company_id: before.psa_company_id,
            psa_company_name: draft
                .psa_company_name
                .over(before.psa_company_name.clone(), before.psa_company_name),
            directories: directories.over(before.directories, Directories::default()),
            custom_instructions: draft
                .custom_instructions
                .over_optional(before.custom_instructions),
            custom_instructions_for_user_facing_chat: draft
                .custom_instructions_for_user_facing_chat
                .over_optional(before.custom_instructions_for_user_facing_chat),
            created_at: before.created_at,
            updated_at: before.updated_at,
            seq: before.seq,
        }
    }
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT e.psa_company_id AS psa_company_id, e.psa_company_name AS psa_company_name, ",
            directories_of!(),
            ", e.custom_instructions AS custom_instructions, \
             e.custom_instructions_for_user_facing_chat AS custom_instructions_for_user_facing_chat, \
             e.created_at AS created_at, e.updated_at AS updated_at, e.seq AS seq FROM end_companies e ",
            $rest
        )
    };
}

fn record(row: &Row<'_>) -> Result<CompanyRecord> {
    Ok(CompanyRecord {
        psa_company_id: row.get("psa_company_id")?,
        psa_company_name: row.get("psa_company_name")?,
        directories: Directories::read(row)?,
        custom_instructions: row.get("custom_instructions")?,
        custom_instructions_for_user_facing_chat: row
            .get("custom_instructions_for_user_facing_chat")?,
        created_at: Timestamp(row.get("created_at")?),
        updated_at: Timestamp(row.get("updated_at")?),
        seq: row.get("seq")?,
    })
}

const BY_ID: &str = select!("WHERE e.tenant_no = ?1 AND e.psa_company_id = ?2");

/// The tenant's company with this id.
pub fn by_id(
    reader: &Reader<'_>,
    tenant: TenantNo,
    id: &CompanyId,
) -> Result<Option<CompanyRecord>> {
    reader.optional(BY_ID, (tenant, id), record)
}

const BY_ROW: &str = select!("WHERE e.tenant_no = ?1 AND e.seq = ?2");

/// The tenant's company in this row.
pub fn by_row(
    reader: &Reader<'_>,
    tenant: TenantNo,
    row: CompanyRow,
) -> Result<Option<CompanyRecord>> {
    reader.optional(BY_ROW, (tenant, row), record)
}

const ALL: &str = select!("WHERE e.tenant_no = ?1 ORDER BY e.seq");

/// All companies of a tenant, oldest first.
pub fn all(reader: &Reader<'_>, tenant: TenantNo) -> Result<Vec<CompanyRecord>> {
    reader.all(ALL, [tenant], record)
}

/// The filter of a list of companies. Each field that is set narrows the list.
#[derive(Clone, Debug, Default)]
pub struct CompanyFilter {
    /// Companies that are linked to this directory.
    pub tenant_id: Option<M365TenantId>,
    /// Companies whose id and name contain these words.
    pub q: Option<String>,
}

/// The key of each list and its SQL. A test reads the query plan.
pub const RANGES: &[(&str, &str)] = &[
    ("INDEX end_companies_newest", PAGE),
    ("PRIMARY KEY", PAGE_OF_DIRECTORY),
];

const PAGE: &str = select!(
    "WHERE e.tenant_no = ?1 AND e.seq < ?2
     ORDER BY e.seq DESC LIMIT ?3"
);
const PAGE_OF_DIRECTORY: &str = select!(
    "JOIN company_directories l ON l.tenant_no = e.tenant_no AND l.company_seq = e.seq
     WHERE l.tenant_no = ?1 AND l.m365_tenant_id = ?2 AND l.company_seq < ?3
     ORDER BY l.company_seq DESC LIMIT ?4"
);

const FIND: &str = "
SELECT seq, psa_company_id, psa_company_name FROM end_companies WHERE tenant_no = ?1 AND seq < ?2
ORDER BY seq DESC LIMIT ?3";

/// A page of a tenant's companies that are older than `before`, newest first.
pub fn page(
    reader: &Reader<'_>,
    tenant: TenantNo,
    filter: &CompanyFilter,
    before: Tick,
    limit: usize,
) -> Result<Rows<CompanyRecord>> {
    let texts = &["psa_company_id", "psa_company_name"][..];
    let (q, at) = (
        filter.q.as_deref().map(|q| (q, texts)),
        Keyset { before, limit },
    );
    match &filter.tenant_id {
        None => reader.page_matching(q, [FIND, PAGE], at, [tenant], record),
        Some(directory) => reader.page_matching(
            q,
            [PAGE_OF_DIRECTORY, PAGE_OF_DIRECTORY],
            at,
            (tenant, directory),
            record,
        ),
    }
}

const NAMED: &str =
    "SELECT psa_company_id, seq FROM end_companies WHERE tenant_no = ?1 AND psa_company_id = ?2";

/// The resolver's view of the tenant's company with this id.
pub fn named(reader: &Reader<'_>, tenant: TenantNo, id: &CompanyId) -> Result<Option<Company>> {
    reader.optional(NAMED, (tenant, id), |row| {
        Ok(Company {
            id: row.get("psa_company_id")?,
            row: row.get("seq")?,
        })
    })
}

/// Whether the tenant has this company.
pub fn exists(reader: &Reader<'_>, tenant: TenantNo, id: &CompanyId) -> Result<bool> {
    Ok(named(reader, tenant, id)?.is_some())
}

const INSERT: &str = "
INSERT INTO end_companies (tenant_no, psa_company_id, seq, psa_company_name, custom_instructions,
                           custom_instructions_for_user_facing_chat, created_at, updated_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7)";

/// Creates a company.
///
/// # Errors
/// `already_exists` if the tenant has a company with this id.
pub fn create(
    tx: &mut WriteTx<'_>,
    tenant: TenantNo,
    company: &CompanyRecord,
) -> Result<CompanyRecord> {
    let id = &company.psa_company_id;
    if exists(tx.reader(), tenant, id)? {
        return Err(Refusal::new(Code::AlreadyExists)
            .saying(format!(
                "The company {id} already exists. Change it with PUT, or choose another psa_company_id."
            ))
            .with("field", "psa_company_id")
            .with("psa_company_id", id.as_str())
            .into());
    }
    insert(tx, tenant, company)?;
    by_id(tx.reader(), tenant, id)?.ok_or_else(|| Code::NotFound.into())
}

/// Inserts a company.
///
/// # Errors
/// `internal_error` if the tenant has a company with this id.
pub fn insert(tx: &mut WriteTx<'_>, tenant: TenantNo, company: &CompanyRecord) -> Result<()> {
    let (now, seq) = (tx.now(), tx.tick());
    tx.execute(
        INSERT,
        (
            tenant,
            &company.psa_company_id,
            seq,
            &company.psa_company_name,
            &company.custom_instructions,
            &company.custom_instructions_for_user_facing_chat,
            now,
        ),
    )?;
    let (id, links) = (&company.psa_company_id, &company.directories);
    company_directories::insert(tx, tenant, (seq, id), links)?;
    forget_refusals(tx, tenant, &Directories::default(), links)
}

const UPDATE: &str = "
UPDATE end_companies SET psa_company_name = ?3, custom_instructions = ?4,
                         custom_instructions_for_user_facing_chat = ?5, updated_at = ?6
WHERE tenant_no = ?1 AND psa_company_id = ?2";

/// Writes the fields of a company that can change. `before` is the company as it is stored.
pub fn update(
    tx: &mut WriteTx<'_>,
    tenant: TenantNo,
    before: &CompanyRecord,
    company: &CompanyRecord,
) -> Result<()> {
    let now = tx.now();
    tx.execute(
        UPDATE,
        (
            tenant,
            &company.psa_company_id,
            &company.psa_company_name,
            &company.custom_instructions,
            &company.custom_instructions_for_user_facing_chat,
            now,
        ),
    )?;
    let (old, new) = (&before.directories, &company.directories);
    if old == new {
        return Ok(());
    }
    company_directories::delete(tx, tenant, &company.psa_company_id)?;
    company_directories::insert(tx, tenant, (before.seq, &company.psa_company_id), new)?;
    forget_refusals(tx, tenant, old, new)
}

/// Changes a company. Nothing is written if nothing differs. `id` is the id in the request's body.
///
/// # Errors
/// `validation_error` if `id` is not the company's id, or for a new link to a directory that the
/// rule excludes.
pub fn change(
    tx: &mut WriteTx<'_>,
    tenant: TenantNo,
    before: &CompanyRecord,
    id: &Field<CompanyId>,
    draft: &CompanyDraft,
    rule: DirectoryRule,
) -> Result<()> {
    match id {
        Field::Absent => {}
        Field::Set(id) if *id == before.psa_company_id => {}
        Field::Set(_) | Field::Null => {
            return Err(Violation::fixed("psa_company_id", &before.psa_company_id).into());
        }
    }
    let stored = before.directories.as_slice();
    rules::refuse(rules::unfit_links(draft, stored, rule))?;
    let after = before.changed(draft);
    if after == *before {
        return Ok(());
    }
    update(tx, tenant, before, &after)
}

/// A company that an install links to its directory.
#[derive(Clone, Debug)]
pub struct NewLink {
    /// The company.
    pub company: CompanyId,
    /// Whether the company may have other directories too.
    pub adds_directory: bool,
}

/// Links a company to a directory. Returns whether this changed the company.
///
/// # Errors
/// `not_found` for a company that the tenant lacks; `company_already_bound` for a company that is
/// linked to another directory, unless the directory is to be added, and for a company with as many
/// directories as one may have.
pub fn link(
    tx: &mut WriteTx<'_>,
    tenant: TenantNo,
    link: &NewLink,
    directory: &M365TenantId,
) -> Result<bool> {
    let before = by_id(tx.reader(), tenant, &link.company)?.ok_or(Code::NotFound)?;
    let linked = before.directories.as_slice();
    if linked.contains(directory) {
        return Ok(false);
    }
    if !linked.is_empty() && !link.adds_directory {
        return Err(bound(
            "This company is linked to another M365 tenant. Remove that link first, \
             or send \"add_directory\": true to link this one too.",
        ));
    }
    if linked.len() >= COMPANY_DIRECTORIES {
        return Err(bound(format!(
            "This company is linked to {COMPANY_DIRECTORIES} M365 tenants already. Remove one of those links first."
        )));
    }
    let after = CompanyRecord {
        directories: before.directories.and(directory),
        ..before.clone()
    };
    update(tx, tenant, &before, &after)?;
    Ok(true)
}

fn bound(message: impl Into<Cow<'static, str>>) -> Error {
    Refusal::new(Code::CompanyAlreadyBound)
        .saying(message)
        .with("field", "psa_company_id")
        .into()
}

const DELETE: &str = "DELETE FROM end_companies WHERE tenant_no = ?1 AND psa_company_id = ?2";

/// Deletes a company and the articles for this company only, which must not become visible to all
/// companies. Returns how many articles those were.
pub fn delete(tx: &mut WriteTx<'_>, tenant: TenantNo, company: &CompanyRecord) -> Result<usize> {
    let articles = articles::delete_of_company(tx, tenant, &company.psa_company_id)?;
    tx.execute(DELETE, (tenant, &company.psa_company_id))?;
    forget_refusals(tx, tenant, &company.directories, &Directories::default())?;
    Ok(articles)
}

/// Deletes the refusals of the directories that were added or removed, if exactly one company is
/// linked to the directory now: after a link is added, and after the second of two is removed.
fn forget_refusals(
    tx: &mut WriteTx<'_>,
    tenant: TenantNo,
    old: &Directories,
    new: &Directories,
) -> Result<()> {
    for directory in old.without(new).chain(new.without(old)) {
        if company_directories::linked_up_to_two(tx.reader(), tenant, directory)? == 1 {
            unlinked::delete(tx, tenant, directory)?;
        }
    }
    Ok(())
}
