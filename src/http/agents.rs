//! Agents of the caller's tenant (contract, section 6).

use actix_web::{HttpRequest, web};

use super::App;
use super::cursor::{BEHIND_ALL, List, Page};
use super::envelope::{Outcome, Reply};
use super::extract::Query;
use super::permit::{Member, Permit};
use crate::error::Code;
use crate::model::names::AgentId;
use crate::model::words::{AgentState, Audience, AutonomyType};
use crate::store::agents::{self, AgentFilter, AgentRecord};

pub(super) async fn list(
    app: web::Data<App>,
    caller: Permit<Member>,
    query: Query,
) -> Outcome<Vec<AgentRecord>> {
    let tenant = caller.tenant.no;
    let owner = tenant.0.to_string();
    let list = List {
        name: "agents",
        owner: &owner,
    };
    let page = Page::of(&query, list)?;
    let filter = AgentFilter {
        state: query.word("state", AgentState::parse, &AgentState::choices())?,
        audience: query.word("audience", Audience::parse, &Audience::choices())?,
        autonomy_type: query.word(
            "autonomy_type",
            AutonomyType::parse,
            &AutonomyType::choices(),
        )?,
        q: query.search()?.map(str::to_owned),
    };
    let before = page.after.unwrap_or(BEHIND_ALL);
    let mut agents = app
        .store
        .read_long(move |reader| agents::page(reader, tenant, &filter, before, page.fetch()))
        .await?;
    let pagination = page.cut(&mut agents, list, |agent| agent.seq);
    Ok(Reply::ok(agents).paged(pagination))
}

pub(super) async fn get(
    app: web::Data<App>,
    caller: Permit<Member>,
    request: HttpRequest,
) -> Outcome<AgentRecord> {
    let id = request
        .match_info()
        .get("agent_id")
        .and_then(agent_id)
        .ok_or(Code::NotFound)?;
    let agent = app
        .store
        .read(|reader| agents::of_tenant(reader, caller.tenant.no, id))?
        .ok_or(Code::NotFound)?;
    Ok(Reply::ok(agent))
}

/// Reads a number in its one spelling, so that an agent has one address.
fn agent_id(text: &str) -> Option<AgentId> {
    let id = AgentId(text.parse().ok()?);
    (id.to_string() == text).then_some(id)
}
