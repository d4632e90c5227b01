//! Creates chat sessions: who answers, acting as whom, for which company; and the dry run (contract,
//! section 3).

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, web};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Map;

use super::App;
use super::edge::admission::Permit;
use super::edge::context::Context;
use super::edge::envelope::{MaybeSerialized, Outcome, Reply};
use super::edge::extract::Body;
use super::edge::once::{self, Made, Once, session_path};
use super::sessions::{MAX_TITLE_CHARS, add_end_user, refuse_client_id, refuse_unmapped};
use crate::error::{Code, Contested, Error, Refusal, Result};
use crate::input::fields::{Fields, FromFields};
use crate::input::people;
use crate::model::caller::{Caller, Who};
use crate::model::ids::ChannelId;
use crate::model::names::{AgentId, BotId, ClientId, CompanyId, ExternalId, M365TenantId};
use crate::model::session::{EndUser, ExternalCall, Metadata, Session};
use crate::model::words::{IfExists, ManagedAgentKey, Role, Rule, SessionChannel};
use crate::resolver::{self, Asker, Choice, Purpose, Refused, Resolution};
use crate::store::cache::SnapshotVersion;
use crate::store::directory::Decided;
use crate::store::sessions::{self, NewSession, Origin};
use crate::store::{audit, users};

const NO_SINGLE_CHOICE: &str = "Send exactly one of agent_id and managed_agent_key. A relay sends managed_agent_key: NEO_SUPPORT.";

const END_USER_IGNORED: &str =
    "end_user was ignored: in a session that a signed-in user creates, that user talks.";

/// How often a session is decided again because the configuration has changed meanwhile. During an
/// import it changes some twenty times a second.
const DECISIONS: usize = 8;

/// The body of `POST /chat/sessions`. Types and forms are valid; other rules are checked later.
pub(super) struct SessionRequest {
    agent_id: Option<i64>,
    managed: Option<ManagedAgentKey>,
    title: Option<String>,
    client_id: Option<String>,
    bot_id: Option<BotId>,
    inbound_tenant_id: Option<M365TenantId>,
    end_company_id: Option<String>,
    external_id: Option<ExternalId>,
    if_exists: Option<IfExists>,
    end_user: Option<EndUser>,
    metadata: Metadata,
}

impl FromFields for SessionRequest {
    fn read(fields: &Fields<'_>) -> Self {
        Self::read_for(fields, true)
    }
}

impl SessionRequest {
    /// Reads the body. `is_routed` tells whether `bot_id` and `inbound_tenant_id` route this
    /// caller.
    fn read_for(fields: &Fields<'_>, is_routed: bool) -> Self {
        // For other callers the two fields are ignored, but they must be strings that are not
        // empty. A placeholder keeps the fact that a field was sent, for the warning.
        let (bot_id, inbound_tenant_id) = if is_routed {
            (
                fields.named::<BotId>("bot_id").value(),
                fields.named::<M365TenantId>("inbound_tenant_id").value(),
            )
        } else {
            let sent = |name| fields.text(name, 1..=usize::MAX).value();
            let placeholder =
                |text: String| text.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
            (
                sent("bot_id")
                    .map(placeholder)
                    .and_then(|text| BotId::parse(text.get(..1)?)),
                sent("inbound_tenant_id")
                    .map(placeholder)
                    .and_then(|text| M365TenantId::parse(text.get(..1)?)),
            )
        };
        let external_id = fields.named("external_id").value();
        let if_exists = fields.word("if_exists", IfExists::parse, &IfExists::choices());
        let if_exists = if_exists.value();
        if if_exists.is_some() && !fields.has("external_id") {
            fields.refuse("if_exists", "needs an external_id");
        }
        Self {
            agent_id: fields.integer("agent_id", i64::MIN..=i64::MAX).value(),
            managed: fields
                .word(
                    "managed_agent_key",
                    ManagedAgentKey::parse,
                    &ManagedAgentKey::choices(),
                )
                .value(),
            title: fields.text("title", 0..=MAX_TITLE_CHARS).value(),
            client_id: fields.text("client_id", 0..=usize::MAX).value(),
            bot_id,
            inbound_tenant_id,
            end_company_id: fields.text("end_company_id", 1..=usize::MAX).value(),
            external_id,
            if_exists,
            end_user: people::end_user(fields, "end_user"),
            metadata: fields.metadata("metadata").value().unwrap_or_default(),
        }
    }

