//! A client for OpenAI-compatible servers: requests a streamed chat completion, and tolerates the
//! deviations that such servers show.

mod adapt;
mod context;
mod encoding;
mod failure;
mod incoming;
mod learned;
mod lenient;
mod limit;
mod refusal;
pub mod reply;
mod request;
mod settings;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream;
use reqwest::header::{CONTENT_LENGTH, HeaderMap, RETRY_AFTER};
use reqwest::{Response, Url};
use tokio::sync::Notify;
use tokio::sync::mpsc::Sender;
use tokio::time::{Instant, sleep, timeout};

use self::adapt::{Adapter, Part};
use self::encoding::Decoder;
use self::incoming::{Incoming, Rest, Step, Waiting};
use self::learned::{Learned, Patience, Traits};
use self::refusal::Refusal;
pub use self::settings::Settings;
use super::reasoning::{Beginning, Marks};
use super::responder::{Completion, Prompt, ResponderError};
use crate::model::answer::Chunk;
use crate::model::ids::SessionId;
use crate::model::words::ModelTier;
use crate::outbound;
use crate::store::reasoning::ModelName;

/// The longest `Retry-After` that is obeyed. A longer one is cut to it.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(10);

/// The timeout for the body of an error reply. It is short because the user waits, and most refusals
/// are understood without their body.
const ERROR_BODY_TIMEOUT: Duration = Duration::from_secs(2);

/// How much of an error reply's body is read, in bytes.
const MAX_ERROR_BODY_BYTES: usize = 16 << 10;

