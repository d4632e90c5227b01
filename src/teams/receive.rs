//! Takes an activity: decides, then commits the message, its turn and the delivery of its answer, or
//! the delivery of the reason why there is none, in one transaction.

use std::sync::Arc;

use super::activity::{Activity, Event};
use super::routing::{self, Unanswerable};
use super::text_in::{self, Command};
use super::{Handled, Teams, files};
use crate::auth::rate_limit::RateLimiter;
use crate::auth::sliding_window::Count;
use crate::digest::sha256;
use crate::error::{Code, Error, Refusal, Result};
use crate::model::ids::SessionId;
use crate::model::names::{BotId, TenantNo};
use crate::model::session::{Feedback, Session, title_of};
use crate::model::words::{GroupReplies, ModelTier, Rating};
use crate::resolver::Resolution;
use crate::store::messages::NewMessage;
use crate::store::sessions::{Origin, SessionChange};
use crate::store::teams::{
    self, ActivityKind, Became, NewActivity, NewDelivery, Saying, Seen, Unanswered,
};
use crate::store::{
    Extent, Store, WriteTx, agents, channels, messages, sessions, teams_files, turns, unlinked,
};
use crate::turns::engine::Engine;
use crate::turns::signals::Signals;

/// The most characters of a message (contract, section 1, Size).
const MESSAGE: usize = 32_000;
/// The most characters of a comment.
const COMMENT: usize = 4_000;
/// How often a commit is tried again because the conversation's session has changed meanwhile.
const ATTEMPTS: usize = 8;
const RESET: &str = "This is a new conversation. What was said before is not used any more.";
const NO_TEXT: &str = "This message has no text. Please write what you need.";

/// Takes activities.
#[derive(Clone, Copy)]
pub struct Receiver<'a> {
    /// The database.
    pub store: &'a Store,
    /// Runs the turns.
    pub engine: &'a Engine,
    /// Wakes who waits for a turn of a session.
    pub signals: &'a Signals,
    /// Counts the messages.
    pub limiter: &'a RateLimiter,
    /// The bots.
    pub teams: &'a Arc<Teams>,
}

/// An activity for a bot, and what it says of its conversation.
#[derive(Clone, Debug)]
struct Incoming {
    activity: Activity,
    seen: Seen,
    /// The number that stands for the conversation, for [`Extent::Key`].
    key: i64,
}

/// The outcome of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Committed {
    Done,
    /// The activity was delivered before.
    Repeated,
    /// The conversation has another session by now.
    Moved,
}

/// The session of a message.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// The open session of the conversation.
    Open(SessionId),
    /// A new session. One that is open, and was decided otherwise, is archived.
    New { replaces: Option<SessionId> },
}

impl Place {
    /// The open session.
    fn open(self) -> Option<SessionId> {
        match self {
            Self::Open(session) => Some(session),
            Self::New { replaces } => replaces,
        }
    }

    fn extent(self, key: i64) -> Extent {
        match self.open() {
            Some(session) => Extent::Session(session.tick()),
            None => Extent::Key(key),
        }
    }
}

/// What a message leads to.
enum Decision {
    Answer {
        resolution: Resolution,
        place: Place,
    },
    Refuse(Unanswerable),
    /// The message was delivered before.
    Repeated,
}

impl Incoming {
    fn of(activity: Activity, bot: BotId) -> Self {
        let directory = match activity.directory() {
            Ok(directory) => directory.unwrap_or_default().to_owned(),
            Err([one, _]) => one.to_owned(),
        };
        let seen = Seen {
            bot,
            directory,
            id: activity.conversation.clone(),
            kind: activity.kind,
            service_url: activity.service_url.clone(),
            reference: activity.reference(),
            tenant: None,
            channel: None,
        };
        let name = format!("{}\n{}\n{}", seen.bot, seen.directory, seen.id);
        let [a, b, c, d, e, f, g, h, ..] = sha256(name.as_bytes());
        Self {
            activity,
            seen,
            key: i64::from_be_bytes([a, b, c, d, e, f, g, h]),
        }
    }

