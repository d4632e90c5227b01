//! The authority's issuers and keys, from its two discovery documents; asked seldom, and kept while it is away.

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
use crate::outbound::{self, causes};

/// How long the authority has for all of its documents.
const LONGEST: Duration = Duration::from_secs(10);
/// How long a connect may take.
const CONNECT: Duration = Duration::from_secs(4);
/// The longest document that is read, in bytes.
const LONGEST_DOCUMENT: usize = 1 << 20;
/// The least time between two loads while a document is missing.
const BETWEEN_LOADS: Millis = 5_000;
/// The least time between two fetches for a `kid` that is not known.
const BETWEEN_REFETCHES: Millis = 60_000;
/// After this time keys are fetched anew beside the requests, so that a withdrawn one does not count for ever.
const FRESH_FOR: Millis = 60 * 60 * 1_000;

/// What a request misses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Want {
    /// A document that has never been read.
    Document,
    /// A key that no document has.
    Key,
    /// Nothing; what is known is old.
    Fresher,
}

/// One discovery document, with the keys that it leads to.
#[derive(Clone, Debug)]
struct Document {
    issuer: String,
    keys: keys::Keys,
}

#[derive(Debug, Default)]
struct State {
    documents: [Option<Document>; 2],
    known: Arc<Discovery>,
    /// When documents were last asked for, whatever came of it.
    asked_at: Option<Millis>,
    /// When a `kid` that is not known last led to a fetch.
    refetched_at: Option<Millis>,
    is_fetching: bool,
}

/// The authority. Clones share what is known of it.
#[derive(Clone, Debug)]
pub(super) struct Authority(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    client: reqwest::Client,
    documents: [Url; 2],
    state: Mutex<State>,
    /// Rings when a fetch has ended.
    ended: watch::Sender<()>,
}

impl Authority {
    /// Nothing is asked yet.
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
        let client = outbound::client(base, CONNECT)
            .map_err(|cause| format!("no connections can be made to --entra-authority: {cause}"))?;
        Ok(Self(Arc::new(Inner {
            client,
            documents: [document("/v2.0"), document("")],
            state: Mutex::default(),
            ended: watch::Sender::new(()),
        })))
    }

    /// What is known now.
    pub(super) fn known(&self) -> Arc<Discovery> {
        Arc::clone(&self.0.lock().known)
    }

    /// Asks the authority for what `seen` lacks, if it is time to or somebody asks already; what to wait for then.
    pub(super) fn ask(
        &self,
        want: Want,
        seen: &Arc<Discovery>,
        now: Millis,
    ) -> Option<impl Future<Output = ()> + use<>> {
        let mut ended = self.0.ended.subscribe();
        let (begins, has_news) = {
            let mut state = self.0.lock();
            let has_news = !Arc::ptr_eq(&state.known, seen);
            let begins = !has_news && !state.is_fetching && state.may_ask(want, now);
            if begins {
                state.is_fetching = true;
                state.asked_at = Some(now);
                if want == Want::Key {
                    state.refetched_at = Some(now);
                }
            } else if !has_news && !state.is_fetching {
                return None;
            }
            (begins, has_news)
        };
        if begins {
            // Its own task: whoever asked may hang up, and the others wait for the same answer.
            let fetch = Fetch(Arc::clone(&self.0));
            tokio::spawn(async move { fetch.run().await });
        }
        Some(async move {
            if !has_news {
                // What is known then tells; whoever waits says for how long.
                drop(ended.changed().await);
            }
        })
    }

    /// Has keys that were known for an hour fetched again, beside the requests.
    pub(super) fn freshen(&self, seen: &Arc<Discovery>, now: Millis) {
        drop(self.ask(Want::Fresher, seen, now));
    }
}

impl State {
    fn may_ask(&self, want: Want, now: Millis) -> bool {
        // A clock that was set back makes nobody wait longer.
        let passed = |since: Option<Millis>, time: Millis| {
            since.is_none_or(|since| now < since || now - since >= time)
        };
        match want {
            Want::Document => passed(self.asked_at, BETWEEN_LOADS),
            Want::Key => passed(self.refetched_at, BETWEEN_REFETCHES),
            // Also while a document is missing: what the other one said must not count for ever.
            Want::Fresher => passed(self.asked_at, FRESH_FOR),
        }
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn document(&self, url: &Url) -> Result<Document, String> {
        #[derive(Deserialize)]
        struct Sent {
            issuer: String,
            jwks_uri: String,
        }
        let json = self.get(url).await?;
        let sent: Sent = serde_json::from_slice(&json)
            .map_err(|error| format!("{url} is no discovery document: {error}"))?;
        let address = Url::parse(&sent.jwks_uri)
            .ok()
            .filter(|address| {
                address.scheme() == "https"
                    || (address.scheme() == "http" && outbound::is_loopback(address))
            })
            .ok_or_else(|| format!("{url} has its keys at an address that is not https"))?;
        let json = self.get(&address).await?;
        let keys = keys::read(&json).map_err(|cause| format!("{address} is {cause}"))?;
        if !sent.issuer.contains(PLACEHOLDER) {
            log::warn!(
                "entra: the issuer in {url} has no {PLACEHOLDER}: it counts for the one directory that it names"
            );
        }
        Ok(Document {
            issuer: sent.issuer,
            keys,
        })
    }

    async fn get(&self, url: &Url) -> Result<Vec<u8>, String> {
        let failed = |error: reqwest::Error| format!("{url}: {}", causes(&error.without_url()));
        let mut reply = self.client.get(url.clone()).send().await.map_err(failed)?;
        if reply.status() != reqwest::StatusCode::OK {
            return Err(format!("{url} answered {}", reply.status()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = reply.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > LONGEST_DOCUMENT {
                return Err(format!("{url} is longer than 1 MiB"));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

/// A fetch under way; however it ends, who waits is told.
struct Fetch(Arc<Inner>);

impl Fetch {
    async fn run(self) {
        let [first, second] = &self.0.documents;
        let found = timeout(
            LONGEST,
            join(self.0.document(first), self.0.document(second)),
        )
        .await;
        let found = match found {
            Ok((first, second)) => [first, second],
            Err(_) => [
                Err(format!("{first}: no answer in {LONGEST:?}")),
                Err(format!("{second}: no answer in {LONGEST:?}")),
            ],
        };
        let mut state = self.0.lock();
        for (kept, found) in state.documents.iter_mut().zip(found) {
            match found {
                Ok(document) => *kept = Some(document),
                Err(cause) if kept.is_some() => {
                    log::warn!("entra: {cause}; the keys from before are kept");
                }
                Err(cause) => log::warn!(
                    "entra: {cause}; tokens that need it are refused as unknown_key until it can be read"
                ),
            }
        }
        let known = Discovery::of(
            state
                .documents
                .iter()
                .flatten()
                .map(|document| (&document.issuer, &document.keys)),
            state.documents.iter().all(Option::is_some),
        );
        log::info!(
            "entra: {} issuers and {} keys are known",
            known.issuers.len(),
            known.keys.len()
        );
        state.known = Arc::new(known);
    }
}

impl Drop for Fetch {
    fn drop(&mut self) {
        self.0.lock().is_fetching = false;
        self.0.ended.send_replace(());
    }
}
