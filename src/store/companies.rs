//! End companies: an MSP's clients. A company can be linked to a Microsoft directory.

use schemars::JsonSchema;
use serde::Serialize;

use super::rules::{self, Violation};
use super::sql::{Reader, Row, Rows};
use super::{WriteTx, articles, unlinked};
use crate::error::{Code, Refusal, Result};
use crate::input::draft::CompanyDraft;
use crate::input::fields::Field;
use crate::model::clock::Timestamp;
use crate::model::directory::{DirectoryId, DirectoryRule};
use crate::model::ids::Tick;
use crate::model::names::{CompanyId, CompanyRow, M365TenantId, TenantNo};
use crate::resolver::{Company, Linked};

/// An end company as the API returns it (contract, section 6).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct CompanyRecord {
    /// The company's id in the MSP's PSA.
    pub psa_company_id: CompanyId,
    /// The company's name.
    pub psa_company_name: String,
    /// The link: the M365 tenant of the company's staff.
    pub tenant_id: Option<M365TenantId>,
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
            tenant_id: None,
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
        let (draft, before) = (draft.clone(), self.clone());
        Self {
            psa_company_id: before.psa_company_id,
            psa_company_name: draft
                .psa_company_name
                .over(before.psa_company_name.clone(), before.psa_company_name),
            tenant_id: draft
                .tenant_id
                .map(DirectoryId::into_id)
                .over_optional(before.tenant_id),
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
            "SELECT psa_company_id, psa_company_name, m365_tenant_id, custom_instructions, \
             custom_instructions_for_user_facing_chat, created_at, updated_at, seq FROM end_companies ",
            $rest
        )
    };
}

fn record(row: &Row<'_>) -> Result<CompanyRecord> {
    Ok(CompanyRecord {
        psa_company_id: row.get("psa_company_id")?,
        psa_company_name: row.get("psa_company_name")?,
        tenant_id: row.get("m365_tenant_id")?,
        custom_instructions: row.get("custom_instructions")?,
        custom_instructions_for_user_facing_chat: row
            .get("custom_instructions_for_user_facing_chat")?,
        created_at: Timestamp(row.get("created_at")?),
        updated_at: Timestamp(row.get("updated_at")?),
        seq: row.get("seq")?,
    })
}

const BY_ID: &str = select!("WHERE tenant_no = ?1 AND psa_company_id = ?2");

/// The tenant's company with this id.
pub fn by_id(
    reader: &Reader<'_>,
    tenant: TenantNo,
    id: &CompanyId,
) -> Result<Option<CompanyRecord>> {
    reader.optional(BY_ID, (tenant, id), record)
}

const BY_ROW: &str = select!("WHERE tenant_no = ?1 AND seq = ?2");

/// The tenant's company in this row.
pub fn by_row(
    reader: &Reader<'_>,
    tenant: TenantNo,
    row: CompanyRow,
) -> Result<Option<CompanyRecord>> {
    reader.optional(BY_ROW, (tenant, row), record)
}

const ALL: &str = select!("WHERE tenant_no = ?1 ORDER BY seq");

/// All companies of a tenant, oldest first.
pub fn all(reader: &Reader<'_>, tenant: TenantNo) -> Result<Vec<CompanyRecord>> {
    reader.all(ALL, [tenant], record)
}

/// The filter of a list of companies. Each field that is set narrows the list.
#[derive(Clone, Debug, Default)]
pub struct CompanyFilter {
    /// Companies that are linked to this directory.
    pub tenant_id: Option<M365TenantId>,
    /// Companies whose id or name contains this text. Case does not matter.
    pub q: Option<String>,
}

/// The index of each list and its SQL. A test reads the query plan.
pub const RANGES: &[(&str, &str)] = &[
    ("end_companies_newest", PAGE),
    ("end_companies_of_directory", PAGE_OF_DIRECTORY),
];

const PAGE: &str = select!(
    "WHERE tenant_no = ?1 AND seq < ?2
       AND (?3 IS NULL OR instr(lower(psa_company_id), lower(?3)) > 0 OR instr(lower(psa_company_name), lower(?3)) > 0)
     ORDER BY seq DESC LIMIT ?4"
);
const PAGE_OF_DIRECTORY: &str = select!(
    "WHERE tenant_no = ?1 AND m365_tenant_id = ?5 AND seq < ?2
       AND (?3 IS NULL OR instr(lower(psa_company_id), lower(?3)) > 0 OR instr(lower(psa_company_name), lower(?3)) > 0)
     ORDER BY seq DESC LIMIT ?4"
);

