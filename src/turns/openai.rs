//! A client for any OpenAI-compatible server that asks for a streamed chat completion and bears what the server does wrong.

pub mod reply;
mod request;

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream;
use reqwest::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER,
};
use reqwest::{Response, StatusCode, Url};
use tokio::sync::Notify;
use tokio::sync::mpsc::Sender;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use self::reply::Reply;
use super::responder::{Completion, Failure, Question};
use crate::model::answer::Chunk;
use crate::model::words::ModelTier;
use crate::outbound::{self, causes};

/// The longest wait that a `Retry-After` may ask for.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(10);

/// How long usage and `[DONE]` are waited for once the model has said that it ended: the user waits too.
const END_GRACE: Duration = Duration::from_secs(2);

/// How long the text of a refusal is waited for: only the log wants it.
const REFUSAL_GRACE: Duration = Duration::from_secs(1);

/// How much of a refusal is read, in bytes.
const REFUSAL_BYTES: usize = 4_096;

/// How much of the endpoint's own words a log line quotes, in characters.
const QUOTE_CHARACTERS: usize = 200;

/// How much of the request is handed to the connection at once, in bytes; each hand-over shows that it still moves.
const UPLOAD_STEP_BYTES: usize = 64 << 10;

/// Which server is asked, and how.
#[derive(Clone)]
pub struct Settings {
    /// The base URL, such as `http://127.0.0.1:11434/v1`.
    pub url: String,
    /// The name of the model that answers `FAST` turns.
    pub fast: String,
    /// The name of the model that answers `SMART` turns.
    pub smart: String,
    /// Sent as a bearer token; none or blank for a server that asks for none.
    pub api_key: Option<String>,
    /// Bounds the connect, the wait for the first byte and every silence, each.
    pub timeout: Duration,
    /// How much the model reads: system message and history are cut to it, in tokens.
    pub context_tokens: usize,
    /// The waits before the first, second and third further try after a 429 or 5xx.
    pub retry_waits: [Duration; 3],
    /// Bounds a whole answer, further tries included.
    pub longest_answer: Duration,
}

impl Settings {
    /// No key, 30 s, 8,192 tokens, and waits of 0.2, 1 and 5 s; an answer may take 10 minutes.
    pub fn new(url: impl Into<String>, fast: impl Into<String>, smart: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            fast: fast.into(),
            smart: smart.into(),
            api_key: None,
            timeout: Duration::from_secs(30),
            context_tokens: 8_192,
            retry_waits: [200, 1_000, 5_000].map(Duration::from_millis),
            longest_answer: Duration::from_secs(600),
        }
    }
}

/// Without the key, and without the URL, which may hold one where it was set wrongly.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("fast", &self.fast)
            .field("smart", &self.smart)
            .field("timeout", &self.timeout)
            .field("context_tokens", &self.context_tokens)
            .finish_non_exhaustive()
    }
}

/// Asks one server. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    settings: Arc<Settings>,
    http: reqwest::Client,
    endpoint: Url,
    headers: HeaderMap,
}

impl Client {
    /// A client for these settings; nothing is sent yet.
    ///
    /// # Errors
    ///
    /// A sentence that names the setting that will not do, without its value.
    pub fn new(mut settings: Settings) -> Result<Self, String> {
        let endpoint = endpoint(&settings.url)?;
        for (flag, name) in [
            ("--model-fast", &settings.fast),
            ("--model-smart", &settings.smart),
        ] {
            if name.trim().is_empty() {
                return Err(format!("{flag} must name a model"));
            }
        }
        if settings.timeout.is_zero() {
            return Err("--model-timeout must be more than 0 seconds".to_owned());
        }
        let key = settings.api_key.take().map(|key| key.trim().to_owned());
        settings.api_key = key.filter(|key| !key.is_empty());
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(key) = &settings.api_key {
            let mut bearer = HeaderValue::from_str(&format!("Bearer {key}")).map_err(|_| {
                "SWITCHBOARD_MODEL_API_KEY must hold only characters that a header may carry"
                    .to_owned()
            })?;
            bearer.set_sensitive(true);
            headers.insert(AUTHORIZATION, bearer);
        }
        let http = outbound::client(&endpoint, settings.timeout)
            .map_err(|cause| format!("no connections can be made to --model-url: {cause}"))?;
        Ok(Self {
            settings: Arc::new(settings),
            http,
            endpoint,
            headers,
        })
    }

