//! Messages: appended after every check of the contract's section 4, and listed.

use actix_web::{HttpRequest, web};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::App;
use super::attachments::sign_links;
use super::edge::admission::Permit;
use super::edge::cursor::{AFTER_ALL, BEFORE_ALL, List, ListQuery, Page};
use super::edge::envelope::{Outcome, Reply};
use super::edge::extract::{Body, FromQuery, Query, QueryString, path_id};
use super::sessions::{asker, find, find_in, refuse_unmapped};
use crate::error::{Code, Error, Refusal, Result};
use crate::input::fields::{Field, Fields, FromFields};
use crate::model::caller::{Caller, Reach, Who};
use crate::model::file;
use crate::model::ids::{MessageId, SessionId};
use crate::model::session::{Appended, Feedback, Message, Session};
use crate::model::words::{AgentState, ChannelStatus, ModelTier, Rating, Rule};
use crate::resolver::{self, Directory, Linked, NotMapped};
use crate::store::attachments::{self, NewAttachment};
use crate::store::cache::Cached;
use crate::store::messages::{self, NewMessage};
use crate::store::{Extent, Reader, channels, turns};

/// Characters that a message may have (contract, section 1, Size).
const MESSAGE: usize = 32_000;
/// Files that a message may carry.
const ATTACHMENTS: usize = 6;
/// Characters of a title that is taken from a first message.
const TAKEN_TITLE: usize = 80;

pub(super) struct AppendRequest {
    message: String,
    attachments: Vec<NewAttachment>,
    client_message_id: Option<String>,
    model_tier: ModelTier,
}

impl FromFields for AppendRequest {
    fn read(fields: &Fields<'_>) -> Self {
        let attachments = fields.objects("attachments");
        if attachments.len() > ATTACHMENTS {
            fields.refuse(
                "attachments",
                format!("must have at most {ATTACHMENTS} entries"),
            );
        }
        let said = |text: Field<String>| text.value().filter(|text| !text.is_empty());
        let attachments: Vec<NewAttachment> = attachments
            .iter()
            .map(|attachment| NewAttachment {
                id: file::parse_blob_path(&attachment.required_text("blob_path", 1..=1_024)),
                mime: attachment.required_text("mime", 1..=256),
                alt: said(attachment.text("alt", 0..=1_000)),
                filename: said(attachment.text("filename", 0..=255)),
            })
            .collect();
        let message = fields
            .text("message", 0..=MESSAGE)
            .value()
            .unwrap_or_default();
        if message.is_empty() && attachments.is_empty() {
            fields.refuse("message", "must not be empty without an attachment");
        }
        Self {
            message,
            attachments,
            client_message_id: fields.text("client_message_id", 1..=128).value(),
            model_tier: fields
                .word("model_tier", ModelTier::parse, &ModelTier::choices())
                .value()
                .unwrap_or(ModelTier::Fast),
        }
    }
}

/// The reply of an append.
#[derive(Serialize, JsonSchema)]
pub(super) struct Accepted {
    #[serde(flatten)]
    appended: Appended,
    show_agent_progress_steps: bool,
}

/// Why an append is refused, and what the admin should see of it.
enum AppendRefused {
    Plainly(Error),
    NotMapped(NotMapped),
}

impl<E: Into<Error>> From<E> for AppendRefused {
    fn from(error: E) -> Self {
        Self::Plainly(error.into())
    }
}