    fn id(&self) -> &str {
        self.activity.id.as_deref().unwrap_or_default()
    }

    /// As this, routed to a tenant.
    fn routed(&self, resolution: &Resolution) -> Self {
        let mut routed = self.clone();
        routed.seen.tenant = Some(resolution.tenant.no);
        routed.seen.channel = resolution.channel.as_ref().map(|channel| channel.id);
        routed
    }

    /// Locks the conversation and records the activity. `None` if it was delivered before: nothing
    /// is changed then.
    fn begin(&self, tx: &mut WriteTx<'_>, kind: ActivityKind) -> Result<Option<teams::Locked>> {
        let locked = teams::see(tx, &self.seen)?;
        let new = NewActivity {
            conversation: locked.no,
            id: self.id(),
            kind,
            stamp: self.activity.stamp.as_deref(),
        };
        if teams::insert_activity(tx, &new)? {
            return Ok(Some(locked));
        }
        tx.roll_back()?;
        Ok(None)
    }

    fn say(&self, tx: &mut WriteTx<'_>, locked: teams::Locked, body: String) -> Result<()> {
        let saying = Saying::Text {
            body,
            prompts: Vec::new(),
        };
        self.deliver(tx, locked, saying)
    }

    fn deliver(&self, tx: &mut WriteTx<'_>, locked: teams::Locked, saying: Saying) -> Result<()> {
        let delivery = NewDelivery {
            conversation: locked.no,
            tenant: self.seen.tenant,
            saying,
            reply_to: self.activity.id.as_deref(),
        };
        teams::insert_delivery(tx, delivery).map(drop)
    }
}

