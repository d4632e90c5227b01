//! One delivery: follows the turn of an answer, and sends its messages.

use std::time::Duration;

use tokio::time::timeout;

use super::stream::{Stream, StreamState, WORKING};
use super::{Inner, Outcome};
use crate::error::{Error, Result};
use crate::knowledge::html;
use crate::model::clock::Millis;
use crate::model::ids::{ArticleId, Tick};
use crate::model::session::{Message as Answer, Parts};
use crate::model::words::TurnStatus;
use crate::store::teams::{ConversationKind, DeliveryKind, DeliveryState};
use crate::store::teams_outbox::{self, AnswerTurn, Ended, Next, Progress};
use crate::store::{Extent, Reader, articles, turns};
use crate::teams::compose::{self, Envelope, Message, Reference, Source, Step};
use crate::teams::connector::{Failure, Refused, Target};
use crate::teams::markdown;

/// How long the worker waits for a notification before it looks at the turn again.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// What remains of a streamed answer that was cancelled before it had a text.
const STOPPED: &str = "Stopped.";

/// Where a delivery goes, and on whose behalf.
pub(super) struct Addressee<'a> {
    next: &'a Next,
    reference: Reference,
    /// The key of the delivery's row.
    pub(super) seq: Tick,
    /// What begins each message.
    pub(super) prefix: Option<&'a str>,
    /// The lease under which this node has the conversation.
    pub(super) lease: Option<i64>,
}

impl Addressee<'_> {
    /// What its activities say of the conversation.
    pub(super) fn envelope(&self) -> Envelope<'_> {
        Envelope {
            reference: &self.reference,
            conversation: &self.next.conversation.id,
            reply_to: self.next.delivery.reply_to.as_deref(),
        }
    }

    /// Where its calls go.
    pub(super) fn target(&self) -> Target<'_> {
        Target {
            bot: &self.next.conversation.bot,
            service_url: &self.next.conversation.service_url,
            conversation: &self.next.conversation.id,
        }
    }
}

/// What came of following a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turning {
    /// The turn has ended.
    Ended,
    /// The person stopped its answer.
    Stopped,
    /// The server stops before the turn has ended.
    Leaves,
    /// Another node has the conversation.
    Lost,
}

/// How a message was sent.
enum Sent {
    /// Under this id.
    As(Option<String>),
    /// Not at all: the person stopped it.
    Stopped,
}

impl Inner {
    /// Says what a conversation has to say next.
    pub(super) async fn say(&self, next: &Next, lease: Option<i64>) -> Result<Outcome> {
        let reference = serde_json::from_str(&next.conversation.reference);
        let to = Addressee {
            next,
            reference: reference.map_err(|error| Error::Internal(error.into()))?,
            seq: next.delivery.seq,
            prefix: next.prefix.as_deref(),
            lease,
        };
        match next.delivery.kind {
            DeliveryKind::Text => {
                let body = next.delivery.body.as_deref().unwrap_or_default();
                let messages = compose::notice(body, &next.delivery.prompts, to.prefix);
                let stream = Stream::of(None);
                self.send(&to, &messages, stream, false, next.delivery.created_at)
                    .await
            }
            DeliveryKind::Answer => self.answer(&to).await,
        }
    }

