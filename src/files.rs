//! Files that must outlive a power cut.

use std::fs::File;
use std::io;
use std::path::Path;

/// Syncs the names in a folder. Syncing a new file does not sync the name of the file.
///
/// # Errors
/// The folder cannot be opened, or the disk fails.
pub fn sync_names(folder: &Path) -> io::Result<()> {
    match File::open(folder)?.sync_all() {
        // Some file systems cannot sync a folder.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        outcome => outcome,
    }
}
