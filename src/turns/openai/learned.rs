//! What the server has learned about the models since it started.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::adapt::{Part, Parts};
use super::incoming::Rest;
use crate::model::ids::SessionId;

/// How long the server acts on what it has learned before it tries again. Wrong learning, and a
/// model that was replaced under its name, costs no more than that.
const LIFETIME: Duration = Duration::from_secs(3_600);

/// How long an answer with a finish reason may go on.
const LONG_END: Duration = Duration::from_secs(10);

/// The same for a model whose answers end with the finish reason while the connection stays open.
/// Usage comes within that.
const SHORT_END: Duration = Duration::from_millis(500);

/// How many answers that ended early are read on in the background, in case their end was not one.
const WATCHED_ENDS: u8 = 3;

/// How long the server waits after a finish reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    /// More text may follow.
    Long,
    /// The model is known to send no more.
    Short,
}

impl Patience {
    /// The wait after a finish reason. An answer without text gets the long one: its text may
    /// still follow.
    pub(super) fn limit(self, timeout: Duration, has_text: bool) -> Duration {
        match self {
            Self::Short if has_text => timeout.min(SHORT_END),
            Self::Short | Self::Long => timeout.min(LONG_END),
        }
    }
}

/// What is known about one model.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Traits {
    images_refused_at: Option<Instant>,
    /// The session whose pictures were refused for an unknown cause, and when.
    images_doubted_by: Option<(SessionId, Instant)>,
    stream_options_refused_at: Option<Instant>,
    system_role_refused_at: Option<Instant>,
    /// When an answer last ended with a finish reason and silence.
    stays_open_since: Option<Instant>,
    /// How many further answers that end early are read on in the background.
    ends_to_watch: u8,
    /// Whether text has followed a finish reason.
    resumes: bool,
    /// The most estimated tokens of a prompt, if the server has refused a longer one, and when it
    /// last did.
    context_tokens: Option<(usize, Instant)>,
}

impl Traits {
    /// The parts that a request leaves out now.
    pub(super) fn omitted(&self, now: Instant) -> Parts {
        let is_omitted = |part: &Part| {
            self.refused_at(*part)
                .is_some_and(|at| now.saturating_duration_since(at) < LIFETIME)
        };
        Part::ALL.into_iter().filter(is_omitted).collect()
    }

    /// How long to wait after a finish reason.
    pub(super) fn patience(&self, now: Instant) -> Patience {
        match self.stays_open_since {
            Some(since) if !self.resumes && now.saturating_duration_since(since) < LIFETIME => {
                Patience::Short
            }
            Some(_) | None => Patience::Long,
        }
    }

    /// Learns from an answer that ended with a finish reason and silence, or that `resumes` after
    /// a finish reason. Returns whether to read on in the background.
    pub(super) fn note_end(&mut self, resumes: bool, patience: Patience, now: Instant) -> bool {
        if resumes {
            self.resumes = true;
            return false;
        }
        match patience {
            Patience::Long => {
                self.stays_open_since = Some(now);
                self.ends_to_watch = WATCHED_ENDS;
                false
            }
            Patience::Short => {
                let is_watched = self.ends_to_watch > 0;
                self.ends_to_watch = self.ends_to_watch.saturating_sub(1);
                is_watched
            }
        }
    }

    /// Learns from what followed an answer that ended early.
    pub(super) fn note_rest(&mut self, rest: Rest) {
        match rest {
            Rest::Text => self.resumes = true,
            // The server does say when an answer ends, only later.
            Rest::End => self.stays_open_since = None,
            Rest::Silence => {}
        }
    }

    /// The most estimated tokens of a prompt: `configured`, or fewer.
    pub(super) fn context_tokens(&self, configured: usize, now: Instant) -> usize {
        match self.context_tokens {
            Some((tokens, at)) if now.saturating_duration_since(at) < LIFETIME => {
                tokens.min(configured)
            }
            Some(_) | None => configured,
        }
    }

    /// Lowers the bound of prompts from now on.
    pub(super) fn bound_context(&mut self, tokens: usize, now: Instant) {
        self.context_tokens = Some((self.context_tokens(tokens, now), now));
    }

    fn refused_at(&self, part: Part) -> Option<Instant> {
        match part {
            Part::Images => self.images_refused_at,
            Part::StreamOptions => self.stream_options_refused_at,
            Part::SystemRole => self.system_role_refused_at,
        }
    }