    async fn answer(&self, to: &Addressee<'_>) -> Result<Outcome> {
        let cancelled = || Outcome::End(DeliveryState::Cancelled, None);
        let delivery = &to.next.delivery;
        let Some(row) = delivery.turn else {
            return Ok(cancelled());
        };
        let turn = self
            .store
            .read(move |reader| teams_outbox::turn(reader, row));
        let Some(turn) = turn.await? else {
            return Ok(cancelled());
        };
        let streams = to.next.conversation.kind == ConversationKind::Personal;
        let mut stream = Stream::of(delivery.stream.clone());
        if !turn.is_settled {
            // An answer that was interrupted is written anew, perhaps in other words. What the stream
            // shows must not change, so that it shows no more before the end.
            let is_first = delivery.stream.is_none() && delivery.parts_sent == 0;
            if is_first {
                self.hint_that_it_writes(to).await;
            }
            let turning = match is_first && streams {
                true => self.show(to, &turn, &mut stream).await,
                false => self.follow(&turn).await,
            };
            let turning = match turning {
                Ok(turning) => turning,
                // The session may have been deleted meanwhile.
                Err(error) => {
                    let turn = self
                        .store
                        .read(move |reader| teams_outbox::turn(reader, row));
                    match turn.await? {
                        None => return Ok(cancelled()),
                        Some(_) => return Err(error),
                    }
                }
            };
            match turning {
                Turning::Ended => {}
                Turning::Leaves | Turning::Lost => return Ok(Outcome::Leave),
                Turning::Stopped => {
                    self.cancel(&turn).await?;
                    return Ok(cancelled());
                }
            }
        }
        let shown = stream.shown.len();
        let prefix = to.prefix.map(str::to_owned);
        let is_open = stream.id.is_some();
        let found = self
            .store
            .read(move |reader| {
                let Some(ended) = teams_outbox::ended(reader, &turn)? else {
                    return Ok(None);
                };
                let messages = messages(reader, &turn, &ended, prefix.as_deref(), shown, is_open)?;
                Ok(Some((messages, ended.ended_at)))
            })
            .await?;
        let Some((messages, ended_at)) = found else {
            return Ok(cancelled());
        };
        if messages.is_empty() {
            return Ok(cancelled());
        }
        let since = ended_at.unwrap_or(delivery.created_at);
        self.send(to, &messages, stream, streams, since).await
    }

    async fn hint_that_it_writes(&self, to: &Addressee<'_>) {
        if !self.still_has(to.lease).await {
            return;
        }
        let typing = to.envelope().typing();
        if let Err(failure) = self.connector.hint(to.target(), &typing).await {
            log::debug!("teams: typing was not shown: {failure}");
        }
    }

    /// Waits until a turn has ended.
    pub(super) async fn follow(&self, turn: &AnswerTurn) -> Result<Turning> {
        let mut listener = self.signals.listen(turn.session);
        let mut stopping = self.stopping.subscribe();
        let id = turn.id;
        loop {
            let settled = self.store.read(move |reader| turns::is_settled(reader, id));
            // A turn that is gone has ended too.
            if settled.await?.unwrap_or(true) {
                return Ok(Turning::Ended);
            }
            if self.is_stopping() {
                return Ok(Turning::Leaves);
            }
            tokio::select! {
                _ = timeout(LOOK_EVERY, listener.notified()) => {}
                _ = stopping.wait_for(|stopping| *stopping) => {}
            }
        }
    }

    /// Cancels a turn whose answer the person stopped.
    async fn cancel(&self, turn: &AnswerTurn) -> Result<()> {
        let turn = *turn;
        let engine = self.engine.clone();
        self.store
            .write(Extent::Session(turn.session.tick()), move |tx| {
                if turns::cancel_one(tx, turn.id)? {
                    tx.on_commit(move || engine.cancel(turn.tenant, turn.session));
                }
                Ok(())
            })
            .await?;
        self.signals.announce(turn.session);
        Ok(())
    }

    /// Sends the messages that were not sent yet. The first one ends the stream, if there is one.
    async fn send(
        &self,
        to: &Addressee<'_>,
        messages: &[Message],
        mut stream: Stream,
        streams: bool,
        since: Millis,
    ) -> Result<Outcome> {
        for (index, message) in messages.iter().enumerate() {
            if index < to.next.delivery.parts_sent {
                continue;
            }
            if !self.still_has(to.lease).await {
                return Ok(Outcome::Leave);
            }
            let is_streamed = streams && index == 0;
            let sent = match is_streamed {
                true => self.send_streamed(to, message, &mut stream).await?,
                false => self.send_plain(to, message).await,
            };
            let sent_activity = match sent {
                Ok(Sent::As(id)) => id,
                Ok(Sent::Stopped) => return Ok(Outcome::End(DeliveryState::Cancelled, None)),
                Err(failure) if is_final(&failure) => {
                    let reason = Some(failure.to_string());
                    return Ok(Outcome::End(DeliveryState::GivenUp, reason));
                }
                Err(failure) => return Ok(Outcome::Retry(failure, since)),
            };
            let progress = Progress {
                parts_sent: index + 1,
                sent_activity,
                is_complete: index + 1 == messages.len(),
            };
            if !self.keep(to, progress).await {
                return Ok(Outcome::Leave);
            }
        }
        // All of them may have been sent by an earlier process.
        if to.next.delivery.parts_sent >= messages.len() {
            let progress = Progress {
                parts_sent: messages.len(),
                sent_activity: None,
                is_complete: true,
            };
            if !self.keep(to, progress).await {
                return Ok(Outcome::Leave);
            }
        }
        Ok(Outcome::Sent)
    }

