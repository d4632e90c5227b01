//! A client for OpenAI-compatible servers: requests a streamed chat completion, and tolerates the
//! deviations that such servers show.

mod adapt;
mod failure;
mod learned;
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
use reqwest::{Response, Url};
use tokio::sync::Notify;
use tokio::sync::mpsc::Sender;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use self::adapt::{Adapter, Part, Refusal};
use self::learned::Learned;
use self::reply::Reply;
use super::reasoning::Marks;
use super::responder::{Completion, Prompt, ResponderError};
use crate::model::answer::Chunk;
use crate::model::words::ModelTier;
use crate::outbound::{self, causes};
use crate::store::reasoning::ModelName;

/// The longest `Retry-After` that is obeyed. A longer one is cut to it.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(10);

/// The timeout for usage and `[DONE]` after the finish reason. It is short because the user waits
/// too.
const END_TIMEOUT: Duration = Duration::from_secs(2);

/// The timeout for the body of an error reply. It is short because the user waits, and most refusals
/// are understood without their body.
const ERROR_BODY_TIMEOUT: Duration = Duration::from_secs(2);

/// How much of an error reply's body is read, in bytes.
const MAX_ERROR_BODY_BYTES: usize = 16 << 10;

/// The size of a piece of the request body, in bytes. Each piece that the connection takes resets
/// the timeout.
const UPLOAD_STEP_BYTES: usize = 64 << 10;

/// The settings of a [`Client`].
#[derive(Clone)]
pub struct Settings {
    /// The base URL, such as `http://127.0.0.1:11434/v1`.
    pub url: String,
    /// The name of the model that answers `FAST` turns.
    pub fast: String,
    /// The name of the model that answers `SMART` turns.
    pub smart: String,
    /// The API key, sent as a bearer token. `None` or blank for a server that needs none.
    pub api_key: Option<String>,
    /// The timeout of each phase: the connect, the wait for the reply, and every pause in the
    /// reply.
    pub timeout: Duration,
    /// The model's context in tokens. The history is cut to fit it.
    pub context_tokens: usize,
    /// How the models mark their thoughts. `None` if the server learns it from the first answers.
    pub marks: Option<Marks>,
    /// The delays before the first, second and third retry after a 429 or 5xx.
    pub retry_delays: [Duration; 3],
    /// The timeout of a whole answer, retries included.
    pub answer_timeout: Duration,
}

impl Settings {
    /// The defaults: no key, a timeout of 30 s, 8,192 tokens, retries after 0.2, 1 and 5 s, and 10
    /// minutes for an answer.
    pub fn new(url: impl Into<String>, fast: impl Into<String>, smart: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            fast: fast.into(),
            smart: smart.into(),
            api_key: None,
            timeout: Duration::from_secs(30),
            context_tokens: 8_192,
            marks: None,
            retry_delays: [200, 1_000, 5_000].map(Duration::from_millis),
            answer_timeout: Duration::from_secs(600),
        }
    }
}

/// Leaves out the key, and the URL, which contains a key if an operator put one there by mistake.
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

/// A client of one server. Clones are cheap.
#[derive(Clone)]
pub struct Client {
    settings: Arc<Settings>,
    http: reqwest::Client,
    endpoint: Url,
    headers: HeaderMap,
    learned: Arc<Learned>,
}