    /// Checks `client_id` and the choice of an agent, and builds the resolver's request.
    fn request(&self, caller: &Caller) -> Result<resolver::Request> {
        refuse_client_id(caller, self.client_id.as_deref())?;
        let choice = match (self.agent_id, self.managed) {
            (Some(id), None) => Choice::Agent(AgentId(id)),
            (None, Some(key)) => Choice::Managed(key),
            (Some(_), Some(_)) | (None, None) => {
                return Err(Refusal::invalid(
                    "agent_id, managed_agent_key",
                    "exactly one of the two is required",
                )
                .saying(NO_SINGLE_CHOICE)
                .into());
            }
        };
        Ok(resolver::Request {
            choice,
            client_id: self.client_id.clone(),
            bot_id: self.bot_id.clone(),
            inbound_tenant_id: self.inbound_tenant_id.clone(),
            end_company_id: self.end_company_id.clone(),
        })
    }
}

/// The caller as the resolver sees it.
///
/// # Errors
/// `forbidden` for a session token.
fn asker(caller: &Caller) -> Result<Asker> {
    Asker::of(caller).ok_or_else(|| Code::Forbidden.into())
}

/// Decides who answers, at a version of the configuration that the call knows already, or at the
/// current one. A platform call counts on the tenant that it acts in, also if no agent answers there.
async fn answerer(
    app: &App,
    caller: &Permit,
    requested: &SessionRequest,
    purpose: Purpose,
    known: Option<SnapshotVersion>,
) -> Result<Decided> {
    let request = requested.request(caller)?;
    let decided = app
        .store
        .resolve(known, &asker(caller)?, &request, purpose)
        .await?;
    let acting = match &decided.outcome {
        Ok(resolution) => Some(&resolution.tenant),
        Err(none) => none.acting.as_ref(),
    };
    if let Some(tenant) = acting {
        caller.act_in(tenant.no, tenant.rate_limit_per_minute)?;
    }
    Ok(decided)
}

/// As [`answerer`], for a session that is created: every refusal is an error.
async fn creator(
    app: &App,
    caller: &Permit,
    requested: &SessionRequest,
    known: Option<SnapshotVersion>,
) -> Result<(Resolution, i64)> {
    let decided = answerer(app, caller, requested, Purpose::Create, known).await?;
    match decided.outcome.map_err(|none| none.refused) {
        Ok(resolution) => Ok((resolution, decided.version)),
        Err(Refused::EndCompanyNotMapped(not_mapped)) => {
            Err(refuse_unmapped(app, *not_mapped).await?)
        }
        Err(refused) => Err(Refusal::from(refused).into()),
    }
}

pub(super) async fn create(
    app: web::Data<App>,
    caller: Permit,
    request: HttpRequest,
    body: Body<SessionRequest>,
) -> Outcome<MaybeSerialized<Session>> {
    let requested =
        body.read_by(|fields| SessionRequest::read_for(fields, caller.is_platform()))?;
    let once = Once::of(&request, &caller, &body)?;
    if once.has_key() {
        let (repeat, now) = (once.clone(), app.store.now());
        let found = app
            .store
            .read(move |reader| repeat.first_reply(reader, now));
        if let Some(first) = found.await? {
            return once::replay(first);
        }
    }
    let end_user = end_user(&app, &caller, &requested).await?;
    let mut known = caller.snapshot_version();
    for _ in 0..DECISIONS {
        // A version that was current a moment ago is not known to be so again.
        let (resolution, version) = creator(&app, &caller, &requested, known.take()).await?;
        let mut warnings = resolution.warnings.clone();
        if requested.end_user.is_some() && end_user != requested.end_user {
            warnings.push(END_USER_IGNORED);
        }
        let company_event = company_event(&resolution, &caller, &request);
        let new = new_session(&requested, &caller, resolution, end_user.clone())?;
        if requested.if_exists.is_some()
            && !once.has_key()
            && let Some(session) = open_session(&app, &requested, &new).await?
        {
            return Ok(Reply::ok(MaybeSerialized::Value(session)).warning(warnings));
        }
        if once.has_key() || company_event.is_some() || !new.is_plain() {
            let if_exists = requested.if_exists;
            return create_once(&app, once, new, if_exists, company_event, warnings).await;
        }
        if let Some(session) = app.store.create_session(new, version).await? {
            let path = session_path(session.id);
            return Ok(Reply::created(path, MaybeSerialized::Value(session)).warning(warnings));
        }
    }
    Err(Code::Overloaded.into())
}