pub(super) async fn append(
    app: web::Data<App>,
    caller: Permit,
    request: HttpRequest,
    body: Body<AppendRequest>,
) -> Outcome<Accepted> {
    let sent = body.read()?;
    let id: SessionId = path_id(&request, "session_id")?;
    let appender = caller.shared();
    let checked = app
        .store
        .read_cached(move |known| match check(known, &appender, id, &sent) {
            Ok(session) => Ok(Ok((session, sent))),
            Err(AppendRefused::NotMapped(not_mapped)) => Ok(Err(not_mapped)),
            Err(AppendRefused::Plainly(error)) => Err(error),
        });
    let (session, sent) = match checked.await? {
        Ok(checked) => checked,
        Err(not_mapped) => return Err(refuse_unmapped(&app, not_mapped).await?),
    };
    let show_agent_progress_steps = session.show_agent_progress_steps;
    let new = NewMessage {
        session: id,
        tenant: session.internals.tenant,
        title: title_of(&sent.message),
        content: sent.message,
        attachments: sent.attachments,
        model_tier: sent.model_tier,
        client_message_id: sent.client_message_id,
    };
    let engine = app.engine.clone();
    let appended = app
        .store
        .write(Extent::Session(id.tick()), move |tx| {
            let appended = messages::append(tx, &new)?;
            tx.on_commit(move || engine.wake(new.tenant, new.session));
            Ok(appended)
        })
        .await?;
    Ok(Reply::accepted(Accepted {
        appended,
        show_agent_progress_steps,
    }))
}

/// The checks at every append, in the contract's order.
fn check(
    known: &Cached<'_, Reader<'_>>,
    caller: &Caller,
    id: SessionId,
    sent: &AppendRequest,
) -> Result<Session, AppendRefused> {
    let reader = known.reader();
    let session = find_in(reader, caller, id, Reach::Read)?;
    if let Some(client_message_id) = &sent.client_message_id
        && let Some(first) = turns::accepted(reader, id, client_message_id)?
    {
        return Err(messages::duplicate(&first).into());
    }
    attachments::check(reader, id, &sent.attachments)?;
    if session.archived_at.is_some() {
        return Err(Code::SessionArchived.into());
    }
    let agent = known
        .agent(session.internals.tenant, session.agent_id)?
        .filter(|agent| agent.state == AgentState::Enabled)
        .ok_or(Code::AgentDisabled)?;
    check_channel(known, &session)?;
    check_link(known, &session)?;
    if let Who::DashboardUser { .. } = caller.who
        && !resolver::may_use(&agent, &asker(caller)?)
    {
        return Err(Code::AgentAccessDenied.into());
    }
    if caller.reach(&session.facts()) < Reach::Write {
        return Err(Code::Forbidden.into());
    }
    if turns::waiting(reader, id)? >= turns::MAX_QUEUED {
        return Err(Code::TooManyPendingTurns.into());
    }
    Ok(session)
}

/// The channel that routed here must still work, and still be installed.
fn check_channel(known: &Cached<'_, Reader<'_>>, session: &Session) -> Result<()> {
    let Some(id) = session.channel_id else {
        return Ok(());
    };
    let channel = known
        .channel(id)?
        .filter(|channel| !channel.deleted && channel.status == ChannelStatus::Active)
        .ok_or(Code::ChannelDisconnected)?;
    if session.resolution.rule == Rule::WhiteLabelInstall
        && let Some(inbound) = &session.internals.pinned_by
        && !known.is_installed(channel.owner, id, inbound)?
    {
        return Err(Code::ChannelDisconnected.into());
    }
    Ok(())
}

/// The link that pinned a session must still lead to its company, and to no other; a company that it is tried as must be there.
fn check_link(known: &Cached<'_, Reader<'_>>, session: &Session) -> Result<(), AppendRefused> {
    let tenant = session.internals.tenant;
    let (Some(inbound), Some(channel)) = (&session.internals.pinned_by, session.channel_id) else {
        return match &session.end_company_id {
            Some(company) if !known.has_company(tenant, company)? => {
                Err(Refusal::new(Code::EndCompanyNotMapped)
                    .saying("The company that this session was opened for is gone. Start a new session for another one.")
                    .with("inbound_tenant_id", Value::Null)
                    .with("client_id", known.tenant_by_no(tenant)?.client_id.as_str())
                    .with("linked_companies", 0)
                    .into())
            }
            Some(_) | None => Ok(()),
        };
    };
    let linked_companies = match known.linked(tenant, inbound)? {
        Linked::One(company) if Some(&company) == session.end_company_id.as_ref() => {
            return Ok(());
        }
        Linked::One(_) => 1,
        Linked::Not(companies) => companies,
    };
    Err(AppendRefused::NotMapped(NotMapped {
        tenant: known.tenant_by_no(tenant)?,
        inbound: Some(inbound.clone()),
        linked_companies,
        channel,
        bot: channels::bot_of(known.reader(), channel)?,
    }))
}

