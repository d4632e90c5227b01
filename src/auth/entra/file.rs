//! Keys from a file, for a server without a way out; it is read again whenever it changes.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use super::{Discovery, keys};
use crate::model::clock::Millis;

/// The longest file that is read, in bytes.
const LONGEST: u64 = 1 << 20;
/// The least time between two looks at the file.
const BETWEEN_LOOKS: Millis = 1_000;

/// What tells one state of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    changed_at: Option<SystemTime>,
    bytes: u64,
}

#[derive(Debug)]
struct State {
    seen: Option<Stamp>,
    /// When the file was last looked at.
    looked_at: Option<Millis>,
    known: Arc<Discovery>,
}

/// A key set on disk.
#[derive(Debug)]
pub(super) struct KeysFile {
    path: PathBuf,
    issuers: Vec<String>,
    state: Mutex<State>,
}

impl KeysFile {
    /// Reads the file for the first time.
    ///
    /// # Errors
    /// Why it cannot be used, in a sentence for the operator.
    pub(super) fn open(path: &Path, issuers: Vec<String>) -> Result<Self, String> {
        let seen = stamp(path);
        let known = read(path, &issuers)?;
        Ok(Self {
            path: path.to_owned(),
            issuers,
            state: Mutex::new(State {
                seen,
                looked_at: None,
                known: Arc::new(known),
            }),
        })
    }

    /// Its keys as they were within the last second; a file that cannot be read leaves those that were.
    pub(super) fn known(&self, now: Millis) -> Arc<Discovery> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // Requests wait for the disk once a second. A clock that was set back makes nobody wait longer.
        let is_fresh = |looked_at| now >= looked_at && now - looked_at < BETWEEN_LOOKS;
        if state.looked_at.is_some_and(is_fresh) {
            return Arc::clone(&state.known);
        }
        state.looked_at = Some(now);
        let stamp = stamp(&self.path);
        if stamp != state.seen {
            // Read once for each state, so that a broken file is told once.
            state.seen = stamp;
            match read(&self.path, &self.issuers) {
                Ok(known) => {
                    log::info!("entra: {} was read again", self.path.display());
                    state.known = Arc::new(known);
                }
                Err(cause) => log::warn!("entra: {cause}; the keys from before are kept"),
            }
        }
        Arc::clone(&state.known)
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let found = fs::metadata(path).ok()?;
    Some(Stamp {
        changed_at: found.modified().ok(),
        bytes: found.len(),
    })
}

fn read(path: &Path, issuers: &[String]) -> Result<Discovery, String> {
    let failed = |cause: &str| format!("cannot use --entra-keys {}: {cause}", path.display());
    let found = fs::metadata(path).map_err(|error| failed(&error.to_string()))?;
    if !found.is_file() || found.len() > LONGEST {
        return Err(failed("it must be a file of at most 1 MiB"));
    }
    let json = fs::read(path).map_err(|error| failed(&error.to_string()))?;
    let keys = keys::read(&json).map_err(|cause| failed(&format!("it is {cause}")))?;
    Ok(Discovery {
        issuers: issuers.to_vec(),
        keys,
        is_complete: true,
    })
}
