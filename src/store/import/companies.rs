//! What an import does to one company. A read decides, and the change is written at once or later.

use serde_json::Value;

use super::report::{Change, Tally};
use crate::error::Result;
use crate::input::seed::SeedCompany;
use crate::model::directory::DirectoryRule;
use crate::model::names::{M365TenantId, TenantNo};
use crate::store::companies::{self, CompanyRecord};
use crate::store::company_directories::{self, Directories};
use crate::store::rules::{self, Violation};
use crate::store::{Reader, WriteTx, export};

/// What an import does to a company.
pub(super) enum Decision {
    Create(CompanyRecord),
    Keep(CompanyRecord),
    Update(Box<(CompanyRecord, CompanyRecord)>),
    Refuse(Vec<Violation>),
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
    let links = known.as_ref().map(|known| &known.directories);
    let stored = links.map_or([].as_slice(), Directories::as_slice);
    let violations = rules::unfit_links(&seed.draft, stored, rule);
    if !violations.is_empty() {
        return Ok(Decision::Refuse(violations));
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
    /// What the company is afterwards, unless it is refused.
    pub(super) fn into_after(self) -> Option<CompanyRecord> {
        match self {
            Self::Create(after) | Self::Keep(after) => Some(after),
            Self::Update(change) => Some(change.1),
            Self::Refuse(_) | Self::Unnamed => None,
        }
    }

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

    /// The directories that must pin nobody until all companies of the import are written: each
    /// directory that gets this company, and each directory that loses this company while other
    /// companies stay linked to it.
    pub(super) fn holds(
        &self,
        reader: &Reader<'_>,
        tenant: Option<TenantNo>,
    ) -> Result<Vec<M365TenantId>> {
        let none = Directories::default();
        let (before, after) = match self {
            Self::Create(after) => (&none, &after.directories),
            Self::Update(change) => (&change.0.directories, &change.1.directories),
            Self::Keep(_) | Self::Refuse(_) | Self::Unnamed => return Ok(Vec::new()),
        };
        let mut holds: Vec<M365TenantId> = after.without(before).cloned().collect();
        if let Some(tenant) = tenant {
            for lost in before.without(after) {
                if company_directories::linked_up_to_two(reader, tenant, lost)? > 1 {
                    holds.push(lost.clone());
                }
            }
        }
        Ok(holds)
    }
}

impl Tally<'_> {
    /// Counts a company, or reports its problem.
    pub(super) fn company(&mut self, path: &str, decision: &Decision) {
        const KIND: &str = "end_company";
        match decision {
            Decision::Refuse(violations) => drop(self.refuse_all(path, violations.clone())),
            Decision::Unnamed => self.require(path, "psa_company_name", "company"),
            Decision::Create(after) => {
                self.created(KIND, &after.psa_company_id, || shown(after, after));
            }
            Decision::Keep(known) => {
                let show = || (shown(known, known), shown(known, known));
                self.count(Change::Unchanged, KIND, &known.psa_company_id, show);
            }
            Decision::Update(change) => {
                let (before, after) = (&change.0, &change.1);
                let show = || (shown(before, after), shown(after, before));
                self.count(Change::Updated, KIND, &after.psa_company_id, show);
            }
        }
    }
}

/// A company as a dry run shows it: with the list of its directories instead of the first one, if
/// there are several before or after the change.
fn shown(company: &CompanyRecord, other: &CompanyRecord) -> Value {
    let mut shown = export::company(company);
    let counts = [company, other].map(|company| company.directories.as_slice().len());
    let redundant = match counts.iter().any(|count| *count > 1) {
        true => "tenant_id",
        false => "tenant_ids",
    };
    if let Some(fields) = shown.as_object_mut() {
        fields.remove(redundant);
    }
    shown
}