    /// Notes that pictures of a session were refused for an unknown cause. Returns whether another
    /// session's were too, within an hour and with none taken since: pictures of one session
    /// prove nothing about others.
    pub(super) fn doubt_images(&mut self, session: SessionId, now: Instant) -> bool {
        match self.images_doubted_by {
            Some((first, at)) if now.saturating_duration_since(at) < LIFETIME => first != session,
            Some(_) | None => {
                self.images_doubted_by = Some((session, now));
                false
            }
        }
    }

    /// Notes that the model has taken images.
    pub(super) fn trust_images(&mut self) {
        self.images_doubted_by = None;
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
    use crate::model::ids::Tick;

    #[test]
    fn a_part_is_left_out_for_an_hour_and_then_tried_again() {
        let (learned, start) = (Learned::default(), Instant::now());
        let omitted = |after: Duration| learned.of("m").omitted(start + after);
        assert!(learned.change("m", |traits| traits.omit(Part::Images, start)));
        assert_eq!(learned.of("other").omitted(start), Parts::default());
        let last = LIFETIME - Duration::from_nanos(1);
        assert!(omitted(last).has(Part::Images) && !omitted(last).has(Part::SystemRole));
        assert_eq!(omitted(LIFETIME), Parts::default());
        let again = start + LIFETIME;
        assert!(!learned.change("m", |traits| traits.omit(Part::Images, again)));
        assert!(omitted(LIFETIME).has(Part::Images));
    }

    #[test]
    fn pictures_of_one_session_that_are_refused_for_an_unknown_cause_prove_nothing() {
        let (start, mut traits) = (Instant::now(), Traits::default());
        let [first, second] = [1, 2].map(|tick| SessionId::new(Tick(tick), 0));
        for _ in 0..3 {
            assert!(!traits.doubt_images(first, start));
        }
        assert!(traits.doubt_images(second, start));
        traits.trust_images();
        assert!(!traits.doubt_images(second, start));
        assert!(!traits.doubt_images(first, start + LIFETIME));
        assert!(traits.doubt_images(second, start + LIFETIME));
    }

    #[test]
    fn the_bound_of_prompts_falls_for_an_hour_and_then_ends() {
        let start = Instant::now();
        let mut traits = Traits::default();
        traits.bound_context(4_000, start);
        assert_eq!(traits.context_tokens(8_000, start), 4_000);
        assert_eq!(traits.context_tokens(3_000, start), 3_000);
        let later = start + LIFETIME / 2;
        traits.bound_context(5_000, later);
        let last = later + LIFETIME - Duration::from_nanos(1);
        assert_eq!(traits.context_tokens(8_000, last), 4_000);
        assert_eq!(traits.context_tokens(8_000, later + LIFETIME), 8_000);
        traits.bound_context(6_000, later + LIFETIME);
        assert_eq!(traits.context_tokens(8_000, later + LIFETIME), 6_000);
    }

    #[test]
    fn an_answer_waits_after_its_finish_reason_until_silence_is_known_to_follow() {
        let now = Instant::now();
        let mut traits = Traits::default();
        assert_eq!(traits.patience(now), Patience::Long);
        assert!(!traits.note_end(false, Patience::Long, now));
        assert_eq!(traits.patience(now), Patience::Short);
        let watched: Vec<bool> = (0..5)
            .map(|_| traits.note_end(false, Patience::Short, now))
            .collect();
        assert_eq!(watched, [true, true, true, false, false]);
        assert_eq!(traits.patience(now + LIFETIME), Patience::Long);
        traits.note_rest(Rest::Silence);
        assert_eq!(traits.patience(now), Patience::Short);
        traits.note_rest(Rest::End);
        assert_eq!(traits.patience(now), Patience::Long);
    }

    #[test]
    fn a_model_that_resumes_an_answer_is_never_cut_again() {
        let now = Instant::now();
        let learn: [fn(&mut Traits); 2] = [
            |traits| assert!(!traits.note_end(true, Patience::Long, Instant::now())),
            |traits| traits.note_rest(Rest::Text),
        ];
        for learn in learn {
            let mut traits = Traits::default();
            traits.note_end(false, Patience::Long, now);
            learn(&mut traits);
            traits.note_end(false, Patience::Long, now);
            assert_eq!(traits.patience(now), Patience::Long);
        }
        let timeout = Duration::from_secs(30);
        assert_eq!(Patience::Long.limit(timeout, true), LONG_END);
        assert_eq!(Patience::Short.limit(timeout, false), LONG_END);
        assert_eq!(Patience::Short.limit(timeout, true), SHORT_END);
        assert_eq!(
            Patience::Long.limit(Duration::from_secs(1), true),
            Duration::from_secs(1)
        );
    }
}
