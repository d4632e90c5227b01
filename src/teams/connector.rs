//! The client of the Bot Framework's connector: sends and updates activities, at listed hosts only.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::{Client, Method, Url};
use serde::Deserialize;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;
use tokio::time::timeout;

use super::Settings;
use super::bots::{BotsFile, Secret};
use super::hosts;
use super::login::Login;
use crate::limits::KeyedSemaphore;
use crate::model::clock::{Clock, Millis};
use crate::model::names::BotId;
use crate::outbound::{self, causes, is_loopback};

/// The timeout of a connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);
/// The timeout of a call that must succeed, and of one that may fail.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);
const HINT_TIMEOUT: Duration = Duration::from_secs(4);
/// The longest reply that is read, in bytes. The rest is ignored.
const MAX_REPLY_BYTES: usize = 64 * 1_024;
/// The longest `Retry-After` that is obeyed.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60 * 60);
/// Calls of one bot at the same time: a host that does not answer must not hold up other bots.
const CALLS_PER_BOT: usize = 32;

/// Where a call goes.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The bot that calls.
    pub bot: &'a BotId,
    /// The service URL that the conversation's activities name.
    pub service_url: &'a str,
    /// The id of the conversation.
    pub conversation: &'a str,
}

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The connector refused the call.
    Refused(Refused),
    /// No reply came. The connector may have taken the activity.
    Unanswered(String),
    /// The call was not made, and another time it may be.
    NotCalled(String),
    /// The call is never made: its host is not listed.
    Forbidden(String),
}

/// A reply of the connector that is no success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The status.
    pub status: u16,
    /// The code of the error; empty if the reply has none.
    pub code: String,
    /// The message of the error; empty if the reply has none.
    pub message: String,
    /// How long the connector asks to wait.
    pub retry_after: Option<Duration>,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(refused) => {
                write!(f, "the connector answered {}", refused.status)?;
                if !refused.code.is_empty() {
                    write!(f, " {}", refused.code)?;
                }
                if !refused.message.is_empty() {
                    write!(f, " ({})", refused.message)?;
                }
                Ok(())
            }
            Self::Unanswered(cause) => write!(f, "the connector did not answer: {cause}"),
            Self::NotCalled(cause) | Self::Forbidden(cause) => f.write_str(cause),
        }
    }
}

/// Calls the connector for all bots.
pub struct Connector {
    settings: Settings,
    bots: Option<Arc<BotsFile>>,
    login: Login,
    clock: Clock,
    client: Client,
    loopback_client: Client,
    calls: KeyedSemaphore<BotId>,
}