    /// Has the model answer, and hands on what it says as it says it. Dropping the future, or the receiver of
    /// `chunks`, drops the connection at once.
    ///
    /// # Errors
    ///
    /// `model_unavailable`: refused, or still 429 or 5xx after the further tries; `model_timeout`; `model_rejected`:
    /// any other refusal; `model_broken_reply`: cut off, not to be read, or an error in its midst; `cancelled`: the
    /// receiver is gone.
    pub async fn answer(
        &self,
        question: Question,
        chunks: Sender<Chunk>,
    ) -> Result<Completion, Failure> {
        let longest = self.settings.longest_answer;
        tokio::select! {
            biased;
            outcome = timeout(longest, self.ask(question, &chunks)) => {
                outcome.unwrap_or_else(|_| Err(self.late(&format!("the answer took more than {longest:?}"))))
            }
            () = chunks.closed() => Err(self.unheard()),
        }
    }

    async fn ask(&self, question: Question, chunks: &Sender<Chunk>) -> Result<Completion, Failure> {
        let model = match question.tier {
            ModelTier::Fast => &self.settings.fast,
            ModelTier::Smart => &self.settings.smart,
        };
        let body: Arc<[u8]> = request::body(question, model, self.settings.context_tokens).into();
        let mut waits = self.settings.retry_waits.iter();
        loop {
            let response = self.send(&body).await?;
            let status = response.status();
            if status.is_success() {
                drop(body);
                return self.read(response, chunks).await;
            }
            let busy = status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error();
            let Some(wait) = waits.next().filter(|_| busy) else {
                return Err(self.refused(response, busy).await);
            };
            let wait = retry_after(response.headers()).unwrap_or(*wait);
            log::info!(
                "model: {} answered {status}; asking again in {wait:?}",
                self.endpoint
            );
            drop(response);
            sleep(wait).await;
        }
    }

    /// Sends the request and waits for the head of the reply.
    async fn send(&self, body: &Arc<[u8]>) -> Result<Response, Failure> {
        let moved = Arc::new(Notify::new());
        let request = self
            .http
            .post(self.endpoint.clone())
            .headers(self.headers.clone())
            // Without it the body would go out in chunks, which simple servers do not read.
            .header(CONTENT_LENGTH, body.len())
            .body(upload(Arc::clone(body), Arc::clone(&moved)))
            .send();
        tokio::pin!(request);
        loop {
            tokio::select! {
                biased;
                outcome = &mut request => return outcome.map_err(|error| self.not_sent(error)),
                // The connection stands and takes the request: the wait begins anew.
                () = moved.notified() => {}
                () = sleep(self.settings.timeout) => return Err(self.late("no reply")),
            }
        }
    }

    /// Reads a reply to its end and hands on what it says.
    async fn read(
        &self,
        mut response: Response,
        chunks: &Sender<Chunk>,
    ) -> Result<Completion, Failure> {
        let mut reply = Reply::default();
        let mut heard_at = Instant::now();
        loop {
            let patience = match reply.answered() {
                Some(_) => self.settings.timeout.min(END_GRACE),
                None => self.settings.timeout,
            };
            let deadline = heard_at + patience;
            let mut said = Vec::new();
            let step = match timeout_at(deadline, response.chunk()).await {
                Ok(Ok(Some(bytes))) => reply
                    .push(&bytes, &mut said)
                    .map_err(|fault| self.broken(&fault)),
                Ok(Ok(None)) => reply.end(&mut said).map_err(|fault| self.broken(&fault)),
                Ok(Err(error)) => Err(self.broken(&causes(&error.without_url()))),
                Err(_) => Err(self.late("silence amid the reply")),
            };
            for chunk in said {
                if chunks.send(chunk).await.is_err() {
                    return Err(self.unheard());
                }
            }
            match (step, reply.answered()) {
                // Whatever goes wrong once the model has ended takes nothing from its answer.
                (Err(_), Some(answered)) => return Ok(answered),
                (Err(failure), None) => return Err(failure),
                (Ok(_), Some(answered)) if reply.is_done() => return Ok(answered),
                (Ok(true), _) => heard_at = Instant::now(),
                // Signs of life that never cease would keep the timer from ever being asked.
                (Ok(false), None) if Instant::now() >= deadline => {
                    return Err(self.late("only signs of life"));
                }
                (Ok(false), Some(answered)) if Instant::now() >= deadline => return Ok(answered),
                (Ok(false), _) => {}
            }
        }
    }

