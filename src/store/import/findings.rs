//! What an import tells of the companies of its tenants: the findings of the mapping's health that
//! a list of companies can cause.

use std::collections::BTreeSet;

use crate::error::Result;
use crate::model::directory::DirectoryRule;
use crate::model::names::ClientId;
use crate::store::{Reader, health, tenants};

/// The findings of one kind and tenant that are told.
const OF_A_KIND: usize = 20;
/// The findings that are told in all.
const IN_ALL: usize = 100;

/// The findings of the tenants, one per line. The last line tells how many others there are.
pub fn findings(
    reader: &Reader<'_>,
    client_ids: &BTreeSet<ClientId>,
    rule: DirectoryRule,
) -> Result<Vec<String>> {
    let (mut lines, mut count) = (Vec::new(), 0);
    for client_id in client_ids {
        let Some(tenant) = tenants::by_client_id(reader, client_id)? else {
            continue;
        };
        let found = health::of_companies(reader, tenant.no, OF_A_KIND, rule)?;
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