impl Connector {
    /// Prepares the calls of these bots.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub fn new(
        settings: Settings,
        bots: Option<Arc<BotsFile>>,
        clock: Clock,
    ) -> Result<Self, String> {
        let client = |url: &str| {
            let url = Url::parse(url).map_err(|error| error.to_string())?;
            outbound::client(&url, CONNECT_TIMEOUT)
        };
        Ok(Self {
            login: Login::new(&settings)?,
            client: client("https://smba.trafficmanager.net")?,
            loopback_client: client("http://127.0.0.1")?,
            settings,
            bots,
            clock,
            calls: KeyedSemaphore::new(CALLS_PER_BOT),
        })
    }

    /// The settings of the bots.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Sends an activity. Returns its id in Teams, if the reply has one.
    ///
    /// # Errors
    /// Why it was not sent, or perhaps not sent.
    pub async fn send(&self, to: Target<'_>, activity: &Value) -> Result<Option<String>, Failure> {
        self.call(Method::POST, to, None, activity, CALL_TIMEOUT)
            .await
    }

    /// As [`Connector::send`], for an activity that may be lost, such as that the bot writes.
    ///
    /// # Errors
    /// Those of [`Connector::send`].
    pub async fn hint(&self, to: Target<'_>, activity: &Value) -> Result<Option<String>, Failure> {
        self.call(Method::POST, to, None, activity, HINT_TIMEOUT)
            .await
    }

    /// Replaces an activity that was sent.
    ///
    /// # Errors
    /// Those of [`Connector::send`].
    pub async fn update(&self, to: Target<'_>, id: &str, activity: &Value) -> Result<(), Failure> {
        let call = self.call(Method::PUT, to, Some(id), activity, CALL_TIMEOUT);
        call.await.map(drop)
    }

    async fn call(
        &self,
        method: Method,
        to: Target<'_>,
        id: Option<&str>,
        activity: &Value,
        limit: Duration,
    ) -> Result<Option<String>, Failure> {
        let url = self.url(to, id)?;
        let call = async {
            let calls = self.calls.of(to.bot.clone());
            let _permit = calls.acquire_owned().await;
            let token = self.token(to.bot).await?;
            let reply = self
                .exchange(&method, &url, token.as_ref(), activity, limit)
                .await;
            match (reply, token) {
                // The connector may know a token as revoked that has not expired.
                (Err(Failure::Refused(refused)), Some(token)) if refused.status == 401 => {
                    self.login.drop_token(to.bot, &token).await;
                    let token = self.token(to.bot).await?;
                    self.exchange(&method, &url, token.as_ref(), activity, limit)
                        .await
                }
                (reply, _) => reply,
            }
        };
        call.await
    }

    fn url(&self, to: Target<'_>, id: Option<&str>) -> Result<Url, Failure> {
        let refused = |cause: &str| Failure::Forbidden(format!("the service URL {cause}"));
        let mut url = Url::parse(to.service_url).map_err(|_| refused("is no URL"))?;
        if !hosts::is_service(&url, &self.settings.service_hosts) {
            return Err(refused(
                "has a host that --teams-service-hosts does not list",
            ));
        }
        url.set_query(None);
        url.set_fragment(None);
        // Such a segment would leave the path of the conversation.
        let is_segment = |text: &str| !text.is_empty() && text != "." && text != "..";
        if !is_segment(to.conversation) || !id.is_none_or(is_segment) {
            return Err(Failure::Forbidden(
                "the conversation has no usable id".to_owned(),
            ));
        }
        let mut segments = url
            .path_segments_mut()
            .map_err(|()| refused("has no path"))?;
        segments.pop_if_empty();
        segments.extend(["v3", "conversations", to.conversation, "activities"]);
        segments.extend(id);
        drop(segments);
        Ok(url)
    }

    /// The token of a bot. None if the server works without tokens.
    pub(super) async fn token(&self, bot: &BotId) -> Result<Option<Secret>, Failure> {
        if self.settings.anonymous {
            return Ok(None);
        }
        let now = self.clock.now();
        let bots = self.bots.as_ref().map(|file| file.bots(now));
        let found = bots.as_ref().and_then(|bots| bots.get(bot));
        let bot = found.ok_or_else(|| {
            Failure::NotCalled(format!(
                "--teams-bots does not list the bot {}",
                bot.as_str()
            ))
        })?;
        let token = self.login.token(bot, now).await;
        token
            .map(Some)
            .map_err(|error| Failure::NotCalled(error.to_string()))
    }

    /// The client for a URL.
    pub(super) fn client_for(&self, url: &Url) -> &Client {
        match is_loopback(url) {
            true => &self.loopback_client,
            false => &self.client,
        }
    }

    async fn exchange(
        &self,
        method: &Method,
        url: &Url,
        token: Option<&Secret>,
        activity: &Value,
        limit: Duration,
    ) -> Result<Option<String>, Failure> {
        let mut request = self
            .client_for(url)
            .request(method.clone(), url.clone())
            .header(CONTENT_TYPE, "application/json; charset=utf-8")
            .header(ACCEPT, "application/json")
            .body(activity.to_string());
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, format!("Bearer {}", token.reveal()));
        }
        let exchange = async {
            let mut reply = request.send().await?;
            let (status, headers) = (reply.status(), reply.headers().clone());
            let mut body = Vec::new();
            // A success is one, even if the rest of its reply does not come.
            loop {
                match reply.chunk().await {
                    Ok(Some(chunk)) if body.len() + chunk.len() <= MAX_REPLY_BYTES => {
                        body.extend_from_slice(&chunk);
                    }
                    Ok(Some(_) | None) => break,
                    Err(_) if status.is_success() => break,
                    Err(error) => return Err(error),
                }
            }
            Ok::<_, reqwest::Error>((status, headers, body))
        };
        let (status, headers, body) = match timeout(limit, exchange).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(error)) if error.is_connect() => {
                return Err(Failure::NotCalled(format!(
                    "the connector cannot be reached: {}",
                    causes(&error.without_url())
                )));
            }
            Ok(Err(error)) => return Err(Failure::Unanswered(causes(&error.without_url()))),
            Err(_) => return Err(Failure::Unanswered(format!("no reply within {limit:?}"))),
        };
        if status.is_success() {
            return Ok(activity_id(&body));
        }
        let (code, message) = error_of(&body);
        Err(Failure::Refused(Refused {
            status: status.as_u16(),
            code,
            message,
            retry_after: retry_after(&headers, self.clock.now()),
        }))
    }
}

