//! The app package of a channel's bot in Teams, and the icons in it (contract, section 6).

use std::borrow::Cow;

use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, web};
use uuid::Uuid;

use super::App;
use super::channels::NamedTenant;
use super::edge::admission::Permit;
use super::edge::audited;
use super::edge::body;
use super::edge::context::event_of;
use super::edge::envelope::{NoContent, Outcome, Reply};
use super::edge::extract::{Query, path_id, refuse_encoded};
use super::edge::routing::segment;
use super::pages::Page;
use crate::app_package::icons::{check_color, check_outline, draw_color, draw_outline};
use crate::app_package::{self, AppPackage};
use crate::error::{Code, Error, Refusal, Result};
use crate::model::ids::ChannelId;
use crate::model::names::TenantNo;
use crate::model::words::IconKind;
use crate::store::channels::{self, ChannelRecord};
use crate::store::tenants::{self, TenantRecord};
use crate::store::{Extent, Reader, WriteTx, audit, packages};

/// The largest icon, in bytes.
const MAX_ICON_BYTES: usize = 256 * 1_024;

/// The icon that the path names.
fn kind_in_path(request: &HttpRequest) -> Result<IconKind> {
    let kind = segment(request, "kind").and_then(IconKind::parse);
    kind.ok_or_else(|| Code::NotFound.into())
}

pub(super) async fn put_icon(
    app: web::Data<App>,
    caller: Permit,
    request: HttpRequest,
    payload: web::Payload,
) -> Outcome<ChannelRecord> {
    let id: ChannelId = path_id(&request, "channel_id")?;
    let kind = kind_in_path(&request)?;
    let png = receive(&app, &request, payload).await?;
    let check = match kind {
        IconKind::Color => check_color,
        IconKind::Outline => check_outline,
    };
    check(&png).map_err(|reason| Refusal::invalid("body", reason))?;
    let tenant = caller.tenant.no;
    let event = event_of(&request, &caller, "channel.set_icon", id);
    let channel = audited::write(&app, event, move |tx, event| {
        let load = |reader: &Reader<'_>| channels::of_tenant(reader, tenant, id);
        load(tx.reader())?.ok_or(Code::NotFound)?;
        packages::set_icon(tx, id, kind, &png)?;
        event.detail("icon", kind.as_str());
        event.detail("bytes", png.len());
        load(tx.reader())?.ok_or_else(|| Code::NotFound.into())
    });
    Ok(Reply::ok(channel.await?))
}

/// Receives a picture up to the size limit.
async fn receive(app: &App, request: &HttpRequest, payload: web::Payload) -> Result<Vec<u8>> {
    let too_large = || {
        let message = format!("The icon is too large. Send at most {MAX_ICON_BYTES} bytes.");
        Error::from(Refusal::new(Code::PayloadTooLarge).saying(message))
    };
    if body::declared_length(request).is_some_and(|bytes| bytes > MAX_ICON_BYTES as u64) {
        return Err(too_large());
    }
    let is_png = |sent: &HeaderValue| sent.as_bytes().eq_ignore_ascii_case(b"image/png");
    if !request
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(is_png)
    {
        return Err(Refusal::new(Code::UnsupportedMediaType)
            .saying("Send the icon as 'Content-Type: image/png'.")
            .into());
    }
    refuse_encoded(request)?;
    body::receive(payload, MAX_ICON_BYTES, too_large, &app.config.timeouts).await
}

pub(super) async fn delete_icon(
    app: web::Data<App>,
    caller: Permit,
    request: HttpRequest,
) -> Result<NoContent> {
    let id: ChannelId = path_id(&request, "channel_id")?;
    let kind = kind_in_path(&request)?;
    let tenant = caller.tenant.no;
    let mut event = event_of(&request, &caller, "channel.remove_icon", id);
    app.store
        .write(Extent::Configuration, move |tx| {
            channels::of_tenant(tx.reader(), tenant, id)?.ok_or(Code::NotFound)?;
            if packages::remove_icon(tx, id, kind)? {
                event.detail("icon", kind.as_str());
                audit::record(tx, &event)?;
            }
            Ok(())
        })
        .await?;
    Ok(NoContent)
}

