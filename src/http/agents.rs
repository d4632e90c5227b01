//! Agents of the caller's tenant (contract, section 6).

use actix_web::{HttpRequest, web};

use super::App;
use super::edge::admission::Permit;
use super::edge::audited;
use super::edge::context::event_of;
use super::edge::cursor::{self, ListQuery};
use super::edge::envelope::{MaybeSerialized, NoContent, Outcome, Reply};
use super::edge::extract::{Body, FromQuery, Query, QueryString};
use super::edge::once::Once;
use super::edge::routing::segment;
use crate::error::{Code, Result};
use crate::input::draft::AgentDraft;
use crate::input::fields::{Field, Fields, FromFields};
use crate::model::names::AgentId;
use crate::model::words::{AgentState, Audience, AutonomyType, ManagedAgentKey};
use crate::store::agents::{self, AgentFilter, AgentRecord};
use crate::store::{Reader, idempotency};

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

/// Reads the number in its one spelling only, so that an agent has one address.
fn path_agent(request: &HttpRequest) -> Result<AgentId> {
    let text = segment(request, "agent_id").unwrap_or_default();
    let id = text.parse().map(AgentId).ok();
    id.filter(|id| id.to_string() == text)
        .ok_or_else(|| Code::NotFound.into())
}

/// The body of a POST. The key of a managed agent is read in order to refuse it.
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
                "must be CONVERSATIONAL; only a seed file creates agents of other kinds",
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
) -> Outcome<MaybeSerialized<AgentRecord>> {
    let new = body.read()?;
    let once = Once::of(&request, &caller, &body)?;
    if new.managed.value().is_some() {
        return Err(Code::AgentManagedByNeo.into());
    }
    let tenant = caller.tenant.no;
    let event = event_of(&request, &caller, "agent.create", "");
    let path = |agent: &AgentRecord| path_to(agent.agent_id);
    audited::create(&app, once, event, path, move |tx, event| {
        let agent = agents::create(tx, tenant, &new.draft)?;
        event.target = Some(agent.id.clone());
        Ok(agent)
    })
    .await
}

fn path_to(id: AgentId) -> String {
    format!("/agents/{id}")
}

/// The body of a PUT.
pub(super) struct AgentChange {
    draft: AgentDraft,
    version: Option<i64>,
}

impl FromFields for AgentChange {
    fn read(fields: &Fields<'_>) -> Self {
        let draft = AgentDraft::read(fields);
        if let Field::Null = draft.name {
            fields.refuse("name", "must not be null: it has no default");
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
    let event = event_of(&request, &caller, "agent.update", id);
    let load = move |reader: &Reader<'_>| agents::of_tenant(reader, tenant, id);
    audited::update(&app, event, load, move |tx, before| {
        agents::change(tx, before, &change.draft, change.version)
    })
    .await
}

pub(super) async fn delete(
    app: web::Data<App>,
    caller: Permit,
    request: HttpRequest,
) -> Result<NoContent> {
    let id = path_agent(&request)?;
    let tenant = caller.tenant.no;
    let event = event_of(&request, &caller, "agent.delete", id);
    audited::write(&app, event, move |tx, event| {
        let agent = agents::of_tenant(tx.reader(), tenant, id)?.ok_or(Code::NotFound)?;
        let articles = agents::delete(tx, &agent)?;
        idempotency::clear(tx, tenant, &path_to(id))?;
        event.detail("name", agent.name);
        event.detail("knowledge_articles", articles);
        Ok(())
    })
    .await?;
    Ok(NoContent)
}
