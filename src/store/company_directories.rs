//! The directories that a company's staff sign in with. Each of them pins sessions to the company.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Serialize, Serializer};

use super::WriteTx;
use super::sql::{Reader, Row};
use crate::error::{Error, Result};
use crate::model::ids::Tick;
use crate::model::names::{CompanyId, M365TenantId, TenantNo};
use crate::resolver::{Company, Linked};

/// A company's directories, in the order in which they were given. The API shows the first one as
/// `tenant_id` too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directories(Vec<M365TenantId>);

/// [`Directories`] as the API returns them.
#[derive(Serialize, JsonSchema)]
struct Shown<'a> {
    /// The first of `tenant_ids`; null if there is none.
    tenant_id: Option<&'a M365TenantId>,
    /// The links: the M365 tenants of the company's staff.
    tenant_ids: &'a [M365TenantId],
}

impl Directories {
    /// The first directory.
    pub fn first(&self) -> Option<&M365TenantId> {
        self.0.first()
    }

    /// All directories.
    pub fn as_slice(&self) -> &[M365TenantId] {
        &self.0
    }

    /// The directories with a further one at the end.
    #[must_use]
    pub fn and(&self, directory: &M365TenantId) -> Self {
        let further = std::iter::once(directory);
        Self(self.0.iter().chain(further).cloned().collect())
    }

    /// The directories that are not among the others.
    pub(super) fn without<'a>(
        &'a self,
        others: &'a Self,
    ) -> impl Iterator<Item = &'a M365TenantId> {
        let own = self.0.iter();
        own.filter(|directory| !others.0.contains(directory))
    }

    /// Reads the column that [`directories_of!`] selects.
    pub(super) fn read(row: &Row<'_>) -> Result<Self> {
        let Some(listed) = row.get::<Option<String>>("directories")? else {
            return Ok(Self::default());
        };
        let parsed = listed.split(',').map(|listed| {
            let (position, id) = listed.split_once(' ')?;
            Some((position.parse::<u32>().ok()?, M365TenantId::parse(id)?))
        });
        // Sorted here: in SQLite, an aggregate function that sorts takes a quarter longer.
        parsed
            .collect::<Option<BTreeMap<_, _>>>()
            .map(|in_order| Self(in_order.into_values().collect()))
            .ok_or_else(|| Error::internal("a company has a directory that cannot be read"))
    }
}

impl From<Vec<M365TenantId>> for Directories {
    fn from(directories: Vec<M365TenantId>) -> Self {
        Self(directories)
    }
}

impl Serialize for Directories {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let shown = Shown {
            tenant_id: self.first(),
            tenant_ids: &self.0,
        };
        shown.serialize(serializer)
    }
}

impl JsonSchema for Directories {
    fn schema_name() -> Cow<'static, str> {
        "Directories".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Shown::json_schema(generator)
    }

    fn inline_schema() -> bool {
        true
    }
}

/// A column with the directories of the company `e`: JSON, with each directory under its position.
macro_rules! directories_of {
    () => {
        "(SELECT string_agg(CAST(d.position AS TEXT) || ' ' || d.m365_tenant_id, ',') FROM company_directories d \
          WHERE d.tenant_no = e.tenant_no AND d.psa_company_id = e.psa_company_id) AS directories"
    };
}
pub(super) use directories_of;

const INSERT: &str = "
INSERT INTO company_directories (tenant_no, m365_tenant_id, company_seq, psa_company_id, position) VALUES (?1, ?2, ?3, ?4, ?5)";

/// Writes the directories of a company that has none.
pub(super) fn insert(
    tx: &WriteTx<'_>,
    tenant: TenantNo,
    (row, id): (Tick, &CompanyId),
    directories: &Directories,
) -> Result<()> {
    for (position, directory) in (0_i64..).zip(&directories.0) {
        tx.execute(INSERT, (tenant, directory, row, id, position))?;
    }
    Ok(())
}

const DELETE: &str = "DELETE FROM company_directories WHERE tenant_no = ?1 AND psa_company_id = ?2";

/// Deletes the directories of a company.
pub(super) fn delete(tx: &WriteTx<'_>, tenant: TenantNo, id: &CompanyId) -> Result<()> {
    tx.execute(DELETE, (tenant, id)).map(drop)
}

const LINKED: &str = "
SELECT count(*) AS companies, min(psa_company_id) AS only_one, min(company_seq) AS only_row,
       EXISTS (SELECT 1 FROM imports i JOIN import_holds h ON h.import_id = i.import_id AND h.m365_tenant_id = ?2
               WHERE i.tenant_no = ?1 AND i.state = 'APPLYING') AS is_held
FROM company_directories WHERE tenant_no = ?1 AND m365_tenant_id = ?2";

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

const UP_TO_TWO: &str = "
SELECT count(*) AS companies FROM (SELECT 1 FROM company_directories WHERE tenant_no = ?1 AND m365_tenant_id = ?2 LIMIT 2) AS linked";

/// How many companies are linked to a directory: none, one, or two for several. The query stops at
/// two, because an import may link very many companies to one directory.
pub(super) fn linked_up_to_two(
    reader: &Reader<'_>,
    tenant: TenantNo,
    directory: &M365TenantId,
) -> Result<u64> {
    reader.one(UP_TO_TWO, (tenant, directory), |row| row.get("companies"))
}