pub(super) async fn get_icon(
    app: web::Data<App>,
    caller: Permit,
    request: HttpRequest,
    Query(owner): Query<NamedTenant>,
) -> Result<HttpResponse> {
    let id: ChannelId = path_id(&request, "channel_id")?;
    let kind = kind_in_path(&request)?;
    let tenant = owner.or_own(&app, &caller).await?;
    let read = app.store.read(move |reader| {
        let channel = channels::of_tenant(reader, tenant, id)?.ok_or(Code::NotFound)?;
        icon(reader, &channel, kind)
    });
    Ok(file("image/png").body(read.await?))
}

fn file(content_type: &'static str) -> HttpResponseBuilder {
    let mut response = HttpResponse::Ok();
    response
        .insert_header((header::CONTENT_TYPE, content_type))
        // An uploaded file runs no scripts, however a browser shows it.
        .insert_header((
            header::CONTENT_SECURITY_POLICY,
            "sandbox; default-src 'none'",
        ));
    response
}

/// The icon of a channel: the uploaded one, or a drawn one.
fn icon(reader: &Reader<'_>, channel: &ChannelRecord, kind: IconKind) -> Result<Vec<u8>> {
    if let Some(uploaded) = packages::icon(reader, channel.id, kind)? {
        return Ok(uploaded);
    }
    let name = name(channel);
    let drawn = match kind {
        IconKind::Color => draw_color(name, color(channel)),
        IconKind::Outline => draw_outline(name),
    };
    drawn.map_err(|error| Error::Internal(error.into()))
}

/// The color of a channel's bot.
fn color(channel: &ChannelRecord) -> [u8; 3] {
    app_package::color_of(channel.id.to_string().as_bytes())
}

/// The bot's name for its users, or the channel's if it has none.
pub(super) fn name(channel: &ChannelRecord) -> &str {
    let shown = channel.display_name.as_deref().unwrap_or_default();
    let mut names = [shown, &channel.internal_name].into_iter().map(str::trim);
    names.find(|name| !name.is_empty()).unwrap_or("Bot")
}

/// What a package is made of.
struct Parts {
    /// The app's id: that of the channel, as a GUID.
    id: String,
    bot_id: String,
    channel: ChannelRecord,
    tenant: TenantRecord,
    color_icon: Vec<u8>,
    outline_icon: Vec<u8>,
    /// The addresses of the website, the privacy statement and the terms.
    addresses: [String; 3],
}

impl Parts {
    /// Reads the parts.
    ///
    /// # Errors
    /// `not_found` for a channel that the tenant lacks; `app_package_incomplete` if it has no bot of
    /// Teams, or if a page that Teams demands has no address.
    fn read(
        reader: &Reader<'_>,
        tenant: TenantNo,
        id: ChannelId,
        public_url: Option<&str>,
    ) -> Result<Self> {
        let channel = channels::of_tenant(reader, tenant, id)?.ok_or(Code::NotFound)?;
        let tenant = tenants::by_no(reader, tenant)?;
        let bot = channel.bot_id.as_ref();
        let bot = bot.ok_or_else(|| incomplete("bot_id", NO_BOT))?;
        let bot = Uuid::parse_str(bot.as_str()).map_err(|_| incomplete("bot_id", NO_GUID))?;
        Ok(Self {
            id: Uuid::from_bytes(*id.as_bytes()).to_string(),
            bot_id: bot.to_string(),
            color_icon: icon(reader, &channel, IconKind::Color)?,
            outline_icon: icon(reader, &channel, IconKind::Outline)?,
            addresses: addresses(&channel, &tenant, public_url)?,
            channel,
            tenant,
        })
    }