impl Receiver<'_> {
    /// Takes an activity that was sent to this bot. Returns after the commit.
    ///
    /// # Errors
    /// The store's, after which the activity may be delivered again.
    pub async fn receive(&self, activity: Activity, bot: BotId) -> Result<Handled> {
        if activity.is_bot(&activity.from.id) {
            return Ok(Handled::Ignored);
        }
        let event = activity.event.clone();
        let incoming = Incoming::of(activity, bot);
        match event {
            Event::Message => self.message(incoming).await,
            Event::Edit => self.edit(incoming).await,
            Event::Delete => self.delete(incoming).await,
            Event::Installed => self.installed(incoming).await,
            Event::Removed => self.removed(incoming).await,
            Event::Feedback => self.feedback(incoming).await,
            Event::OtherInvoke | Event::Other => Ok(Handled::Ignored),
        }
    }

    async fn message(&self, incoming: Incoming) -> Result<Handled> {
        let text = text_in::text_of(&incoming.activity);
        let is_addressed = !incoming.activity.is_group() || incoming.activity.mentions_bot();
        let (resolution, place) = match self.decide(&incoming).await? {
            Decision::Answer { resolution, .. } if !is_addressed && !answers_all(&resolution) => {
                return Ok(Handled::Ignored);
            }
            Decision::Refuse(_) if !is_addressed => return Ok(Handled::Ignored),
            Decision::Refuse(refused) => return self.refuse(incoming, refused).await,
            Decision::Repeated => return Ok(Handled::Repeated),
            Decision::Answer { resolution, place } => (resolution, place),
        };
        let tenant = &resolution.tenant;
        let count = self
            .limiter
            .count(tenant.no, tenant.rate_limit_per_minute, None);
        if let Count::Refused(_, seconds) = count {
            let refusal = Refusal::new(Code::RateLimited).saying(format!(
                "Too many requests. Wait {seconds} seconds, then send the message again."
            ));
            let refused = Unanswerable::of(&resolution, refusal);
            return self.refuse(incoming, refused).await;
        }
        let incoming = incoming.routed(&resolution);
        if text_in::command(&text) == Some(Command::Reset) {
            return self.reset(incoming, place.open()).await;
        }
        if text.is_empty() && files::named_in(&incoming.activity.attachments).is_empty() {
            return self.tell(incoming, NO_TEXT).await;
        }
        if text.chars().count() > MESSAGE {
            let reason = format!("must have at most {MESSAGE} characters");
            let refused = Unanswerable::of(&resolution, Refusal::invalid("message", reason));
            return self.refuse(incoming, refused).await;
        }
        self.append(incoming, resolution, place, text).await
    }

    /// Who answers, and in which session of the conversation.
    async fn decide(&self, incoming: &Incoming) -> Result<Decision> {
        let incoming = incoming.clone();
        self.store
            .read_cached(move |cached| {
                let seen = &incoming.seen;
                let resolution = match routing::route(cached, &seen.bot, &incoming.activity)? {
                    Ok(resolution) => resolution,
                    Err(refused) => return Ok(Decision::Refuse(refused)),
                };
                let reader = cached.reader();
                let found = teams::find(reader, &seen.bot, &seen.directory, &seen.id)?;
                if let Some(found) = &found
                    && teams::is_known(reader, found.no, incoming.id(), ActivityKind::Message)?
                {
                    // It counts at no limit.
                    return Ok(Decision::Repeated);
                }
                let current = match found.and_then(|found| found.session) {
                    Some(id) => sessions::by_id(reader, id)?,
                    None => None,
                };
                let goes_on = |session: &Session| routing::goes_on(session, &resolution);
                let place = match current.filter(goes_on) {
                    Some(session) => Place::Open(session.id),
                    None => {
                        let new = routing::new_session(
                            resolution.clone(),
                            &seen.bot,
                            &incoming.activity,
                        )?;
                        let open = sessions::find_open(reader, new)?.map(|(open, _)| open);
                        match open {
                            Some(session) if goes_on(&session) => Place::Open(session.id),
                            open => Place::New {
                                replaces: open.map(|session| session.id),
                            },
                        }
                    }
                };
                Ok(Decision::Answer { resolution, place })
            })
            .await
    }

    /// Appends a message to the conversation's session, or to a new one.
    async fn append(
        &self,
        incoming: Incoming,
        resolution: Resolution,
        mut place: Place,
        text: String,
    ) -> Result<Handled> {
        for _ in 0..ATTEMPTS {
            let extent = place.extent(incoming.key);
            let message = (incoming.clone(), resolution.clone(), text.clone());
            let (engine, teams) = (self.engine.clone(), Arc::clone(self.teams));
            let committed = self.store.write(extent, move |tx| {
                let (incoming, resolution, text) = message;
                let (committed, answered) = append(tx, &incoming, resolution, place, text)?;
                if let Some((tenant, session)) = answered {
                    tx.on_commit(move || {
                        engine.wake(tenant, session);
                        teams.deliveries.notify_one();
                    });
                }
                Ok(committed)
            });
            match committed.await {
                Ok(Committed::Done) => return Ok(Handled::Accepted),
                Ok(Committed::Repeated) => return Ok(Handled::Repeated),
                Ok(Committed::Moved) => {}
                // The session was archived or deleted meanwhile.
                Err(error) if error.is(Code::SessionArchived) || error.is(Code::NotFound) => {}
                Err(Error::Refused(refusal)) if refusal.code.status() < 500 => {
                    let refused = Unanswerable::of(&resolution, *refusal);
                    return self.refuse(incoming, refused).await;
                }
                Err(error) => return Err(error),
            }
            place = match self.decide(&incoming).await? {
                Decision::Answer { place, .. } => place,
                Decision::Refuse(refused) => return self.refuse(incoming, refused).await,
                Decision::Repeated => return Ok(Handled::Repeated),
            };
        }
        Err(Code::Overloaded.into())
    }

    /// Tells a person why a message is not answered, and remembers it for the administrator.
    async fn refuse(&self, mut incoming: Incoming, refused: Unanswerable) -> Result<Handled> {
        incoming.seen.tenant = refused.tenant;
        incoming.seen.channel = refused.channel;
        let extent = match refused.not_mapped {
            Some(_) => Extent::Configuration,
            None => Extent::Key(incoming.key),
        };
        let teams = Arc::clone(self.teams);
        let told = self.store.write(extent, move |tx| {
            let Some(locked) = incoming.begin(tx, ActivityKind::Message)? else {
                return Ok(Handled::Repeated);
            };
            let Refusal { code, message, .. } = &refused.refusal;
            teams::set_refusal(tx, locked.no, code.as_str(), message)?;
            if let Some(not_mapped) = &refused.not_mapped {
                unlinked::record_refusal(tx, not_mapped)?;
            }
            incoming.say(tx, locked, message.to_string())?;
            tx.on_commit(move || teams.deliveries.notify_one());
            Ok(Handled::Refused)
        });
        told.await
    }

    /// Says something that is no answer.
    async fn tell(&self, incoming: Incoming, text: &'static str) -> Result<Handled> {
        let teams = Arc::clone(self.teams);
        let told = self.store.write(Extent::Key(incoming.key), move |tx| {
            let Some(locked) = incoming.begin(tx, ActivityKind::Message)? else {
                return Ok(Handled::Repeated);
            };
            incoming.say(tx, locked, text.to_owned())?;
            tx.on_commit(move || teams.deliveries.notify_one());
            Ok(Handled::Accepted)
        });
        told.await
    }

    /// Ends the session of the conversation: the next message makes a new one.
    async fn reset(&self, incoming: Incoming, mut session: Option<SessionId>) -> Result<Handled> {
        for _ in 0..ATTEMPTS {
            let extent = match session {
                Some(session) => Extent::Session(session.tick()),
                None => Extent::Key(incoming.key),
            };
            let (engine, teams) = (self.engine.clone(), Arc::clone(self.teams));
            let (command, signals) = (incoming.clone(), self.signals.clone());
            let committed = self.store.write(extent, move |tx| {
                let committed = reset(tx, &command, session)?;
                tx.on_commit(move || {
                    if let (Some(session), Some(tenant)) = (session, command.seen.tenant) {
                        engine.cancel(tenant, session);
                        signals.announce(session);
                    }
                    teams.deliveries.notify_one();
                });
                Ok(committed)
            });
            match committed.await? {
                Committed::Done => return Ok(Handled::Accepted),
                Committed::Repeated => return Ok(Handled::Repeated),
                Committed::Moved => session = self.session_of(&incoming).await?,
            }
        }
        Err(Code::Overloaded.into())
    }

    async fn session_of(&self, incoming: &Incoming) -> Result<Option<SessionId>> {
        let seen = incoming.seen.clone();
        self.store
            .read(move |reader| {
                let found = teams::find(reader, &seen.bot, &seen.directory, &seen.id)?;
                Ok(found.and_then(|found| found.session))
            })
            .await
    }

    /// Follows the change of a message that has no answer yet: the new text is answered instead.
    async fn edit(&self, incoming: Incoming) -> Result<Handled> {
        let text = text_in::text_of(&incoming.activity);
        if text.is_empty() || text.chars().count() > MESSAGE {
            return Ok(Handled::Ignored);
        }
        self.replace(incoming, Some(text)).await
    }

    /// Takes back a message that has no answer yet.
    async fn delete(&self, incoming: Incoming) -> Result<Handled> {
        self.replace(incoming, None).await
    }

    async fn replace(&self, incoming: Incoming, text: Option<String>) -> Result<Handled> {
        let Some(session) = self.session_of(&incoming).await? else {
            return Ok(Handled::Ignored);
        };
        let (engine, teams) = (self.engine.clone(), Arc::clone(self.teams));
        let signals = self.signals.clone();
        let extent = Extent::Session(session.tick());
        let replaced = self.store.write(extent, move |tx| {
            let (handled, is_running) = replace(tx, &incoming, session, text)?;
            if handled == Handled::Accepted {
                let tenant = sessions::tenant_of(tx.reader(), session)?;
                tx.on_commit(move || {
                    if is_running {
                        engine.cancel(tenant, session);
                    }
                    engine.wake(tenant, session);
                    signals.announce(session);
                    teams.deliveries.notify_one();
                });
            }
            Ok(handled)
        });
        replaced.await
    }

    /// Welcomes an installation, once.
    async fn installed(&self, incoming: Incoming) -> Result<Handled> {
        let (routed, welcome) = self.welcome(incoming).await?;
        let teams = Arc::clone(self.teams);
        let extent = Extent::Key(routed.key);
        let welcomed = self.store.write(extent, move |tx| {
            let locked = match routed.activity.id {
                Some(_) => match routed.begin(tx, ActivityKind::Install)? {
                    Some(locked) => locked,
                    None => return Ok(Handled::Repeated),
                },
                None => teams::see(tx, &routed.seen)?,
            };
            if let (None, Some(saying)) = (locked.welcomed_at, welcome) {
                teams::set_welcomed(tx, locked.no)?;
                routed.deliver(tx, locked, saying)?;
                tx.on_commit(move || teams.deliveries.notify_one());
            }
            Ok(Handled::Accepted)
        });
        welcomed.await
    }

    /// What an installation is welcomed with: the channel's words, or the agent's, and its prompts.
    async fn welcome(&self, incoming: Incoming) -> Result<(Incoming, Option<Saying>)> {
        self.store
            .read_cached(move |cached| {
                let routed = routing::route(cached, &incoming.seen.bot, &incoming.activity)?;
                let Ok(resolution) = routed else {
                    return Ok((incoming, None));
                };
                let reader = cached.reader();
                let channel = match &resolution.channel {
                    Some(channel) => channels::by_id(reader, channel.id)?,
                    None => None,
                };
                let agent = agents::by_id(reader, resolution.agent.id)?;
                let settings = agent.map(|agent| agent.agent_settings).unwrap_or_default();
                let words = channel
                    .and_then(|channel| channel.welcome_message)
                    .or(settings.welcome_message)
                    .filter(|words| !words.trim().is_empty());
                let prompts = settings.suggested_prompts;
                let body = match (words, prompts.is_empty()) {
                    (Some(words), _) => Some(words),
                    (None, false) => Some(format!("{} can help with:", resolution.agent.name)),
                    (None, true) => None,
                };
                let saying = body.map(|body| Saying::Text { body, prompts });
                Ok((incoming.routed(&resolution), saying))
            })
            .await
    }

    /// Says nothing more in a conversation from which the bot was removed.
    async fn removed(&self, incoming: Incoming) -> Result<Handled> {
        let removed = self.store.write(Extent::Key(incoming.key), move |tx| {
            let locked = match incoming.activity.id {
                Some(_) => match incoming.begin(tx, ActivityKind::Install)? {
                    Some(locked) => locked,
                    None => return Ok(Handled::Repeated),
                },
                None => teams::see(tx, &incoming.seen)?,
            };
            teams::uninstall(tx, locked.no)?;
            Ok(Handled::Accepted)
        });
        removed.await
    }

    /// Stores what a person thinks of an answer.
    async fn feedback(&self, incoming: Incoming) -> Result<Handled> {
        let (Some(feedback), Some(sent)) = (
            feedback_of(&incoming.activity.value),
            incoming.activity.reply_to.clone(),
        ) else {
            return Ok(Handled::Ignored);
        };
        let seen = incoming.seen.clone();
        let found = self.store.read(move |reader| {
            match teams::find(reader, &seen.bot, &seen.directory, &seen.id)? {
                Some(found) => teams::answer_of(reader, found.no, &sent),
                None => Ok(None),
            }
        });
        let Some((session, message)) = found.await? else {
            return Ok(Handled::Ignored);
        };
        let extent = Extent::Session(session.tick());
        let stored = self.store.write(extent, move |tx| {
            if incoming.activity.id.is_some() && incoming.begin(tx, ActivityKind::Invoke)?.is_none()
            {
                return Ok(Handled::Repeated);
            }
            messages::give_feedback(tx, session, message, &feedback)?;
            Ok(Handled::Accepted)
        });
        match stored.await {
            // The answer is not stored yet, or not any longer.
            Err(error) if error.is(Code::NotFound) => Ok(Handled::Ignored),
            outcome => outcome,
        }
    }
}

