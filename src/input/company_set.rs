//! The companies of a list whose rows add up: a company with several M365 tenants has a row for each.

use std::collections::HashMap;

use crate::input::draft::{COMPANY_DIRECTORIES, CompanyDraft};
use crate::input::fields::{Field, Problem, shortened};
use crate::input::seed::SeedCompany;
use crate::model::directory::DirectoryId;
use crate::model::names::CompanyId;

/// The length at which the lines of a company are enough.
const LINES: usize = 60;

/// Companies with their first lines, in the order of the file.
#[derive(Debug, Default)]
pub struct CompanySet {
    companies: Vec<(u64, SeedCompany)>,
    places: HashMap<CompanyId, usize>,
}

impl CompanySet {
    /// Adds a row.
    ///
    /// # Errors
    /// The row contradicts an earlier one of its company.
    pub fn add(&mut self, line: u64, row: SeedCompany) -> Result<(), Problem> {
        let place = *self
            .places
            .entry(row.psa_company_id.clone())
            .or_insert(self.companies.len());
        let Some((first_line, company)) = self.companies.get_mut(place) else {
            self.companies.push((line, row));
            return Ok(());
        };
        add_up(&mut company.draft, *first_line, &row)?;
        if company.path.len() < LINES {
            // A problem with one of the M365 tenants names all rows.
            let lines = company.path.trim_start_matches("lines ");
            let lines = lines.trim_start_matches("line ");
            company.path = format!("lines {lines}, {line}");
        }
        Ok(())
    }

    /// The number of companies.
    pub fn len(&self) -> usize {
        self.companies.len()
    }

    /// Whether there is no company.
    pub fn is_empty(&self) -> bool {
        self.companies.is_empty()
    }

    /// The companies with their first lines.
    pub fn into_companies(self) -> Vec<(u64, SeedCompany)> {
        self.companies
    }
}

/// Adds a row to the draft of its company, which an earlier line begins.
///
/// # Errors
/// The row has another name, or the company gets too many M365 tenants.
pub fn add_up(draft: &mut CompanyDraft, first_line: u64, row: &SeedCompany) -> Result<(), Problem> {
    let problem = |field: &str, value: &str, reason: String| Problem {
        path: format!("{}, {field}", row.path),
        value: shortened(&value.into()),
        reason,
    };
    if let Field::Set(name) = &row.draft.psa_company_name {
        match &draft.psa_company_name {
            Field::Set(first) if first != name => {
                let first = shortened(&first.as_str().into());
                let reason = format!(
                    "is not the name that line {first_line} gives the same company, {first}; give both lines one name, or each company its own id"
                );
                return Err(problem("psa_company_name", name, reason));
            }
            Field::Set(_) => {}
            Field::Absent | Field::Null => draft.psa_company_name = Field::Set(name.clone()),
        }
    }
    let mut directories = draft.take_links();
    for directory in row.draft.clone().take_links() {
        if directories.iter().any(|known| known.id() == directory.id()) {
            continue;
        }
        if directories.len() == COMPANY_DIRECTORIES {
            let reason = format!(
                "is one more than the {COMPANY_DIRECTORIES} M365 tenants that a company can have"
            );
            return Err(problem("tenant_id", directory.id().as_str(), reason));
        }
        directories.push(directory);
    }
    draft.set_links(directories);
    Ok(())
}

impl CompanyDraft {
    /// Takes the M365 tenants out of the draft.
    fn take_links(&mut self) -> Vec<DirectoryId> {
        let only = std::mem::take(&mut self.tenant_id).value();
        let list = std::mem::take(&mut self.tenant_ids).value();
        list.unwrap_or_else(|| only.into_iter().collect())
    }

    /// The draft with a list of one M365 tenant as that tenant, which a problem then names.
    #[must_use]
    pub fn with_only_link(mut self) -> Self {
        if let Field::Set(list) = &self.tenant_ids
            && let [only] = list.as_slice()
        {
            self.tenant_id = Field::Set(only.clone());
            self.tenant_ids = Field::Absent;
        }
        self
    }

    /// Sets the M365 tenants. None of them leaves the company as it is.
    pub(super) fn set_links(&mut self, mut directories: Vec<DirectoryId>) {
        if directories.len() > 1 {
            self.tenant_ids = Field::Set(directories);
        } else if let Some(only) = directories.pop() {
            self.tenant_id = Field::Set(only);
        }
    }
}