impl Client {
    /// Checks the settings and creates a client. It sends nothing yet.
    ///
    /// # Errors
    /// A sentence for the operator that names the invalid setting, without its value.
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
                "SWITCHBOARD_MODEL_API_KEY must contain only characters that an HTTP header allows"
                    .to_owned()
            })?;
            bearer.set_sensitive(true);
            headers.insert(AUTHORIZATION, bearer);
        }
        let http = outbound::client(&endpoint, settings.timeout)
            .map_err(|cause| format!("cannot create an HTTP client for --model-url: {cause}"))?;
        Ok(Self {
            settings: Arc::new(settings),
            http,
            endpoint,
            headers,
            learned: Arc::default(),
        })
    }

    /// How the models mark their thoughts, if the operator says it.
    pub fn marks(&self) -> Option<Marks> {
        self.settings.marks
    }

    /// The model of a tier.
    pub fn name(&self, tier: ModelTier) -> ModelName {
        ModelName {
            endpoint: self.endpoint.to_string(),
            model: self.model(tier).to_owned(),
        }
    }

    fn model(&self, tier: ModelTier) -> &str {
        match tier {
            ModelTier::Fast => &self.settings.fast,
            ModelTier::Smart => &self.settings.smart,
        }
    }

    /// Requests an answer of a model with these marks and sends its chunks as they arrive. Calls
    /// `learn` once it is certain that the model's answers begin within a thought. Dropping the future or the receiver
    /// of `chunks` closes the connection at once.
    ///
    /// # Errors
    /// * `model_unavailable`: the connect failed, or the reply is still 429 or 5xx after the
    ///   retries.
    /// * `model_timeout`: the server is too slow.
    /// * `model_content_filtered`: a content filter refused the prompt.
    /// * `model_rejected`: any other error status, also without the parts of the request that
    ///   servers may not take.
    /// * `model_broken_reply`: the reply is cut off, cannot be parsed, or contains an error.
    /// * `cancelled`: the receiver was dropped.
    pub async fn answer(
        &self,
        prompt: Prompt,
        marks: Marks,
        chunks: Sender<Chunk>,
        learn: &(dyn Fn() + Sync),
    ) -> Result<Completion, ResponderError> {
        let limit = self.settings.answer_timeout;
        tokio::select! {
            biased;
            outcome = timeout(limit, self.answer_with_retries(prompt, marks, &chunks, learn)) => {
                outcome.unwrap_or_else(|_| Err(self.timed_out(&format!("the answer took more than {limit:?}"))))
            }
            () = chunks.closed() => Err(self.cancelled()),
        }
    }

    async fn answer_with_retries(
        &self,
        prompt: Prompt,
        marks: Marks,
        chunks: &Sender<Chunk>,
        learn: &(dyn Fn() + Sync),
    ) -> Result<Completion, ResponderError> {
        let model = self.model(prompt.tier);
        let mut delays = self.settings.retry_delays.iter();
        let omitted = self.learned.of(model).omitted(Instant::now());
        let mut adapter = Adapter::new(&prompt, omitted);
        loop {
            let omitted = adapter.omitted();
            let body = request::body(&prompt, model, self.settings.context_tokens, omitted);
            let response = self.send(&body.into()).await?;
            if response.status().is_success() {
                self.remember(model, &adapter);
                let hides_images = omitted.has(Part::Images) && prompt.asks_about_images();
                drop(prompt);
                let completion = self.read_answer(response, marks, chunks, learn).await?;
                return Ok(Completion {
                    hides_images,
                    ..completion
                });
            }
            let delay = retry_after(response.headers());
            let refusal = refusal(response).await;
            if adapter.adapt(&refusal) {
                log::info!(
                    "model: {}: {}; asking again without {:?}",
                    self.endpoint,
                    self.quote(&failure::refusal_line(&refusal)),
                    adapter.omitted().iter().collect::<Vec<_>>()
                );
                continue;
            }
            let Some(next_delay) = delays.next().filter(|_| refusal.is_temporary()) else {
                return Err(self.refused(&refusal));
            };
            let delay = delay.unwrap_or(*next_delay);
            log::info!(
                "model: {} answered {}; retrying in {delay:?}",
                self.endpoint,
                refusal.status
            );
            sleep(delay).await;
        }
    }

    /// Keeps what made a request succeed for the model's later requests.
    fn remember(&self, model: &str, adapter: &Adapter) {
        for part in adapter.learned() {
            let is_new = self
                .learned
                .change(model, |traits| traits.omit(part, Instant::now()));
            if is_new {
                log::warn!(
                    "model: {model} of {} does not take {}",
                    self.endpoint,
                    part.consequence()
                );
            }
        }
    }

    /// Reads an answer to its end, and sends the text that was held back.
    async fn read_answer(
        &self,
        response: Response,
        marks: Marks,
        chunks: &Sender<Chunk>,
        learn: &(dyn Fn() + Sync),
    ) -> Result<Completion, ResponderError> {
        let mut reply = Reply::new(marks);
        let outcome = self.read(response, &mut reply, chunks, learn).await;
        let mut held = Vec::new();
        let reason = outcome.as_ref().ok().map(|end| end.finish_reason);
        reply.finish(reason, &mut held);
        self.send_all(held, chunks).await?;
        outcome
    }

    /// Sends the request and waits for the status and headers of the reply.
    async fn send(&self, body: &Arc<[u8]>) -> Result<Response, ResponderError> {
        let progress = Arc::new(Notify::new());
        let request = self
            .http
            .post(self.endpoint.clone())
            .headers(self.headers.clone())
            // Without it the request uses chunked transfer coding, which simple servers do not
            // support.
            .header(CONTENT_LENGTH, body.len())
            .body(upload(Arc::clone(body), Arc::clone(&progress)))
            .send();
        tokio::pin!(request);
        loop {
            tokio::select! {
                biased;
                outcome = &mut request => return outcome.map_err(|error| self.no_reply(error)),
                // The connection still takes the request, so the timeout starts again.
                () = progress.notified() => {}
                () = sleep(self.settings.timeout) => return Err(self.timed_out("no reply")),
            }
        }
    }

    /// Reads a reply to its end and sends its chunks.
    async fn read(
        &self,
        mut response: Response,
        reply: &mut Reply,
        chunks: &Sender<Chunk>,
        learn: &(dyn Fn() + Sync),
    ) -> Result<Completion, ResponderError> {
        let mut last_content_at = Instant::now();
        loop {
            let idle_timeout = match reply.completion() {
                Some(_) => self.settings.timeout.min(END_TIMEOUT),
                None => self.settings.timeout,
            };
            let deadline = last_content_at + idle_timeout;
            let mut new_chunks = Vec::new();
            let had_learned = reply.has_learned();
            let step = match timeout_at(deadline, response.chunk()).await {
                Ok(Ok(Some(bytes))) => reply
                    .push(&bytes, &mut new_chunks)
                    .map_err(|fault| self.broken_reply(&fault)),
                Ok(Ok(None)) => reply
                    .end(&mut new_chunks)
                    .map_err(|fault| self.broken_reply(&fault)),
                Ok(Err(error)) => Err(self.broken_reply(&causes(&error.without_url()))),
                Err(_) => Err(self.timed_out("the reply stalled")),
            };
            if reply.has_learned() && !had_learned {
                learn();
            }
            self.send_all(new_chunks, chunks).await?;
            // These events take no memory, but they would keep a slot busy until the answer's
            // timeout.
            if step.is_ok() && reply.completion().is_none() && reply.is_noise() {
                return Err(self.timed_out("only keep-alives"));
            }
            match (step, reply.completion()) {
                // An error after the finish reason does not spoil a complete answer.
                (Err(_), Some(completion)) => return Ok(completion),
                (Err(error), None) => return Err(error),
                (Ok(_), Some(completion)) if reply.is_done() => return Ok(completion),
                (Ok(true), _) => last_content_at = Instant::now(),
                // A server that sends keep-alives without a pause never lets `timeout_at` expire.
                (Ok(false), None) if Instant::now() >= deadline => {
                    return Err(self.timed_out("only keep-alives"));
                }
                (Ok(false), Some(completion)) if Instant::now() >= deadline => {
                    return Ok(completion);
                }
                (Ok(false), _) => {}
            }
        }
    }

    async fn send_all(
        &self,
        new: Vec<Chunk>,
        chunks: &Sender<Chunk>,
    ) -> Result<(), ResponderError> {
        for chunk in new {
            if chunks.send(chunk).await.is_err() {
                return Err(self.cancelled());
            }
        }
        Ok(())
    }
}

