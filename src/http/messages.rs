//! Messages of a session: appended, listed, and rated (contract, section 4).

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, web};
use schemars::JsonSchema;
use serde::Serialize;

use super::App;
use super::attachments::sign_links;
use super::edge::admission::Permit;
use super::edge::cursor::{AFTER_ALL, BEFORE_ALL, List, ListQuery, Page};
use super::edge::envelope::{MaybeSerialized, Outcome, Reply};
use super::edge::extract::{Body, FromQuery, Query, QueryString, path_id};
use super::edge::once::{self, Made, Once};
use super::sessions::{find, find_in, hide_reasoning, refuse_unmapped};
use crate::error::{Code, Refusal, Result};
use crate::input::fields::{Field, Fields, FromFields};
use crate::model::author::{Author, Authorship, END_USER, one_line};
use crate::model::caller::{Reach, Who};
use crate::model::file;
use crate::model::ids::{MessageId, SessionId};
use crate::model::session::{Appended, Cursor, Feedback, Message, title_of};
use crate::model::words::{ModelTier, Rating};
use crate::resolver::NotMapped;
use crate::store::attachments::NewAttachment;
use crate::store::idempotency::FirstReply;
use crate::store::messages::{self, NewMessage};
use crate::store::versions::{self, Edited, NewText};
use crate::store::{Extent, reasoning};

/// The most characters of a message (contract, section 1, Size).
const MESSAGE: usize = 32_000;
/// The most characters of an author's id.
const AUTHOR_ID: usize = 255;
/// The most characters of an author's name.
const AUTHOR_NAME: usize = 256;
/// The most files of a message.
const ATTACHMENTS: usize = 6;

/// The body of a POST.
pub(super) struct AppendRequest {
    message: String,
    author: Option<Author>,
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
        let non_empty = |text: Field<String>| text.value().filter(|text| !text.is_empty());
        let attachments: Vec<NewAttachment> = attachments
            .iter()
            .map(|attachment| NewAttachment {
                id: file::parse_blob_path(&attachment.required_text("blob_path", 1..=1_024)),
                mime: attachment.required_text("mime", 1..=256),
                alt: non_empty(attachment.text("alt", 0..=1_000)),
                filename: non_empty(attachment.text("filename", 0..=255)),
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
            author: fields
                .object("author")
                .value()
                .map(|author| given_author(&author)),
            attachments,
            client_message_id: fields.text("client_message_id", 1..=128).value(),
            model_tier: fields
                .word("model_tier", ModelTier::parse, &ModelTier::choices())
                .value()
                .unwrap_or(ModelTier::Fast),
        }
    }
}

/// Reads the author whom a client names.
fn given_author(fields: &Fields<'_>) -> Author {
    let kind = fields.text("kind", 1..=32).value();
    let kind = kind.unwrap_or_else(|| END_USER.to_owned());
    if !Author::is_kind_of_person(&kind) {
        fields.refuse("kind", Author::KIND_RULE);
    }
    let id = fields.required_text("id", 1..=AUTHOR_ID);
    if id.chars().any(char::is_control) {
        fields.refuse("id", "must not contain control characters");
    }
    let name = fields.text("name", 0..=AUTHOR_NAME).value();
    Author {
        kind,
        id,
        name: name.and_then(|name| one_line(&name)),
    }
}

/// The reply of an append.
#[derive(Serialize, JsonSchema)]
pub(super) struct Accepted {
    #[serde(flatten)]
    appended: Appended,
    show_agent_progress_steps: bool,
}

const NOT_FOR_OTHERS: &str =
    "Only a service account may say who wrote a message. Remove author from the request.";

