//! Loads the authority's issuers and keys from its two discovery documents, rarely, and keeps them
//! while the authority is unreachable.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join;
use reqwest::Url;
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::timeout;

use super::{Discovery, PLACEHOLDER, keys};
use crate::model::clock::Millis;
use crate::outbound;

/// The timeout of a fetch of all documents.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);
/// The timeout of a connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);
/// The least time between two fetches while a document is missing, in milliseconds.
const LOAD_INTERVAL: Millis = 5_000;
/// The least time between two fetches for an unknown `kid`, in milliseconds.
const UNKNOWN_KEY_INTERVAL: Millis = 60_000;
/// The age at which keys are refreshed in the background, in milliseconds, so that a withdrawn key
/// does not stay valid.
const REFRESH_INTERVAL: Millis = 60 * 60 * 1_000;

/// The reason for a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FetchReason {
    /// A document has never been loaded.
    MissingDocument,
    /// No document has the key of a token.
    UnknownKey,
    /// The keys may be outdated.
    Refresh,
}

/// One discovery document, with the keys to which it refers.
#[derive(Clone, Debug)]
struct Document {
    issuer: String,
    keys: keys::Keys,
}

#[derive(Debug, Default)]
struct State {
    documents: [Option<Document>; 2],
    discovery: Arc<Discovery>,
    /// The start of the last fetch, successful or not.
    fetched_at: Option<Millis>,
    /// The start of the last fetch for an unknown `kid`.
    fetched_for_key_at: Option<Millis>,
    is_fetching: bool,
}

/// A client of the authority. Clones share the loaded issuers and keys.
#[derive(Clone, Debug)]
pub(super) struct Authority(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    client: reqwest::Client,
    documents: [Url; 2],
    state: Mutex<State>,
    /// Notifies waiters when a fetch has ended.
    fetch_ended: watch::Sender<()>,
}

impl Authority {
    /// Creates a client. It fetches nothing yet.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub(super) fn new(base: &Url) -> Result<Self, String> {
        let document = |version: &str| {
            let mut url = base.clone();
            let path = url.path().trim_end_matches('/').to_owned();
            url.set_path(&format!(
                "{path}/common{version}/.well-known/openid-configuration"
            ));
            url
        };
        let client = outbound::client(base, CONNECT_TIMEOUT).map_err(|cause| {
            format!("cannot create an HTTP client for --entra-authority: {cause}")
        })?;
        Ok(Self(Arc::new(Inner {
            client,
            documents: [document("/v2.0"), document("")],
            state: Mutex::default(),
            fetch_ended: watch::Sender::new(()),
        })))
    }

    /// The issuers and keys that are loaded now.
    pub(super) fn discovery(&self) -> Arc<Discovery> {
        Arc::clone(&self.0.lock().discovery)
    }

    /// Starts a fetch unless one is running or the last one is too recent. Returns a future that
    /// resolves when there may be something newer than `seen`; `None` if nothing newer is to be
    /// expected.
    pub(super) fn fetch(
        &self,
        reason: FetchReason,
        seen: &Arc<Discovery>,
        now: Millis,
    ) -> Option<impl Future<Output = ()> + use<>> {
        let mut fetch_ended = self.0.fetch_ended.subscribe();
        let (starts, is_newer) = {
            let mut state = self.0.lock();
            let is_newer = !Arc::ptr_eq(&state.discovery, seen);
            let starts = !is_newer && !state.is_fetching && state.may_fetch(reason, now);
            if starts {
                state.is_fetching = true;
                state.fetched_at = Some(now);
                if reason == FetchReason::UnknownKey {
                    state.fetched_for_key_at = Some(now);
                }
            } else if !is_newer && !state.is_fetching {
                return None;
            }
            (starts, is_newer)
        };
        if starts {
            // A task of its own: if the client of this request hangs up, other requests still wait
            // for the fetch.
            let fetch = Fetch(Arc::clone(&self.0));
            tokio::spawn(async move { fetch.run().await });
        }
        Some(async move {
            if !is_newer {
                // The caller checks the token again then, and sets the timeout of this wait.
                drop(fetch_ended.changed().await);
            }
        })
    }

    /// Refreshes the keys in the background if they are an hour old.
    pub(super) fn refresh(&self, seen: &Arc<Discovery>, now: Millis) {
        drop(self.fetch(FetchReason::Refresh, seen, now));
    }
}

impl State {
    fn may_fetch(&self, reason: FetchReason, now: Millis) -> bool {
        // `now < since`: a clock that was set back must not delay a fetch.
        let has_passed = |since: Option<Millis>, interval: Millis| {
            since.is_none_or(|since| now < since || now - since >= interval)
        };
        match reason {
            FetchReason::MissingDocument => has_passed(self.fetched_at, LOAD_INTERVAL),
            FetchReason::UnknownKey => has_passed(self.fetched_for_key_at, UNKNOWN_KEY_INTERVAL),
            // Also while one document is missing: the keys of the other one must not stay valid
            // forever.
            FetchReason::Refresh => has_passed(self.fetched_at, REFRESH_INTERVAL),
        }
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn document(&self, url: &Url) -> Result<Document, String> {
        #[derive(Deserialize)]
        struct RawDocument {
            issuer: String,
            jwks_uri: String,
        }
        let json = outbound::document(&self.client, url).await?;
        let document: RawDocument = serde_json::from_slice(&json)
            .map_err(|error| format!("{url} is not a discovery document: {error}"))?;
        let keys_url = outbound::keys_url(url, &document.jwks_uri)?;
        let json = outbound::document(&self.client, &keys_url).await?;
        let keys = keys::parse(&json).map_err(|cause| format!("{keys_url} {cause}"))?;
        if !document.issuer.contains(PLACEHOLDER) {
            log::warn!(
                "entra: the issuer in {url} has no {PLACEHOLDER}: only tokens of the directory that it names are accepted"
            );
        }
        Ok(Document {
            issuer: document.issuer,
            keys,
        })
    }
}

/// A running fetch. Dropping it notifies the waiters, so they are notified even after a panic.
struct Fetch(Arc<Inner>);

impl Fetch {
    async fn run(self) {
        let [first, second] = &self.0.documents;
        let documents = timeout(
            FETCH_TIMEOUT,
            join(self.0.document(first), self.0.document(second)),
        )
        .await;
        let documents = match documents {
            Ok((first, second)) => [first, second],
            Err(_) => [
                Err(format!("{first}: no reply within {FETCH_TIMEOUT:?}")),
                Err(format!("{second}: no reply within {FETCH_TIMEOUT:?}")),
            ],
        };
        let mut state = self.0.lock();
        for (stored, new) in state.documents.iter_mut().zip(documents) {
            match new {
                Ok(document) => *stored = Some(document),
                Err(cause) if stored.is_some() => {
                    log::warn!("entra: {cause}; the previous keys stay in use");
                }
                Err(cause) => log::warn!(
                    "entra: {cause}; tokens that need it are refused as unknown_key until it can be loaded"
                ),
            }
        }
        let discovery = Discovery::of(
            state
                .documents
                .iter()
                .flatten()
                .map(|document| (&document.issuer, &document.keys)),
            state.documents.iter().all(Option::is_some),
        );
        log::info!(
            "entra: loaded {} issuers and {} keys",
            discovery.issuers.len(),
            discovery.keys.len()
        );
        state.discovery = Arc::new(discovery);
    }
}

impl Drop for Fetch {
    fn drop(&mut self) {
        self.0.lock().is_fetching = false;
        self.0.fetch_ended.send_replace(());
    }
}
