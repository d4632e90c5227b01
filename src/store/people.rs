//! Counts the people who write, by month and company (contract, section 7, Active users).

use std::collections::HashMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::sql::{Reader, Row};
use crate::error::Result;
use crate::model::clock::Millis;
use crate::model::ids::Tick;
use crate::model::names::{CompanyId, CompanyRow, TenantNo};

/// The messages in a month that make a person active.
pub const LEAST_MESSAGES: u32 = 2;

/// The active users of a month.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ActiveUsers {
    /// The month, as `2026-01`.
    pub month: String,
    /// The people who wrote at least two messages in the month.
    pub active_users: usize,
    /// The companies with such people, those with the most people first.
    pub per_company: Vec<CompanyUsers>,
}

/// The active users of a company.
#[derive(Debug, Serialize, JsonSchema)]
pub struct CompanyUsers {
    /// The company's id.
    pub end_company_id: CompanyId,
    /// The company's name; null if the company no longer exists.
    pub company_name: Option<String>,
    /// The people who wrote at least two messages in the month in the company's sessions.
    pub active_users: usize,
}

/// A company of sessions: its id, and its row unless it is gone.
type Company = (CompanyId, Option<CompanyRow>);

/// The person who wrote a turn's message, as one text. `None` for a program, for a token without a
/// person, and for a message of an earlier version.
pub(super) fn person(row: &Row<'_>) -> Result<Option<String>> {
    let kind: Option<String> = row.get("author_kind")?;
    let id: Option<String> = row.get("author_id")?;
    let is_person =
        |kind: &String| !matches!(kind.as_str(), "service_account" | "end_user_session");
    let person = kind.filter(is_person).zip(id);
    // No kind has a slash.
    Ok(person.map(|(kind, id)| format!("{kind}/{id}")))
}

/// How many messages each person wrote, in the sessions of each company.
#[derive(Debug, Default)]
pub struct Messages(HashMap<(String, Option<Company>), u32>);

/// The messages of a period. A question that is asked again counts once.
const MESSAGES: &str = "
SELECT t.author_kind AS author_kind, t.author_id AS author_id, s.psa_company_id AS psa_company_id, s.company_seq AS company_seq
FROM turns t JOIN sessions s ON s.seq = t.session_seq
WHERE t.tenant_no = ?1 AND t.seq >= ?2 AND t.seq < ?3 AND t.again_of IS NULL";

const NAMES: &str = "SELECT seq, psa_company_name AS name FROM end_companies WHERE tenant_no = ?1";

impl Messages {
    /// The messages of a tenant in a period.
    pub fn of(reader: &Reader<'_>, tenant: TenantNo, from: Millis, to: Millis) -> Result<Self> {
        let mut messages = Self::default();
        let period = (tenant, Tick::new(from, 0), Tick::new(to, 0));
        reader.each(MESSAGES, period, |row| {
            let Some(person) = person(row)? else {
                return Ok(());
            };
            let company: Option<CompanyId> = row.get("psa_company_id")?;
            let company_row: Option<CompanyRow> = row.get("company_seq")?;
            let company = company.map(|company| (company, company_row));
            *messages.0.entry((person, company)).or_default() += 1;
            Ok(())
        })?;
        Ok(messages)
    }

    /// Adds the messages of another period.
    pub fn add(&mut self, other: Self) {
        for (key, count) in other.0 {
            *self.0.entry(key).or_default() += count;
        }
    }

    /// The active users of the month whose messages these are.
    pub fn active(
        &self,
        reader: &Reader<'_>,
        tenant: TenantNo,
        month: &str,
    ) -> Result<ActiveUsers> {
        let mut people: HashMap<&str, u32> = HashMap::new();
        let mut companies: HashMap<&Company, usize> = HashMap::new();
        for ((person, company), count) in &self.0 {
            *people.entry(person).or_default() += count;
            if let Some(company) = company
                && *count >= LEAST_MESSAGES
            {
                *companies.entry(company).or_default() += 1;
            }
        }
        let mut per_company: Vec<(&Company, usize)> = companies.into_iter().collect();
        per_company.sort_unstable_by(|(one, first), (other, second)| {
            second.cmp(first).then_with(|| one.cmp(other))
        });
        let mut names: HashMap<CompanyRow, String> = HashMap::new();
        if !per_company.is_empty() {
            let named = reader.all(NAMES, [tenant], |row| {
                Ok((row.get("seq")?, row.get("name")?))
            })?;
            names.extend(named);
        }
        let per_company = per_company
            .into_iter()
            .map(|((id, row), active_users)| CompanyUsers {
                end_company_id: id.clone(),
                company_name: row.and_then(|row| names.get(&row).cloned()),
                active_users,
            });
        let is_active = |count: &&u32| **count >= LEAST_MESSAGES;
        Ok(ActiveUsers {
            month: month.to_owned(),
            active_users: people.values().filter(is_active).count(),
            per_company: per_company.collect(),
        })
    }
}
