//! Loads the authority's keys from a file, for a server without internet access, and reloads the
//! file after a change.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use super::{Discovery, keys};
use crate::model::clock::Millis;

/// The longest file that is accepted, in bytes.
const MAX_BYTES: u64 = 1 << 20;
/// The least time between two checks for a change, in milliseconds.
const CHECK_INTERVAL: Millis = 1_000;

/// The state of the file, compared to detect a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fingerprint {
    modified_at: Option<SystemTime>,
    bytes: u64,
}

#[derive(Debug)]
struct State {
    fingerprint: Option<Fingerprint>,
    /// The time of the last check for a change.
    checked_at: Option<Millis>,
    discovery: Arc<Discovery>,
}

/// A key set on disk.
#[derive(Debug)]
pub(super) struct KeysFile {
    path: PathBuf,
    issuers: Vec<String>,
    state: Mutex<State>,
}

impl KeysFile {
    /// Loads the file for the first time.
    ///
    /// # Errors
    /// A sentence for the operator, if the file is not a usable key set.
    pub(super) fn open(path: &Path, issuers: Vec<String>) -> Result<Self, String> {
        let fingerprint = fingerprint(path);
        let discovery = load(path, &issuers)?;
        Ok(Self {
            path: path.to_owned(),
            issuers,
            state: Mutex::new(State {
                fingerprint,
                checked_at: None,
                discovery: Arc::new(discovery),
            }),
        })
    }

    /// The keys, which are up to one second older than the file. If the file becomes unusable, the
    /// previous keys stay.
    pub(super) fn discovery(&self, now: Millis) -> Arc<Discovery> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // Up to once a second a request waits for the disk. A clock that was set back must not
        // delay the check.
        let is_recent = |checked_at| now >= checked_at && now - checked_at < CHECK_INTERVAL;
        if state.checked_at.is_some_and(is_recent) {
            return Arc::clone(&state.discovery);
        }
        state.checked_at = Some(now);
        let fingerprint = fingerprint(&self.path);
        if fingerprint != state.fingerprint {
            // Stored before the load, so that a broken file is loaded and logged only once.
            state.fingerprint = fingerprint;
            match load(&self.path, &self.issuers) {
                Ok(discovery) => {
                    log::info!("entra: reloaded {}", self.path.display());
                    state.discovery = Arc::new(discovery);
                }
                Err(cause) => log::warn!("entra: {cause}; the previous keys stay in use"),
            }
        }
        Arc::clone(&state.discovery)
    }
}

fn fingerprint(path: &Path) -> Option<Fingerprint> {
    let metadata = fs::metadata(path).ok()?;
    Some(Fingerprint {
        modified_at: metadata.modified().ok(),
        bytes: metadata.len(),
    })
}

fn load(path: &Path, issuers: &[String]) -> Result<Discovery, String> {
    let failed = |cause: &str| format!("cannot use --entra-keys {}: {cause}", path.display());
    let metadata = fs::metadata(path).map_err(|error| failed(&error.to_string()))?;
    if !metadata.is_file() || metadata.len() > MAX_BYTES {
        return Err(failed("it must be a file of up to 1 MiB"));
    }
    let json = fs::read(path).map_err(|error| failed(&error.to_string()))?;
    let keys = keys::parse(&json).map_err(|cause| failed(&format!("it {cause}")))?;
    Ok(Discovery {
        issuers: issuers.to_vec(),
        keys,
        is_complete: true,
    })
}