    /// Records what was sent, as soon as the store takes it: nothing else may be sent before. Returns
    /// whether the delivery is still this node's.
    async fn keep(&self, to: &Addressee<'_>, progress: Progress) -> bool {
        let (seq, lease) = (to.seq, to.lease);
        loop {
            let kept = progress.clone();
            let kept = self.store.write(Extent::Statement, move |tx| {
                teams_outbox::progress(tx, seq, &kept, lease)
            });
            match kept.await {
                Ok(is_kept) => return is_kept,
                Err(error) => {
                    log::warn!("teams: what was sent could not be stored; retrying: {error}");
                    tokio::time::sleep(super::STORE_PAUSE).await;
                }
            }
        }
    }

    async fn send_plain(&self, to: &Addressee<'_>, message: &Message) -> Result<Sent, Failure> {
        let activity = to.envelope().message(message, None);
        let sent = self.connector.send(to.target(), &activity).await;
        sent.map(Sent::As)
    }

    /// Ends the stream with a message, which the connector takes once only. Without a stream it begins
    /// one.
    async fn send_streamed(
        &self,
        to: &Addressee<'_>,
        message: &Message,
        stream: &mut Stream,
    ) -> Result<Result<Sent, Failure>> {
        if stream.id.is_none() && stream.state == StreamState::Open {
            let first = to
                .envelope()
                .step(Step::Informative { sequence: 1 }, WORKING);
            match self.connector.send(to.target(), &first).await {
                Ok(id) => self.begin(to, stream, id).await?,
                Err(failure) => {
                    let state = match &failure {
                        Failure::Refused(refused) => StreamState::of(refused),
                        Failure::Unanswered(_) | Failure::NotCalled(_) | Failure::Forbidden(_) => {
                            None
                        }
                    };
                    match state {
                        Some(state) => stream.state = state,
                        None => return Ok(Err(failure)),
                    }
                }
            }
        }
        let Some(id) = stream.id.clone() else {
            return Ok(self.send_plain(to, message).await);
        };
        if stream.state == StreamState::Open {
            let last = to.envelope().message(message, Some(&id));
            match self.connector.send(to.target(), &last).await {
                Ok(_) => stream.state = StreamState::Completed,
                Err(Failure::Refused(refused)) if is_refused_as_it_is(&refused) => {
                    // Without a meaning of its own, the message is replaced instead.
                    stream.state = StreamState::of(&refused).unwrap_or(StreamState::TimedOut);
                }
                Err(failure) => return Ok(Err(failure)),
            }
        }
        Ok(match stream.state {
            StreamState::Completed => Ok(Sent::As(Some(id))),
            StreamState::Stopped => Ok(Sent::Stopped),
            StreamState::Open | StreamState::TimedOut => self.replace(to, message, id).await,
            StreamState::NotAllowed => self.send_plain(to, message).await,
        })
    }

    /// Puts a message in place of what a stream shows.
    async fn replace(
        &self,
        to: &Addressee<'_>,
        message: &Message,
        id: String,
    ) -> Result<Sent, Failure> {
        let mut activity = to.envelope().message(message, None);
        activity["id"] = id.as_str().into();
        match self.connector.update(to.target(), &id, &activity).await {
            Ok(()) => Ok(Sent::As(Some(id))),
            // The message of the stream is not there.
            Err(Failure::Refused(refused)) if [400, 404, 405].contains(&refused.status) => {
                self.send_plain(to, message).await
            }
            Err(failure) => Err(failure),
        }
    }
}