/// The person who talks in the new session: whom a program names, or the signed-in user.
async fn end_user(
    app: &App,
    caller: &Permit,
    requested: &SessionRequest,
) -> Result<Option<EndUser>> {
    let (id, name, is_local) = match &caller.who {
        Who::DashboardUser {
            id, name, sign_in, ..
        } => (id.clone(), name.clone(), sign_in.is_some()),
        Who::ServiceAccount { .. } | Who::EndUserSession { .. } => {
            return Ok(requested.end_user.clone());
        }
    };
    let (tenant, user) = (caller.tenant.no, id.clone());
    let recorded = match is_local {
        true => None,
        false => {
            let read = app
                .store
                .read(move |reader| users::by_id(reader, tenant, &user));
            read.await?
        }
    };
    let email = recorded.and_then(|user| user.email);
    Ok(Some(EndUser { id, name, email }))
}

/// The open session that a create gives. A read finds it, so that most calls of a relay that sends
/// its conversation's id with each of them wait for no change.
async fn open_session(
    app: &App,
    requested: &SessionRequest,
    new: &NewSession,
) -> Result<Option<Session>> {
    let (if_exists, new) = (requested.if_exists, new.clone());
    let found = app
        .store
        .read(move |reader| sessions::find_open(reader, new));
    found
        .await?
        .map(|(open, origin)| given(open, origin, if_exists))
        .transpose()
}

/// The session of a create, if the create made it or asks for the open one.
///
/// # Errors
/// `already_exists` if the create does not, or if the session is another conversation's.
fn given(session: Session, origin: Origin, if_exists: Option<IfExists>) -> Result<Session> {
    match (origin, if_exists) {
        (Origin::New, _) | (Origin::Same, Some(IfExists::Return)) => Ok(session),
        (Origin::Other, Some(IfExists::Return)) => Err(Refusal::new(Code::AlreadyExists)
            .saying("The open session with this external_id has another bot, M365 tenant or agent, or was routed in another way. Reset that session, then create this one again.")
            .with("field", "external_id")
            .with("session_id", session.id.to_string())
            .into()),
        (Origin::Same | Origin::Other, None) => Err(sessions::taken(&session).into()),
    }
}

/// Creates a session with more than its own row, or gives the open one with its external id.
async fn create_once(
    app: &App,
    once: Once,
    new: NewSession,
    if_exists: Option<IfExists>,
    company_event: Option<audit::Event>,
    warnings: Vec<&'static str>,
) -> Outcome<MaybeSerialized<Session>> {
    let extent = once.extent();
    once.write(app, extent, move |tx| {
        let (session, origin) = sessions::insert_or_find(tx, new)?;
        let session = given(session, origin, if_exists)?;
        let is_new = origin == Origin::New;
        if let Some(mut event) = company_event.filter(|_| is_new) {
            event.target = Some(session.id.to_string());
            add_end_user(&mut event, &session);
            audit::record(tx, &event)?;
        }
        Ok(Made {
            tenant: session.internals.tenant,
            session: Some(session.id),
            status: match is_new {
                true => StatusCode::CREATED,
                false => StatusCode::OK,
            },
            location: is_new.then(|| session_path(session.id)),
            warnings,
            data: session,
        })
    })
    .await
}

/// The audit event of a session that tries an agent as a company's staff would see it.
fn company_event(
    resolution: &Resolution,
    caller: &Caller,
    request: &HttpRequest,
) -> Option<audit::Event> {
    let company = resolution
        .company
        .as_ref()
        .filter(|_| resolution.rule == Rule::Selected)?;
    let mut details = Map::new();
    details.insert("end_company_id".to_owned(), company.id.as_str().into());
    details.insert("agent_id".to_owned(), resolution.agent.id.0.into());
    let action = "session.create_as_company";
    Some(Context::of(request).event(caller.tenant.no, caller, action, None, details))
}

