//! The tokens with which bots call the connector: client credentials, one fetch at a time for each
//! bot, kept until shortly before they expire.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Client, Url};
use serde::Deserialize;
use tokio::time::{Instant, timeout};

use super::Settings;
use super::bots::{AppType, Bot, Secret};
use crate::model::clock::Millis;
use crate::model::names::BotId;
use crate::outbound::{self, causes};

/// The timeout of a fetch.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);
/// The timeout of a connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);
/// The longest reply that is accepted, in bytes.
const MAX_REPLY_BYTES: usize = 256 * 1_024;
/// A token is fetched again this long before it expires, in milliseconds.
const MARGIN: Millis = 5 * 60 * 1_000;
/// How long the failure of a fetch answers the calls that follow it.
const FAILURE_LASTS: Duration = Duration::from_secs(2);

/// Why there is no token: a sentence for the operator, which shows no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoToken(pub String);

impl fmt::Display for NoToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A token of a bot.
#[derive(Clone, Debug)]
struct Token {
    /// The credentials that it was issued for: others need another token.
    bot: Bot,
    text: Secret,
    fetched_at: Millis,
    /// When it is fetched again.
    until: Millis,
}

#[derive(Debug, Default)]
struct Slot {
    token: Option<Token>,
    failure: Option<(Instant, Bot, NoToken)>,
}

type Slots = HashMap<BotId, Arc<tokio::sync::Mutex<Slot>>>;

/// Fetches and keeps the tokens of all bots.
#[derive(Debug)]
pub struct Login {
    url: String,
    scope: String,
    client: Client,
    slots: Mutex<Slots>,
}

impl Login {
    /// Prepares the fetches. Nothing is fetched yet.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub fn new(settings: &Settings) -> Result<Self, String> {
        let url = Url::parse(&settings.login_url)
            .map_err(|error| format!("--teams-login-url is no URL: {error}"))?;
        Ok(Self {
            client: outbound::client(&url, CONNECT_TIMEOUT)?,
            url: settings.login_url.trim_end_matches('/').to_owned(),
            scope: settings.scope.clone(),
            slots: Mutex::default(),
        })
    }

    fn slot(&self, bot: &BotId) -> Arc<tokio::sync::Mutex<Slot>> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.entry(bot.clone()).or_default())
    }

    /// The bot's token.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn token(&self, bot: &Bot, now: Millis) -> Result<Secret, NoToken> {
        let slot = self.slot(&bot.id);
        // Other calls for the bot wait here, and find the token that this one fetches.
        let mut slot = slot.lock().await;
        if let Some(token) = &slot.token
            && token.bot == *bot
            && (token.fetched_at..token.until).contains(&now)
        {
            return Ok(token.text.clone());
        }
        if let Some((at, failed, failure)) = &slot.failure
            && failed == bot
            && at.elapsed() < FAILURE_LASTS
        {
            return Err(failure.clone());
        }
        match self.fetch(bot).await {
            Ok(reply) => {
                let lifetime = reply.expires_in.max(0).saturating_mul(1_000);
                let text = Secret::new(reply.access_token);
                slot.failure = None;
                slot.token = Some(Token {
                    bot: bot.clone(),
                    text: text.clone(),
                    fetched_at: now,
                    until: now.saturating_add((lifetime - MARGIN).max(lifetime / 2)),
                });
                Ok(text)
            }
            Err(failure) => {
                slot.failure = Some((Instant::now(), bot.clone(), failure.clone()));
                Err(failure)
            }
        }
    }

    /// Drops a token that the connector refuses, unless another one has replaced it.
    pub async fn drop_token(&self, bot: &BotId, refused: &Secret) {
        let slot = self.slot(bot);
        let mut slot = slot.lock().await;
        if slot
            .token
            .as_ref()
            .is_some_and(|token| token.text == *refused)
        {
            slot.token = None;
        }
    }

    /// The address at which a bot gets its token.
    pub fn token_url(&self, bot: &Bot) -> String {
        let directory = match (bot.app_type, &bot.directory) {
            (AppType::SingleTenant, Some(directory)) => directory.as_str(),
            (AppType::SingleTenant, None) | (AppType::MultiTenant, _) => {
                shared_directory(&self.url)
            }
        };
        format!("{}/{directory}/oauth2/v2.0/token", self.url)
    }

    async fn fetch(&self, bot: &Bot) -> Result<TokenReply, NoToken> {
        let url = self.token_url(bot);
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "client_credentials")
            .append_pair("client_id", bot.id.as_str())
            .append_pair("client_secret", bot.secret.reveal())
            .append_pair("scope", &self.scope)
            .finish();
        let request = self
            .client
            .post(&url)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(ACCEPT, "application/json")
            .body(form);
        let exchange = async {
            let mut reply = request.send().await?;
            let status = reply.status().as_u16();
            let mut body = Vec::new();
            while let Some(chunk) = reply.chunk().await? {
                if body.len() + chunk.len() > MAX_REPLY_BYTES {
                    break;
                }
                body.extend_from_slice(&chunk);
            }
            Ok::<_, reqwest::Error>((status, body))
        };
        let (status, body) = match timeout(FETCH_TIMEOUT, exchange).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(error)) => {
                let cause = causes(&error.without_url());
                return Err(NoToken(format!("{url} cannot be reached: {cause}")));
            }
            Err(_) => {
                return Err(NoToken(format!(
                    "{url} did not answer within {FETCH_TIMEOUT:?}"
                )));
            }
        };
        if status != 200 {
            return Err(NoToken(refusal(&url, status, &body)));
        }
        let reply: Result<TokenReply, _> = serde_json::from_slice(&body);
        // The error could quote the token.
        reply.map_err(|_| NoToken(format!("{url} answered 200 without an access_token")))
    }
}

