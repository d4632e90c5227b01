//! Installs of a channel. The platform manages those of any tenant (contract, sections 2 and 6).

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, web};

use super::App;
use super::edge::admission::Permit;
use super::edge::audited;
use super::edge::call::Call;
use super::edge::context::{Context, event_of};
use super::edge::cursor::{self, List, ListQuery};
use super::edge::envelope::{MaybeSerialized, NoContent, Outcome};
use super::edge::extract::{Body, Query, path_id};
use super::edge::once::{Made, Once};
use crate::error::{Code, Result};
use crate::input::fields::{Fields, FromFields};
use crate::model::directory::DirectoryId;
use crate::model::ids::{ChannelId, InstallId};
use crate::model::names::CompanyId;
use crate::resolver::Linked;
use crate::store::audit::{self, Event};
use crate::store::channels::{self, ChannelRecord};
use crate::store::companies::NewLink;
use crate::store::installs::{self, InstallRecord, Installed, Installer};
use crate::store::{Extent, Reader, WriteTx, tenants};

const SHARED: &str = "Several companies are now linked to this M365 tenant. Chat is refused until exactly one is linked.";

const ADDS_TO_NONE: &str = "add_directory was ignored: it needs the psa_company_id of the company that gets the M365 tenant.";

/// A channel whose installs the caller manages: one of its tenant, or any for the platform, whose
/// call counts on the channel's tenant. The channel may be deleted: its installs refuse chat until
/// they are removed.
///
/// # Errors
/// `not_found`, `rate_limited`.
fn managed_channel(reader: &Reader<'_>, call: &Call, id: ChannelId) -> Result<ChannelRecord> {
    let channel = channels::by_id(reader, id)?
        .filter(|channel| call.is_platform() || channel.tenant == call.tenant.no)
        .ok_or(Code::NotFound)?;
    if call.is_platform() {
        let tenant = tenants::by_no(reader, channel.tenant)?;
        call.act_in(tenant.no, tenant.rate_limit_per_minute)?;
    }
    Ok(channel)
}

pub(super) async fn list(
    app: web::Data<App>,
    caller: Permit,
    request: HttpRequest,
    Query(query): Query<ListQuery<()>>,
) -> Outcome<Vec<InstallRecord>> {
    let id: ChannelId = path_id(&request, "channel_id")?;
    let call = caller.shared();
    app.store
        .read(move |reader| managed_channel(reader, &call, id))
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

/// The body of a POST.
pub(super) struct NewInstall {
    end_client_tenant_id: Option<DirectoryId>,
    link: Option<NewLink>,
    /// The client asked to add a directory to no company.
    adds_to_none: bool,
}

impl FromFields for NewInstall {
    fn read(fields: &Fields<'_>) -> Self {
        let directory = fields.directory("end_client_tenant_id");
        let company: Option<CompanyId> = fields.named("psa_company_id").value();
        let adds_directory = fields.boolean("add_directory").value().unwrap_or(false);
        Self {
            end_client_tenant_id: fields.required("end_client_tenant_id", directory),
            adds_to_none: adds_directory && company.is_none(),
            link: company.map(|company| NewLink {
                company,
                adds_directory,
            }),
        }
    }
}

pub(super) async fn create(
    app: web::Data<App>,
    caller: Permit,
    request: HttpRequest,
    body: Body<NewInstall>,
) -> Outcome<MaybeSerialized<InstallRecord>> {
    let new = body.read()?;
    let once = Once::of(&request, &caller, &body)?;
    let Some(directory) = new.end_client_tenant_id else {
        return Err(Code::ValidationError.into());
    };
    let company = new.link.as_ref().map(|link| link.company.as_str().into());
    let asked = [
        ("end_client_tenant_id", Some(directory.id().as_str().into())),
        ("psa_company_id", company),
    ];
    Context::remember(&request, asked);
    let rule = app.config.directories;
    let channel_id: ChannelId = path_id(&request, "channel_id")?;
    let call = caller.shared();
    let installer = if call.is_platform() {
        Installer::Operator
    } else {
        Installer::Owner
    };
    let mut event = event_of(&request, &caller, "install.create", "");
    once.write(&app, Extent::Configuration, move |tx| {
        let channel = managed_channel(tx.reader(), &call, channel_id)?;
        let link = new.link.as_ref();
        let installed = installs::install(tx, &channel, &directory, link, installer, rule)?;
        if installed.is_new || installed.is_linked {
            // The owner of the channel has to know, also if the platform installed it.
            event.tenant = channel.tenant;
            record(tx, event, &installed, link)?;
        }
        let mut made = made(&channel, installed);
        made.warnings
            .extend(new.adds_to_none.then_some(ADDS_TO_NONE));
        Ok(made)
    })
    .await
}

/// The reply of an install: 200 if the bot was installed there before.
fn made(channel: &ChannelRecord, installed: Installed) -> Made<InstallRecord> {
    let path = installs::path_to(channel.id, installed.install.id);
    let is_shared = matches!(installed.linked, Linked::Not(several) if several > 1);
    let mut made = Made::thing(channel.tenant, path, installed.install);
    if !installed.is_new {
        made.status = StatusCode::OK;
        made.location = None;
    }
    made.warnings.extend(is_shared.then_some(SHARED));
    made
}

/// Records an install that was created or linked. The tenant that lost its install to the new one
/// gets an event of its own.
fn record(
    tx: &mut WriteTx<'_>,
    mut event: Event,
    installed: &Installed,
    link: Option<&NewLink>,
) -> Result<()> {
    if let Some(lost) = &installed.lost {
        let removed = Event {
            tenant: lost.tenant,
            action: "install.delete",
            target: Some(lost.id.to_string()),
            details: lost.details(),
            ..event.clone()
        };
        audit::record(tx, &removed)?;
    }
    let install = &installed.install;
    event.details = install.details();
    event.target = Some(install.id.to_string());
    if !installed.is_new {
        event.action = "install.link";
    }
    let lost = installed.lost.as_ref().map(|lost| lost.id);
    if let Some(old) = installed.replaced.or(lost) {
        event.detail("instead_of", old.to_string());
    }
    if let Some(link) = link.filter(|_| installed.is_linked) {
        event.detail("psa_company_id", link.company.as_str());
    }
    audit::record(tx, &event)
}

pub(super) async fn delete(
    app: web::Data<App>,
    caller: Permit,
    request: HttpRequest,
) -> Result<NoContent> {
    let channel_id: ChannelId = path_id(&request, "channel_id")?;
    let id: InstallId = path_id(&request, "install_id")?;
    let call = caller.shared();
    let event = event_of(&request, &caller, "install.delete", id);
    audited::write(&app, event, move |tx, event| {
        let channel = managed_channel(tx.reader(), &call, channel_id)?;
        let install = installs::by_id(tx.reader(), id)?
            .filter(|install| install.channel_id == channel_id)
            .ok_or(Code::NotFound)?;
        installs::delete(tx, &install)?;
        event.tenant = channel.tenant;
        event.details = install.details();
        Ok(())
    })
    .await?;
    Ok(NoContent)
}