fn new_session(
    requested: &SessionRequest,
    caller: &Caller,
    resolution: Resolution,
    end_user: Option<EndUser>,
) -> Result<NewSession> {
    let channel = match &caller.who {
        Who::DashboardUser { .. } => SessionChannel::Dashboard,
        Who::ServiceAccount { platform: true, .. } => SessionChannel::Teams,
        Who::ServiceAccount { .. } | Who::EndUserSession { .. } => SessionChannel::Api,
    };
    Ok(NewSession {
        title: requested.title.clone().filter(|title| !title.is_empty()),
        platform_tenant: caller.is_platform().then_some(caller.tenant.no),
        external: requested.external_id.clone().map(|id| {
            let call = match caller.is_platform() {
                true => ExternalCall {
                    bot: requested.bot_id.clone(),
                    directory: requested.inbound_tenant_id.clone(),
                },
                false => ExternalCall::default(),
            };
            (id, call)
        }),
        end_user,
        metadata_json: serde_json::to_string(&requested.metadata)
            .map_err(|error| Error::Internal(error.into()))?,
        metadata: requested.metadata.clone(),
        ..NewSession::of(resolution, channel, caller.actor())
    })
}

/// The result of a dry run.
#[derive(Serialize, JsonSchema)]
pub(super) struct Verdict {
    /// The rule that decides.
    rule: Rule,
    /// The agent that would answer.
    agent_id: AgentId,
    /// The name of that agent.
    agent_name: String,
    /// The tenant on whose behalf the agent would answer.
    client_id: ClientId,
    /// The company that the session would be pinned to; null without a company.
    end_company_id: Option<CompanyId>,
    /// The channel that routes the session; null without a channel.
    channel_id: Option<ChannelId>,
}

/// Remembers the ids that a dry run asks about. Text that is no id is left out.
fn remember(request: &HttpRequest, requested: &SessionRequest, routes_as_relay: bool) {
    let bot = requested.bot_id.as_ref().filter(|_| routes_as_relay);
    let inbound = requested.inbound_tenant_id.as_ref();
    let inbound = inbound.filter(|_| routes_as_relay);
    let company = requested.end_company_id.as_deref();
    let company = company.filter(|id| CompanyId::parse(id).is_some());
    let client = requested.client_id.as_deref();
    let client = client.filter(|id| ClientId::parse(id).is_some());
    let managed = requested.managed.map(ManagedAgentKey::as_str);
    let asked = [
        ("agent_id", requested.agent_id.map(Into::into)),
        ("managed_agent_key", managed.map(Into::into)),
        ("client_id", client.map(Into::into)),
        ("bot_id", bot.map(|id| id.as_str().into())),
        ("inbound_tenant_id", inbound.map(|id| id.as_str().into())),
        ("end_company_id", company.map(Into::into)),
    ];
    Context::remember(request, asked);
}

/// The refusal of a dry run. If another tenant serves the caller's own M365 tenant, the refusal can
/// tell the caller so, and the other tenant learns that somebody asked.
fn refuse_dry_run(refused: Refused, requested: &SessionRequest) -> Refusal {
    if let Refused::RoutedElsewhere(owner) = refused
        && let (Some(bot), Some(directory)) = (&requested.bot_id, &requested.inbound_tenant_id)
    {
        return Refusal::from(refused).contested(Contested {
            action: "dry_run.refused",
            directory: directory.to_string(),
            bot: Some(bot.to_string()),
            rivals: vec![owner.0],
        });
    }
    refused.into()
}

pub(super) async fn resolve(
    app: web::Data<App>,
    caller: Permit,
    request: HttpRequest,
    body: Body<SessionRequest>,
) -> Outcome<Verdict> {
    let routes_as_relay = match &caller.who {
        Who::ServiceAccount { .. }
        | Who::DashboardUser {
            role: Role::Admin, ..
        } => true,
        Who::DashboardUser { .. } | Who::EndUserSession { .. } => false,
    };
    let requested = body.read_by(|fields| SessionRequest::read_for(fields, routes_as_relay))?;
    remember(&request, &requested, routes_as_relay);
    let decided = answerer(
        &app,
        &caller,
        &requested,
        Purpose::DryRun,
        caller.snapshot_version(),
    )
    .await?;
    let resolution = decided
        .outcome
        .map_err(|none| refuse_dry_run(none.refused, &requested))?;
    let verdict = Verdict {
        rule: resolution.rule,
        agent_id: resolution.agent.id,
        agent_name: resolution.agent.name,
        client_id: resolution.tenant.client_id,
        end_company_id: resolution.company.map(|company| company.id),
        channel_id: resolution.channel.map(|channel| channel.id),
    };
    Ok(Reply::ok(verdict).warning(resolution.warnings))
}