    /// The request got no reply at all.
    fn not_sent(&self, error: reqwest::Error) -> Failure {
        let (timed_out, unconnected) = (error.is_timeout(), error.is_connect());
        let causes = causes(&error.without_url());
        if timed_out {
            self.late(&causes)
        } else if unconnected {
            self.unavailable(&causes)
        } else {
            self.broken(&causes)
        }
    }

    /// The reply is a refusal; `busy` ones are not the request's fault.
    async fn refused(&self, mut response: Response, busy: bool) -> Failure {
        let mut text = Vec::new();
        let read = async {
            while text.len() < REFUSAL_BYTES
                && let Ok(Some(bytes)) = response.chunk().await
            {
                text.extend_from_slice(&bytes);
            }
        };
        // Cut off or not, what came of it will do for the log.
        let _ = timeout(REFUSAL_GRACE, read).await;
        let log = format!(
            "answered {}: {}",
            response.status(),
            String::from_utf8_lossy(&text)
        );
        if busy {
            return self.unavailable(&log);
        }
        let message = "The assistant could not take this message. If that happens again, please tell an administrator.";
        self.failure("model_rejected", message, &log)
    }

    fn unavailable(&self, log: &str) -> Failure {
        let message = "The assistant could not be reached. Please try again in a moment.";
        self.failure("model_unavailable", message, log)
    }

    fn late(&self, log: &str) -> Failure {
        let message = "The assistant took too long to answer. Please try again in a moment.";
        self.failure("model_timeout", message, log)
    }

    fn broken(&self, log: &str) -> Failure {
        let message = "The assistant's answer broke off. Please try again.";
        self.failure("model_broken_reply", message, log)
    }

    fn unheard(&self) -> Failure {
        self.failure(
            "cancelled",
            "The answer was called off.",
            "nobody listens any more",
        )
    }

    fn failure(&self, code: &'static str, message: &str, log: &str) -> Failure {
        let key = self.settings.api_key.as_deref();
        Failure {
            code,
            message: message.to_owned(),
            log: format!("model: {}: {}", self.endpoint, quote(log, key)),
        }
    }
}

/// Where completions are asked for.
fn endpoint(base: &str) -> Result<Url, String> {
    let sentence = |rule: &str| format!("--model-url {rule}, such as http://127.0.0.1:11434/v1");
    let mut url = Url::parse(base.trim())
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        .ok_or_else(|| sentence("must be an http or https URL"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(sentence(
            "must hold no user name or password; set SWITCHBOARD_MODEL_API_KEY instead",
        ));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(sentence("must have neither a query nor a fragment"));
    }
    let path = format!("{}/chat/completions", url.path().trim_end_matches('/'));
    url.set_path(&path);
    Ok(url)
}

/// The body, handed over step by step; each step is told to `moved`.
fn upload(body: Arc<[u8]>, moved: Arc<Notify>) -> reqwest::Body {
    let starts = (0..body.len()).step_by(UPLOAD_STEP_BYTES);
    reqwest::Body::wrap_stream(stream::iter(starts.map(move |start| {
        moved.notify_one();
        let end = body.len().min(start + UPLOAD_STEP_BYTES);
        Ok::<_, Infallible>(body[start..end].to_vec())
    })))
}

/// The wait that a busy server asks for, in whole seconds; dates are left aside.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers
        .get(RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_RETRY_AFTER))
}

