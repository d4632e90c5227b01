//! Copies of turns that other nodes run: one connection a turn, however many readers it has here.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::hmac;
use bytes::BytesMut;
use tokio::time::{sleep, timeout};

use super::engine::{Engine, Inner};
use super::live::LiveTurn;
use super::log::SseEvent;
use crate::error::Result;
use crate::model::clock::{Clock, Millis};
use crate::model::ids::{SessionId, Tick};
use crate::store::nodes;

/// How long one node waits for the connection to another.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a copy waits for a sign of life of the other node, which sends one every 5 s.
const SILENCE: Duration = Duration::from_secs(15);
/// The pause before a copy that failed may be tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(250);
/// How long a reader that arrives waits for the copy of a running turn.
const ARRIVAL: Duration = Duration::from_secs(3);
/// The most bytes of one event.
const MAX_EVENT_BYTES: usize = 16 * 1_024 * 1_024;
/// How far the clock of a request may be from this node's, in milliseconds.
const MAX_AGE: Millis = 60_000;

/// A comment after the events that were there when the copy began.
pub const COMPLETE: &[u8] = b": complete\n\n";
/// A comment before the first event of an answer that starts again.
pub const RESTART: &[u8] = b": restart\n\n";
/// A comment after the terminal event.
pub const END: &[u8] = b": end\n\n";

/// The path at which a node gives the events of a session's turn to other nodes.
pub const PATH: &str = "/nodes/turns/{session_id}";

/// Proves one node to another: a key that all nodes derive from the signing secret.
#[derive(Clone)]
pub struct NodeKey(hmac::Key);

impl NodeKey {
    /// A key for nodes.
    pub fn new(key: hmac::Key) -> Self {
        Self(key)
    }

    /// The proof of a request for a session's turn, at this time.
    fn proof(&self, session: SessionId, now: Millis) -> String {
        let tag = hmac::sign(&self.0, message(session, now).as_bytes());
        let hex: String = tag
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        format!("{now}.{hex}")
    }

    /// Whether a proof is that of another node, for this session and at about this time.
    pub fn verifies(&self, proof: &str, session: SessionId, now: Millis) -> bool {
        let Some((at, hex)) = proof.split_once('.') else {
            return false;
        };
        let Ok(at) = at.parse::<Millis>() else {
            return false;
        };
        let bytes = (0..hex.len()).step_by(2).map(|from| {
            hex.get(from..from + 2)
                .and_then(|two| u8::from_str_radix(two, 16).ok())
        });
        let Some(tag) = bytes.collect::<Option<Vec<u8>>>() else {
            return false;
        };
        (now - at).abs() <= MAX_AGE
            && hmac::verify(&self.0, message(session, at).as_bytes(), &tag).is_ok()
    }
}

fn message(session: SessionId, at: Millis) -> String {
    format!("turn {session} {at}")
}

/// The copies of one node.
pub(super) struct Copies {
    key: NodeKey,
    client: reqwest::Client,
    /// The sessions whose turns are being copied.
    sessions: Mutex<HashSet<Tick>>,
}

impl Copies {
    pub(super) fn new(key: NodeKey) -> reqwest::Result<Self> {
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .no_proxy()
            .http1_only()
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(Self {
            key,
            client,
            sessions: Mutex::default(),
        })
    }

    fn sessions(&self) -> MutexGuard<'_, HashSet<Tick>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine {
    /// Copies the running turn of a session from the node that runs it, if another one does.
    pub fn copy_turn(&self, session: SessionId) {
        self.inner.copy_turn(session);
    }

    /// As [`Engine::copy_turn`], for a reader that arrives: waits until the copy has what was sent
    /// so far.
    pub async fn copy_running_turn(&self, session: SessionId) -> Result<()> {
        let inner = &self.inner;
        let Some(lease) = inner.store.lease() else {
            return Ok(());
        };
        if inner.live.get(session).is_some() {
            return Ok(());
        }
        let mut listener = inner.signals.listen(session);
        let oldest = inner.oldest_unsettled(session).await?;
        let is_elsewhere =
            oldest.is_some_and(|turn| turn.owner.is_some_and(|owner| owner != lease));
        if !is_elsewhere {
            return Ok(());
        }
        inner.copy_turn(session);
        let copied = async {
            while inner.live.get(session).is_none() && inner.is_copying(session) {
                listener.notified().await;
            }
        };
        // Without the copy, the reader gets the stored events at the end of the turn.
        let _ = timeout(ARRIVAL, copied).await;
        Ok(())
    }
}

/// How a copy ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// The turn has ended, and its events are stored.
    Whole,
    /// There was nothing to copy.
    Nothing,
    /// The other node went silent.
    Broken,
}

