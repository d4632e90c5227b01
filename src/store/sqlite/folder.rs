//! The data folder: the names and permissions of its files, and its locks.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::files::sync_names;
use crate::store::OpenError;

/// The database's name in the data folder.
pub(super) const FILE: &str = "switchboard.db";
/// The write-ahead log's name in the data folder.
pub(super) const LOG: &str = "switchboard.db-wal";
/// The name of the memory that SQLite's processes share, in the data folder.
const SHARED: &str = "switchboard.db-shm";
/// Room on the disk for [`SHARED`], so that a server can start on a full disk.
const RESERVE: &str = "reserve";
/// The size of [`SHARED`] for a short log.
const RESERVE_BYTES: u64 = 32 * 1_024;
/// Locked by the server of a data folder.
const SERVE_LOCK: &str = "serve.lock";
/// Locked while a schema is migrated.
const MIGRATE_LOCK: &str = "migrate.lock";

/// Locked by the process that imports very many companies.
const IMPORT_LOCK: &str = "import.lock";

/// The locks of a data folder's server. A second server cannot start before they are dropped.
#[derive(Debug)]
pub struct ServeLock {
    folder: File,
    /// The database file itself, which a link in another folder can name too.
    _database: Arc<File>,
}

impl ServeLock {
    pub(super) fn new(folder: File, database: Arc<File>) -> Self {
        Self {
            folder,
            _database: database,
        }
    }

    /// Tells other commands what they need to know of the server, until the lock is dropped.
    ///
    /// # Errors
    /// The disk fails.
    pub fn announce(&self, text: &str) -> io::Result<()> {
        self.folder.set_len(0)?;
        self.folder.write_all_at(text.as_bytes(), 0)
    }
}

impl Drop for ServeLock {
    fn drop(&mut self) {
        // A reader of the text checks the lock too.
        drop(self.folder.set_len(0));
    }
}

/// What the running server of a data folder announced. `None` if no server runs: a server that
/// crashed leaves its text, but not its lock.
pub fn running_server(folder: &Path) -> Option<String> {
    let path = folder.join(SERVE_LOCK);
    let text = std::fs::read_to_string(&path).ok()?;
    if text.is_empty() {
        return None;
    }
    let file = File::open(path).ok()?;
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)).then_some(text)
}

/// The database file of a data folder.
pub fn database_file(folder: &Path) -> PathBuf {
    folder.join(FILE)
}

pub(super) fn create(folder: &Path) -> Result<(), OpenError> {
    try_create(folder).map_err(|error| {
        OpenError(format!(
            "cannot create the data folder {}: {error}",
            folder.display()
        ))
    })
}

/// Creates a folder that only its owner can enter, and its missing parents.
fn try_create(folder: &Path) -> io::Result<()> {
    let existed = folder.is_dir();
    if !existed {
        create_parent(folder)?;
        create_dir(folder, DirBuilder::new().mode(0o700))?;
    }
    // While the database is empty, an earlier start may have been interrupted before this sync.
    if folder
        .join(FILE)
        .metadata()
        .is_ok_and(|file| file.len() > 0)
    {
        return Ok(());
    }
    match sync_names(parent_of(folder)) {
        // A folder whose parent cannot be opened was created by somebody else, who has to sync it.
        Err(error) if existed && error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        outcome => outcome,
    }
}

fn create_parent(folder: &Path) -> io::Result<()> {
    let parent = parent_of(folder);
    match parent.metadata() {
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound && parent != folder => {}
        // For example in a working directory without permission to search it.
        Err(error) => return Err(error),
    }
    create_parent(parent)?;
    create_dir(parent, &DirBuilder::new())?;
    sync_names(parent_of(parent))
}

fn create_dir(folder: &Path, builder: &DirBuilder) -> io::Result<()> {
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

/// Whether the database is empty although it was in use: the other files are created after the
/// database has a schema. Opening it would make SQLite remove the log.
pub(super) fn has_lost_database(folder: &Path) -> bool {
    let length = |name: &str| folder.join(name).metadata().map(|file| file.len());
    length(FILE).is_ok_and(|bytes| bytes == 0)
        && (length(LOG).is_ok_and(|bytes| bytes > 0) || length(SERVE_LOCK).is_ok())
}

/// Opens a file, and creates it if it is missing, so that only its owner can access it. SQLite gives
/// a database's side files the same permissions.
pub(super) fn open_private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

/// Whether a server worked in the folder, or a command took the place of one.
pub(super) fn was_served(folder: &Path) -> bool {
    folder.join(SERVE_LOCK).exists()
}

/// Locks a data folder for its server, or for a restore.
pub(super) fn lock_for_serving(folder: &Path) -> Result<File, OpenError> {
    let path = folder.join(SERVE_LOCK);
    let file = open_private_file(&path)
        .map_err(|error| OpenError(format!("cannot open {}: {error}", path.display())))?;
    lock_now(&file, &path, folder)?;
    Ok(file)
}

/// Locks the database file for one server. SQLite's own locks are of another kind, so that other
/// commands still work.
pub(super) fn lock_database(file: &File, folder: &Path) -> Result<(), OpenError> {
    lock_now(file, &folder.join(FILE), folder)
}

fn lock_now(file: &File, path: &Path, folder: &Path) -> Result<(), OpenError> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(OpenError(format!(
            "another switchboard serves the data folder {}, or its database under another name; stop it first, or choose another --data",
            folder.display()
        ))),
        Err(TryLockError::Error(error)) => Err(OpenError(format!(
            "cannot lock {}: {error}",
            path.display()
        ))),
    }
}

/// Reserves room for a start on a full disk. Without the room, the folder is as it was before.
pub(super) fn reserve_room(folder: &Path) {
    let path = folder.join(RESERVE);
    let is_reserved = |path: &Path| {
        path.metadata()
            .is_ok_and(|file| file.len() == RESERVE_BYTES)
    };
    if is_reserved(&path) {
        return;
    }
    let written = open_private_file(&path).and_then(|mut file| {
        // Other bytes than zeros, which a file system may store without room.
        file.write_all(&[b'.'; RESERVE_BYTES as usize])
    });
    if written.is_err() {
        // A partial reserve is useless, and its space is needed elsewhere.
        drop(std::fs::remove_file(&path));
    }
}

/// Gives the reserved room back. Returns whether there was any.
pub(super) fn release_room(folder: &Path) -> bool {
    let is_needed = folder.join(SHARED).metadata().map_or(0, |file| file.len()) < RESERVE_BYTES;
    is_needed && std::fs::remove_file(folder.join(RESERVE)).is_ok()
}

pub(super) fn lock_for_migration(folder: &Path) -> Result<File, OpenError> {
    let path = folder.join(MIGRATE_LOCK);
    let failed = |error| OpenError(format!("cannot lock {}: {error}", path.display()));
    let file = open_private_file(&path).map_err(failed)?;
    file.lock().map_err(failed)?;
    Ok(file)
}

/// Locks the folder for a large import. Waits for another import, or returns `None`.
pub(super) fn lock_for_import(folder: &Path, waits: bool) -> Result<Option<File>, OpenError> {
    let path = folder.join(IMPORT_LOCK);
    let failed = |error| OpenError(format!("cannot lock {}: {error}", path.display()));
    let file = open_private_file(&path).map_err(failed)?;
    if waits {
        file.lock().map_err(failed)?;
        return Ok(Some(file));
    }
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}
