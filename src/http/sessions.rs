//! Chat sessions: lists, changes and deletion (contract, section 4).

use std::time::Duration;

use actix_web::{HttpRequest, web};
use serde_json::json;

use super::App;
use super::edge::admission::Permit;
use super::edge::call::Call;
use super::edge::context::event_of;
use super::edge::cursor::{AFTER_ALL, List, ListQuery, Page};
use super::edge::envelope::{NoContent, Outcome, Reply};
use super::edge::extract::{Body, FromQuery, Query, QueryString, path_id};
use super::turns::change_and_cancel;
use crate::error::{Code, Error, Refusal, Result};
use crate::input::fields::{Fields, FromFields};
use crate::model::caller::{Caller, Reach, Who};
use crate::model::ids::SessionId;
use crate::model::names::{AgentId, ClientId, Name, TenantNo};
use crate::model::session::{EndUser, ListedSession, Message, Metadata, Session};
use crate::model::words::Role;
use crate::resolver::{Directory, NotMapped};
use crate::store::sessions::{self, Scope, SessionChange, SessionFilter};
use crate::store::{Extent, LongRead, Reader, audit, turns, unlinked};
use crate::terms::{self, Phrase};

/// Longest title, in characters (contract, section 1, Size).
pub(super) const MAX_TITLE_CHARS: usize = 200;
/// How long a search waits for its index to be up to date.
const INDEX_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a deletion waits while too many deleted words are still in the search index.
const REMOVAL_TIMEOUT: Duration = Duration::from_secs(5);
const SEARCH_INCOMPLETE: &str =
    "The server's disk is full. The newest messages may be missing from this result.";
const SEARCH_REBUILT: &str = "The server builds its search index again after an upgrade. Old messages may be missing from this result.";

/// Refuses `client_id` from a caller that is not the platform, even if the value names the caller's
/// own tenant (contract, section 1, Order of checks).
pub(super) fn refuse_client_id(caller: &Caller, client_id: Option<&str>) -> Result<()> {
    if client_id.is_some() && !caller.is_platform() {
        return Err(Refusal::new(Code::ClientIdNotAllowed)
            .with("field", "client_id")
            .into());
    }
    Ok(())
}

/// The tenant that a platform caller names.
///
/// # Errors
/// `client_id_not_allowed` for other callers; `validation_error` for a malformed `client_id`.
pub(super) fn platform_client_id(
    caller: &Caller,
    client_id: Option<&str>,
) -> Result<Option<ClientId>> {
    refuse_client_id(caller, client_id)?;
    let parsed = client_id.map(|client_id| {
        ClientId::read(client_id)
            .ok_or_else(|| Error::from(Refusal::invalid("client_id", ClientId::RULE)))
    });
    parsed.transpose()
}

/// The tenant that a platform caller names; `None` if the caller names none. The call counts on that
/// tenant, else on the caller's own.
///
/// # Errors
/// Those of [`platform_client_id`]; `not_found` for a tenant that does not exist; `rate_limited`.
pub(super) async fn named_tenant(
    app: &App,
    call: &Call,
    client_id: Option<&str>,
) -> Result<Option<TenantNo>> {
    let Some(client_id) = platform_client_id(call, client_id)? else {
        call.act_in_own_tenant()?;
        return Ok(None);
    };
    let tenant = app
        .store
        .look_up(move |cache| cache.tenant(&client_id))
        .await?
        .ok_or(Code::NotFound)?;
    call.act_in(tenant.no, tenant.rate_limit_per_minute)?;
    Ok(Some(tenant.no))
}

/// Records that no single company is linked to the M365 tenant, so that an admin can link one.
/// Returns the refusal for the caller.
pub(super) async fn refuse_unmapped(app: &App, not_mapped: NotMapped) -> Result<Error> {
    let refusal = not_mapped.refusal();
    app.store
        .write(Extent::Configuration, move |tx| {
            unlinked::record_refusal(tx, &not_mapped)
        })
        .await?;
    Ok(refusal.into())
}

/// Reads a session in which the caller needs this reach, and counts the call on its tenant.
///
/// # Errors
/// `not_found` for a session that does not exist and for one that the caller may not see;
/// `forbidden` for a session that the caller may see but not use in this way; `rate_limited`.
pub(super) async fn find(
    app: &App,
    caller: &Permit,
    id: SessionId,
    need: Reach,
) -> Result<Session> {
    let call = caller.shared();
    app.store
        .read(move |reader| find_in(reader, &call, id, need))
        .await
}