pub(super) async fn append(
    app: web::Data<App>,
    caller: Permit,
    request: HttpRequest,
    body: Body<AppendRequest>,
) -> Outcome<MaybeSerialized<Accepted>> {
    let mut sent = body.read()?;
    let given = sent.author.take();
    if given.is_some() && !matches!(caller.who, Who::ServiceAccount { .. }) {
        return Err(Refusal::new(Code::Forbidden).saying(NOT_FOR_OTHERS).into());
    }
    let once = Once::of(&request, &caller, &body)?;
    let id: SessionId = path_id(&request, "session_id")?;
    let (call, repeat, now) = (caller.shared(), once.clone(), app.store.now());
    let checked = app.store.read_cached(move |cached| {
        let session = find_in(cached.reader(), &call, id, Reach::Read)?;
        if let Some(first) = repeat.first_reply(cached.reader(), now)? {
            return Ok(Checked::Repeated(first));
        }
        let client_message_id = sent.client_message_id.as_deref();
        let checked =
            messages::check(cached, &call, session, client_message_id, &sent.attachments)?;
        Ok(match checked {
            Ok(session) => Checked::Fine((
                session.internals.tenant,
                Authorship::of(&call, &session, given),
                session.show_agent_progress_steps,
                sent,
            )),
            Err(not_mapped) => Checked::NotMapped(not_mapped),
        })
    });
    let (tenant, authorship, show_agent_progress_steps, sent) = match checked.await? {
        Checked::Fine(fine) => fine,
        Checked::Repeated(first) => return once::replay(first),
        Checked::NotMapped(not_mapped) => return Err(refuse_unmapped(&app, not_mapped).await?),
    };
    let new = NewMessage {
        session: id,
        tenant,
        authorship,
        title: title_of(&sent.message),
        content: sent.message,
        attachments: sent.attachments,
        model_tier: sent.model_tier,
        client_message_id: sent.client_message_id,
    };
    let engine = app.engine.clone();
    once.write(&app, Extent::Session(id.tick()), move |tx| {
        let appended = messages::append(tx, &new)?;
        tx.on_commit(move || engine.wake(new.tenant, new.session));
        Ok(Made {
            tenant: new.tenant,
            session: Some(id),
            status: StatusCode::ACCEPTED,
            location: None,
            warnings: Vec::new(),
            data: Accepted {
                appended,
                show_agent_progress_steps,
            },
        })
    })
    .await
}

/// The outcome of the checks before a message is appended, answered again or changed.
enum Checked<T> {
    /// The session takes the message.
    Fine(T),
    /// The request is a repeat.
    Repeated(FirstReply),
    /// An admin has to link exactly one company first.
    NotMapped(NotMapped),
}

pub(super) async fn regenerate(
    app: web::Data<App>,
    caller: Permit,
    request: HttpRequest,
) -> Outcome<MaybeSerialized<Accepted>> {
    let once = Once::without_body(&request, &caller)?;
    let id: SessionId = path_id(&request, "session_id")?;
    let message: MessageId = path_id(&request, "message_id")?;
    let (call, repeat, now) = (caller.shared(), once.clone(), app.store.now());
    let checked = app.store.read_cached(move |cached| {
        let session = find_in(cached.reader(), &call, id, Reach::Read)?;
        if let Some(first) = repeat.first_reply(cached.reader(), now)? {
            return Ok(Checked::Repeated(first));
        }
        versions::question_of(cached.reader(), id, message)?;
        Ok(match messages::check_session(cached, &call, session)? {
            Ok(session) => Checked::Fine(session),
            Err(not_mapped) => Checked::NotMapped(not_mapped),
        })
    });
    let session = match checked.await? {
        Checked::Fine(session) => session,
        Checked::Repeated(first) => return once::replay(first),
        Checked::NotMapped(not_mapped) => return Err(refuse_unmapped(&app, not_mapped).await?),
    };
    let (engine, tenant) = (app.engine.clone(), session.internals.tenant);
    once.write(&app, Extent::Session(id.tick()), move |tx| {
        let appended = versions::regenerate(tx, id, message)?;
        tx.on_commit(move || engine.wake(tenant, id));
        Ok(Made {
            tenant,
            session: Some(id),
            status: StatusCode::ACCEPTED,
            location: None,
            warnings: Vec::new(),
            data: Accepted {
                appended,
                show_agent_progress_steps: session.show_agent_progress_steps,
            },
        })
    })
    .await
}