/// Whether a group's messages are answered without a mention.
fn answers_all(resolution: &Resolution) -> bool {
    let channel = resolution.channel.as_ref();
    channel.is_some_and(|channel| channel.group_replies == GroupReplies::Always)
}

/// The tenant and the session of a new turn, for the engine.
type Answered = Option<(TenantNo, SessionId)>;

/// One change: the conversation, the activity, the session, the message, its turn and the delivery of
/// the answer.
fn append(
    tx: &mut WriteTx<'_>,
    incoming: &Incoming,
    resolution: Resolution,
    place: Place,
    text: String,
) -> Result<(Committed, Answered)> {
    let Some(locked) = incoming.begin(tx, ActivityKind::Message)? else {
        return Ok((Committed::Repeated, None));
    };
    let tenant = resolution.tenant.no;
    let goes_on = |session: &Session| routing::goes_on(session, &resolution);
    let has_moved = match place {
        Place::Open(session) if locked.session == Some(session.tick()) => false,
        Place::Open(_) | Place::New { .. } => {
            teams::has_living_session(tx.reader(), locked, &goes_on)?
        }
    };
    let id = match place {
        _ if has_moved => None,
        Place::Open(session) => Some(session),
        Place::New { replaces } => {
            if let Some(before) = replaces {
                archive(tx, before)?;
            }
            let activity = &incoming.activity;
            let new = routing::new_session(resolution, &incoming.seen.bot, activity)?;
            match sessions::insert_or_find(tx, new)? {
                (session, Origin::New) => Some(session.id),
                (_, Origin::Same | Origin::Other) => None,
            }
        }
    };
    let Some(id) = id else {
        tx.roll_back()?;
        return Ok((Committed::Moved, None));
    };
    if locked.session != Some(id.tick()) {
        teams::set_session(tx, locked.no, Some(id))?;
    }
    let new = new_message(incoming, id, tenant, text);
    deliver_answer(tx, incoming, locked, &new)?;
    if let Place::New { .. } = place {
        teams::set_last_tick(tx, id)?;
    }
    Ok((Committed::Done, Some((tenant, id))))
}

