//! Companies of a tenant that have the same name (contract, section 6, Mapping health).

use schemars::JsonSchema;
use serde::Serialize;

use super::health::{Found, MAX_LISTED, NamedCompany, sentence};
use super::sql::Reader;
use crate::error::Result;
use crate::model::names::TenantNo;

/// A name that several companies have, but for space around it and the case of A to Z.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DuplicateName {
    /// The name of the first company.
    pub psa_company_name: String,
    /// The number of companies with this name.
    pub same_named_companies: usize,
    /// The first of these companies.
    pub companies: Vec<NamedCompany>,
    /// The problem and its solution, in a sentence.
    pub message: String,
}

/// The finding of a name that these companies have.
pub(super) fn finding(mut companies: Vec<NamedCompany>) -> DuplicateName {
    let same_named_companies = companies.len();
    companies.truncate(MAX_LISTED);
    let first = companies.first();
    let mut found = DuplicateName {
        psa_company_name: first.map_or_else(String::new, |first| first.psa_company_name.clone()),
        same_named_companies,
        companies,
        message: String::new(),
    };
    found.message = message(&found);
    found
}

fn message(found: &DuplicateName) -> String {
    let companies = sentence(&found.companies, found.same_named_companies);
    format!("The companies {companies} have the same name. Check whether they are one company.")
}

const DUPLICATES: &str = "
SELECT psa_company_id, psa_company_name, lower(trim(psa_company_name)) AS plain_name FROM end_companies
WHERE tenant_no = ?1 AND lower(trim(psa_company_name)) IN (
  SELECT lower(trim(psa_company_name)) FROM end_companies WHERE tenant_no = ?1
  GROUP BY lower(trim(psa_company_name)) HAVING count(*) > 1)
ORDER BY plain_name, psa_company_id";

/// The names that several companies of a tenant have, with up to `limit` of them in full.
pub(super) fn of_tenant(
    reader: &Reader<'_>,
    tenant: TenantNo,
    limit: usize,
) -> Result<Found<DuplicateName>> {
    let mut found = Found::none();
    let mut last: Option<String> = None;
    reader.each(DUPLICATES, [tenant], |row| {
        let plain: String = row.get("plain_name")?;
        let company = NamedCompany {
            psa_company_id: row.get("psa_company_id")?,
            psa_company_name: row.get("psa_company_name")?,
        };
        if last.as_ref() != Some(&plain) {
            last = Some(plain);
            let name = DuplicateName {
                psa_company_name: company.psa_company_name.clone(),
                same_named_companies: 0,
                companies: Vec::new(),
                message: String::new(),
            };
            found.add(name, limit);
        }
        if found.count <= limit
            && let Some(name) = found.items.last_mut()
        {
            name.same_named_companies += 1;
            if name.companies.len() < MAX_LISTED {
                name.companies.push(company);
            }
        }
        Ok(())
    })?;
    for name in &mut found.items {
        name.message = message(name);
    }
    Ok(found)
}
