//! Verifies the tokens with which the Bot Framework calls bots, and that an activity is the one that
//! its token is for (contract, section 14).

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::Url;
use serde_json::Value;

use super::Settings;
use super::activity::Envelope;
use super::bots::Bots;
use super::hosts::is_service;
use super::keys::{Key, Keys};
use crate::auth::entra::explained;
use crate::auth::jwt::Token;
use crate::auth::reason::Reason;
use crate::error::{Code, Error, Refusal, Result};
use crate::model::clock::Millis;
use crate::model::names::BotId;

/// How far the clocks of the Bot Framework and of this server may differ, in seconds.
const LEEWAY_S: i64 = 300;
/// The channel of Teams. Clients of other channels choose what their activities say of the M365
/// tenant.
pub const CHANNEL: &str = "msteams";

/// Verifies tokens.
#[derive(Debug)]
pub struct Verifier {
    issuer: String,
    keys: Keys,
}

/// What a valid token proves.
#[derive(Clone, Debug)]
pub struct Proof {
    bot: BotId,
    service_url: String,
    key: Arc<Key>,
}

impl Verifier {
    /// Makes a verifier. It fetches nothing yet.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub fn new(settings: &Settings) -> Result<Self, String> {
        Ok(Self {
            issuer: settings.issuer.clone(),
            keys: Keys::new(&settings.openid_url)?,
        })
    }

    /// Starts to load the keys, so that the first token need not wait.
    pub fn prepare(&self, now: Millis) {
        self.keys.prepare(now);
    }

    /// Verifies the value of an `Authorization` header.
    ///
    /// # Errors
    /// `unauthorized` with the contract's reason.
    pub async fn verify(
        &self,
        bots: &Bots,
        credential: Option<&[u8]>,
        now: Millis,
    ) -> Result<Proof> {
        let credential = credential.ok_or(Code::Unauthorized)?;
        let text = bearer(credential).ok_or(Reason::Malformed)?;
        let token = Token::parse(text)?;
        match self.proof(&token, bots, now).await {
            Err(Error::Refused(refusal)) => {
                let expectation = format!(
                    "expected are the audience of a bot of --teams-bots and the issuer {:?}",
                    self.issuer
                );
                Err(explained(*refusal, &token, &expectation))
            }
            outcome => outcome,
        }
    }

    async fn proof(&self, token: &Token<'_>, bots: &Bots, now: Millis) -> Result<Proof> {
        // What costs nothing comes first, so that no foreign token leads to a fetch.
        if token.issuer()? != self.issuer {
            return Err(Reason::WrongIssuer.into());
        }
        let bot = match token.claims.get("aud") {
            None | Some(Value::Null) => return Err(Reason::MissingClaim.into()),
            Some(Value::String(audience)) => bots.audience(audience),
            Some(_) => None,
        };
        let bot = bot.ok_or(Reason::WrongAudience)?;
        check_times(token, now.div_euclid(1_000))?;
        let service_url = token.text_claim("serviceurl")?.to_owned();
        let key = self.signer(token, now).await?;
        Ok(Proof {
            bot: bot.id.clone(),
            service_url,
            key,
        })
    }

    /// The key that signed a token.
    async fn signer(&self, token: &Token<'_>, now: Millis) -> Result<Arc<Key>> {
        // The server chooses the algorithm. A header cannot select another one.
        let is_jwt = token.header.get("typ").is_none_or(|kind| {
            let kind = kind.as_str().unwrap_or_default();
            kind.eq_ignore_ascii_case("JWT")
        });
        if token.header_text("alg") != Some("RS256") || !is_jwt {
            return Err(Reason::BadSignature.into());
        }
        let signature = URL_SAFE_NO_PAD
            .decode(token.signature)
            .map_err(|_| Reason::BadSignature)?;
        // Only `kid` is used. A header's own keys, or URLs of keys, are an attacker's choice.
        let kid = token.header_text("kid").ok_or(Reason::UnknownKey)?;
        let keys = self.keys.named(kid, now).await;
        if keys.is_empty() {
            return Err(Reason::UnknownKey.into());
        }
        let mut keys = keys.into_iter();
        let signer = keys.find(|key| key.verifies(token.signed, &signature));
        signer.ok_or_else(|| Reason::BadSignature.into())
    }
}

/// The token of an `Authorization` header.
fn bearer(credential: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(credential).ok()?;
    let (scheme, token) = text.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn check_times(token: &Token<'_>, now_s: i64) -> Result<()> {
    let expires = token.time_claim("exp")?.ok_or(Reason::MissingClaim)?;
    if expires.saturating_add(LEEWAY_S) <= now_s {
        return Err(Reason::Expired.into());
    }
    let begins = [token.time_claim("nbf")?, token.time_claim("iat")?];
    let begins = begins.into_iter().flatten().max();
    if begins.is_some_and(|begins| begins.saturating_sub(LEEWAY_S) > now_s) {
        return Err(Reason::NotYetValid.into());
    }
    Ok(())
}

impl Proof {
    /// Whether the token is for this activity. Returns the bot that it is sent to.
    ///
    /// # Errors
    /// `forbidden` with the contract's reason.
    pub fn admit(self, activity: &Envelope, settings: &Settings) -> Result<BotId> {
        let channel = activity.channel_id.as_deref();
        if channel.is_none_or(|channel| channel != CHANNEL || !self.key.endorses(channel)) {
            return Err(refused(
                "wrong_channel",
                "The key that signed the token does not endorse the channel of this activity, or the channel is not msteams.",
            ));
        }
        let recipient = activity.recipient.as_deref().map(without_prefix);
        if !recipient.is_some_and(|id| id.eq_ignore_ascii_case(self.bot.as_str())) {
            return Err(refused(
                "wrong_recipient",
                "The recipient of this activity is not the bot that the token is for.",
            ));
        }
        if activity.service_url.as_deref() != Some(self.service_url.as_str()) {
            return Err(refused(
                "wrong_service_url",
                "The serviceUrl of this activity is not the one that the token names.",
            ));
        }
        check_service_url(activity, settings)?;
        Ok(self.bot)
    }
}

/// Refuses an activity whose service URL is at a host that is not listed: replies, and with them the
/// bot's token, go there.
///
/// # Errors
/// `forbidden` with the reason `wrong_service_url`.
pub fn check_service_url(activity: &Envelope, settings: &Settings) -> Result<()> {
    let url = activity
        .service_url
        .as_deref()
        .and_then(|url| Url::parse(url).ok());
    let is_listed = url.is_some_and(|url| {
        is_service(&url, &settings.service_hosts)
            && url.query().is_none()
            && url.fragment().is_none()
    });
    match is_listed {
        true => Ok(()),
        false => Err(refused(
            "wrong_service_url",
            "The serviceUrl of this activity is at no host of --teams-service-hosts, or is not https.",
        )),
    }
}

/// The application's id of a bot account: Teams writes `28:` before it.
pub fn without_prefix(account: &str) -> &str {
    account.strip_prefix("28:").unwrap_or(account)
}

fn refused(reason: &'static str, message: &'static str) -> Error {
    Refusal::new(Code::Forbidden)
        .saying(message)
        .with("reason", reason)
        .logged(format!("an activity for a Teams bot is refused: {reason}"))
        .into()
}
