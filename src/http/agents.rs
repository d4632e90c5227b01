//! Agents of the caller's tenant (contract, section 6).

use actix_web::{HttpRequest, web};

use super::App;
use super::edge::admission::Permit;
use super::edge::context::event_of;
use super::edge::cursor::{self, ListQuery};
use super::edge::envelope::{NoContent, Outcome, Reply};
use super::edge::extract::{Body, FromQuery, Query, QueryString};
use super::edge::routing::segment;
use crate::error::{Code, Refusal, Result};
use crate::input::draft::AgentDraft;
use crate::input::fields::{Field, Fields, FromFields};
use crate::model::names::AgentId;
use crate::model::words::{AgentState, Audience, AutonomyType, ManagedAgentKey};
use crate::store::Extent;
use crate::store::agents::{self, AgentFilter, AgentRecord};
use crate::store::audit;

impl FromQuery for AgentFilter {
    fn read(query: &QueryString) -> Result<Self> {
        Ok(AgentFilter {
            state: query.word("state", AgentState::parse, &AgentState::choices())?,
            audience: query.word("audience", Audience::parse, &Audience::choices())?,
            autonomy_type: query.word(
                "autonomy_type",
                AutonomyType::parse,
                &AutonomyType::choices(),
            )?,
            q: query.search()?,
        })
    }
}

pub(super) async fn list(
    app: web::Data<App>,
    caller: Permit,
    Query(list): Query<ListQuery<AgentFilter>>,
) -> Outcome<Vec<AgentRecord>> {
    let filter = list.filter;
    cursor::of_tenant(
        &app,
        &caller,
        &list.page,
        "agents",
        move |reader, tenant, before, limit| agents::page(reader, tenant, &filter, before, limit),
        |agent: &AgentRecord| agent.seq,
    )
    .await
}

pub(super) async fn get(
    app: web::Data<App>,
    caller: Permit,
    request: HttpRequest,
) -> Outcome<AgentRecord> {
    let (tenant, id) = (caller.tenant.no, path_agent(&request)?);
    let agent = app
        .store
        .read(move |reader| agents::of_tenant(reader, tenant, id))
        .await?
        .ok_or(Code::NotFound)?;
    Ok(Reply::ok(agent))
}

/// Reads a number in its one spelling, so that an agent has one address.
fn path_agent(request: &HttpRequest) -> Result<AgentId> {
    let text = segment(request, "agent_id").unwrap_or_default();
    let id = text.parse().map(AgentId).ok();
    id.filter(|id| id.to_string() == text)
        .ok_or_else(|| Code::NotFound.into())
}

/// A body that makes an agent; the key of a managed one is read to be refused.
pub(super) struct NewAgent {
    draft: AgentDraft,
    managed: Field<ManagedAgentKey>,
}

impl FromFields for NewAgent {
    fn read(fields: &Fields<'_>) -> Self {
        let draft = AgentDraft::read(fields);
        fields.required("name", draft.name.clone());
        if let Field::Set(AutonomyType::ChainedActions | AutonomyType::Agentic) =
            draft.autonomy_type
        {
            fields.refuse(
                "autonomy_type",
                "must be CONVERSATIONAL; agents of other kinds come by the seed file",
            );
        }
        Self {
            draft,
            managed: fields.word(
                "managed_agent_key",
                ManagedAgentKey::parse,
                &ManagedAgentKey::choices(),
            ),
        }
    }
}

pub(super) async fn create(
    app: web::Data<App>,
    caller: Permit,
    request: HttpRequest,
    body: Body<NewAgent>,
) -> Outcome<AgentRecord> {
    let new = body.read()?;
    if new.managed.value().is_some() {
        return Err(Code::AgentManagedByNeo.into());
    }
    let tenant = caller.tenant.no;
    let mut event = event_of(&request, &caller, "agent.create", "");
    let agent = app
        .store
        .write(Extent::Configuration, move |tx| {
            let id = agents::give_id(tx)?;
            let fresh = agents::fresh(tenant, id, &new.draft);
            let agent = fresh.changed(&new.draft, &fresh.agent_settings);
            agents::insert(tx, &agent)?;
            event.target = Some(id.to_string());
            audit::record(tx, &event)?;
            Ok(agents::by_id(tx.reader(), id)?.ok_or(Code::NotFound)?)
        })
        .await?;
    let id = agent.agent_id;
    Ok(Reply::created(format_args!("/agents/{id}"), agent))
}

/// A body that changes an agent.
pub(super) struct AgentChange {
    draft: AgentDraft,
    version: Option<i64>,
}

impl FromFields for AgentChange {
    fn read(fields: &Fields<'_>) -> Self {
        let draft = AgentDraft::read(fields);
        if let Field::Null = draft.name {
            fields.refuse("name", "must not be null: an agent has a name");
        }
        Self {
            draft,
            version: fields.integer("version", 1..=i64::MAX).value(),
        }
    }
}

pub(super) async fn update(
    app: web::Data<App>,
    caller: Permit,
    request: HttpRequest,
    body: Body<AgentChange>,
) -> Outcome<AgentRecord> {
    let change = body.read()?;
    let id = path_agent(&request)?;
    let tenant = caller.tenant.no;
    let mut event = event_of(&request, &caller, "agent.update", id);
    let agent = app
        .store
        .write(Extent::Configuration, move |tx| {
            let before = own(agents::of_tenant(tx.reader(), tenant, id)?)?;
            let after = before.changed(&change.draft, &Default::default());
            for (field, is_other) in [
                ("audience", after.audience != before.audience),
                ("autonomy_type", after.autonomy_type != before.autonomy_type),
            ] {
                if is_other {
                    return Err(Refusal::invalid(field, "never changes").into());
                }
            }
            if change
                .version
                .is_some_and(|version| version != before.version)
            {
                return Err(Refusal::new(Code::AgentUpdateConflict)
                    .with("version", before.version)
                    .into());
            }
            if after == before {
                return Ok(before);
            }
            agents::update(tx, &after)?;
            let after = agents::by_id(tx.reader(), id)?.ok_or(Code::NotFound)?;
            event.details = audit::difference(&before, &after)?;
            audit::record(tx, &event)?;
            Ok(after)
        })
        .await?;
    Ok(Reply::ok(agent))
}

pub(super) async fn delete(
    app: web::Data<App>,
    caller: Permit,
    request: HttpRequest,
) -> Result<NoContent> {
    let id = path_agent(&request)?;
    let tenant = caller.tenant.no;
    let mut event = event_of(&request, &caller, "agent.delete", id);
    app.store
        .write(Extent::Configuration, move |tx| {
            let agent = own(agents::of_tenant(tx.reader(), tenant, id)?)?;
            let articles = agents::delete(tx, &agent)?;
            let details = &mut event.details;
            details.insert("name".to_owned(), agent.name.into());
            details.insert("knowledge_articles".to_owned(), articles.into());
            audit::record(tx, &event)
        })
        .await?;
    Ok(NoContent)
}

/// An agent that the tenant may change.
fn own(found: Option<AgentRecord>) -> Result<AgentRecord> {
    let agent = found.ok_or(Code::NotFound)?;
    match agent.managed_agent_key {
        None => Ok(agent),
        Some(ManagedAgentKey::NeoSupport) => Err(Code::AgentManagedByNeo.into()),
    }
}