impl Inner {
    fn is_copying(&self, session: SessionId) -> bool {
        let copies = self.copies.as_ref();
        copies.is_some_and(|copies| copies.sessions().contains(&session.tick()))
    }

    fn copy_turn(self: &Arc<Self>, session: SessionId) {
        let Some(copies) = &self.copies else {
            return;
        };
        if self.live.get(session).is_some() || !copies.sessions().insert(session.tick()) {
            return;
        }
        let inner = Arc::clone(self);
        self.spawn(async move {
            let ended = inner.copy(session).await;
            if !matches!(ended, Ok(Ended::Whole | Ended::Nothing)) {
                log::debug!("the copy of a turn of {session} ended: {ended:?}");
                sleep(RETRY_PAUSE).await;
            }
            if let Some(copies) = &inner.copies {
                copies.sessions().remove(&session.tick());
            }
            if !matches!(ended, Ok(Ended::Nothing)) {
                inner.signals.notify(session);
            }
        });
    }

    async fn copy(&self, session: SessionId) -> Result<Ended> {
        let (Some(copies), Some(lease)) = (&self.copies, self.store.lease()) else {
            return Ok(Ended::Nothing);
        };
        let Some(turn) = self.oldest_unsettled(session).await? else {
            return Ok(Ended::Nothing);
        };
        let Some(owner) = turn.owner.filter(|owner| *owner != lease) else {
            return Ok(Ended::Nothing);
        };
        let address = self
            .store
            .read(move |reader| nodes::address_of(reader, owner));
        let Some(address) = address.await? else {
            return Ok(Ended::Broken);
        };
        let url = format!(
            "http://{address}{}",
            PATH.replace("{session_id}", &session.to_string())
        );
        let proof = copies.key.proof(session, Clock::System.now());
        let response = copies
            .client
            .get(url)
            .header("x-switchboard-node", proof)
            .header("x-switchboard-turn", turn.id.to_string())
            .send();
        let Ok(Ok(response)) = timeout(SILENCE, response).await else {
            return Ok(Ended::Broken);
        };
        if !response.status().is_success() {
            return Ok(Ended::Broken);
        }
        let copy = self.live.new_copy(turn.id);
        let ended = self.receive(session, &copy, response).await;
        self.live.remove(session, &copy);
        Ok(ended)
    }

    /// Receives events until the turn ends or the other node goes silent.
    async fn receive(
        &self,
        session: SessionId,
        copy: &Arc<LiveTurn>,
        mut response: reqwest::Response,
    ) -> Ended {
        let mut received = BytesMut::new();
        let mut is_complete = false;
        loop {
            let Ok(Ok(Some(bytes))) = timeout(SILENCE, response.chunk()).await else {
                return Ended::Broken;
            };
            received.extend_from_slice(&bytes);
            while let Some(end) = received.windows(2).position(|two| two == b"\n\n") {
                let block = received.split_to(end + 2).freeze();
                match block.as_ref() {
                    COMPLETE => {
                        is_complete = true;
                        self.live.publish_copy(session, copy);
                    }
                    RESTART => copy.clear(),
                    END => {
                        copy.has_ended();
                        self.signals.notify(session);
                        return Ended::Whole;
                    }
                    [b':', ..] => {}
                    _ => match SseEvent::read(block) {
                        Some(event) => {
                            // If this node runs the turn next, its events must have later cursors.
                            self.store.pass_tick(event.tick);
                            copy.push(event);
                        }
                        None => return Ended::Broken,
                    },
                }
            }
            if received.len() > MAX_EVENT_BYTES {
                return Ended::Broken;
            }
            if is_complete {
                self.signals.notify(session);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_counts_for_its_key_its_session_and_its_minute_alone() {
        let key = |secret: &[u8]| NodeKey::new(hmac::Key::new(hmac::HMAC_SHA256, secret));
        let session = SessionId::new(Tick(5), 7);
        let proof = key(b"a").proof(session, 1_000_000);
        assert!(key(b"a").verifies(&proof, session, 1_000_000));
        assert!(key(b"a").verifies(&proof, session, 1_000_000 - MAX_AGE));
        assert!(!key(b"b").verifies(&proof, session, 1_000_000));
        assert!(!key(b"a").verifies(&proof, SessionId::new(Tick(5), 8), 1_000_000));
        assert!(!key(b"a").verifies(&proof, session, 1_000_001 + MAX_AGE));
        for bad in [
            "",
            ".",
            "1000000.",
            "1000000.zz",
            "x.00",
            "1000000.é",
            &proof[..20],
        ] {
            assert!(!key(b"a").verifies(bad, session, 1_000_000), "{bad}");
        }
    }
}
