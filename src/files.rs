//! File helpers for durability.

use std::fs::File;
use std::io;
use std::path::Path;

/// Syncs a folder, so that the names of new and renamed files survive a power cut. Syncing a file
/// does not sync its name.
pub fn sync_names(folder: &Path) -> io::Result<()> {
    match File::open(folder)?.sync_all() {
        // Some file systems do not support this.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        outcome => outcome,
    }
}
