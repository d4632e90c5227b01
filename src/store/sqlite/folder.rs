//! The data folder: its files, their modes and names, and the locks of those who use it.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::files::sync_names;
use crate::store::OpenError;

/// The database's name in the data folder.
pub(super) const FILE: &str = "switchboard.db";
/// The name of its write-ahead log.
pub(super) const LOG: &str = "switchboard.db-wal";
/// Locked by the one `serve` of a data folder.
const SERVE_LOCK: &str = "serve.lock";
/// Locked while a schema is brought up to date.
const MIGRATE_LOCK: &str = "migrate.lock";

/// Keeps a second `serve` off a data folder for as long as it lives.
#[derive(Debug)]
pub struct ServeLock {
    _file: File,
}

/// The database file of a data folder.
pub fn database_file(folder: &Path) -> PathBuf {
    folder.join(FILE)
}

pub(super) fn make(folder: &Path) -> Result<(), OpenError> {
    try_make(folder).map_err(|error| {
        OpenError(format!(
            "cannot make the data folder {}: {error}",
            folder.display()
        ))
    })
}

/// Makes a folder for its owner alone, with the parents that it lacks.
fn try_make(folder: &Path) -> io::Result<()> {
    let was_there = folder.is_dir();
    if !was_there {
        make_parent(folder)?;
        create(folder, DirBuilder::new().mode(0o700))?;
    }
    // Until something is in the file, an earlier start may have been cut off before it came to this.
    if folder
        .join(FILE)
        .metadata()
        .is_ok_and(|file| file.len() > 0)
    {
        return Ok(());
    }
    match sync_names(parent_of(folder)) {
        // Whoever made it for us keeps its name.
        Err(error) if was_there && error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        outcome => outcome,
    }
}

fn make_parent(folder: &Path) -> io::Result<()> {
    let parent = parent_of(folder);
    match parent.metadata() {
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound && parent != folder => {}
        // As in a working directory that may not be entered.
        Err(error) => return Err(error),
    }
    make_parent(parent)?;
    create(parent, &DirBuilder::new())?;
    sync_names(parent_of(parent))
}

fn create(folder: &Path, builder: &DirBuilder) -> io::Result<()> {
    match builder.create(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        outcome => outcome,
    }
}

fn parent_of(folder: &Path) -> &Path {
    match folder.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    }
}

/// Whether the file has lost all that was in it. The others are made once something is; SQLite would remove the log.
pub(super) fn is_emptied(folder: &Path) -> bool {
    let length = |name: &str| folder.join(name).metadata().map(|file| file.len());
    length(FILE).is_ok_and(|bytes| bytes == 0)
        && (length(LOG).is_ok_and(|bytes| bytes > 0) || length(SERVE_LOCK).is_ok())
}

/// SQLite gives its side files the permissions of the main one.
pub(super) fn make_private_file(path: &Path) -> io::Result<()> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    Ok(())
}

fn open_lock(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

pub(super) fn lock_for_serving(folder: &Path) -> Result<ServeLock, OpenError> {
    let path = folder.join(SERVE_LOCK);
    let file = open_lock(&path)
        .map_err(|error| OpenError(format!("cannot open {}: {error}", path.display())))?;
    match file.try_lock() {
        Ok(()) => Ok(ServeLock { _file: file }),
        Err(TryLockError::WouldBlock) => Err(OpenError(format!(
            "another switchboard serves the data folder {}; stop it first, or give this one its own --data",
            folder.display()
        ))),
        Err(TryLockError::Error(error)) => Err(OpenError(format!(
            "cannot lock {}: {error}",
            path.display()
        ))),
    }
}

pub(super) fn lock_for_migration(folder: &Path) -> Result<File, OpenError> {
    let path = folder.join(MIGRATE_LOCK);
    let refused = |error| OpenError(format!("cannot lock {}: {error}", path.display()));
    let file = open_lock(&path).map_err(refused)?;
    file.lock().map_err(refused)?;
    Ok(file)
}
