//! Installs of a channel; the platform manages anyone's (contract, sections 2 and 6).

use actix_web::{HttpRequest, web};

use super::App;
use super::edge::admission::Permit;
use super::edge::context::event_of;
use super::edge::cursor::{self, List, ListQuery};
use super::edge::envelope::{NoContent, Outcome, Reply};
use super::edge::extract::{Body, Query, path_id};
use crate::error::{Code, Refusal, Result};
use crate::input::fields::{Fields, FromFields};
use crate::model::caller::Caller;
use crate::model::ids::{ChannelId, InstallId};
use crate::model::names::{CompanyId, M365TenantId, TenantNo};
use crate::model::words::Audience;
use crate::resolver::Linked;
use crate::store::channels::{self, ChannelRecord};
use crate::store::installs::{self, InstallRecord, Made};
use crate::store::{Extent, Reader, audit, companies};

const SHARED: &str =
    "Several companies are linked to this M365 tenant now: chat is refused until one is left.";

/// Whose channels a caller may install.
#[derive(Clone, Copy)]
enum Whose {
    Anyones,
    Of(TenantNo),
}

impl Whose {
    fn by(caller: &Caller) -> Self {
        if caller.is_platform() {
            Self::Anyones
        } else {
            Self::Of(caller.tenant.no)
        }
    }

    /// A channel within reach. A deleted one is too: its installs go on refusing until they are removed.
    fn channel(self, reader: &Reader<'_>, id: ChannelId) -> Result<ChannelRecord> {
        channels::by_id(reader, id)?
            .filter(|channel| match self {
                Self::Anyones => true,
                Self::Of(tenant) => channel.tenant == tenant,
            })
            .ok_or_else(|| Code::NotFound.into())
    }
}

pub(super) async fn list(
    app: web::Data<App>,
    caller: Permit,
    request: HttpRequest,
    Query(query): Query<ListQuery<()>>,
) -> Outcome<Vec<InstallRecord>> {
    let id: ChannelId = path_id(&request, "channel_id")?;
    let whose = Whose::by(&caller);
    app.store
        .read(move |reader| whose.channel(reader, id))
        .await?;
    let owner = id.to_string();
    let list = List {
        name: "installs",
        owner: &owner,
    };
    cursor::newest_first(
        &app,
        caller.tenant.no,
        &query.page,
        list,
        move |reader, before, limit| installs::page(reader, id, before, limit),
        |install| install.id.tick(),
    )
    .await
}

pub(super) struct NewInstall {
    end_client_tenant_id: Option<M365TenantId>,
    psa_company_id: Option<CompanyId>,
}

impl FromFields for NewInstall {
    fn read(fields: &Fields<'_>) -> Self {
        Self {
            end_client_tenant_id: fields
                .required("end_client_tenant_id", fields.named("end_client_tenant_id")),
            psa_company_id: fields.named("psa_company_id").value(),
        }
    }
}

pub(super) async fn create(
    app: web::Data<App>,
    caller: Permit,
    request: HttpRequest,
    body: Body<NewInstall>,
) -> Outcome<InstallRecord> {
    let new = body.read()?;
    let Some(directory) = new.end_client_tenant_id else {
        return Err(Code::ValidationError.into());
    };
    let channel_id: ChannelId = path_id(&request, "channel_id")?;
    let whose = Whose::by(&caller);
    let mut event = event_of(&request, &caller, "install.create", "");
    let (install, is_new, warnings) = app
        .store
        .write(Extent::Configuration, move |tx| {
            let channel = whose.channel(tx.reader(), channel_id)?;
            if channel.is_deleted {
                return Err(Code::NotFound.into());
            }
            if channel.audience != Audience::EndUser {
                return Err(Refusal::new(Code::AudienceMismatch)
                    .saying("Only END_USER channels are installed. Choose one.")
                    .into());
            }
            let made = installs::make(tx, &channel, &directory)?;
            let is_linked = match &new.psa_company_id {
                Some(company) => companies::link(tx, channel.tenant, company, &directory)?,
                None => false,
            };
            let (id, is_new) = match made {
                Made::Before(id) => (id, false),
                Made::Now { id, instead_of } => {
                    if let Some(old) = instead_of {
                        let old = old.to_string().into();
                        event.details.insert("instead_of".to_owned(), old);
                    }
                    (id, true)
                }
            };
            if is_new || is_linked {
                // Whoever did it: it is the owner of the channel who has to know.
                event.tenant = channel.tenant;
                event.target = Some(id.to_string());
                if !is_new {
                    event.action = "install.link";
                }
                let of = [
                    ("channel_id", Some(channel_id.to_string())),
                    ("end_client_tenant_id", Some(directory.to_string())),
                    (
                        "psa_company_id",
                        new.psa_company_id
                            .filter(|_| is_linked)
                            .map(|company| company.to_string()),
                    ),
                ];
                for (name, value) in of {
                    if let Some(value) = value {
                        event.details.insert(name.to_owned(), value.into());
                    }
                }
                audit::record(tx, &event)?;
            }
            let warnings = match companies::linked(tx.reader(), channel.tenant, &directory)? {
                Linked::Not(several) if several > 1 => vec![SHARED],
                Linked::One(_) | Linked::Not(_) => Vec::new(),
            };
            let install = installs::by_id(tx.reader(), id)?.ok_or(Code::NotFound)?;
            Ok((install, is_new, warnings))
        })
        .await?;
    let reply = if is_new {
        let id = install.id;
        Reply::created(
            format_args!("/channels/{channel_id}/installs/{id}"),
            install,
        )
    } else {
        Reply::ok(install)
    };
    Ok(reply.warning(warnings))
}

pub(super) async fn delete(
    app: web::Data<App>,
    caller: Permit,
    request: HttpRequest,
) -> Result<NoContent> {
    let channel_id: ChannelId = path_id(&request, "channel_id")?;
    let id: InstallId = path_id(&request, "install_id")?;
    let whose = Whose::by(&caller);
    let mut event = event_of(&request, &caller, "install.delete", id);
    app.store
        .write(Extent::Configuration, move |tx| {
            let channel = whose.channel(tx.reader(), channel_id)?;
            let install = installs::by_id(tx.reader(), id)?
                .filter(|install| install.channel_id == channel_id)
                .ok_or(Code::NotFound)?;
            installs::delete(tx, id)?;
            event.tenant = channel.tenant;
            for (name, value) in [
                ("channel_id", channel_id.to_string()),
                (
                    "end_client_tenant_id",
                    install.end_client_tenant_id.to_string(),
                ),
            ] {
                event.details.insert(name.to_owned(), value.into());
            }
            audit::record(tx, &event)
        })
        .await?;
    Ok(NoContent)
}
