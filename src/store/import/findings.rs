//! What an import tells of the companies of its tenants: the findings of the mapping's health that
//! a list of companies can cause.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::error::Result;
use crate::model::directory::DirectoryRule;
use crate::model::names::{ClientId, CompanyId, TenantNo};
use crate::store::companies::{self, CompanyRecord};
use crate::store::health::{self, CompanyFindings, Found, NamedCompany};
use crate::store::{Reader, duplicate_names, tenants};

/// The findings of one kind and tenant that are told.
const OF_A_KIND: usize = 20;
/// The findings that are told in all.
const IN_ALL: usize = 100;

/// What companies are after a large dry run, which never writes them.
pub(super) type Foreseen = HashMap<ClientId, Vec<CompanyRecord>>;

/// The findings of the tenants, one per line. The last line tells how many others there are.
pub fn findings(
    reader: &Reader<'_>,
    client_ids: &BTreeSet<ClientId>,
    rule: DirectoryRule,
) -> Result<Vec<String>> {
    after(reader, client_ids, Foreseen::new(), rule)
}

/// As [`findings`], with companies that are not written.
pub(super) fn after(
    reader: &Reader<'_>,
    client_ids: &BTreeSet<ClientId>,
    mut foreseen: Foreseen,
    rule: DirectoryRule,
) -> Result<Vec<String>> {
    let (mut lines, mut count) = (Vec::new(), 0);
    for client_id in client_ids {
        let tenant = tenants::by_client_id(reader, client_id)?;
        let tenant = tenant.map(|tenant| tenant.no);
        let found = match (foreseen.remove(client_id), tenant) {
            (Some(companies), _) => foresee(reader, tenant, companies, rule)?,
            (None, Some(tenant)) => health::of_companies(reader, tenant, OF_A_KIND, rule)?,
            (None, None) => continue,
        };
        count += found.shared_directories.count + found.duplicate_names.count;
        let shared = found.shared_directories.items.into_iter();
        let names = found.duplicate_names.items.into_iter();
        let messages = shared
            .map(|found| found.message)
            .chain(names.map(|found| found.message));
        lines.extend(messages.map(|message| format!("{client_id}: {message}")));
        lines.truncate(IN_ALL);
    }
    if count > lines.len() {
        let more = count - lines.len();
        lines.push(format!(
            "{more} more of these; 'switchboard check' lists all"
        ));
    }
    Ok(lines)
}

/// The findings of a tenant's companies, some of which are changed.
fn foresee(
    reader: &Reader<'_>,
    tenant: Option<TenantNo>,
    changed: Vec<CompanyRecord>,
    rule: DirectoryRule,
) -> Result<CompanyFindings> {
    let stored = match tenant {
        Some(tenant) => companies::all(reader, tenant)?,
        None => Vec::new(),
    };
    let all = stored.into_iter().chain(changed);
    let all: BTreeMap<CompanyId, CompanyRecord> = all
        .map(|company| (company.psa_company_id.clone(), company))
        .collect();
    let (mut directories, mut names) = (BTreeMap::new(), BTreeMap::new());
    for company in all.values() {
        for id in company.directories.as_slice() {
            if id.is_fit(rule) {
                let linked: &mut Vec<NamedCompany> = directories.entry(id).or_default();
                linked.push(company.into());
            }
        }
        let plain = company.psa_company_name.trim_matches(' ');
        let named: &mut Vec<NamedCompany> = names.entry(plain.to_ascii_lowercase()).or_default();
        named.push(company.into());
    }
    let (mut shared_directories, mut duplicate_names) = (Found::none(), Found::none());
    for (id, companies) in directories {
        if companies.len() > 1 {
            let found = health::shared_directory(id.clone(), companies);
            shared_directories.add(found, OF_A_KIND);
        }
    }
    for companies in names.into_values() {
        if companies.len() > 1 {
            duplicate_names.add(duplicate_names::finding(companies), OF_A_KIND);
        }
    }
    Ok(CompanyFindings {
        shared_directories,
        duplicate_names,
    })
}