/// The id of the activity that a reply names.
fn activity_id(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Body {
        id: Option<String>,
    }
    let body: Body = serde_json::from_slice(body).ok()?;
    body.id.filter(|id| !id.is_empty() && id.len() <= 1_024)
}

/// The code and the message of a refusal, in one of the forms that connectors use.
fn error_of(body: &[u8]) -> (String, String) {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let error = if body["error"].is_object() {
        &body["error"]
    } else {
        &body
    };
    let text = |names: [&str; 2]| {
        let found = names.iter().find_map(|name| error[name].as_str());
        let text = found.unwrap_or_default();
        text.chars().filter(|c| !c.is_control()).take(300).collect()
    };
    (text(["code", "errorCode"]), text(["message", "Message"]))
}

/// The time of a `Retry-After` header: seconds, or a date (RFC 9110, section 10.2.3).
fn retry_after(headers: &HeaderMap, now: Millis) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).ok()?,
        Err(_) => {
            let date = OffsetDateTime::parse(text, &Rfc2822).ok()?;
            let millis = date
                .unix_timestamp()
                .saturating_mul(1_000)
                .saturating_sub(now);
            Duration::from_millis(u64::try_from(millis).unwrap_or(0))
        }
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conversation_is_one_segment_of_the_path_below_the_service_url() {
        let settings = Settings::default();
        let connector = Connector::new(settings, None, Clock::System).unwrap();
        let bot = BotId::parse("b").unwrap();
        let url = |service_url: &str, conversation: &str, id: Option<&str>| {
            let to = Target {
                bot: &bot,
                service_url,
                conversation,
            };
            connector.url(to, id).map(|url| url.to_string())
        };
        let base = "https://smba.trafficmanager.net/emea";
        assert_eq!(
            url(&format!("{base}/"), "19:a@thread.tacv2;messageid=1", None).unwrap(),
            format!("{base}/v3/conversations/19:a@thread.tacv2;messageid=1/activities")
        );
        assert_eq!(
            url(&format!("{base}?x=1#y"), "a/../b?c", Some("1:2")).unwrap(),
            format!("{base}/v3/conversations/a%2F..%2Fb%3Fc/activities/1:2")
        );
        assert!(url(base, "..", None).is_err());
        assert!(url(base, "a", Some(".")).is_err());
        assert!(url("https://evil.example/", "a", None).is_err());
        assert!(url("no url", "a", None).is_err());
    }

    #[test]
    fn the_time_to_wait_is_read_in_seconds_and_as_a_date() {
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().unwrap());
            retry_after(&headers, 1_445_412_480_000).map(|wait| wait.as_secs())
        };
        assert_eq!(read("7"), Some(7));
        assert_eq!(read("0.9"), Some(0));
        assert_eq!(read("100000"), Some(3_600));
        assert_eq!(read("Wed, 21 Oct 2015 07:28:30 GMT"), Some(30));
        assert_eq!(read("Wed, 21 Oct 2015 07:00:00 GMT"), Some(0));
        assert_eq!(read("soon"), None);
        assert_eq!(read("-1"), None);
    }

    #[test]
    fn the_error_of_a_refusal_is_read_in_each_form() {
        for body in [
            r#"{"error":{"code":"C","message":"M"}}"#,
            r#"{"code":"C","message":"M"}"#,
            r#"{"errorCode":"C","message":"M","extra":1}"#,
        ] {
            assert_eq!(error_of(body.as_bytes()), ("C".to_owned(), "M".to_owned()));
        }
        assert_eq!(error_of(b"<html>"), (String::new(), String::new()));
        assert_eq!(activity_id(br#"{"id":"1"}"#), Some("1".to_owned()));
        assert_eq!(activity_id(b"{}"), None);
        assert_eq!(activity_id(b""), None);
    }
}
