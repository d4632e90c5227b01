//! Shows an answer while it is written: the steps of a stream in a personal chat, as Teams wants them.

use std::time::Duration;

use serde::Deserialize;
use tokio::time::{Instant, sleep_until};

use super::Inner;
use super::answer::{Addressee, Turning};
use crate::error::{Error, Result};
use crate::store::Extent;
use crate::store::teams_outbox::{self, AnswerTurn};
use crate::teams::compose::{self, Step};
use crate::teams::connector::{Failure, Refused};
use crate::turns::stream::StreamReader;

/// The least time between two steps of a stream.
const STEP_EVERY: Duration = Duration::from_millis(1_500);
/// How long the worker waits for a notification before it looks at the turn again.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// What a stream shows before the answer has a text.
pub(super) const WORKING: &str = "Working on it…";

/// What a stream has come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum StreamState {
    /// It may go on.
    #[default]
    Open,
    /// It ended before, so that its message is there.
    Completed,
    /// It lasted too long. Its message can only be replaced.
    TimedOut,
    /// The person stopped it.
    Stopped,
    /// The connector allows no stream here.
    NotAllowed,
}

impl StreamState {
    /// What a refused step says of its stream. `None` if it says nothing.
    pub(super) fn of(refused: &Refused) -> Option<Self> {
        if refused.status != 403 || refused.code != "ContentStreamNotAllowed" {
            return None;
        }
        let message = refused.message.to_lowercase();
        let says = |words: &str| message.contains(words);
        Some(if says("already completed") {
            Self::Completed
        } else if says("exceeded streaming time") {
            Self::TimedOut
        } else if says("canceled by user") || says("cancelled by user") {
            Self::Stopped
        } else if says("size too large") {
            // Its message can still be replaced by one that fits.
            Self::TimedOut
        } else {
            Self::NotAllowed
        })
    }
}

/// A stream of this process.
#[derive(Debug, Default)]
pub(super) struct Stream {
    /// Its id.
    pub(super) id: Option<String>,
    /// What it has come to.
    pub(super) state: StreamState,
    /// What it shows.
    pub(super) shown: String,
    sequence: i64,
    next_at: Option<Instant>,
}

impl Stream {
    /// The stream of a delivery, perhaps of an earlier process.
    pub(super) fn of(id: Option<String>) -> Self {
        Self {
            id,
            ..Self::default()
        }
    }

    fn has_begun(&self) -> bool {
        self.id.is_some()
    }
}

/// The text of an answer, as far as its events tell.
#[derive(Debug, Default)]
struct Text {
    text: String,
    has_begun: bool,
}

/// The parts of an event that a stream shows.
#[derive(Deserialize)]
struct Event {
    r#type: String,
    #[serde(default)]
    delta: String,
}

impl Text {
    fn add(&mut self, event: &[u8]) -> Result<()> {
        let data = event
            .split(|byte| *byte == b'\n')
            .find_map(|line| line.strip_prefix(b"data: "));
        let Some(data) = data else { return Ok(()) };
        let event: Event =
            serde_json::from_slice(data).map_err(|error| Error::Internal(error.into()))?;
        match event.r#type.as_str() {
            // Also when the answer starts again.
            "start" => {
                self.text.clear();
                self.has_begun = true;
            }
            "text-delta" => self.text.push_str(&event.delta),
            _ => {}
        }
        Ok(())
    }
}

impl Inner {
    /// Follows a turn until it has ended, and shows its answer meanwhile.
    pub(super) async fn show(
        &self,
        to: &Addressee<'_>,
        turn: &AnswerTurn,
        stream: &mut Stream,
    ) -> Result<Turning> {
        let mut listener = self.signals.listen(turn.session);
        let mut stopping = self.stopping.subscribe();
        let (store, engine) = (&self.store, &self.engine);
        let opened =
            StreamReader::open(store, engine, turn.session, Some(turn.since), false, false);
        let Some(mut reader) = opened.await? else {
            return self.follow(turn).await;
        };
        let mut text = Text::default();
        loop {
            loop {
                let step = reader.advance().await?;
                for event in reader.visible(step.events) {
                    text.add(&event.bytes)?;
                }
                if step.is_over {
                    return Ok(Turning::Ended);
                }
                if !step.has_advanced {
                    break;
                }
            }
            let more = self.step(to, &text, stream).await?;
            if let Some(turning) = more {
                return Ok(turning);
            }
            let pending = stream.next_at.filter(|_| stream.state == StreamState::Open);
            let until = Instant::now() + LOOK_EVERY;
            let until = pending.map_or(until, |at| until.min(at));
            tokio::select! {
                () = listener.notified() => {}
                () = sleep_until(until) => {}
                _ = stopping.wait_for(|stopping| *stopping) => {}
            }
            if self.is_stopping() {
                return self.follow(turn).await;
            }
        }
    }

