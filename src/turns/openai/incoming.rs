//! Reads the reply to a request, and decides when the answer has ended (contract, section 13, The
//! end of an answer).

use std::time::Duration;

use reqwest::Response;
use tokio::time::{Instant, timeout_at};

use super::encoding::Decoder;
use super::reply::{Progress, Reply};
use crate::model::answer::Chunk;
use crate::outbound::causes;
use crate::turns::reasoning::Marks;

/// How much longer keep-alives make the wait for the first piece of an answer, as a factor.
const KEEP_ALIVE_FACTOR: u32 = 4;

/// A reply that is being read.
pub(super) struct Incoming {
    response: Response,
    decoder: Decoder,
    /// The parser.
    pub(super) reply: Reply,
}

/// What came next.
pub(super) enum Step {
    /// A piece of the reply.
    Piece(Progress),
    /// The end of the body.
    End,
    /// Nothing before the deadline.
    Silence,
    /// Something that is no reply; one line for the operator.
    Fault(String),
}

impl Incoming {
    /// Begins to read a reply of a model with these marks.
    ///
    /// # Errors
    /// A phrase for the operator, if the reply has an unknown encoding.
    pub(super) fn new(response: Response, marks: Marks) -> Result<Self, String> {
        Ok(Self {
            decoder: Decoder::new(response.headers())?,
            response,
            reply: Reply::new(marks),
        })
    }

    /// Waits for the next piece, and adds its chunks.
    pub(super) async fn next(&mut self, deadline: Instant, chunks: &mut Vec<Chunk>) -> Step {
        let step = match timeout_at(deadline, self.response.chunk()).await {
            Err(_) => return Step::Silence,
            Ok(Ok(Some(bytes))) => self.push(&bytes, chunks).map(Step::Piece),
            Ok(Ok(None)) => self.reply.end(chunks).map(|()| Step::End),
            Ok(Err(error)) => Err(causes(&error.without_url())),
        };
        step.unwrap_or_else(Step::Fault)
    }

    fn push(&mut self, bytes: &[u8], chunks: &mut Vec<Chunk>) -> Result<Progress, String> {
        let mut progress = Ok(Progress::KeepAlive);
        let reply = &mut self.reply;
        let decoded = self.decoder.push(bytes, |bytes| {
            let before = progress.clone().unwrap_or_default();
            progress = reply.push(bytes, chunks).map(|piece| piece.max(before));
            progress.is_ok() && !reply.is_done() && !reply.is_noise()
        });
        let progress = progress?;
        decoded.map(|()| progress)
    }

    /// Reads on after an answer has been taken to be complete. Returns what comes until `deadline`.
    pub(super) async fn rest(mut self, deadline: Instant) -> Rest {
        loop {
            match self.next(deadline, &mut Vec::new()).await {
                Step::Piece(_) if self.reply.has_resumed() => return Rest::Text,
                Step::Piece(_) | Step::End if self.reply.is_done() => return Rest::End,
                Step::Piece(_) if Instant::now() < deadline && !self.reply.is_noise() => {}
                Step::Piece(_) | Step::End | Step::Silence | Step::Fault(_) => {
                    return Rest::Silence;
                }
            }
        }
    }
}

/// What follows an answer that was taken to be complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// More text: the answer was not complete.
    Text,
    /// `[DONE]` or the end of the body.
    End,
    /// Nothing.
    Silence,
}

/// The timeouts of a reply.
pub(super) struct Waiting {
    /// The timeout for the first piece.
    first: Duration,
    /// The timeout for each further piece.
    silence: Duration,
    /// How long an answer with a finish reason may still go on.
    pub(super) after_end: Duration,
    began_at: Instant,
    last_piece_at: Instant,
    last_content_at: Option<Instant>,
    has_ended: bool,
}

impl Waiting {
    /// Starts the timeouts.
    pub(super) fn new(first: Duration, silence: Duration, now: Instant) -> Self {
        Self {
            first,
            silence,
            after_end: silence,
            began_at: now,
            last_piece_at: now,
            last_content_at: None,
            has_ended: false,
        }
    }

    /// When the wait for the next piece ends.
    pub(super) fn deadline(&self) -> Instant {
        match self.last_content_at {
            None => {
                let longest = self.began_at + self.first * KEEP_ALIVE_FACTOR;
                longest.min(self.last_piece_at + self.first)
            }
            Some(at) if self.has_ended => at + self.after_end,
            Some(at) => at + self.silence,
        }
    }

    /// Notes a piece. `has_ended` says whether the reply has a finish reason.
    pub(super) fn note(&mut self, progress: Progress, has_ended: bool, now: Instant) {
        self.last_piece_at = now;
        let counts = match progress {
            Progress::KeepAlive => false,
            // Repeated finish reasons do not prolong an answer.
            Progress::Sign => !self.has_ended,
            Progress::Text => true,
        };
        if counts {
            self.last_content_at = Some(now);
        }
        self.has_ended = has_ended;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keep_alives_prolong_the_wait_for_the_first_piece_only_and_up_to_a_bound() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut waiting = Waiting::new(Duration::from_secs(120), Duration::from_secs(30), start);
        waiting.after_end = Duration::from_secs(10);
        assert_eq!(waiting.deadline(), at(120));
        for (now, progress, has_ended, deadline) in [
            (100, Progress::KeepAlive, false, 220),
            (200, Progress::KeepAlive, false, 320),
            (400, Progress::KeepAlive, false, 480),
            (450, Progress::Text, false, 480),
            (470, Progress::KeepAlive, false, 480),
            (475, Progress::Text, false, 505),
            (500, Progress::Sign, true, 510),
            (504, Progress::Sign, true, 510),
            (505, Progress::KeepAlive, true, 510),
            (506, Progress::Text, true, 516),
        ] {
            waiting.note(progress, has_ended, at(now));
            assert_eq!(waiting.deadline(), at(deadline), "{now}");
        }
    }
}
