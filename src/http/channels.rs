//! Channels of the caller's tenant, and what the relay asks when a bot is installed (contract, section 6).

use actix_web::{HttpRequest, web};
use schemars::JsonSchema;
use serde::Serialize;

use super::App;
use super::edge::admission::Permit;
use super::edge::context::event_of;
use super::edge::cursor::{self, ListQuery};
use super::edge::envelope::{NoContent, Outcome, Reply};
use super::edge::extract::{Body, FromQuery, Query, QueryString, path_id};
use crate::error::{Code, Refusal, Result};
use crate::input::draft::ChannelDraft;
use crate::input::fields::{Field, Fields, FromFields};
use crate::model::ids::ChannelId;
use crate::model::names::{AgentId, BotId, M365TenantId};
use crate::model::words::{Audience, ChannelStatus};
use crate::store::channels::{self, BindingError, ChannelFilter, ChannelRecord};
use crate::store::{Extent, Reader, audit, installs};

impl FromQuery for ChannelFilter {
    fn read(query: &QueryString) -> Result<Self> {
        Ok(ChannelFilter {
            bot_id: query.named("bot_id")?,
            agent_id: query.number("agent_id", i64::MIN..=i64::MAX)?.map(AgentId),
            audience: query.word("audience", Audience::parse, &Audience::choices())?,
            status: query.word("status", ChannelStatus::parse, &ChannelStatus::choices())?,
            q: query.search()?,
        })
    }
}

pub(super) async fn list(
    app: web::Data<App>,
    caller: Permit,
    Query(list): Query<ListQuery<ChannelFilter>>,
) -> Outcome<Vec<ChannelRecord>> {
    let filter = list.filter;
    cursor::of_tenant(
        &app,
        &caller,
        &list.page,
        "channels",
        move |reader, tenant, before, limit| channels::page(reader, tenant, &filter, before, limit),
        |channel| channel.id.tick(),
    )
    .await
}

pub(super) async fn get(
    app: web::Data<App>,
    caller: Permit,
    request: HttpRequest,
) -> Outcome<ChannelRecord> {
    let id: ChannelId = path_id(&request, "channel_id")?;
    let tenant = caller.tenant.no;
    let channel = app
        .store
        .read(move |reader| channels::of_tenant(reader, tenant, id))
        .await?
        .ok_or(Code::NotFound)?;
    Ok(Reply::ok(channel))
}

/// A body that makes a channel.
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
) -> Outcome<ChannelRecord> {
    let new = body.read()?;
    let (Some(internal_name), Some(audience), Some(agent_id)) =
        (new.internal_name, new.audience, new.agent_id)
    else {
        return Err(Code::ValidationError.into());
    };
    let (draft, tenant) = (new.draft, caller.tenant.no);
    let mut event = event_of(&request, &caller, "channel.create", "");
    let channel = app
        .store
        .write(Extent::Configuration, move |tx| {
            let id = tx.new_id()?;
            let channel = ChannelRecord {
                audience,
                agent_id,
                ..ChannelRecord::fresh(id, tenant, &internal_name)
            }
            .changed(&draft);
            check(tx.reader(), None, &channel)?;
            channels::insert(tx, &channel)?;
            event.target = Some(id.to_string());
            audit::record(tx, &event)?;
            Ok(channels::of_tenant(tx.reader(), tenant, id)?.ok_or(Code::NotFound)?)
        })
        .await?;
    let id = channel.id;
    Ok(Reply::created(format_args!("/channels/{id}"), channel))
}

/// A body that changes a channel. A field without a default cannot be reset.
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
                fields.refuse(name, "must not be null: every channel has one");
            }
        }
        Self(draft)
    }
}

pub(super) async fn update(
    app: web::Data<App>,
    caller: Permit,
    request: HttpRequest,
    body: Body<ChannelChange>,
) -> Outcome<ChannelRecord> {
    let ChannelChange(draft) = body.read()?;
    let id: ChannelId = path_id(&request, "channel_id")?;
    let tenant = caller.tenant.no;
    let mut event = event_of(&request, &caller, "channel.update", id);
    let channel = app
        .store
        .write(Extent::Configuration, move |tx| {
            let before = channels::of_tenant(tx.reader(), tenant, id)?.ok_or(Code::NotFound)?;
            let after = before.changed(&draft);
            for (field, is_other) in [
                ("audience", after.audience != before.audience),
                ("transport", after.transport != before.transport),
            ] {
                if is_other {
                    return Err(Refusal::invalid(field, "never changes").into());
                }
            }
            if after == before {
                return Ok(before);
            }
            check(tx.reader(), Some(&before), &after)?;
            channels::update(tx, &after)?;
            let after = channels::of_tenant(tx.reader(), tenant, id)?.ok_or(Code::NotFound)?;
            event.details = audit::difference(&before, &after)?;
            audit::record(tx, &event)?;
            Ok(after)
        })
        .await?;
    Ok(Reply::ok(channel))
}