/// A page of a tenant's companies that are older than `before`, newest first.
pub fn page(
    reader: &Reader<'_>,
    tenant: TenantNo,
    filter: &CompanyFilter,
    before: Tick,
    limit: usize,
) -> Result<Rows<CompanyRecord>> {
    match &filter.tenant_id {
        None => reader.page(PAGE, (tenant, before, &filter.q, limit), record),
        Some(directory) => reader.page(
            PAGE_OF_DIRECTORY,
            (tenant, before, &filter.q, limit, directory),
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

const LINKED: &str = "
SELECT count(*) AS companies, min(psa_company_id) AS only_one, min(seq) AS only_row,
       EXISTS (SELECT 1 FROM imports i JOIN import_holds h ON h.import_id = i.import_id AND h.m365_tenant_id = ?2
               WHERE i.tenant_no = ?1 AND i.state = 'APPLYING') AS is_held
FROM end_companies WHERE tenant_no = ?1 AND m365_tenant_id = ?2";

/// The tenant's companies that are linked to this directory. An import that is being applied holds
/// the directories whose companies it changes, because a company that is linked during the import
/// may be linked neither before nor after it.
pub fn linked(reader: &Reader<'_>, tenant: TenantNo, directory: &M365TenantId) -> Result<Linked> {
    reader.one(LINKED, (tenant, directory), |row| {
        let companies: u64 = row.get("companies")?;
        let (id, row_seq) = (row.get("only_one")?, row.get("only_row")?);
        let is_held: bool = row.get("is_held")?;
        Ok(match (companies, id, row_seq) {
            // The resolver treats a directory without a company as unlinked.
            _ if is_held => Linked::Not(companies.max(1)),
            (1, Some(id), Some(row)) => Linked::One(Company { id, row }),
            _ => Linked::Not(companies),
        })
    })
}

const IS_HELD: &str = "
SELECT 1 FROM imports i JOIN import_holds h ON h.import_id = i.import_id AND h.m365_tenant_id = ?2
WHERE i.tenant_no = ?1 AND i.state = 'APPLYING'";

/// Whether an import that is being applied holds this directory.
pub(super) fn is_held(
    reader: &Reader<'_>,
    tenant: TenantNo,
    directory: &M365TenantId,
) -> Result<bool> {
    let held = reader.optional(IS_HELD, (tenant, directory), |_| Ok(()))?;
    Ok(held.is_some())
}

const INSERT: &str = "
INSERT INTO end_companies (tenant_no, psa_company_id, seq, psa_company_name, m365_tenant_id, custom_instructions,
                           custom_instructions_for_user_facing_chat, created_at, updated_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8)";

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
            &company.tenant_id,
            &company.custom_instructions,
            &company.custom_instructions_for_user_facing_chat,
            now,
        ),
    )?;
    forget_refusals(tx, tenant, [company.tenant_id.as_ref(), None])
}

const UPDATE: &str = "
UPDATE end_companies SET psa_company_name = ?3, m365_tenant_id = ?4, custom_instructions = ?5,
                         custom_instructions_for_user_facing_chat = ?6, updated_at = ?7
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
            &company.tenant_id,
            &company.custom_instructions,
            &company.custom_instructions_for_user_facing_chat,
            now,
        ),
    )?;
    forget_refusals(
        tx,
        tenant,
        [company.tenant_id.as_ref(), before.tenant_id.as_ref()],
    )
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
    let stored = before.tenant_id.as_ref();
    rules::refuse(rules::unfit_directory(
        "tenant_id",
        &draft.tenant_id,
        stored,
        rule,
    ))?;
    let after = before.changed(draft);
    if after == *before {
        return Ok(());
    }
    update(tx, tenant, before, &after)
}

/// Links a company to a directory. Returns whether this changed the company.
///
/// # Errors
/// `not_found` for a company that the tenant lacks; `company_already_bound` for a company that is
/// linked to another directory, which stays linked.
pub fn link(
    tx: &mut WriteTx<'_>,
    tenant: TenantNo,
    id: &CompanyId,
    directory: &M365TenantId,
) -> Result<bool> {
    let before = by_id(tx.reader(), tenant, id)?.ok_or(Code::NotFound)?;
    match &before.tenant_id {
        Some(linked) if linked == directory => Ok(false),
        Some(_) => Err(Refusal::new(Code::CompanyAlreadyBound)
            .saying("This company is linked to another M365 tenant. Remove that link first.")
            .with("field", "psa_company_id")
            .into()),
        None => {
            let after = CompanyRecord {
                tenant_id: Some(directory.clone()),
                ..before.clone()
            };
            update(tx, tenant, &before, &after)?;
            Ok(true)
        }
    }
}

const DELETE: &str = "DELETE FROM end_companies WHERE tenant_no = ?1 AND psa_company_id = ?2";

/// Deletes a company and the articles for this company only, which must not become visible to all
/// companies. Returns how many articles those were.
pub fn delete(tx: &mut WriteTx<'_>, tenant: TenantNo, company: &CompanyRecord) -> Result<usize> {
    let articles = articles::delete_of_company(tx, tenant, &company.psa_company_id)?;
    tx.execute(DELETE, (tenant, &company.psa_company_id))?;
    forget_refusals(tx, tenant, [company.tenant_id.as_ref(), None])?;
    Ok(articles)
}

const UP_TO_TWO: &str = "
SELECT count(*) AS companies FROM (SELECT 1 FROM end_companies WHERE tenant_no = ?1 AND m365_tenant_id = ?2 LIMIT 2) AS linked";

/// How many companies are linked to a directory: none, one, or two for several. The query stops at
/// two, because an import may link very many companies to one directory.
pub(super) fn linked_up_to_two(
    reader: &Reader<'_>,
    tenant: TenantNo,
    directory: &M365TenantId,
) -> Result<u64> {
    reader.one(UP_TO_TWO, (tenant, directory), |row| row.get("companies"))
}

/// Deletes the record of a directory's refusals when exactly one company is linked to it: after a
/// link is added, and after the second of two is removed.
fn forget_refusals(
    tx: &mut WriteTx<'_>,
    tenant: TenantNo,
    directories: [Option<&M365TenantId>; 2],
) -> Result<()> {
    for directory in directories.into_iter().flatten() {
        if linked_up_to_two(tx.reader(), tenant, directory)? == 1 {
            unlinked::delete(tx, tenant, directory)?;
        }
    }
    Ok(())
}