    /// Takes the next step of a stream, if one is due. Returns what ends the following of the turn.
    async fn step(
        &self,
        to: &Addressee<'_>,
        text: &Text,
        stream: &mut Stream,
    ) -> Result<Option<Turning>> {
        if stream.state != StreamState::Open || !text.has_begun {
            return Ok(None);
        }
        let so_far = compose::so_far(&text.text, to.prefix);
        let grown = so_far.filter(|so_far| {
            so_far.len() > stream.shown.len() && so_far.starts_with(&stream.shown)
        });
        if grown.is_none() && stream.has_begun() {
            stream.next_at = None;
            return Ok(None);
        }
        let now = Instant::now();
        if stream.next_at.is_some_and(|at| now < at) {
            return Ok(None);
        }
        // A step that comes late asks for no second one at once.
        stream.next_at = Some(now + STEP_EVERY);
        if !self.still_has(to.lease).await {
            return Ok(Some(Turning::Lost));
        }
        stream.sequence += 1;
        let sequence = stream.sequence;
        let activity = match &grown {
            Some(text) => to.envelope().step(
                Step::Streaming {
                    sequence,
                    stream: stream.id.as_deref(),
                },
                text,
            ),
            None => to.envelope().step(Step::Informative { sequence }, WORKING),
        };
        match self.connector.hint(to.target(), &activity).await {
            Ok(id) => {
                if let Some(text) = grown {
                    stream.shown = text;
                }
                if !stream.has_begun() {
                    self.begin(to, stream, id).await?;
                }
                Ok(None)
            }
            Err(failure) => Ok(self.failed_step(stream, &failure)),
        }
    }

    /// Records the stream that the connector has begun.
    pub(super) async fn begin(
        &self,
        to: &Addressee<'_>,
        stream: &mut Stream,
        id: Option<String>,
    ) -> Result<()> {
        let Some(id) = id else {
            // Without an id it cannot go on.
            stream.state = StreamState::NotAllowed;
            return Ok(());
        };
        stream.id = Some(id.clone());
        let (seq, lease) = (to.seq, to.lease);
        self.store
            .write(Extent::Statement, move |tx| {
                teams_outbox::begin_stream(tx, seq, &id, lease)
            })
            .await
            .map(drop)
    }

    fn failed_step(&self, stream: &mut Stream, failure: &Failure) -> Option<Turning> {
        let pause = match failure {
            Failure::Refused(refused) => match StreamState::of(refused) {
                Some(state) => {
                    stream.state = state;
                    return (state == StreamState::Stopped).then_some(Turning::Stopped);
                }
                None => refused.retry_after.unwrap_or_default(),
            },
            Failure::Unanswered(_) | Failure::NotCalled(_) | Failure::Forbidden(_) => {
                Duration::ZERO
            }
        };
        if !stream.has_begun() {
            // Nothing was begun, so that the next step is the first one.
            stream.sequence = 0;
        }
        log::debug!("teams: a step of a stream failed: {failure}");
        stream.next_at = Some(Instant::now() + STEP_EVERY.max(pause));
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refusals_of_a_stream_have_their_meanings() {
        let of = |status, code: &str, message: &str| {
            StreamState::of(&Refused {
                status,
                code: code.to_owned(),
                message: message.to_owned(),
                retry_after: None,
            })
        };
        let code = "ContentStreamNotAllowed";
        for (message, expected) in [
            (
                "Content stream is not allowed on an already completed streamed message",
                StreamState::Completed,
            ),
            (
                "Content stream finished due to exceeded streaming time.",
                StreamState::TimedOut,
            ),
            ("Content stream was canceled by user", StreamState::Stopped),
            (
                "Content stream was cancelled by user.",
                StreamState::Stopped,
            ),
            ("Message size too large", StreamState::TimedOut),
            ("Content stream is not allowed", StreamState::NotAllowed),
            ("", StreamState::NotAllowed),
        ] {
            assert_eq!(of(403, code, message), Some(expected), "{message}");
        }
        assert_eq!(
            of(403, "BotNotInConversationRoster", "canceled by user"),
            None
        );
        assert_eq!(of(429, code, "Content stream is not allowed"), None);
    }
}
