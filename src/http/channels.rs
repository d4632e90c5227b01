//! Channels of the caller's tenant, and a bot's greeting after its install (contract, section 6).
//! The platform also sees other tenants' channels, and releases their bots.

use actix_web::{HttpRequest, web};
use schemars::JsonSchema;
use serde::Serialize;

use super::App;
use super::edge::admission::Permit;
use super::edge::audited;
use super::edge::call::Call;
use super::edge::context::event_of;
use super::edge::cursor::{self, List, ListQuery};
use super::edge::envelope::{MaybeSerialized, NoContent, Outcome, Reply};
use super::edge::extract::{Body, FromQuery, Query, QueryString, path_id};
use super::edge::once::Once;
use super::sessions::named_tenant;
use super::tenants::record_for_both;
use crate::error::{Code, Refusal, Result};
use crate::input::draft::ChannelDraft;
use crate::input::fields::{Field, Fields, FromFields};
use crate::model::caller::Caller;
use crate::model::ids::ChannelId;
use crate::model::names::{AgentId, BotId, ClientId, M365TenantId, TenantNo};
use crate::model::words::{Audience, ChannelStatus};
use crate::store::channels::{self, ChannelFilter, ChannelRecord};
use crate::store::{Extent, Reader, audit, idempotency, installs, tenants};

/// The filter of a list of channels, and the tenant whose channels the platform asks for.
pub(super) struct ChannelQuery {
    filter: ChannelFilter,
    owner: NamedTenant,
}

impl FromQuery for ChannelQuery {
    fn read(query: &QueryString) -> Result<Self> {
        Ok(Self {
            filter: ChannelFilter {
                bot_id: query.named("bot_id")?,
                agent_id: query.number("agent_id", i64::MIN..=i64::MAX)?.map(AgentId),
                audience: query.word("audience", Audience::parse, &Audience::choices())?,
                status: query.word("status", ChannelStatus::parse, &ChannelStatus::choices())?,
                q: query.search()?,
            },
            owner: NamedTenant::read(query)?,
        })
    }
}

/// The tenant that a platform caller names in the query.
pub(super) struct NamedTenant(Option<String>);

impl FromQuery for NamedTenant {
    fn read(query: &QueryString) -> Result<Self> {
        Ok(Self(query.unchecked::<ClientId>("client_id")))
    }
}

impl NamedTenant {
    /// The tenant that the call is about: the caller's own tenant if the query names none.
    pub(super) async fn or_own(&self, app: &App, call: &Call) -> Result<TenantNo> {
        let named = named_tenant(app, call, self.0.as_deref()).await?;
        Ok(named.unwrap_or(call.tenant.no))
    }
}

pub(super) async fn list(
    app: web::Data<App>,
    caller: Permit,
    Query(query): Query<ListQuery<ChannelQuery>>,
) -> Outcome<Vec<ChannelRecord>> {
    let ChannelQuery { filter, owner } = query.filter;
    let tenant = owner.or_own(&app, &caller).await?;
    let owner = tenant.0.to_string();
    let list = List {
        name: "channels",
        owner: &owner,
    };
    cursor::newest_first(
        &app,
        caller.tenant.no,
        &query.page,
        list,
        move |reader, before, limit| channels::page(reader, tenant, &filter, before, limit),
        |channel| channel.id.tick(),
    )
    .await
}

pub(super) async fn get(
    app: web::Data<App>,
    caller: Permit,
    request: HttpRequest,
    Query(owner): Query<NamedTenant>,
) -> Outcome<ChannelRecord> {
    let id: ChannelId = path_id(&request, "channel_id")?;
    let tenant = owner.or_own(&app, &caller).await?;
    let channel = app
        .store
        .read(move |reader| channels::of_tenant(reader, tenant, id))
        .await?
        .ok_or(Code::NotFound)?;
    Ok(Reply::ok(channel))
}

/// The body of a POST.
pub(super) struct NewChannel {
    draft: ChannelDraft,
    internal_name: Option<String>,
    audience: Option<Audience>,
    agent_id: Option<AgentId>,
}

impl FromFields for NewChannel {
    fn read(fields: &Fields<'_>) -> Self {
        let draft = ChannelDraft::read(fields);
        Self {
            internal_name: fields.required("internal_name", draft.internal_name.clone()),
            audience: fields.required("audience", draft.audience.clone()),
            agent_id: fields.required("agent_id", draft.agent_id.clone()),
            draft,
        }
    }
}

pub(super) async fn create(
    app: web::Data<App>,
    caller: Permit,
    request: HttpRequest,
    body: Body<NewChannel>,
) -> Outcome<MaybeSerialized<ChannelRecord>> {
    let new = body.read()?;
    let once = Once::of(&request, &caller, &body)?;
    let (Some(internal_name), Some(audience), Some(agent_id)) =
        (new.internal_name, new.audience, new.agent_id)
    else {
        return Err(Code::ValidationError.into());
    };
    let (draft, tenant) = (new.draft, caller.tenant.no);
    let event = event_of(&request, &caller, "channel.create", "");
    let path = |channel: &ChannelRecord| path_to(channel.id);
    audited::create(&app, once, event, path, move |tx, event| {
        let id = tx.new_id()?;
        let fresh = ChannelRecord::fresh(id, tenant, &internal_name, audience, agent_id);
        event.target = Some(id.to_string());
        channels::create(tx, &fresh.changed(&draft))
    })
    .await
}

