//! The settings of a client: where the model server is, and what a request to it carries.

use std::fmt;
use std::time::Duration;

use reqwest::Url;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

use crate::turns::reasoning::Marks;

/// The end of the path of an endpoint.
const CHAT_COMPLETIONS: &str = "/chat/completions";

/// The parameter of the query in Azure's addresses.
const API_VERSION: &str = "api-version";

/// The header that has the key at Azure.
const API_KEY: HeaderName = HeaderName::from_static("api-key");

/// The settings of a [`Client`](super::Client).
#[derive(Clone)]
pub struct Settings {
    /// The base URL, such as `http://127.0.0.1:11434/v1`.
    pub url: String,
    /// The name of the model that answers `FAST` turns.
    pub fast: String,
    /// The name of the model that answers `SMART` turns.
    pub smart: String,
    /// The API key. `None` or blank for a server that needs none.
    pub api_key: Option<String>,
    /// The timeout of the connect, and of every pause in the reply.
    pub timeout: Duration,
    /// The timeout of the wait for the first piece of the reply.
    pub first_byte_timeout: Duration,
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
    /// The defaults: no key, timeouts of 30 s and, for the first piece, 120 s, 8,192 tokens, retries
    /// after 0.2, 1 and 5 s, and 10 minutes for an answer.
    pub fn new(url: impl Into<String>, fast: impl Into<String>, smart: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            fast: fast.into(),
            smart: smart.into(),
            api_key: None,
            timeout: Duration::from_secs(30),
            first_byte_timeout: Duration::from_secs(120),
            context_tokens: 8_192,
            marks: None,
            retry_delays: [200, 1_000, 5_000].map(Duration::from_millis),
            answer_timeout: Duration::from_secs(600),
        }
    }

    /// The API key without white space around it, unless it is blank.
    pub(super) fn key(&self) -> Option<&str> {
        let key = self.api_key.as_deref().map(str::trim);
        key.filter(|key| !key.is_empty())
    }
}

/// Leaves out the key, and the URL, which contains a key if an operator put one there by mistake.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("fast", &self.fast)
            .field("smart", &self.smart)
            .field("timeout", &self.timeout)
            .field("first_byte_timeout", &self.first_byte_timeout)
            .field("context_tokens", &self.context_tokens)
            .finish_non_exhaustive()
    }
}

/// The URL of the chat completions.
///
/// # Errors
/// A sentence for the operator, without the URL.
pub(super) fn endpoint(base: &str) -> Result<Url, String> {
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
    if url.fragment().is_some() {
        return Err(sentence("must not contain a fragment"));
    }
    // Log lines show the URL, so that no other parameter, which could be a key, may be in it.
    if url.query_pairs().any(|(name, _)| name != API_VERSION) {
        return Err(sentence(
            "must not contain a query, except api-version; set SWITCHBOARD_MODEL_API_KEY for a key",
        ));
    }
    let path = url.path().trim_end_matches('/');
    let path = path.strip_suffix(CHAT_COMPLETIONS).unwrap_or(path);
    let path = format!("{}{CHAT_COMPLETIONS}", path.trim_end_matches('/'));
    url.set_path(&path);
    Ok(url)
}

/// Whether an endpoint is of Azure's classic kind, which takes a key in a header of its own.
fn is_azure(endpoint: &Url) -> bool {
    endpoint.path().contains("/openai/deployments/")
        || endpoint.query_pairs().any(|(name, _)| name == API_VERSION)
}

/// The headers of each request.
///
/// # Errors
/// A sentence for the operator, without the key.
pub(super) fn headers(endpoint: &Url, key: Option<&str>) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(key) = key {
        let (name, value) = if is_azure(endpoint) {
            (API_KEY, key.to_owned())
        } else {
            (AUTHORIZATION, format!("Bearer {key}"))
        };
        let mut value = HeaderValue::from_str(&value).map_err(|_| {
            "SWITCHBOARD_MODEL_API_KEY, or the file that has the key, must contain only characters that an HTTP header allows"
                .to_owned()
        })?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_endpoint_is_below_the_base_url_with_or_without_a_trailing_slash() {
        for base in [
            "http://h:1/v1",
            "http://h:1/v1/",
            " http://h:1/v1//",
            "http://h:1/v1/chat/completions",
            "http://h:1/v1/chat/completions/",
            "http://h:1/v1?",
        ] {
            let endpoint = endpoint(base).unwrap();
            assert_eq!(
                endpoint.as_str().trim_end_matches('?'),
                "http://h:1/v1/chat/completions"
            );
            assert!(headers(&endpoint, Some("k")).unwrap()[AUTHORIZATION] == "Bearer k");
        }
    }

    #[test]
    fn azures_classic_address_keeps_its_query_and_gets_the_key_in_its_own_header() {
        let deployment = "https://r.openai.azure.com/openai/deployments/gpt";
        for path in ["", "/", "/chat/completions"] {
            let endpoint = endpoint(&format!("{deployment}{path}?api-version=2024-10-21")).unwrap();
            assert_eq!(
                endpoint.as_str(),
                format!("{deployment}/chat/completions?api-version=2024-10-21")
            );
            let headers = headers(&endpoint, Some("k")).unwrap();
            assert_eq!(headers["api-key"], "k");
            assert!(headers["api-key"].is_sensitive());
            assert!(headers.get(AUTHORIZATION).is_none());
        }
        let with_another = format!("{deployment}?api-version=1&code=hush");
        assert!(!endpoint(&with_another).unwrap_err().contains("hush"));
    }

    #[test]
    fn settings_print_no_key() {
        let mut settings = Settings::new("http://hush@h", "small", "large");
        settings.api_key = Some("hush".to_owned());
        assert!(!format!("{settings:?}").contains("hush"));
    }
}