/// Whether another try would be refused too: the bot was removed, or the activity is not accepted.
fn is_final(failure: &Failure) -> bool {
    match failure {
        Failure::Refused(refused) => {
            (400..500).contains(&refused.status)
                && ![401, 408, 412, 425, 429].contains(&refused.status)
        }
        Failure::Forbidden(_) => true,
        Failure::Unanswered(_) | Failure::NotCalled(_) => false,
    }
}

/// Whether the last step of a stream was refused for what it is, rather than for its conversation.
fn is_refused_as_it_is(refused: &Refused) -> bool {
    StreamState::of(refused).is_some()
        || [400, 409, 413].contains(&refused.status)
        || (refused.status == 403 && refused.code.starts_with("ContentStream"))
}

/// The messages of a turn that has ended. None for a turn that was cancelled, unless a stream has to
/// be ended.
fn messages(
    reader: &Reader<'_>,
    turn: &AnswerTurn,
    ended: &Ended,
    prefix: Option<&str>,
    shown: usize,
    is_open: bool,
) -> Result<Vec<Message>> {
    let text = ended
        .answer
        .as_ref()
        .map_or("", |answer| answer.content.as_str());
    let error = ended.error.as_ref().map(|error| error.message.as_str());
    Ok(match (ended.status, &ended.answer) {
        (TurnStatus::Completed, Some(answer)) => {
            let sources = sources(reader, turn, answer)?;
            compose::answer(text, &sources, prefix, shown)
        }
        (TurnStatus::Cancelled, Some(_)) if is_open => compose::answer(text, &[], prefix, shown),
        (TurnStatus::Cancelled, None) if is_open => compose::notice(STOPPED, &[], prefix),
        (TurnStatus::Cancelled, _) => Vec::new(),
        (
            TurnStatus::Queued | TurnStatus::Running | TurnStatus::Completed | TurnStatus::Failed,
            answer,
        ) => {
            let error = error.unwrap_or("The assistant gave no answer.");
            match answer {
                // What a stream has shown must stay.
                Some(_) if is_open => {
                    let text = format!("{}\n\n{error}", markdown::render(text));
                    compose::answer(&text, &[], prefix, shown)
                }
                _ => compose::notice(error, &[], prefix),
            }
        }
    })
}

/// A source as an answer's parts have it.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct SourcePart {
    r#type: String,
    #[serde(default)]
    source_id: String,
    #[serde(default)]
    title: String,
    url: Option<String>,
}

/// The sources of an answer, in its order. The excerpt of an article that was changed since is left
/// out: the answer did not see it.
fn sources(reader: &Reader<'_>, turn: &AnswerTurn, answer: &Answer) -> Result<Vec<Source>> {
    let Parts::Stored(parts) = &answer.parts else {
        return Ok(Vec::new());
    };
    let parts: Vec<SourcePart> =
        serde_json::from_str(parts.get()).map_err(|error| Error::Internal(error.into()))?;
    let mut sources = Vec::new();
    for part in parts {
        if !part.r#type.starts_with("source-") {
            continue;
        }
        let article = match ArticleId::parse(&part.source_id) {
            Some(id) => articles::by_id(reader, turn.tenant, id)?,
            None => None,
        };
        let article = article.filter(|article| article.updated_at.0 <= answer.created_at.0);
        sources.push(Source {
            title: part.title,
            url: part.url,
            excerpt: article.map(|article| first_words(&article.body)),
        });
    }
    Ok(sources)
}

/// The first words of an article, without the marks of headings.
fn first_words(body: &str) -> String {
    /// More than a citation shows.
    const CHARS: usize = 400;
    let text = html::text_of(body);
    let lines = text
        .lines()
        .map(|line| line.trim_start_matches(['#', '>', ' ']));
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with("```"));
    let mut words = String::new();
    for line in lines {
        words.extend(line.chars().filter(|c| !"*`_".contains(*c)).take(CHARS));
        words.push(' ');
        if words.len() >= CHARS {
            break;
        }
    }
    words
}