/// The body of a PATCH.
pub(super) struct EditRequest {
    message: String,
}

impl FromFields for EditRequest {
    fn read(fields: &Fields<'_>) -> Self {
        let message = fields.text("message", 0..=MESSAGE);
        Self {
            message: fields.required("message", message).unwrap_or_default(),
        }
    }
}

/// A changed message, and where its answer begins.
#[derive(Serialize, JsonSchema)]
pub(super) struct EditedMessage {
    #[serde(flatten)]
    message: Message,
    /// The position in the stream where the answer begins.
    since_cursor: Cursor,
}

pub(super) async fn edit(
    app: web::Data<App>,
    caller: Permit,
    request: HttpRequest,
    body: Body<EditRequest>,
) -> Outcome<EditedMessage> {
    let content = body.read()?.message;
    let id: SessionId = path_id(&request, "session_id")?;
    let message: MessageId = path_id(&request, "message_id")?;
    let call = caller.shared();
    let checked = app.store.read_cached(move |cached| {
        let session = find_in(cached.reader(), &call, id, Reach::Read)?;
        versions::question_of(cached.reader(), id, message)?;
        Ok(
            messages::check_session(cached, &call, session)?.map(|session| {
                let authorship = Authorship::of(&call, &session, None);
                (session.internals.tenant, authorship)
            }),
        )
    });
    let (tenant, authorship) = match checked.await? {
        Ok(fine) => fine,
        Err(not_mapped) => return Err(refuse_unmapped(&app, not_mapped).await?),
    };
    let new = NewText {
        session: id,
        tenant,
        message,
        content,
        account: caller.account().to_string(),
        authorship,
    };
    let engine = app.engine.clone();
    let edited = app.store.write(Extent::Session(id.tick()), move |tx| {
        let Edited {
            appended,
            has_cancelled,
        } = versions::edit(tx, &new)?;
        tx.on_commit(move || {
            if has_cancelled {
                engine.cancel(tenant, id);
            }
            engine.wake(tenant, id);
        });
        let message = messages::by_id(tx.reader(), id, message)?.ok_or(Code::NotFound)?;
        Ok(EditedMessage {
            message,
            since_cursor: appended.since_cursor,
        })
    });
    let mut edited = edited.await?;
    app.signals.announce(id);
    sign_links(&app, &request, std::slice::from_mut(&mut edited.message));
    Ok(Reply::ok(edited))
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
    let caller = caller.shared();
    let part = app.store.read(move |reader| {
        let session = find_in(reader, &caller, id, Reach::Read)?;
        reader.limit_pages(page.bytes);
        let mut found = if newest_first {
            messages::page_before(reader, id, page.after.unwrap_or(AFTER_ALL), page.fetch())?
        } else {
            messages::page_after(reader, id, page.after.unwrap_or(BEFORE_ALL), page.fetch())?
        };
        if !reasoning::are_shown(reader, &caller, &session)? {
            hide_reasoning(&mut found.rows)?;
        }
        Ok(found)
    });
    let (mut found, keys) = page.cut(part.await?, list, |message| message.id.tick());
    sign_links(&app, &request, &mut found);
    Ok(Reply::ok(found).paged(keys))
}

/// The most characters of a comment.
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
    let rated_in = find(&app, &caller, session, Reach::Write).await?;
    let caller = caller.shared();
    let message = app
        .store
        .write(Extent::Session(session.tick()), move |tx| {
            let mut rated = messages::give_feedback(tx, session, message, &feedback)?;
            if !reasoning::are_shown(tx.reader(), &caller, &rated_in)? {
                hide_reasoning([&mut rated])?;
            }
            Ok(rated)
        })
        .await?;
    Ok(Reply::ok(message))
}