/// Archives a session. One that is gone needs none.
fn archive(tx: &mut WriteTx<'_>, session: SessionId) -> Result<()> {
    let archive = SessionChange {
        archived: Some(true),
        ..SessionChange::default()
    };
    match sessions::change(tx, session, archive) {
        Err(error) if !error.is(Code::NotFound) => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}

fn new_message(
    incoming: &Incoming,
    session: SessionId,
    tenant: TenantNo,
    text: String,
) -> NewMessage {
    NewMessage {
        session,
        tenant,
        authorship: routing::authorship(&incoming.activity),
        title: title_of(&text),
        content: text,
        attachments: Vec::new(),
        model_tier: ModelTier::Fast,
        client_message_id: None,
    }
}

/// Appends a message, and puts the delivery of its answer into the outbox.
fn deliver_answer(
    tx: &mut WriteTx<'_>,
    incoming: &Incoming,
    locked: teams::Locked,
    new: &NewMessage,
) -> Result<()> {
    let appended = messages::append(tx, new)?;
    let became = Became {
        message: appended.user_message_id.tick(),
        turn: appended.chat_turn_id.tick(),
    };
    teams::set_became(tx, locked.no, incoming.id(), became)?;
    // The turn fetches them before it is answered.
    let files = files::named_in(&incoming.activity.attachments);
    teams_files::insert(tx, appended.chat_turn_id, &incoming.seen.bot, &files)?;
    incoming.deliver(tx, locked, Saying::Answer(appended.chat_turn_id))
}

/// One change: the session is archived as a relay's reset does, and the person is told.
fn reset(
    tx: &mut WriteTx<'_>,
    incoming: &Incoming,
    session: Option<SessionId>,
) -> Result<Committed> {
    let Some(locked) = incoming.begin(tx, ActivityKind::Message)? else {
        return Ok(Committed::Repeated);
    };
    if let Some(session) = session {
        let is_other = |other: &Session| other.id != session && other.archived_at.is_none();
        if teams::has_living_session(tx.reader(), locked, &is_other)? {
            tx.roll_back()?;
            return Ok(Committed::Moved);
        }
        archive(tx, session)?;
        turns::cancel(tx, session)?;
        teams::cancel_answers(tx, locked.no)?;
    }
    teams::set_session(tx, locked.no, None)?;
    incoming.say(tx, locked, RESET.to_owned())?;
    Ok(Committed::Done)
}

/// One change: the unanswered message goes with its turn, and the new text takes its place. Returns
/// also whether the turn is running.
fn replace(
    tx: &mut WriteTx<'_>,
    incoming: &Incoming,
    session: SessionId,
    text: Option<String>,
) -> Result<(Handled, bool)> {
    let locked = teams::see(tx, &incoming.seen)?;
    let stamp = incoming.activity.stamp.as_deref();
    let is_new = match text {
        Some(_) => teams::insert_edit(tx, locked.no, incoming.id(), stamp)?,
        None => {
            let new = NewActivity {
                conversation: locked.no,
                id: incoming.id(),
                kind: ActivityKind::Delete,
                stamp,
            };
            teams::insert_activity(tx, &new)?
        }
    };
    if !is_new {
        tx.roll_back()?;
        return Ok((Handled::Repeated, false));
    }
    let found = teams::unanswered(tx.reader(), locked.no, incoming.id())?;
    let found = found.filter(|_| locked.session == Some(session.tick()));
    let Some(Unanswered {
        became,
        is_running,
        waits,
    }) = found
    else {
        return Ok((Handled::Ignored, false));
    };
    let tenant = sessions::tenant_of(tx.reader(), session)?;
    let content = messages::content_at(tx.reader(), session, became.message)?;
    if content.is_some() && content == text {
        return Ok((Handled::Repeated, false));
    }
    if let Some(text) = &text
        && waits
    {
        // No turn has read the old text.
        messages::replace_text(tx, tenant, session, became.message, text)?;
        return Ok((Handled::Accepted, false));
    }
    teams::cancel_turn(tx, became.turn)?;
    messages::remove(tx, tenant, session, became.message)?;
    if let Some(text) = text {
        let mut incoming = incoming.clone();
        incoming.seen.tenant = Some(tenant);
        let new = new_message(&incoming, session, tenant, text);
        deliver_answer(tx, &incoming, locked, &new)?;
    }
    Ok((Handled::Accepted, is_running))
}

/// The feedback of an invoke.
fn feedback_of(value: &serde_json::Value) -> Option<Feedback> {
    let text = |path: &str| value.pointer(path).and_then(serde_json::Value::as_str);
    let rating = match text("/actionValue/reaction") {
        Some("like") => Rating::Up,
        Some("dislike") => Rating::Down,
        Some(_) | None => return None,
    };
    // The comment is JSON within the JSON.
    let comment = text("/actionValue/feedback").and_then(|feedback| {
        let feedback: serde_json::Value = serde_json::from_str(feedback).ok()?;
        let comment = feedback.get("feedbackText")?.as_str()?.trim();
        let comment: String = comment.chars().take(COMMENT).collect();
        (!comment.is_empty()).then_some(comment)
    });
    Some(Feedback {
        rating: Some(rating),
        comment,
    })
}