/// Text for one line of the log: short, without the key or anything that would not print.
fn quote(text: &str, key: Option<&str>) -> String {
    let text = key.map_or_else(|| text.to_owned(), |key| text.replace(key, "[key]"));
    let mut quoted = String::new();
    for character in text.trim().chars().take(QUOTE_CHARACTERS) {
        match character {
            '"' | '\'' => quoted.push(character),
            other => quoted.extend(other.escape_debug()),
        }
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_that_will_not_do_is_named_without_its_value() {
        let refusal = |change: fn(&mut Settings)| {
            let mut settings = Settings::new("http://127.0.0.1:1/v1", "small", "large");
            change(&mut settings);
            Client::new(settings).err().unwrap_or_default()
        };
        let url_refusal = |url: &str| {
            let refusal = Client::new(Settings::new(url, "small", "large"))
                .err()
                .unwrap_or_default();
            assert!(!refusal.contains("hush"), "{refusal}");
            refusal
        };
        assert_eq!(refusal(|_| {}), "");
        assert!(refusal(|settings| settings.fast = " ".to_owned()).contains("--model-fast"));
        assert!(refusal(|settings| settings.smart.clear()).contains("--model-smart"));
        assert!(refusal(|settings| settings.timeout = Duration::ZERO).contains("--model-timeout"));
        let key = refusal(|settings| settings.api_key = Some("hush\u{7f}".to_owned()));
        assert!(
            key.contains("SWITCHBOARD_MODEL_API_KEY") && !key.contains("hush"),
            "{key}"
        );
        for url in [
            "",
            "hush",
            "ftp://hush/v1",
            "http://",
            "http://u:hush@h/v1",
            "http://h/v1?key=hush",
            "http://h/#hush",
        ] {
            assert!(url_refusal(url).contains("--model-url"), "{url}");
        }
    }

    #[test]
    fn the_endpoint_lies_under_the_base_url_with_or_without_a_last_slash() {
        for base in ["http://h:1/v1", "http://h:1/v1/", " http://h:1/v1//"] {
            assert_eq!(
                endpoint(base).unwrap().as_str(),
                "http://h:1/v1/chat/completions"
            );
        }
    }

    #[test]
    fn settings_print_no_key() {
        let mut settings = Settings::new("http://hush@h", "small", "large");
        settings.api_key = Some("hush".to_owned());
        assert!(!format!("{settings:?}").contains("hush"));
    }

    #[test]
    fn a_wait_that_the_server_asks_for_is_kept_up_to_ten_seconds() {
        let wait = |value: &'static str| {
            retry_after(&HeaderMap::from_iter([(
                RETRY_AFTER,
                HeaderValue::from_static(value),
            )]))
        };
        assert_eq!(wait("0"), Some(Duration::ZERO));
        assert_eq!(wait(" 7 "), Some(Duration::from_secs(7)));
        assert_eq!(wait("99999"), Some(Duration::from_secs(10)));
        for unread in ["-1", "1.5", "Wed, 21 Oct 2026 07:28:00 GMT", ""] {
            assert_eq!(wait(unread), None, "{unread}");
        }
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }

    #[test]
    fn a_quote_is_one_short_line_without_the_key() {
        assert_eq!(
            quote(" a\r\n\u{1b}[31m\u{2028}\"ä\" ", None),
            "a\\r\\n\\u{1b}[31m\\u{2028}\"ä\""
        );
        assert_eq!(
            quote("bad key hush-hush!", Some("hush-hush")),
            "bad key [key]!"
        );
        assert_eq!(quote(&"x".repeat(9_999), None).len(), QUOTE_CHARACTERS);
        assert!(
            !quote(&format!("{}hush-hush", "x".repeat(195)), Some("hush-hush")).contains("hush")
        );
    }
}
