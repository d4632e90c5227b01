//! What the server has learned about the models since it started.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::adapt::{Part, Parts};

/// How long a part of the requests is left out before the server is asked again whether it takes
/// the part. Wrong learning, and a model that was replaced under its name, costs no more than that.
const OMISSION_LIFETIME: Duration = Duration::from_secs(3_600);

/// What is known about one model.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Traits {
    images_refused_at: Option<Instant>,
    stream_options_refused_at: Option<Instant>,
    system_role_refused_at: Option<Instant>,
}

impl Traits {
    /// The parts that a request leaves out now.
    pub(super) fn omitted(&self, now: Instant) -> Parts {
        let is_omitted = |part: &Part| {
            self.refused_at(*part)
                .is_some_and(|at| now.saturating_duration_since(at) < OMISSION_LIFETIME)
        };
        Part::ALL.into_iter().filter(is_omitted).collect()
    }

    fn refused_at(&self, part: Part) -> Option<Instant> {
        match part {
            Part::Images => self.images_refused_at,
            Part::StreamOptions => self.stream_options_refused_at,
            Part::SystemRole => self.system_role_refused_at,
        }
    }

    /// Leaves a part out from now on. Returns whether this is the first time.
    pub(super) fn omit(&mut self, part: Part, now: Instant) -> bool {
        let refused_at = match part {
            Part::Images => &mut self.images_refused_at,
            Part::StreamOptions => &mut self.stream_options_refused_at,
            Part::SystemRole => &mut self.system_role_refused_at,
        };
        refused_at.replace(now).is_none()
    }
}

/// The traits of the models, by name.
#[derive(Debug, Default)]
pub(super) struct Learned(Mutex<HashMap<String, Traits>>);

impl Learned {
    /// What is known about a model.
    pub(super) fn of(&self, model: &str) -> Traits {
        let models = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        models.get(model).copied().unwrap_or_default()
    }

    /// Changes what is known about a model.
    pub(super) fn change<T>(&self, model: &str, change: impl FnOnce(&mut Traits) -> T) -> T {
        let mut models = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(models.entry(model.to_owned()).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_left_out_for_an_hour_and_then_tried_again() {
        let (learned, start) = (Learned::default(), Instant::now());
        let omitted = |after: Duration| learned.of("m").omitted(start + after);
        assert!(learned.change("m", |traits| traits.omit(Part::Images, start)));
        assert_eq!(learned.of("other").omitted(start), Parts::default());
        let last = OMISSION_LIFETIME - Duration::from_nanos(1);
        assert!(omitted(last).has(Part::Images) && !omitted(last).has(Part::SystemRole));
        assert_eq!(omitted(OMISSION_LIFETIME), Parts::default());
        let again = start + OMISSION_LIFETIME;
        assert!(!learned.change("m", |traits| traits.omit(Part::Images, again)));
        assert!(omitted(OMISSION_LIFETIME).has(Part::Images));
    }
}
