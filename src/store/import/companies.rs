//! What an import does to one company. A read decides, and the change is written at once or later.

use super::report::{Change, Tally};
use crate::error::Result;
use crate::input::seed::SeedCompany;
use crate::model::directory::DirectoryRule;
use crate::model::names::{M365TenantId, TenantNo};
use crate::store::companies::{self, CompanyRecord};
use crate::store::rules::{self, Violation};
use crate::store::{Reader, WriteTx, export};

/// What an import does to a company.
pub(super) enum Decision {
    Create(CompanyRecord),
    Keep(CompanyRecord),
    Update(Box<(CompanyRecord, CompanyRecord)>),
    Refuse(Violation),
    /// A new company without a name.
    Unnamed,
}

/// Compares a company of a file with the store. `tenant` is `None` for a new tenant.
pub(super) fn decide(
    reader: &Reader<'_>,
    tenant: Option<TenantNo>,
    seed: &SeedCompany,
    rule: DirectoryRule,
) -> Result<Decision> {
    let known = match tenant {
        Some(tenant) => companies::by_id(reader, tenant, &seed.psa_company_id)?,
        None => None,
    };
    let stored = known.as_ref().and_then(|known| known.tenant_id.as_ref());
    let named = &seed.draft.tenant_id;
    if let Some(violation) = rules::unfit_directory("tenant_id", named, stored, rule) {
        return Ok(Decision::Refuse(violation));
    }
    let Some(known) = known else {
        let after = CompanyRecord::fresh(seed.psa_company_id.clone()).changed(&seed.draft);
        return Ok(match after.psa_company_name.is_empty() {
            true => Decision::Unnamed,
            false => Decision::Create(after),
        });
    };
    let after = known.changed(&seed.draft);
    Ok(match after == known {
        true => Decision::Keep(known),
        false => Decision::Update(Box::new((known, after))),
    })
}

impl Decision {
    /// Whether the company has to be written.
    pub(super) fn is_change(&self) -> bool {
        match self {
            Self::Create(_) | Self::Update(_) => true,
            Self::Keep(_) | Self::Refuse(_) | Self::Unnamed => false,
        }
    }

    pub(super) fn write(&self, tx: &mut WriteTx<'_>, tenant: TenantNo) -> Result<()> {
        match self {
            Self::Create(after) => companies::insert(tx, tenant, after),
            Self::Update(change) => companies::update(tx, tenant, &change.0, &change.1),
            Self::Keep(_) | Self::Refuse(_) | Self::Unnamed => Ok(()),
        }
    }

    /// The directories that must pin nobody until all companies of the import are written: the
    /// directory that gets this company, and the directory that loses this company if exactly one
    /// other company stays linked to it.
    pub(super) fn holds(
        &self,
        reader: &Reader<'_>,
        tenant: Option<TenantNo>,
    ) -> Result<Vec<M365TenantId>> {
        let (before, after) = match self {
            Self::Create(after) => (None, &after.tenant_id),
            Self::Update(change) => (change.0.tenant_id.as_ref(), &change.1.tenant_id),
            Self::Keep(_) | Self::Refuse(_) | Self::Unnamed => return Ok(Vec::new()),
        };
        let mut holds = Vec::new();
        if before == after.as_ref() {
            return Ok(holds);
        }
        if let (Some(tenant), Some(before)) = (tenant, before)
            && companies::linked_up_to_two(reader, tenant, before)? > 1
        {
            holds.push(before.clone());
        }
        holds.extend(after.clone());
        Ok(holds)
    }
}

impl Tally<'_> {
    /// Counts a company, or reports its problem.
    pub(super) fn company(&mut self, path: &str, decision: &Decision) {
        const KIND: &str = "end_company";
        match decision {
            Decision::Refuse(violation) => self.refuse(path, violation.clone()),
            Decision::Unnamed => self.require(path, "psa_company_name", "company"),
            Decision::Create(after) => {
                self.created(KIND, &after.psa_company_id, || export::company(after));
            }
            Decision::Keep(known) => {
                let show = || (export::company(known), export::company(known));
                self.count(Change::Unchanged, KIND, &known.psa_company_id, show);
            }
            Decision::Update(change) => {
                let show = || (export::company(&change.0), export::company(&change.1));
                self.count(Change::Updated, KIND, &change.1.psa_company_id, show);
            }
        }
    }
}
