//! Which session's turn runs next: one turn a session at a time, sessions beside one another, tenants in turn.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::model::ids::SessionId;
use crate::model::names::TenantNo;

/// A session that has turns to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Waiting {
    /// Its tenant.
    pub tenant: TenantNo,
    /// The session.
    pub session: SessionId,
}

/// Sessions that wait, by tenant, and those whose turn runs.
#[derive(Debug)]
pub struct Queue {
    most_running: usize,
    tenants: VecDeque<TenantNo>,
    sessions: HashMap<TenantNo, VecDeque<SessionId>>,
    waiting: HashSet<SessionId>,
    running: HashSet<SessionId>,
    /// Sessions that got another turn while one was running.
    again: HashSet<SessionId>,
}

impl Queue {
    /// A queue that lets so many turns run at one time.
    pub fn new(most_running: usize) -> Self {
        Self {
            most_running,
            tenants: VecDeque::new(),
            sessions: HashMap::new(),
            waiting: HashSet::new(),
            running: HashSet::new(),
            again: HashSet::new(),
        }
    }

    /// A session has a turn to run.
    pub fn add(&mut self, waiting: Waiting) {
        if self.running.contains(&waiting.session) {
            self.again.insert(waiting.session);
        } else if self.waiting.insert(waiting.session) {
            let sessions = self.sessions.entry(waiting.tenant).or_default();
            if sessions.is_empty() {
                self.tenants.push_back(waiting.tenant);
            }
            sessions.push_back(waiting.session);
        }
    }

    /// The session whose turn is to run now, if one may.
    pub fn take(&mut self) -> Option<Waiting> {
        if self.running.len() >= self.most_running {
            return None;
        }
        let tenant = self.tenants.pop_front()?;
        let sessions = self.sessions.get_mut(&tenant)?;
        let session = sessions.pop_front()?;
        if sessions.is_empty() {
            self.sessions.remove(&tenant);
        } else {
            self.tenants.push_back(tenant);
        }
        self.waiting.remove(&session);
        self.running.insert(session);
        Some(Waiting { tenant, session })
    }

    /// A session's turn has ended; it waits again, behind others, if it has more.
    pub fn done(&mut self, ended: Waiting, has_more: bool) {
        self.running.remove(&ended.session);
        if self.again.remove(&ended.session) || has_more {
            self.add(ended);
        }
    }

    /// How many turns run.
    pub fn running(&self) -> usize {
        self.running.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::Tick;

    fn waiting(tenant: i64, session: i64) -> Waiting {
        Waiting {
            tenant: TenantNo(tenant),
            session: SessionId::new(Tick(session), 0),
        }
    }

    #[test]
    fn tenants_take_turns_and_a_session_runs_one_turn_at_a_time() {
        let mut queue = Queue::new(3);
        for session in 1..=3 {
            queue.add(waiting(1, session));
        }
        queue.add(waiting(1, 1));
        queue.add(waiting(2, 9));
        assert_eq!(queue.take(), Some(waiting(1, 1)));
        assert_eq!(queue.take(), Some(waiting(2, 9)));
        queue.add(waiting(1, 1));
        assert_eq!(queue.take(), Some(waiting(1, 2)));
        assert_eq!(queue.take(), None);
        queue.done(waiting(1, 1), false);
        assert_eq!(queue.take(), Some(waiting(1, 3)));
        queue.done(waiting(1, 3), false);
        assert_eq!(queue.take(), Some(waiting(1, 1)));
        queue.done(waiting(1, 1), false);
        assert_eq!(queue.take(), None);
        assert_eq!(queue.running(), 2);
    }
}
