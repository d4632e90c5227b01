//! Decides which session runs a turn next: round-robin over the tenants, one turn per session at a
//! time.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::model::ids::SessionId;
use crate::model::names::TenantNo;

/// A session that has turns to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct QueuedSession {
    /// The session's tenant.
    pub tenant: TenantNo,
    /// The session.
    pub session: SessionId,
}

/// The queued sessions by tenant, and the running ones.
#[derive(Debug)]
pub struct Queue {
    max_running: usize,
    /// Tenants that have queued sessions, in the order in which they are served.
    tenants: VecDeque<TenantNo>,
    sessions: HashMap<TenantNo, VecDeque<SessionId>>,
    queued: HashSet<SessionId>,
    running: HashSet<SessionId>,
    /// Running sessions that were pushed again, and are queued again when their turn has ended.
    requeued: HashSet<SessionId>,
}

impl Queue {
    /// Creates a queue that lets up to `max_running` turns run at a time.
    pub fn new(max_running: usize) -> Self {
        Self {
            max_running,
            tenants: VecDeque::new(),
            sessions: HashMap::new(),
            queued: HashSet::new(),
            running: HashSet::new(),
            requeued: HashSet::new(),
        }
    }

    /// Queues a session, unless it is queued already.
    pub fn push(&mut self, new: QueuedSession) {
        if self.running.contains(&new.session) {
            self.requeued.insert(new.session);
        } else if self.queued.insert(new.session) {
            let sessions = self.sessions.entry(new.tenant).or_default();
            if sessions.is_empty() {
                self.tenants.push_back(new.tenant);
            }
            sessions.push_back(new.session);
        }
    }

    /// Takes the next session and marks it as running. `None` if the queue is empty or the limit is
    /// reached.
    pub fn pop(&mut self) -> Option<QueuedSession> {
        if self.running.len() >= self.max_running {
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
        self.queued.remove(&session);
        self.running.insert(session);
        Some(QueuedSession { tenant, session })
    }

    /// Marks a session as no longer running. If the session has more turns, it goes to the end of
    /// the queue.
    pub fn finish(&mut self, ended: QueuedSession, has_more: bool) {
        self.running.remove(&ended.session);
        if self.requeued.remove(&ended.session) || has_more {
            self.push(ended);
        }
    }

    /// The number of running turns.
    pub fn running(&self) -> usize {
        self.running.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::Tick;

    fn queued(tenant: i64, session: i64) -> QueuedSession {
        QueuedSession {
            tenant: TenantNo(tenant),
            session: SessionId::new(Tick(session), 0),
        }
    }

    #[test]
    fn tenants_take_turns_and_a_session_runs_one_turn_at_a_time() {
        let mut queue = Queue::new(3);
        for session in 1..=3 {
            queue.push(queued(1, session));
        }
        queue.push(queued(1, 1));
        queue.push(queued(2, 9));
        assert_eq!(queue.pop(), Some(queued(1, 1)));
        assert_eq!(queue.pop(), Some(queued(2, 9)));
        queue.push(queued(1, 1));
        assert_eq!(queue.pop(), Some(queued(1, 2)));
        assert_eq!(queue.pop(), None);
        queue.finish(queued(1, 1), false);
        assert_eq!(queue.pop(), Some(queued(1, 3)));
        queue.finish(queued(1, 3), false);
        assert_eq!(queue.pop(), Some(queued(1, 1)));
        queue.finish(queued(1, 1), false);
        assert_eq!(queue.pop(), None);
        assert_eq!(queue.running(), 2);
    }
}
