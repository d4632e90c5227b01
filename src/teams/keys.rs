//! The Bot Framework's signing keys: kept for a day, fetched again for a key that is unknown.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::Url;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::auth::jwk::{Jwk, PublicKey};
use crate::model::clock::Millis;
use crate::outbound;

/// The timeout of a fetch of both documents.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a token of a known key waits for newer keys. The known key counts after that.
const REFRESH_TIMEOUT: Duration = Duration::from_secs(1);
/// The timeout of a connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);
/// The age at which keys are fetched again, in milliseconds.
const MAX_AGE: Millis = 24 * 60 * 60 * 1_000;
/// The least time between two fetches for unknown keys, and between two for keys that are too old,
/// in milliseconds.
const REPEAT_INTERVAL: Millis = 60_000;
/// The least time between two fetches while no key was ever loaded, in milliseconds.
const LOAD_INTERVAL: Millis = 5_000;

/// A signing key.
#[derive(Debug)]
pub(super) struct Key {
    public: PublicKey,
    /// The ids of the channels whose activities the key may sign.
    endorsements: Vec<String>,
}

impl Key {
    /// Whether a signature over text is valid under this key.
    pub(super) fn verifies(&self, text: &str, signature: &[u8]) -> bool {
        self.public.verifies(text, signature)
    }

    /// Whether the key may sign activities of this channel.
    pub(super) fn endorses(&self, channel: &str) -> bool {
        self.endorsements.iter().any(|endorsed| endorsed == channel)
    }
}

/// Keys by `kid`. A set may contain several keys with one `kid`.
pub(super) type KeySet = HashMap<String, Vec<Arc<Key>>>;

#[derive(Debug, Default)]
struct State {
    keys: Arc<KeySet>,
    /// When the keys were loaded.
    loaded_at: Option<Millis>,
    /// The start of the last fetch, successful or not.
    fetched_at: Option<Millis>,
    /// The start of the last fetch for an unknown `kid`.
    fetched_for_key_at: Option<Millis>,
    is_fetching: bool,
}

/// The keys, and how they are fetched. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct Keys(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    client: reqwest::Client,
    document: Url,
    state: Mutex<State>,
    /// Notifies waiters when a fetch has ended.
    fetch_ended: watch::Sender<()>,
}

impl Keys {
    /// Prepares the fetches. Nothing is fetched yet.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub(super) fn new(document: &str) -> Result<Self, String> {
        let document = Url::parse(document)
            .map_err(|error| format!("--teams-openid-url is no URL: {error}"))?;
        let client = outbound::client(&document, CONNECT_TIMEOUT).map_err(|cause| {
            format!("cannot create an HTTP client for --teams-openid-url: {cause}")
        })?;
        Ok(Self(Arc::new(Inner {
            client,
            document,
            state: Mutex::default(),
            fetch_ended: watch::Sender::new(()),
        })))
    }

    /// Starts to load the keys, so that the first token need not wait.
    pub(super) fn prepare(&self, now: Millis) {
        let mut state = self.0.lock();
        if !state.is_fetching {
            state.is_fetching = true;
            state.fetched_at = Some(now);
            self.start();
        }
    }

    /// The keys with this id. Fetches the key set first if it is too old, or if it lacks the id.
    pub(super) async fn named(&self, kid: &str, now: Millis) -> Vec<Arc<Key>> {
        let mut fetch_ended = self.0.fetch_ended.subscribe();
        let (found, waits) = {
            let mut state = self.0.lock();
            let found = state.keys.get(kid).cloned().unwrap_or_default();
            let is_known = !found.is_empty();
            let fetches = state.needs_fetch(is_known, now);
            if fetches && !state.is_fetching {
                state.is_fetching = true;
                state.fetched_at = Some(now);
                if !is_known && state.loaded_at.is_some() {
                    state.fetched_for_key_at = Some(now);
                }
                self.start();
            }
            let is_running = state.is_fetching;
            // A known key waits only for the fetch that it has started: a fetch that hangs holds up
            // nobody else.
            (found, is_running && (fetches || !is_known))
        };
        if !waits {
            return found;
        }
        let limit = match found.is_empty() {
            true => FETCH_TIMEOUT,
            false => REFRESH_TIMEOUT,
        };
        match timeout(limit, fetch_ended.changed()).await {
            Err(_) => found,
            Ok(_) => {
                let state = self.0.lock();
                state.keys.get(kid).cloned().unwrap_or_default()
            }
        }
    }

    /// Fetches in a task of its own: if the client of this request hangs up, others still wait.
    fn start(&self) {
        let fetch = Fetch(Arc::clone(&self.0));
        tokio::spawn(async move { fetch.run().await });
    }
}