fn path_to(id: ChannelId) -> String {
    format!("/channels/{id}")
}

/// The body of a PATCH.
pub(super) struct ChannelChange(ChannelDraft);

impl FromFields for ChannelChange {
    fn read(fields: &Fields<'_>) -> Self {
        let draft = ChannelDraft::read(fields);
        for (name, is_null) in [
            ("internal_name", draft.internal_name == Field::Null),
            ("audience", draft.audience == Field::Null),
            ("agent_id", draft.agent_id == Field::Null),
        ] {
            if is_null {
                fields.refuse(name, "must not be null: it has no default");
            }
        }
        Self(draft)
    }
}

pub(super) async fn update(
    app: web::Data<App>,
    caller: Permit,
    request: HttpRequest,
    Query(owner): Query<NamedTenant>,
    body: Body<ChannelChange>,
) -> Outcome<ChannelRecord> {
    let ChannelChange(draft) = body.read()?;
    let tenant = owner.or_own(&app, &caller).await?;
    let id: ChannelId = path_id(&request, "channel_id")?;
    if tenant != caller.tenant.no {
        return release(&app, &caller, &request, tenant, id, draft).await;
    }
    let event = event_of(&request, &caller, "channel.update", id);
    let load = move |reader: &Reader<'_>| channels::of_tenant(reader, tenant, id);
    audited::update(&app, event, load, move |tx, before| {
        channels::change(tx, before, &draft)
    })
    .await
}

/// Takes the bot from another tenant's channel, for the platform. The audit logs of that tenant and
/// of the platform account's own tenant have the event.
///
/// # Errors
/// `validation_error` for any other change.
async fn release(
    app: &App,
    caller: &Caller,
    request: &HttpRequest,
    tenant: TenantNo,
    id: ChannelId,
    draft: ChannelDraft,
) -> Outcome<ChannelRecord> {
    let release = ChannelDraft {
        bot_id: Field::Null,
        ..ChannelDraft::default()
    };
    if draft != release {
        let reason =
            "must be null and the only field: the platform only releases another tenant's bot";
        return Err(Refusal::invalid("bot_id", reason).into());
    }
    let home = caller.tenant.no;
    let mut event = event_of(request, caller, "channel.release_bot", id);
    let channel = app
        .store
        .write(Extent::Configuration, move |tx| {
            let load = |reader: &Reader<'_>| channels::of_tenant(reader, tenant, id);
            let before = load(tx.reader())?.ok_or(Code::NotFound)?;
            channels::change(tx, &before, &draft)?;
            let after = load(tx.reader())?.ok_or(Code::NotFound)?;
            if after != before {
                event.details = audit::difference(&before, &after)?;
                record_for_both(tx, home, tenant, event)?;
            }
            Ok(after)
        })
        .await?;
    Ok(Reply::ok(channel))
}

pub(super) async fn delete(
    app: web::Data<App>,
    caller: Permit,
    request: HttpRequest,
) -> Result<NoContent> {
    let id: ChannelId = path_id(&request, "channel_id")?;
    let tenant = caller.tenant.no;
    let event = event_of(&request, &caller, "channel.delete", id);
    audited::write(&app, event, move |tx, event| {
        let channel = channels::of_tenant(tx.reader(), tenant, id)?.ok_or(Code::NotFound)?;
        channels::delete(tx, id)?;
        idempotency::clear(tx, tenant, &path_to(id))?;
        event.detail("internal_name", channel.internal_name);
        Ok(())
    })
    .await?;
    Ok(NoContent)
}

/// The body of an install event: a bot was installed for a directory.
pub(super) struct InstallEvent {
    bot_id: Option<BotId>,
    end_client_tenant_id: Option<M365TenantId>,
}

impl FromFields for InstallEvent {
    fn read(fields: &Fields<'_>) -> Self {
        Self {
            bot_id: fields.required("bot_id", fields.named("bot_id")),
            end_client_tenant_id: fields
                .required("end_client_tenant_id", fields.named("end_client_tenant_id")),
        }
    }
}

/// The greeting of a bot after its install. Without an active channel nothing matches.
#[derive(Default, Serialize, JsonSchema)]
pub(super) struct Greeting {
    matched: bool,
    display_name: Option<String>,
    welcome_message: Option<String>,
    relay_prefix: Option<String>,
}

pub(super) async fn install_event(
    app: web::Data<App>,
    caller: Permit,
    body: Body<InstallEvent>,
) -> Outcome<Greeting> {
    let event = body.read()?;
    let (Some(bot), Some(directory)) = (event.bot_id, event.end_client_tenant_id) else {
        return Err(Code::ValidationError.into());
    };
    let call = caller.shared();
    let routed = move |reader: &Reader<'_>| match installs::routed(reader, &bot, &directory)? {
        Some(install) => {
            let tenant = tenants::by_no(reader, install.tenant)?;
            call.act_in(tenant.no, tenant.rate_limit_per_minute)?;
            channels::by_id(reader, install.channel_id)
        }
        None => Ok(None),
    };
    let channel = app.store.read(routed).await?;
    let active =
        channel.filter(|channel| !channel.is_deleted && channel.status == ChannelStatus::Active);
    Ok(Reply::ok(match active {
        Some(channel) => Greeting {
            matched: true,
            display_name: channel.display_name,
            welcome_message: channel.welcome_message,
            relay_prefix: channel.relay_prefix,
        },
        None => Greeting::default(),
    }))
}