/// As [`find`], within a transaction that the caller has opened.
///
/// # Errors
/// `not_found`, `forbidden` and `rate_limited`, as for [`find`].
pub(super) fn find_in(
    reader: &Reader<'_>,
    call: &Call,
    id: SessionId,
    need: Reach,
) -> Result<Session> {
    let session = sessions::within_reach(reader, call, id, need)?;
    let facts = &session.internals;
    call.act_in(facts.tenant, facts.rate_limit_per_minute)?;
    Ok(session)
}

/// Has an event about a session name the person who talks in the session.
pub(super) fn add_end_user(event: &mut audit::Event, session: &Session) {
    if let Some(EndUser { id, name, email }) = &session.end_user {
        let user = json!({ "id": id, "name": name, "email": email });
        event.details.insert("end_user".to_owned(), user);
    }
}

/// Removes the model's reasoning from messages, for a reader who does not see it.
pub(super) fn hide_reasoning<'a>(
    messages: impl IntoIterator<Item = &'a mut Message>,
) -> Result<()> {
    for message in messages {
        message
            .hide_reasoning()
            .map_err(|error| Error::Internal(error.into()))?;
    }
    Ok(())
}

pub(super) async fn get(
    app: web::Data<App>,
    caller: Permit,
    request: HttpRequest,
) -> Outcome<Session> {
    let id = path_id(&request, "session_id")?;
    Ok(Reply::ok(find(&app, &caller, id, Reach::Read).await?))
}

/// The filter and the search text of a list of sessions.
pub(super) struct SessionQuery {
    filter: SessionFilter,
    q: Option<String>,
    client_id: Option<String>,
}

impl FromQuery for SessionQuery {
    fn read(query: &QueryString) -> Result<Self> {
        let archived = |text: &str| match text {
            "false" => Some(Some(false)),
            "true" => Some(Some(true)),
            "all" => Some(None),
            _ => None,
        };
        Ok(Self {
            filter: SessionFilter {
                archived: query
                    .word("archived", archived, "false, true, all")?
                    .unwrap_or(Some(false)),
                agent: query.number("agent_id", i64::MIN..=i64::MAX)?.map(AgentId),
                channel: query.id("channel_id")?,
                company: query.named("end_company_id")?,
                end_user: query.characters("end_user_id", 1..=256)?,
                external_id: query.named("external_id")?,
                metadata: query.prefixed("metadata.", 1..=64, 0..=512)?,
            },
            q: query.search()?,
            client_id: query.unchecked::<ClientId>("client_id"),
        })
    }
}

/// The sessions of the caller's own tenant that the caller may list.
fn own_scope(caller: &Caller) -> Scope {
    match &caller.who {
        Who::DashboardUser {
            id,
            role: Role::User | Role::Viewer,
            ..
        } => Scope::User {
            tenant: caller.tenant.no,
            user: id.clone(),
        },
        Who::DashboardUser { .. } | Who::ServiceAccount { .. } | Who::EndUserSession { .. } => {
            Scope::Tenant(caller.tenant.no)
        }
    }
}

pub(super) async fn list(
    app: web::Data<App>,
    caller: Permit,
    Query(query): Query<ListQuery<SessionQuery>>,
) -> Outcome<Vec<ListedSession>> {
    let SessionQuery {
        filter,
        q,
        client_id,
    } = query.filter;
    let scope = match named_tenant(&app, &caller, client_id.as_deref()).await? {
        Some(acting) => Scope::Platform {
            acting,
            home: caller.tenant.no,
        },
        None => own_scope(&caller),
    };
    let owner = format!("{scope:?}");
    let list = List {
        name: "sessions",
        owner: &owner,
    };
    let page = Page::of(&query.page, list)?;
    let before = page.after.unwrap_or(AFTER_ALL);
    let mut warnings = Vec::new();
    let rows = match q {
        None => {
            let is_indexed = sessions::is_indexed(&scope, &filter);
            let read = move |reader: &Reader<'_>| {
                sessions::page(reader, &scope, &filter, before, page.fetch())
            };
            let rows = if is_indexed {
                app.store.read(read).await?
            } else {
                let (kind, tenant) = (LongRead::List, caller.tenant.no);
                app.store.read_long(kind, Some(tenant), read).await?
            };
            rows.into_iter().map(ListedSession::from).collect()
        }
        Some(q) => {
            let phrases = terms::phrases(&q);
            warnings.extend(complete_search(&app, &phrases).await?);
            app.store
                .read_long(LongRead::Search, Some(caller.tenant.no), move |reader| {
                    sessions::search_page(reader, &scope, &filter, &phrases, before, page.fetch())
                })
                .await?
        }
    };
    let (sessions, keys) = page.cut(rows, list, |listed| listed.session.id.tick());
    Ok(Reply::ok(sessions).paged(keys).warning(warnings))
}

