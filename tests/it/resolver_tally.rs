//! Counts the outcomes on which the resolver and its model agree.

use std::collections::BTreeMap;
use std::panic;
use std::thread;

use switchboard::model::words::Rule;
use switchboard::resolver::Refused;
use switchboard::store::cache::Cache;

use crate::resolver_model::{Question, agreed_through};
use crate::world::World;

/// The number of times each outcome was seen, so that a test that compares nothing cannot pass.
#[derive(Default)]
pub struct Tally {
    pub worlds: u64,
    rules: [u64; 4],
    refusals: [u64; REFUSALS.len()],
    /// The cache as a server uses it: each world is the next version of the one before.
    cache: Cache,
}

const REFUSALS: [&str; 13] = [
    "malformed client_id",
    "unknown tenant",
    "unknown agent",
    "unknown company",
    "foreign directory",
    "routed elsewhere",
    "channel disconnected",
    "agent not allowed",
    "agent not conversational",
    "agent disabled",
    "agent access denied",
    "end company required",
    "end company not mapped",
];

impl Tally {
    pub fn compare(&mut self, world: &World, questions: &[Question]) {
        self.worlds += 1;
        let version = i64::try_from(self.worlds).unwrap();
        let known = self.cache.at(version, world);
        for question in questions {
            match agreed_through(&known, world, question) {
                Ok(resolution) => {
                    let rules = Rule::ALL.iter();
                    for (count, rule) in self.rules.iter_mut().zip(rules) {
                        *count += u64::from(*rule == resolution.rule);
                    }
                }
                Err(refused) => {
                    self.refusals[match refused {
                        Refused::MalformedClientId => 0,
                        Refused::UnknownTenant => 1,
                        Refused::UnknownAgent => 2,
                        Refused::UnknownCompany => 3,
                        Refused::ForeignDirectory => 4,
                        Refused::RoutedElsewhere(_) => 5,
                        Refused::ChannelDisconnected => 6,
                        Refused::AgentNotAllowed => 7,
                        Refused::AgentNotConversational => 8,
                        Refused::AgentDisabled => 9,
                        Refused::AgentAccessDenied => 10,
                        Refused::EndCompanyRequired => 11,
                        Refused::EndCompanyNotMapped(_) => 12,
                    }] += 1;
                }
            }
        }
    }

    fn add(mut self, other: &Self) -> Self {
        self.worlds += other.worlds;
        for (count, more) in self.rules.iter_mut().zip(other.rules) {
            *count += more;
        }
        for (count, more) in self.refusals.iter_mut().zip(other.refusals) {
            *count += more;
        }
        self
    }

    pub fn questions(&self) -> u64 {
        self.rules.iter().chain(&self.refusals).sum()
    }

    pub fn assert_each_outcome_was_seen(&self) {
        let rules = Rule::ALL.iter().map(|rule| rule.as_str()).zip(self.rules);
        let counts: BTreeMap<_, _> = rules
            .chain(REFUSALS.into_iter().zip(self.refusals))
            .collect();
        println!(
            "{} worlds, {} questions: {counts:#?}",
            self.worlds,
            self.questions()
        );
        assert!(
            counts.values().all(|count| *count > 0),
            "an outcome was never seen: {counts:#?}"
        );
    }
}

/// Splits work between two threads and adds up their tallies.
pub fn on_two_threads(work: impl Fn(usize) -> Tally + Sync) -> Tally {
    thread::scope(|scope| {
        let other = scope.spawn(|| work(1));
        let own = work(0);
        match other.join() {
            Ok(tally) => own.add(&tally),
            Err(panic) => panic::resume_unwind(panic),
        }
    })
}
