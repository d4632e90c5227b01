//! Decides which session runs a turn next, so that no tenant can starve the others: the waiting
//! tenant with the fewest running turns comes first, and a session runs one turn at a time.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

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
///
/// A free slot goes to the waiting tenant with the fewest running turns. Among equals, it goes to
/// the tenant that has waited longest since its last start. As a result, tenants that always have
/// turns waiting converge to equal numbers of running turns, however many tenants there are. A
/// tenant that asks for less never waits for more than the next free slot.
#[derive(Debug)]
pub struct Queue {
    max_running: usize,
    /// The most running turns of one tenant.
    max_of_tenant: usize,
    /// Tenants with running or queued sessions.
    tenants: HashMap<TenantNo, Share>,
    /// The tenants that have queued sessions: their running turns, and their position among equals.
    waiting: BTreeSet<(usize, u64, TenantNo)>,
    next_place: u64,
    queued: HashSet<SessionId>,
    running: HashSet<SessionId>,
    /// Running sessions that were pushed again, and are queued again when their turn has ended.
    requeued: HashSet<SessionId>,
    /// Queued sessions whose turns were cancelled. To end them takes no slot.
    cancelled: VecDeque<QueuedSession>,
    /// Sessions whose cancelled turns are ended now.
    ending: HashSet<SessionId>,
}

/// The sessions of one tenant.
#[derive(Debug, Default)]
struct Share {
    running: usize,
    place: u64,
    queued: VecDeque<SessionId>,
}

/// The most slots that one tenant may have: seven eighths, and all but one at least. A single slot
/// is for every tenant.
fn most_of_one_tenant(slots: usize) -> usize {
    (slots - slots.div_ceil(8)).max(1)
}

impl Queue {
    /// Creates a queue that lets up to `max_running` turns run at a time.
    pub fn new(max_running: usize) -> Self {
        Self {
            max_running,
            max_of_tenant: most_of_one_tenant(max_running),
            tenants: HashMap::new(),
            waiting: BTreeSet::new(),
            next_place: 0,
            queued: HashSet::new(),
            running: HashSet::new(),
            requeued: HashSet::new(),
            cancelled: VecDeque::new(),
            ending: HashSet::new(),
        }
    }

    /// Queues a session, unless it is queued already.
    pub fn push(&mut self, new: QueuedSession) {
        if self.running.contains(&new.session) || self.ending.contains(&new.session) {
            self.requeued.insert(new.session);
        } else if self.queued.insert(new.session) {
            let tenant = new.tenant;
            let share = self.tenants.entry(tenant).or_default();
            if share.queued.is_empty() {
                share.place = self.next_place;
                self.next_place += 1;
                self.waiting.insert((share.running, share.place, tenant));
            }
            share.queued.push_back(new.session);
        }
    }

    /// Queues a session whose turns were cancelled. It waits for no slot.
    pub fn push_cancelled(&mut self, ended: QueuedSession) {
        if self.running.contains(&ended.session) || self.ending.contains(&ended.session) {
            return self.push(ended);
        }
        if !self.queued.insert(ended.session) {
            self.withdraw(ended);
        }
        self.cancelled.retain(|other| *other != ended);
        self.cancelled.push_back(ended);
    }

    /// Takes a session out of its tenant's queue.
    fn withdraw(&mut self, ended: QueuedSession) {
        let tenant = ended.tenant;
        let Some(share) = self.tenants.get_mut(&tenant) else {
            return;
        };
        let queued = share.queued.len();
        share.queued.retain(|session| *session != ended.session);
        if queued > 0 && share.queued.is_empty() {
            self.waiting.remove(&(share.running, share.place, tenant));
            if share.running == 0 {
                self.tenants.remove(&tenant);
            }
        }
    }

    /// Takes the next session with cancelled turns.
    pub fn pop_cancelled(&mut self) -> Option<QueuedSession> {
        let next = self.cancelled.pop_front()?;
        self.queued.remove(&next.session);
        self.ending.insert(next.session);
        Some(next)
    }

    /// Takes the next session and marks it as running. `None` if the queue is empty, all slots are
    /// taken, or every waiting tenant has its share.
    pub fn pop(&mut self) -> Option<QueuedSession> {
        if self.running.len() >= self.max_running {
            return None;
        }
        // No other waiting tenant has fewer running turns.
        let (running, place, tenant) = *self.waiting.first()?;
        if running >= self.max_of_tenant {
            return None;
        }
        self.waiting.remove(&(running, place, tenant));
        let share = self.tenants.get_mut(&tenant)?;
        let session = share.queued.pop_front()?;
        share.running += 1;
        if !share.queued.is_empty() {
            share.place = self.next_place;
            self.next_place += 1;
            self.waiting.insert((share.running, share.place, tenant));
        }
        self.queued.remove(&session);
        self.running.insert(session);
        Some(QueuedSession { tenant, session })
    }

    /// Marks a session as running that another queue has chosen. A session with cancelled turns takes
    /// no slot.
    pub fn start(&mut self, claimed: QueuedSession, has_slot: bool) {
        if has_slot {
            self.running.insert(claimed.session);
        } else {
            self.ending.insert(claimed.session);
        }
    }

    /// Marks a session of [`Queue::start`] as no longer running.
    pub fn end(&mut self, session: SessionId) {
        self.running.remove(&session);
        self.ending.remove(&session);
    }

    /// The number of free slots.
    pub fn free(&self) -> usize {
        self.max_running.saturating_sub(self.running.len())
    }

    /// The most running turns of one tenant.
    pub fn max_of_tenant(&self) -> usize {
        self.max_of_tenant
    }