/// Brings the search index up to date. Returns a warning if it still lacks something.
async fn complete_search(app: &App, phrases: &[Phrase]) -> Result<Option<&'static str>> {
    if phrases.is_empty() {
        return Ok(None);
    }
    let completed = tokio::time::timeout(INDEX_TIMEOUT, app.store.complete_search())
        .await
        .map_err(|_| Code::Overloaded)?;
    match completed {
        // Only messages that were accepted just before the disk was full can be missing.
        Err(error) if error.is(Code::StorageFull) => Ok(Some(SEARCH_INCOMPLETE)),
        completed => Ok((!completed?).then_some(SEARCH_REBUILT)),
    }
}

impl FromFields for SessionChange {
    fn read(fields: &Fields<'_>) -> Self {
        Self {
            title: fields
                .text("title", 0..=MAX_TITLE_CHARS)
                .change(String::new())
                .map(|title| Some(title).filter(|title| !title.is_empty())),
            archived: fields.boolean("archived").change(false),
            shared: fields.boolean("shared").change(false),
            metadata: fields.metadata("metadata").change(Metadata::default()),
        }
    }
}

pub(super) async fn patch(
    app: web::Data<App>,
    caller: Permit,
    request: HttpRequest,
    body: Body<SessionChange>,
) -> Outcome<Session> {
    let change = body.read()?;
    let id = path_id(&request, "session_id")?;
    let before = find(&app, &caller, id, Reach::Write).await?;
    let mut event = event_of(&request, &caller, "session.update", id);
    event.tenant = before.internals.tenant;
    let session = app
        .store
        .write(Extent::Session(id.tick()), move |tx| {
            let was_shared = sessions::by_id(tx.reader(), id)?.map(|session| session.shared);
            let session = sessions::change(tx, id, change)?;
            // Only a change of who may read the session is audited. The other fields are chat
            // content.
            if was_shared != Some(session.shared) {
                event.details = audit::difference(
                    &json!({ "shared": was_shared }),
                    &json!({ "shared": session.shared }),
                )?;
                add_end_user(&mut event, &session);
                audit::record(tx, &event)?;
            }
            Ok(session)
        })
        .await?;
    Ok(Reply::ok(session))
}

pub(super) async fn reset(
    app: web::Data<App>,
    caller: Permit,
    request: HttpRequest,
) -> Outcome<Session> {
    let id = path_id(&request, "session_id")?;
    find(&app, &caller, id, Reach::Write).await?;
    let session = change_and_cancel(&app, id, |tx, id| {
        let archive = SessionChange {
            archived: Some(true),
            ..SessionChange::default()
        };
        let session = sessions::change(tx, id, archive)?;
        turns::cancel(tx, id)?;
        Ok(session)
    })
    .await?;
    Ok(Reply::ok(session))
}

pub(super) async fn delete(
    app: web::Data<App>,
    caller: Permit,
    request: HttpRequest,
) -> Result<NoContent> {
    let id = path_id(&request, "session_id")?;
    let session = find(&app, &caller, id, Reach::Own).await?;
    let (engine, signals) = (app.engine.clone(), app.signals.clone());
    let mut event = event_of(&request, &caller, "session.delete", id);
    add_end_user(&mut event, &session);
    app.store
        .write(Extent::Session(id.tick()), move |tx| {
            let tenant = sessions::tenant_of(tx.reader(), id)?;
            sessions::delete(tx, id)?;
            audit::record(tx, &event)?;
            tx.on_commit(move || {
                engine.cancel(tenant, id);
                signals.announce(id);
            });
            Ok(())
        })
        .await?;
    // The session is deleted. The removal from the search index may fail here: it is retried later.
    let store = app.store.clone();
    actix_web::rt::spawn(async move { store.begin_removal().await });
    drop(tokio::time::timeout(REMOVAL_TIMEOUT, app.store.keep_up_with_removal()).await);
    Ok(NoContent)
}
