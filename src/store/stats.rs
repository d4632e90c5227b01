//! Statistics of a tenant by day and by agent (contract, section 7).

use std::collections::{BTreeMap, HashMap, HashSet};

use schemars::JsonSchema;
use serde::Serialize;

use super::people::{self, LEAST_MESSAGES};
use super::sql::Reader;
use crate::error::Result;
use crate::model::clock::{Millis, Timestamp, month_of, rfc3339};
use crate::model::ids::Tick;
use crate::model::names::{AgentId, TenantNo};
use crate::model::words::TurnStatus;

/// Milliseconds of a day.
pub const DAY: Millis = 24 * 60 * 60 * 1_000;

/// The statistics of a tenant.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Stats {
    /// The start of the period, inclusive.
    pub from: Timestamp,
    /// The end of the period, exclusive.
    pub to: Timestamp,
    /// The counts of the whole period.
    pub total: Counts,
    /// The days (UTC) with a session or a turn, oldest first.
    pub by_day: Vec<DayStats>,
    /// The agents with a session or a turn, in the order of their numbers.
    pub by_agent: Vec<AgentStats>,
}

/// The counts of a period.
#[derive(Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Counts {
    /// Sessions that were created.
    pub sessions: i64,
    /// Turns that were queued.
    pub turns: i64,
    /// Turns that failed.
    pub failures: i64,
    /// The median time from the queue to the first word, in milliseconds; null if no turn has a
    /// first word.
    pub median_first_word_ms: Option<i64>,
    /// People who wrote at least two messages within one calendar month.
    pub active_users: usize,
}

/// A day's counts.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DayStats {
    /// The day, as `2026-01-31`.
    pub day: String,
    #[serde(flatten)]
    #[expect(missing_docs, reason = "they are the fields of Counts")]
    pub counts: Counts,
}

/// An agent's counts.
#[derive(Debug, Serialize, JsonSchema)]
pub struct AgentStats {
    /// The agent's number.
    pub agent_id: AgentId,
    /// The agent's name; null if the agent no longer exists.
    pub agent_name: Option<String>,
    #[serde(flatten)]
    #[expect(missing_docs, reason = "they are the fields of Counts")]
    pub counts: Counts,
}

/// Running counts.
#[derive(Default)]
struct Tally {
    sessions: i64,
    turns: i64,
    failures: i64,
    waits_ms: Vec<i64>,
    /// The messages of each person in each month.
    people: HashMap<(Person, i32), u32>,
}

/// A person, by the order in which they were found.
type Person = u32;

impl Tally {
    fn add_turn(&mut self, failed: bool, wait_ms: Option<i64>) {
        self.turns += 1;
        self.failures += i64::from(failed);
        self.waits_ms.extend(wait_ms);
    }

    fn add_message(&mut self, person: Person, month: i32) {
        *self.people.entry((person, month)).or_default() += 1;
    }

    fn counts(mut self) -> Counts {
        let active = self
            .people
            .iter()
            .filter(|(_, count)| **count >= LEAST_MESSAGES);
        let active: HashSet<Person> = active.map(|((person, _), _)| *person).collect();
        let middle = self.waits_ms.len().saturating_sub(1) / 2;
        let median_first_word_ms =
            (!self.waits_ms.is_empty()).then(|| *self.waits_ms.select_nth_unstable(middle).1);
        Counts {
            sessions: self.sessions,
            turns: self.turns,
            failures: self.failures,
            median_first_word_ms,
            active_users: active.len(),
        }
    }
}

#[derive(Default)]
struct Tallies {
    total: Tally,
    days: BTreeMap<Millis, Tally>,
    agents: BTreeMap<AgentId, Tally>,
}

impl Tallies {
    fn add(&mut self, time: Millis, agent: AgentId, count: impl Fn(&mut Tally)) {
        count(&mut self.total);
        count(self.days.entry(time.div_euclid(DAY)).or_default());
        count(self.agents.entry(agent).or_default());
    }
}

/// The sessions of a period. The index separates archived sessions from the others.
pub const SESSIONS: &str = "
SELECT agent_id, created_at FROM sessions
WHERE tenant_no = ?1 AND archived = ?4 AND seq >= ?2 AND seq < ?3";

/// The turns of a period.
pub const TURNS: &str = "
SELECT s.agent_id AS agent_id, t.status AS status, t.queued_at AS queued_at, t.first_word_at AS first_word_at,
       t.author_kind AS author_kind, t.author_id AS author_id, t.again_of IS NOT NULL AS is_again
FROM turns t JOIN sessions s ON s.seq = t.session_seq
WHERE t.tenant_no = ?1 AND t.seq >= ?2 AND t.seq < ?3";

const NAMES: &str = "SELECT agent_id, name FROM agents WHERE tenant_no = ?1";

/// The statistics of a tenant in a period.
pub fn of(reader: &Reader<'_>, tenant: TenantNo, from: Millis, to: Millis) -> Result<Stats> {
    let mut tallies = Tallies::default();
    let mut known: HashMap<String, Person> = HashMap::new();
    let (first, last) = (Tick::new(from, 0), Tick::new(to, 0));
    for archived in [false, true] {
        reader.each(SESSIONS, (tenant, first, last, archived), |row| {
            let (agent, time) = (row.get("agent_id")?, row.get("created_at")?);
            tallies.add(time, agent, |tally| tally.sessions += 1);
            Ok(())
        })?;
    }
    reader.each(TURNS, (tenant, first, last), |row| {
        let (agent, status): (AgentId, TurnStatus) = (row.get("agent_id")?, row.get("status")?);
        let queued: Millis = row.get("queued_at")?;
        let first_word: Option<Millis> = row.get("first_word_at")?;
        let wait_ms = first_word.map(|at| (at - queued).max(0));
        // A question that is asked again is one message.
        let person = match row.get("is_again")? {
            true => None,
            false => people::person(row)?,
        };
        let person = person.map(|person| {
            let next = Person::try_from(known.len()).unwrap_or(Person::MAX);
            *known.entry(person).or_insert(next)
        });
        let month = month_of(queued);
        tallies.add(queued, agent, |tally| {
            tally.add_turn(status == TurnStatus::Failed, wait_ms);
            if let Some(person) = person {
                tally.add_message(person, month);
            }
        });
        Ok(())
    })?;
    let names: Vec<(AgentId, String)> = reader.all(NAMES, [tenant], |row| {
        Ok((row.get("agent_id")?, row.get("name")?))
    })?;
    let mut names: BTreeMap<AgentId, String> = names.into_iter().collect();
    let by_day = tallies.days.into_iter().map(|(day, tally)| DayStats {
        day: rfc3339(day * DAY).chars().take(10).collect(),
        counts: tally.counts(),
    });
    let by_agent = tallies
        .agents
        .into_iter()
        .map(|(agent_id, tally)| AgentStats {
            agent_id,
            agent_name: names.remove(&agent_id),
            counts: tally.counts(),
        });
    Ok(Stats {
        from: Timestamp(from),
        to: Timestamp(to),
        by_day: by_day.collect(),
        by_agent: by_agent.collect(),
        total: tallies.total.counts(),
    })
}