/// The URL of the chat completions.
fn endpoint(base: &str) -> Result<Url, String> {
    let sentence = |rule: &str| format!("--model-url {rule}, such as http://127.0.0.1:11434/v1");
    let mut url = Url::parse(base.trim())
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        .ok_or_else(|| sentence("must be an http or https URL"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(sentence(
            "must not contain a user name or password; set SWITCHBOARD_MODEL_API_KEY instead",
        ));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(sentence("must not contain a query or fragment"));
    }
    let path = format!("{}/chat/completions", url.path().trim_end_matches('/'));
    url.set_path(&path);
    Ok(url)
}

/// Reads a reply with an error status. What has arrived in time counts, complete or not.
async fn refusal(mut response: Response) -> Refusal {
    let mut text = Vec::new();
    let read = async {
        while text.len() < MAX_ERROR_BODY_BYTES
            && let Ok(Some(bytes)) = response.chunk().await
        {
            text.extend_from_slice(&bytes);
        }
    };
    let _ = timeout(ERROR_BODY_TIMEOUT, read).await;
    let status = response.status();
    Refusal::new(status, String::from_utf8_lossy(&text).into_owned())
}

/// A request body in small pieces. Each piece that the connection takes notifies `progress`.
fn upload(body: Arc<[u8]>, progress: Arc<Notify>) -> reqwest::Body {
    let starts = (0..body.len()).step_by(UPLOAD_STEP_BYTES);
    reqwest::Body::wrap_stream(stream::iter(starts.map(move |start| {
        progress.notify_one();
        let end = body.len().min(start + UPLOAD_STEP_BYTES);
        Ok::<_, Infallible>(body[start..end].to_vec())
    })))
}

/// The delay of a `Retry-After` header in seconds. A date is ignored.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers
        .get(RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()?;
    Some(Duration::from_secs(seconds).min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_setting_is_named_without_its_value() {
        let error_of = |change: fn(&mut Settings)| {
            let mut settings = Settings::new("http://127.0.0.1:1/v1", "small", "large");
            change(&mut settings);
            Client::new(settings).err().unwrap_or_default()
        };
        let error_of_url = |url: &str| {
            let error = Client::new(Settings::new(url, "small", "large"))
                .err()
                .unwrap_or_default();
            assert!(!error.contains("hush"), "{error}");
            error
        };
        assert_eq!(error_of(|_| {}), "");
        assert!(error_of(|settings| settings.fast = " ".to_owned()).contains("--model-fast"));
        assert!(error_of(|settings| settings.smart.clear()).contains("--model-smart"));
        assert!(error_of(|settings| settings.timeout = Duration::ZERO).contains("--model-timeout"));
        let key = error_of(|settings| settings.api_key = Some("hush\u{7f}".to_owned()));
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
            assert!(error_of_url(url).contains("--model-url"), "{url}");
        }
    }

    #[test]
    fn the_endpoint_is_below_the_base_url_with_or_without_a_trailing_slash() {
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
    fn a_retry_after_header_is_obeyed_up_to_ten_seconds() {
        let delay = |value: &'static str| {
            retry_after(&HeaderMap::from_iter([(
                RETRY_AFTER,
                HeaderValue::from_static(value),
            )]))
        };
        assert_eq!(delay("0"), Some(Duration::ZERO));
        assert_eq!(delay(" 7 "), Some(Duration::from_secs(7)));
        assert_eq!(delay("99999"), Some(Duration::from_secs(10)));
        for ignored in ["-1", "1.5", "Wed, 21 Oct 2026 07:28:00 GMT", ""] {
            assert_eq!(delay(ignored), None, "{ignored}");
        }
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }
}
