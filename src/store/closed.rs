//! Tells when the database is closed.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Waits until the writer has closed the database.
#[derive(Clone, Debug, Default)]
pub struct Closed(Arc<(Mutex<bool>, Condvar)>);

impl Closed {
    /// What reports the close, which the owner of the last connection drops after it.
    pub(super) fn notify_on_drop(&self) -> NotifyOnDrop {
        NotifyOnDrop(self.clone())
    }

    /// Waits for up to `limit`. Returns whether the database is closed.
    pub fn wait(&self, limit: Duration) -> bool {
        let (is_closed, changed) = &*self.0;
        let is_closed = is_closed.lock().unwrap_or_else(PoisonError::into_inner);
        let (is_closed, _) = changed
            .wait_timeout_while(is_closed, limit, |is_closed| !*is_closed)
            .unwrap_or_else(PoisonError::into_inner);
        *is_closed
    }
}

/// Reports that the database is closed when it is dropped.
pub(super) struct NotifyOnDrop(Closed);

impl Drop for NotifyOnDrop {
    fn drop(&mut self) {
        let (is_closed, changed) = &*self.0.0;
        *is_closed.lock().unwrap_or_else(PoisonError::into_inner) = true;
        changed.notify_all();
    }
}
