//! `POST /api/messages`, the address at which Teams calls the bots of this server (contract, section
//! 14), and what an administrator sees of a channel's bot.

use actix_web::dev::Payload;
use actix_web::http::Method;
use actix_web::{FromRequest, HttpRequest, HttpResponse, web};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::App;
use super::edge::admission::{Permit, Rules, credential};
use super::edge::body::{discard, is_discardable};
use super::edge::envelope::{Outcome, Reply};
use super::edge::extract::{Body, path_id};
use super::edge::forwarded::base_url;
use super::edge::routing::{MethodRoute, PathRoutes};
use crate::error::{Code, Error, Refusal, Result};
use crate::model::ids::ChannelId;
use crate::model::names::BotId;
use crate::store::{channels, teams};
use crate::teams::Handled;
use crate::teams::activity::{Activity, Envelope, Event};
use crate::teams::receive::Receiver;
use crate::teams::token::{Proof, check_service_url, without_prefix};

/// The address at which Teams calls.
const ADDRESS: &str = "/api/messages";

/// The route, which the API's document leaves out: the Bot Framework defines it.
pub(super) fn path_routes() -> PathRoutes {
    PathRoutes {
        path: ADDRESS,
        is_prefixed: false,
        methods: vec![MethodRoute {
            method: Method::POST,
            rules: Rules::PUBLIC,
            route: web::post().to(receive),
        }],
    }
}

async fn receive(
    app: web::Data<App>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse> {
    let mut payload = payload.into_inner();
    let taken = take(&app, &request, &mut payload).await;
    let handled = match &taken {
        Ok((handled, _)) => *handled,
        Err(_) => Handled::Rejected,
    };
    app.teams.activities.count(handled);
    if taken.is_err() && is_discardable(&request) {
        // The connection stays usable once the small body is read.
        discard(payload).await;
    }
    let (_, reply) = taken?;
    Ok(reply)
}

async fn take(
    app: &App,
    request: &HttpRequest,
    payload: &mut Payload,
) -> Result<(Handled, HttpResponse)> {
    if app.is_draining() {
        return Err(Code::ShuttingDown.into());
    }
    let now = app.store.now();
    let proof = match app.teams.settings.anonymous {
        true => None,
        false => {
            let bots = app.teams.bots(now);
            let credential = credential(request.headers())?;
            Some(app.teams.verifier.verify(&bots, credential, now).await?)
        }
    };
    let body = Body::<Value>::from_request(request, payload).await?;
    let body: Value = serde_json::from_slice(&body.bytes)
        .map_err(|_| Error::from(Refusal::invalid("body", "is not JSON")))?;
    let bot = bot_of(app, proof, &body)?;
    let activity = Activity::parse(&body)?;
    let is_invoke = matches!(activity.event, Event::Feedback | Event::OtherInvoke);
    let receiver = Receiver {
        store: &app.store,
        engine: &app.engine,
        signals: &app.signals,
        limiter: &app.limiter,
        teams: &app.teams,
    };
    let handled = receiver.receive(activity, bot).await?;
    let reply = match is_invoke {
        // Teams shows an error for an invoke that is answered otherwise.
        true => HttpResponse::Ok().finish(),
        false => HttpResponse::Accepted().finish(),
    };
    Ok((handled, reply))
}

/// The bot that an activity is sent to.
fn bot_of(app: &App, proof: Option<Proof>, body: &Value) -> Result<BotId> {
    let envelope = Envelope::of(body);
    if let Some(proof) = proof {
        return proof.admit(&envelope, &app.teams.settings);
    }
    check_service_url(&envelope, &app.teams.settings)?;
    let recipient = envelope.recipient.as_deref().map(without_prefix);
    recipient
        .and_then(BotId::parse)
        .ok_or_else(|| Refusal::invalid("recipient.id", "must be the id of a bot").into())
}

/// The connection of a channel to Teams.
#[derive(Serialize, JsonSchema)]
pub(super) struct ChannelConnection {
    /// The URL to paste as the bot's messaging endpoint.
    endpoint: String,
    /// Whether this server has the credentials of the channel's bot. Without them, a relay connects
    /// the bot.
    has_credentials: bool,
    #[serde(flatten)]
    traffic: teams::ChannelTraffic,
}

pub(super) async fn of_channel(
    app: web::Data<App>,
    caller: Permit,
    request: HttpRequest,
) -> Outcome<ChannelConnection> {
    let id: ChannelId = path_id(&request, "channel_id")?;
    let tenant = caller.tenant.no;
    let read = app.store.read(move |reader| {
        let channel = channels::of_tenant(reader, tenant, id)?.ok_or(Code::NotFound)?;
        Ok((channel.bot_id, teams::traffic(reader, id)?))
    });
    let (bot, traffic) = read.await?;
    let bots = app.teams.bots(app.store.now());
    Ok(Reply::ok(ChannelConnection {
        endpoint: format!("{}{ADDRESS}", base_url(&app, &request)),
        has_credentials: bot.is_some_and(|bot| bots.get(&bot).is_some()),
        traffic,
    }))
}