impl State {
    fn needs_fetch(&self, is_known: bool, now: Millis) -> bool {
        // `now < since`: a clock that was set back must not delay a fetch.
        let has_passed = |since: Option<Millis>, interval: Millis| {
            since.is_none_or(|since| now < since || now - since >= interval)
        };
        if self.loaded_at.is_none() {
            return has_passed(self.fetched_at, LOAD_INTERVAL);
        }
        let is_old = has_passed(self.loaded_at, MAX_AGE);
        (is_old && has_passed(self.fetched_at, REPEAT_INTERVAL))
            || (!is_known && has_passed(self.fetched_for_key_at, REPEAT_INTERVAL))
    }
}

/// The OpenID document, as far as its keys.
#[derive(Deserialize)]
struct Document {
    jwks_uri: String,
}

#[derive(Deserialize)]
struct RawSet {
    keys: Vec<Value>,
}

#[derive(Deserialize)]
struct EndorsedJwk {
    #[serde(flatten)]
    jwk: Jwk,
    #[serde(default)]
    endorsements: Vec<String>,
}

/// Parses a key set. A key that does not say that it signs is no key.
fn parse(json: &[u8]) -> Result<KeySet, String> {
    let set: RawSet = serde_json::from_slice(json)
        .map_err(|error| format!("is not a JSON Web Key Set: {error}"))?;
    let mut keys = KeySet::new();
    for jwk in set.keys {
        let Ok(EndorsedJwk { jwk, endorsements }) = serde_json::from_value(jwk) else {
            continue;
        };
        let signs = jwk.purpose.as_deref() == Some("sig");
        if let Some(public) = jwk.public_key().filter(|_| signs) {
            let key = Key {
                public,
                endorsements,
            };
            keys.entry(jwk.kid).or_default().push(Arc::new(key));
        }
    }
    match keys.is_empty() {
        true => Err("has no RSA signing key of 2,048 to 8,192 bits".to_owned()),
        false => Ok(keys),
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn load(&self) -> Result<KeySet, String> {
        let document: Document =
            serde_json::from_slice(&outbound::document(&self.client, &self.document).await?)
                .map_err(|error| format!("{} is not an OpenID document: {error}", self.document))?;
        let keys_url = outbound::keys_url(&self.document, &document.jwks_uri)?;
        parse(&outbound::document(&self.client, &keys_url).await?)
            .map_err(|cause| format!("{keys_url} {cause}"))
    }
}

/// A running fetch. Dropping it notifies the waiters, so they are notified even after a panic.
struct Fetch(Arc<Inner>);

impl Fetch {
    async fn run(self) {
        let loaded = timeout(FETCH_TIMEOUT, self.0.load()).await;
        let loaded = loaded.unwrap_or_else(|_| {
            let document = &self.0.document;
            Err(format!("{document}: no reply within {FETCH_TIMEOUT:?}"))
        });
        let mut state = self.0.lock();
        match loaded {
            Ok(keys) => {
                log::info!("teams: loaded {} keys", keys.len());
                state.keys = Arc::new(keys);
                state.loaded_at = state.fetched_at;
            }
            Err(cause) if state.loaded_at.is_some() => {
                log::warn!("teams: {cause}; the previous keys stay in use");
            }
            Err(cause) => log::warn!(
                "teams: {cause}; activities are refused as unknown_key until the keys can be loaded"
            ),
        }
    }
}

impl Drop for Fetch {
    fn drop(&mut self) {
        self.0.lock().is_fetching = false;
        self.0.fetch_ended.send_replace(());
    }
}