    /// Marks a session as no longer running. If the session has more turns, it goes to the end of
    /// its tenant's queue.
    pub fn finish(&mut self, ended: QueuedSession, has_more: bool) {
        let tenant = ended.tenant;
        if !self.ending.remove(&ended.session)
            && self.running.remove(&ended.session)
            && let Some(share) = self.tenants.get_mut(&tenant)
        {
            let is_waiting = self.waiting.remove(&(share.running, share.place, tenant));
            share.running = share.running.saturating_sub(1);
            if is_waiting {
                self.waiting.insert((share.running, share.place, tenant));
            } else if share.running == 0 {
                self.tenants.remove(&tenant);
            }
        }
        if self.requeued.remove(&ended.session) || has_more {
            self.push(ended);
        }
    }

    /// The number of running turns, with the cancelled ones that are ended now.
    pub fn running(&self) -> usize {
        self.running.len() + self.ending.len()
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

    /// Pops until the queue gives nothing more: the tenants, in order.
    fn pop_all(queue: &mut Queue) -> Vec<QueuedSession> {
        std::iter::from_fn(|| queue.pop()).collect()
    }

    fn tenants(popped: &[QueuedSession]) -> Vec<i64> {
        popped.iter().map(|popped| popped.tenant.0).collect()
    }

    #[test]
    fn one_tenant_leaves_an_eighth_of_the_slots_and_at_least_one_to_others() {
        for (slots, most) in [
            (1, 1),
            (2, 1),
            (3, 2),
            (7, 6),
            (8, 7),
            (9, 7),
            (16, 14),
            (64, 56),
        ] {
            let mut queue = Queue::new(slots);
            for session in 0..100 {
                queue.push(queued(1, session));
            }
            assert_eq!(pop_all(&mut queue).len(), most, "{slots}");
            for session in 100..200 {
                queue.push(queued(2, session));
            }
            assert_eq!(pop_all(&mut queue).len(), slots - most, "{slots}");
        }
    }

    #[test]
    fn the_next_free_slot_is_that_of_the_tenant_that_waits_with_fewer_running_turns() {
        let mut queue = Queue::new(8);
        for session in 0..20 {
            queue.push(queued(1, session));
        }
        let first = pop_all(&mut queue);
        for session in 20..40 {
            queue.push(queued(2, session));
        }
        assert_eq!(tenants(&pop_all(&mut queue)), [2]);
        let mut order = Vec::new();
        for ended in first {
            queue.finish(ended, false);
            order.extend(tenants(&pop_all(&mut queue)));
        }
        assert_eq!(order, [2, 2, 2, 1, 1, 1, 1]);
    }

    #[test]
    fn three_tenants_that_always_wait_get_equal_shares_and_one_that_asks_seldom_waits_for_one_slot()
    {
        let mut queue = Queue::new(9);
        for tenant in 1..=3 {
            for session in 0..100 {
                queue.push(queued(tenant, tenant * 1_000 + session));
            }
        }
        let mut running = VecDeque::from(pop_all(&mut queue));
        for _ in 0..60 {
            for tenant in 1..=3 {
                let share = running.iter().filter(|turn| turn.tenant.0 == tenant);
                assert_eq!(share.count(), 3);
            }
            let ended = running.pop_front().unwrap();
            queue.finish(ended, false);
            running.extend(pop_all(&mut queue));
        }
        queue.push(queued(4, 9_000));
        assert_eq!(pop_all(&mut queue), []);
        queue.finish(running.pop_front().unwrap(), false);
        assert_eq!(pop_all(&mut queue), [queued(4, 9_000)]);
    }

    #[test]
    fn a_session_with_cancelled_turns_waits_neither_for_a_slot_nor_for_its_tenants_share() {
        let mut queue = Queue::new(2);
        for session in 1..=3 {
            queue.push(queued(1, session));
        }
        queue.push(queued(2, 9));
        assert_eq!(pop_all(&mut queue), [queued(1, 1), queued(2, 9)]);
        queue.push_cancelled(queued(1, 3));
        queue.push_cancelled(queued(1, 3));
        assert_eq!(queue.pop_cancelled(), Some(queued(1, 3)));
        assert_eq!(queue.pop_cancelled(), None);
        assert_eq!(queue.running(), 3);
        // A turn that runs already ends where it runs, and other turns of the session wait for it.
        queue.push_cancelled(queued(1, 1));
        queue.push(queued(1, 3));
        assert_eq!((queue.pop_cancelled(), queue.pop()), (None, None));
        queue.finish(queued(1, 3), false);
        queue.finish(queued(1, 1), false);
        assert_eq!(pop_all(&mut queue), [queued(1, 2)]);
        queue.push_cancelled(queued(3, 5));
        assert_eq!(queue.pop_cancelled(), Some(queued(3, 5)));
        for (tenant, session) in [(3, 5), (2, 9), (1, 2)] {
            queue.finish(queued(tenant, session), false);
        }
        for session in [3, 1] {
            assert_eq!(queue.pop(), Some(queued(1, session)));
            queue.finish(queued(1, session), false);
        }
        assert!(queue.tenants.is_empty() && queue.waiting.is_empty());
        assert!(queue.queued.is_empty() && queue.ending.is_empty());
    }

    #[test]
    fn a_queue_that_is_empty_again_remembers_no_tenant() {
        let mut queue = Queue::new(4);
        for session in 0..9 {
            queue.push(queued(session % 3, session));
        }
        while let Some(turn) = queue.pop() {
            queue.finish(turn, false);
        }
        assert!(queue.tenants.is_empty() && queue.waiting.is_empty());
        assert!(queue.queued.is_empty() && queue.running.is_empty());
    }
}