/// The size of a piece of the request body, in bytes. Each piece that the connection takes resets
/// the timeout.
const UPLOAD_STEP_BYTES: usize = 64 << 10;

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
    pub fn new(settings: Settings) -> Result<Self, String> {
        let endpoint = settings::endpoint(&settings.url)?;
        for (flag, name) in [
            ("--model-fast", &settings.fast),
            ("--model-smart", &settings.smart),
        ] {
            if name.trim().is_empty() {
                return Err(format!("{flag} must name a model"));
            }
        }
        for (flag, timeout) in [
            ("--model-timeout", settings.timeout),
            ("--model-first-byte-timeout", settings.first_byte_timeout),
        ] {
            if timeout.is_zero() {
                return Err(format!("{flag} must be more than 0 seconds"));
            }
        }
        let headers = settings::headers(&endpoint, settings.key())?;
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

    /// Requests an answer of a model with these marks and sends its chunks as they arrive. At the
    /// end, calls `learn` with what the answer shows about the model's thoughts. Dropping the
    /// future or the receiver of `chunks` closes the connection at once.
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
        learn: &(dyn Fn(Beginning) + Sync),
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
        learn: &(dyn Fn(Beginning) + Sync),
    ) -> Result<Completion, ResponderError> {
        let model = self.model(prompt.tier);
        let mut delays = self.settings.retry_delays.iter();
        let traits = self.learned.of(model);
        let mut adapter = Adapter::new(&prompt, &traits, self.settings.context_tokens);
        loop {
            let omitted = adapter.omitted();
            let first = adapter.first_message();
            let body = request::body(&prompt, model, first, omitted);
            let response = self.send(&body.into()).await?;
            if response.status().is_success() {
                self.remember(model, &adapter, prompt.session);
                let hides_images = omitted.has(Part::Images) && prompt.asks_about_images();
                drop(prompt);
                let completion = self
                    .read_answer(response, model, marks, chunks, learn)
                    .await?;
                return Ok(Completion {
                    hides_images,
                    ..completion
                });
            }
            let delay = retry_after(response.headers());
            let refusal = refusal(response).await;
            if adapter.adapt(&refusal) {
                log::info!(
                    "model: {}: {}; asking again without {:?} and the {} oldest messages",
                    self.endpoint,
                    self.quote(&failure::refusal_line(&refusal)),
                    adapter.omitted().iter().collect::<Vec<_>>(),
                    adapter.first_message()
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
    fn remember(&self, model: &str, adapter: &Adapter, session: SessionId) {
        let now = Instant::now();
        if adapter.sends_images() {
            self.learned.change(model, Traits::trust_images);
        }
        if let Some(tokens) = adapter.learned_tokens() {
            self.learned
                .change(model, |traits| traits.bound_context(tokens, now));
            log::warn!(
                "model: {model} of {} refused a prompt as too long: prompts have up to {tokens} tokens for an hour; set --model-context-tokens to the model's context",
                self.endpoint
            );
        }
        for part in adapter.learned() {
            let is_new = self.learned.change(model, |traits| {
                let is_proven = adapter.is_certain(part) || traits.doubt_images(session, now);
                is_proven && traits.omit(part, now)
            });
            if is_new {
                log::warn!(
                    "model: {model} of {} does not take {}",
                    self.endpoint,
                    part.consequence()
                );
            }
        }
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
                () = sleep(self.settings.first_byte_timeout) => return Err(self.timed_out("no reply")),
            }
        }
    }

    /// Reads an answer to its end, sends the text that was held back, and learns how the model's
    /// answers end.
    async fn read_answer(
        &self,
        response: Response,
        model: &str,
        marks: Marks,
        chunks: &Sender<Chunk>,
        learn: &(dyn Fn(Beginning) + Sync),
    ) -> Result<Completion, ResponderError> {
        let mut incoming =
            Incoming::new(response, marks).map_err(|fault| self.broken_reply(&fault))?;
        let patience = self.learned.of(model).patience(Instant::now());
        let outcome = self.read(&mut incoming, patience, chunks).await;
        let mut held = Vec::new();
        let reason = outcome
            .as_ref()
            .ok()
            .map(|end| end.completion.finish_reason);
        incoming.reply.finish(reason, &mut held);
        if let Some(beginning) = incoming.reply.shows(reason) {
            learn(beginning);
        }
        self.send_all(held, chunks).await?;
        let end = outcome?;
        self.learn_end(model, incoming, end, patience);
        Ok(end.completion)
    }

    /// Reads a reply to the end of its answer and sends its chunks.
    async fn read(
        &self,
        incoming: &mut Incoming,
        patience: Patience,
        chunks: &Sender<Chunk>,
    ) -> Result<AnswerEnd, ResponderError> {
        let (first, silence) = (self.settings.first_byte_timeout, self.settings.timeout);
        let mut waiting = Waiting::new(first, silence, Instant::now());
        loop {
            let mut new_chunks = Vec::new();
            let step = incoming.next(waiting.deadline(), &mut new_chunks).await;
            let reply = &incoming.reply;
            self.send_all(new_chunks, chunks).await?;
            let completion = reply.completion();
            let ended = |completion, is_silent| {
                Ok(AnswerEnd {
                    completion,
                    is_silent,
                })
            };
            match (step, completion) {
                (Step::Piece(_) | Step::End, Some(completion)) if reply.is_done() => {
                    return ended(completion, false);
                }
                (Step::Piece(progress), completion) => {
                    // These events take no memory, but they would keep a slot busy until the
                    // answer's timeout.
                    if completion.is_none() && reply.is_noise() {
                        return Err(self.timed_out("only keep-alives"));
                    }
                    waiting.after_end = patience.limit(silence, reply.has_text());
                    waiting.note(progress, completion.is_some(), Instant::now());
                    // A server that sends keep-alives without a pause is never silent.
                    if Instant::now() >= waiting.deadline() {
                        return match completion {
                            Some(completion) => ended(completion, true),
                            None => Err(self.timed_out("only keep-alives")),
                        };
                    }
                }
                (Step::Silence, Some(completion)) => return ended(completion, true),
                (Step::Silence, None) => return Err(self.timed_out("the reply stalled")),
                // An error after the finish reason does not spoil a complete answer.
                (Step::Fault(_), Some(completion)) if !reply.has_resumed() => {
                    return ended(completion, false);
                }
                (Step::Fault(fault), _) => return Err(self.broken_reply(&fault)),
                (Step::End, _) => return Err(self.broken_reply("the reply was cut off")),
            }
        }
    }

    /// Learns from the end of an answer whether the model's answers end with their finish reason.
    fn learn_end(&self, model: &str, incoming: Incoming, end: AnswerEnd, patience: Patience) {
        let reply = &incoming.reply;
        let (resumes, counts) = (reply.has_resumed(), end.is_silent && reply.has_text());
        if !resumes && !counts {
            return;
        }
        let change = |traits: &mut Traits| traits.note_end(resumes, patience, Instant::now());
        if !self.learned.change(model, change) {
            return;
        }
        // The answer may have been cut. The user does not wait, but later answers profit.
        let deadline = Instant::now() + Patience::Long.limit(self.settings.timeout, true);
        let (learned, model) = (Arc::clone(&self.learned), model.to_owned());
        let endpoint = self.endpoint.clone();
        tokio::spawn(async move {
            let rest = incoming.rest(deadline).await;
            learned.change(&model, |traits| traits.note_rest(rest));
            if rest == Rest::Text {
                log::warn!(
                    "model: {model} of {endpoint} sent more text after the finish reason of an answer, which was cut there; later answers wait for it"
                );
            }
        });
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

/// How an answer ended.
#[derive(Clone, Copy)]
struct AnswerEnd {
    completion: Completion,
    /// Whether the server only fell silent after the finish reason.
    is_silent: bool,
}

/// Reads a reply with an error status. What has arrived in time counts, complete or not.
async fn refusal(mut response: Response) -> Refusal {
    let mut text = Vec::new();
    let decoder = Decoder::new(response.headers());
    let read = async {
        let Ok(mut decoder) = decoder else { return };
        while text.len() < MAX_ERROR_BODY_BYTES
            && let Ok(Some(bytes)) = response.chunk().await
        {
            let decoded = decoder.push(&bytes, |bytes| {
                text.extend_from_slice(bytes);
                text.len() < MAX_ERROR_BODY_BYTES
            });
            if decoded.is_err() {
                return;
            }
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
    use reqwest::header::HeaderValue;

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