/// The reply of the token endpoint (RFC 6749, section 5.1).
#[derive(Deserialize)]
struct TokenReply {
    access_token: String,
    #[serde(default = "default_lifetime", deserialize_with = "seconds")]
    expires_in: i64,
}

fn default_lifetime() -> i64 {
    3_600
}

/// Some services write the number as a string.
fn seconds<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Number {
        Number(i64),
        Text(String),
    }
    Ok(match Number::deserialize(deserializer)? {
        Number::Number(number) => number,
        Number::Text(text) => text.trim().parse().unwrap_or_else(|_| default_lifetime()),
    })
}

/// The directory that issues tokens to multi-tenant bots: that of the cloud whose login this is.
fn shared_directory(login_url: &str) -> &'static str {
    let host = Url::parse(login_url).ok();
    match host.as_ref().and_then(Url::host_str) {
        Some("login.microsoftonline.us") => "MicrosoftServices.onmicrosoft.us",
        Some("login.partner.microsoftonline.cn" | "login.chinacloudapi.cn") => {
            "microsoftservices.partner.onmschina.cn"
        }
        Some(_) | None => "botframework.com",
    }
}

/// What the codes of Entra ID mean for an operator.
const ADVICE: [(&str, &str); 7] = [
    (
        "AADSTS7000215",
        "the client secret is wrong: enter the secret's value, not its id",
    ),
    (
        "AADSTS7000222",
        "the client secret has expired: make a new one in Entra ID",
    ),
    (
        "AADSTS700016",
        "there is no such application in that directory: check bot_id and tenant_id",
    ),
    ("AADSTS90002", "there is no such directory: check tenant_id"),
    (
        "AADSTS900023",
        "there is no such directory: check tenant_id",
    ),
    ("AADSTS70011", "the scope is not valid: check --teams-scope"),
    (
        "AADSTS53003",
        "a Conditional Access policy blocks the application",
    ),
];

/// A refusal of the token endpoint (RFC 6749, section 5.2) in a sentence.
fn refusal(url: &str, status: u16, body: &[u8]) -> String {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Body {
        error: String,
        error_description: String,
    }
    let body: Body = serde_json::from_slice(body).unwrap_or_default();
    let first_line = body.error_description.lines().next().unwrap_or_default();
    let advice = ADVICE
        .iter()
        .find(|(code, _)| first_line.starts_with(&format!("{code}:")));
    let said: String = [body.error.as_str(), first_line]
        .into_iter()
        .filter(|text| !text.is_empty())
        .collect::<Vec<_>>()
        .join(": ");
    let said: String = said.chars().take(400).collect();
    let mut text = format!("{url} answered {status}");
    if let Some((code, advice)) = advice {
        text.push_str(&format!(" ({code}): {advice}"));
    } else if !said.is_empty() {
        text.push_str(&format!(" ({said})"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::names::M365TenantId;

    fn bot(app_type: AppType) -> Bot {
        Bot {
            id: BotId::parse("b07").unwrap(),
            directory: M365TenantId::parse("ca5cade0-4ce5-4d0e-9b1d-0f0a51deca5e"),
            app_type,
            secret: Secret::new("s3cret".to_owned()),
        }
    }

    #[test]
    fn a_bot_asks_its_own_directory_or_that_of_its_cloud() {
        let url = |login: &str, app_type| {
            let settings = Settings {
                login_url: login.to_owned(),
                ..Settings::default()
            };
            Login::new(&settings).unwrap().token_url(&bot(app_type))
        };
        let own = "ca5cade0-4ce5-4d0e-9b1d-0f0a51deca5e/oauth2/v2.0/token";
        for (login, app_type, expected) in [
            (
                "https://login.microsoftonline.com",
                AppType::SingleTenant,
                own,
            ),
            (
                "https://login.microsoftonline.com/",
                AppType::MultiTenant,
                "botframework.com/oauth2/v2.0/token",
            ),
            (
                "https://login.microsoftonline.us",
                AppType::MultiTenant,
                "MicrosoftServices.onmicrosoft.us/oauth2/v2.0/token",
            ),
            (
                "http://127.0.0.1:1",
                AppType::MultiTenant,
                "botframework.com/oauth2/v2.0/token",
            ),
        ] {
            let base = login.trim_end_matches('/');
            assert_eq!(url(login, app_type), format!("{base}/{expected}"));
        }
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        let wrong = br#"{"error":"invalid_client","error_description":"AADSTS7000215: Invalid client secret provided.\r\nTrace ID: 1"}"#;
        assert_eq!(
            refusal("https://l/t", 401, wrong),
            "https://l/t answered 401 (AADSTS7000215): the client secret is wrong: enter the secret's value, not its id"
        );
        let other = br#"{"error":"invalid_request","error_description":"AADSTS1: New.\nTrace"}"#;
        assert_eq!(
            refusal("u", 400, other),
            "u answered 400 (invalid_request: AADSTS1: New.)"
        );
        assert_eq!(refusal("u", 502, b"<html>"), "u answered 502");
    }

    #[test]
    fn no_secret_is_shown() {
        assert_eq!(
            format!("{:?}", bot(AppType::SingleTenant).secret),
            "Secret(…)"
        );
    }
}