/// The title that a first message gives: its first line, cut between words.
fn title_of(message: &str) -> Option<String> {
    let line = message
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty())?;
    let Some((end, _)) = line.char_indices().nth(TAKEN_TITLE) else {
        return Some(line.to_owned());
    };
    let cut = &line[..end];
    let cut = cut
        .rfind(char::is_whitespace)
        .map_or(cut, |space| &cut[..space]);
    Some(format!("{}…", cut.trim_end()))
}

/// The order of a list of messages.
pub(super) struct Order {
    newest_first: bool,
}

impl FromQuery for Order {
    fn read(query: &QueryString) -> Result<Self> {
        let order = |text: &str| match text {
            "asc" => Some(false),
            "desc" => Some(true),
            _ => None,
        };
        let newest_first = query.word("order", order, "asc, desc")?;
        Ok(Self {
            newest_first: newest_first.unwrap_or(false),
        })
    }
}

pub(super) async fn list(
    app: web::Data<App>,
    caller: Permit,
    request: HttpRequest,
    Query(query): Query<ListQuery<Order>>,
) -> Outcome<Vec<Message>> {
    let newest_first = query.filter.newest_first;
    let id: SessionId = path_id(&request, "session_id")?;
    let owner = id.to_string();
    let name = if newest_first {
        "messages, newest first"
    } else {
        "messages"
    };
    let list = List {
        name,
        owner: &owner,
    };
    let page = Page::of(&query.page, list)?;
    let reaches = caller.shared();
    let part = app.store.read(move |reader| {
        find_in(reader, &reaches, id, Reach::Read)?;
        if newest_first {
            messages::page_before(reader, id, page.after.unwrap_or(AFTER_ALL), page.fetch())
        } else {
            messages::page_after(reader, id, page.after.unwrap_or(BEFORE_ALL), page.fetch())
        }
    });
    let (mut found, pagination) = page.cut(part.await?, list, |message| message.id.tick());
    sign_links(&app, &request, &mut found);
    Ok(Reply::ok(found).paged(pagination))
}

/// Characters that a comment may have.
const COMMENT: usize = 4_000;

impl FromFields for Feedback {
    fn read(fields: &Fields<'_>) -> Self {
        Self {
            rating: fields
                .word("rating", Rating::parse, &Rating::choices())
                .value(),
            comment: fields
                .text("comment", 0..=COMMENT)
                .value()
                .filter(|comment| !comment.is_empty()),
        }
    }
}

pub(super) async fn give_feedback(
    app: web::Data<App>,
    caller: Permit,
    request: HttpRequest,
    body: Body<Feedback>,
) -> Outcome<Message> {
    let feedback = body.read()?;
    let session: SessionId = path_id(&request, "session_id")?;
    let message: MessageId = path_id(&request, "message_id")?;
    find(&app, &caller, session, Reach::Write).await?;
    let message = app
        .store
        .write(Extent::Session(session.tick()), move |tx| {
            messages::give_feedback(tx, session, message, &feedback)
        })
        .await?;
    Ok(Reply::ok(message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_is_the_first_line_cut_between_words() {
        assert_eq!(
            title_of("\n  My printer is on fire \nsince noon"),
            Some("My printer is on fire".to_owned())
        );
        assert_eq!(title_of(" \n"), None);
        let long = "word ".repeat(40);
        assert_eq!(
            title_of(&long),
            Some(format!("{}…", "word ".repeat(16).trim_end()))
        );
        assert_eq!(
            title_of(&"é".repeat(100)),
            Some(format!("{}…", "é".repeat(80)))
        );
    }
}