    /// The package.
    fn package<'a>(&'a self, public_url: Option<&'a str>) -> AppPackage<'a> {
        let [website_url, privacy_url, terms_url] = &self.addresses;
        let description = self.channel.description.as_deref().map(str::trim);
        AppPackage {
            id: &self.id,
            bot_id: &self.bot_id,
            name: name(&self.channel),
            description: description.filter(|text| !text.is_empty()),
            developer: &self.tenant.name,
            website_url,
            privacy_url,
            terms_url,
            public_url,
            color: color(&self.channel),
            color_icon: &self.color_icon,
            outline_icon: &self.outline_icon,
        }
    }
}

const NO_BOT: &str =
    "The app package names the channel's bot, and the channel has none. Set its bot_id first.";
const NO_GUID: &str = "The app package names the channel's bot, and Teams takes a GUID only. Set bot_id to the Microsoft App ID of the bot.";

fn incomplete(field: &'static str, message: impl Into<Cow<'static, str>>) -> Error {
    Refusal::new(Code::AppPackageIncomplete)
        .saying(message)
        .with("field", field)
        .into()
}

/// The addresses of the pages that a package names: the tenant's own, or pages of this server.
fn addresses(
    channel: &ChannelRecord,
    tenant: &TenantRecord,
    public_url: Option<&str>,
) -> Result<[String; 3]> {
    let address = |field, own: &Option<String>, page: Page| match (own, public_url) {
        (Some(own), _) => Ok(own.clone()),
        (None, Some(base)) => Ok(format!("{base}{}", page.path(channel.id))),
        (None, None) => Err(incomplete(
            field,
            format!(
                "The app package needs the address of {}. Set the tenant's {field}, or start the server with --public-url, \
                 so that a page of the server takes its place.",
                page.noun()
            ),
        )),
    };
    Ok([
        address("website_url", &tenant.website_url, Page::Website)?,
        address("privacy_url", &tenant.privacy_url, Page::Privacy)?,
        address("terms_url", &tenant.terms_url, Page::Terms)?,
    ])
}

pub(super) async fn download(
    app: web::Data<App>,
    caller: Permit,
    request: HttpRequest,
    Query(owner): Query<NamedTenant>,
) -> Result<HttpResponse> {
    let id: ChannelId = path_id(&request, "channel_id")?;
    let tenant = owner.or_own(&app, &caller).await?;
    let public_url = app.config.public_url.clone();
    let base = public_url.clone();
    let read = app.store.read(move |reader| {
        let parts = Parts::read(reader, tenant, id, base.as_deref())?;
        let sha256 = parts.package(base.as_deref()).sha256();
        Ok((parts, sha256, packages::version(reader, id, sha256)?))
    });
    let (parts, sha256, known) = read.await?;
    let version = match known {
        Some(version) => version,
        None => {
            let next = move |tx: &mut WriteTx<'_>| packages::next_version(tx, id, sha256);
            app.store.write(Extent::Configuration, next).await?
        }
    };
    let zip = parts.package(public_url.as_deref()).zip(version);
    let zip = zip.map_err(|error| Error::Internal(error.into()))?;
    let name = format!(
        "attachment; filename=\"{}.zip\"",
        file_name(name(&parts.channel))
    );
    Ok(file("application/zip")
        .insert_header((header::CONTENT_DISPOSITION, name))
        .body(zip))
}

/// A name as the name of a file: letters and digits of ASCII, joined by hyphens.
fn file_name(name: &str) -> String {
    let words = name.split(|letter: char| !letter.is_ascii_alphanumeric());
    let words: Vec<String> = words
        .filter(|word| !word.is_empty())
        .map(str::to_ascii_lowercase)
        .collect();
    if words.is_empty() {
        "teams-app".to_owned()
    } else {
        words.join("-")
    }
}