/// What a channel must not become, beside what is there; `before` is what it was.
fn check(
    reader: &Reader<'_>,
    before: Option<&ChannelRecord>,
    channel: &ChannelRecord,
) -> Result<()> {
    match channels::misfit(reader, channel)? {
        None => {}
        Some(BindingError::Unknown) => return Err(Code::NotFound.into()),
        Some(BindingError::OtherAudience(audience)) => {
            return Err(Refusal::new(Code::AudienceMismatch)
                .saying(format!(
                    "This agent is {}, and the channel is {}. Choose an agent of the channel's audience.",
                    audience.as_str(),
                    channel.audience.as_str()
                ))
                .with("field", "agent_id")
                .into());
        }
    }
    let named = channels::named(reader, channel.tenant, &channel.internal_name)?;
    if named.is_some_and(|named| named.id != channel.id) {
        let sentence = "There is a channel of that name already. Choose another name.";
        return Err(taken("internal_name", sentence));
    }
    // Tenants share a bot by the operator's seed file alone; such a channel may keep it.
    let new_bot = channel
        .bot_id
        .as_ref()
        .filter(|bot| before.is_none_or(|before| before.bot_id.as_ref() != Some(bot)));
    if let Some(bot) = new_bot
        && channels::is_carried_elsewhere(reader, channel.tenant, bot)?
    {
        let sentence = "That bot is in use already. Choose another bot.";
        return Err(taken("bot_id", sentence));
    }
    if channels::is_second_internal(reader, channel)? {
        let sentence = "There is an ACTIVE MSP channel of that bot already. Disconnect it first, or choose another bot.";
        return Err(taken("bot_id", sentence));
    }
    match new_bot {
        Some(bot) => installs::check_again(reader, channel.id, bot),
        None => Ok(()),
    }
}

fn taken(field: &'static str, sentence: &'static str) -> crate::error::Error {
    Refusal::new(Code::AlreadyExists)
        .saying(sentence)
        .with("field", field)
        .into()
}

pub(super) async fn delete(
    app: web::Data<App>,
    caller: Permit,
    request: HttpRequest,
) -> Result<NoContent> {
    let id: ChannelId = path_id(&request, "channel_id")?;
    let tenant = caller.tenant.no;
    let mut event = event_of(&request, &caller, "channel.delete", id);
    app.store
        .write(Extent::Configuration, move |tx| {
            let channel = channels::of_tenant(tx.reader(), tenant, id)?.ok_or(Code::NotFound)?;
            channels::delete(tx, id)?;
            let name = channel.internal_name.into();
            event.details.insert("internal_name".to_owned(), name);
            audit::record(tx, &event)
        })
        .await?;
    Ok(NoContent)
}

/// A bot that somebody has installed for a directory.
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

/// What a bot says to those who have just installed it.
#[derive(Default, Serialize, JsonSchema)]
pub(super) struct Greeting {
    matched: bool,
    display_name: Option<String>,
    welcome_message: Option<String>,
}

pub(super) async fn install_event(
    app: web::Data<App>,
    _caller: Permit,
    body: Body<InstallEvent>,
) -> Outcome<Greeting> {
    let installed = body.read()?;
    let (Some(bot), Some(directory)) = (installed.bot_id, installed.end_client_tenant_id) else {
        return Err(Code::ValidationError.into());
    };
    let routed = move |reader: &Reader<'_>| match installs::routed(reader, &bot, &directory)? {
        Some(install) => channels::by_id(reader, install.channel_id),
        None => Ok(None),
    };
    let channel = app.store.read(routed).await?;
    let works =
        channel.filter(|channel| !channel.is_deleted && channel.status == ChannelStatus::Active);
    Ok(Reply::ok(match works {
        Some(channel) => Greeting {
            matched: true,
            display_name: channel.display_name,
            welcome_message: channel.welcome_message,
        },
        None => Greeting::default(),
    }))
}
