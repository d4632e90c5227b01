//! Backup and restore: copies a whole database, and checks the copy before it gets its name.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, ffi};
use tempfile::{Builder, TempDir, TempPath};

use super::errors::{describe, fault};
use super::folder::{self, FILE, lock_for_serving, open_private_file};
use super::session::Session;
use super::{check, checkpoint, connection, migrations, schema};
use crate::error::{Code, Error};
use crate::model::clock::Clock;
use crate::store::contents::{self, Contents};
use crate::store::sql::{Reader, Session as Engine};
use crate::store::{OpenError, Store};

/// Pages that are copied between two reports of progress: some megabytes.
const STEP_PAGES: i32 = 1_024;
/// The side files of a database. SQLite takes such a file for a part of the database next to it.
const SIDE_FILES: [&str; 3] = ["-wal", "-shm", "-journal"];
/// How long a server's store may take to close the staged copy, which includes a checkpoint.
const CLOSE_LIMIT: Duration = Duration::from_secs(60);

/// The progress of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The pages are being copied.
    Copying {
        /// The number of pages that are written.
        pages: u64,
        /// The number of pages of the whole file.
        total: u64,
    },
    /// All pages are written, and the copy is being checked.
    Checking,
}

/// A copy that was checked and is in place.
#[derive(Debug)]
pub struct Copied {
    /// What the copy holds.
    pub contents: Contents,
    /// The size of the file.
    pub bytes: u64,
    /// Rows that contradict each other. They do so in the source too.
    pub contradictions: Vec<String>,
}

/// Copies the database of a data folder to a new file, also while a server uses the folder.
///
/// # Errors
/// No data, an existing file, a full disk, damage. The copy is removed then, unless the sentence
/// says that the file is in place.
pub fn back_up(
    folder: &Path,
    file: &Path,
    report: &mut dyn FnMut(Progress),
) -> Result<Copied, OpenError> {
    let path = folder.join(FILE);
    if !path.is_file() {
        return Err(OpenError(format!(
            "there is no data in {}; choose another --data",
            folder.display()
        )));
    }
    refuse_existing(file)?;
    if is_reserved(&path, file) {
        return Err(OpenError(format!(
            "{} is a name of the data folder's own files; choose another name",
            file.display()
        )));
    }
    let staged = StagedCopy::next_to(file)?;
    // Opened for writing, so that SQLite can recover the log that a crash left behind. `query_only`
    // keeps the connection from changing anything.
    let source = connection::open_writer(&path)
        .and_then(|source| {
            source.pragma_update(None, "query_only", "ON")?;
            preserve_quarantined_log(&source, &path)?;
            Ok(source)
        })
        .map_err(|error| OpenError(describe(&path, &error)))?;
    let version = staged.copy(&source, &path, report)?;
    if version == 0 {
        return Err(OpenError(format!(
            "{} is empty: no command has used this data folder yet, so there is nothing to back up",
            path.display()
        )));
    }
    // A server may have quarantined the log during the copy.
    preserve_quarantined_log(&source, &path).map_err(|error| OpenError(describe(&path, &error)))?;
    drop(source);
    report(Progress::Checking);
    let (contents, contradictions) = {
        let copy = staged.open()?;
        staged.refuse_damage(&copy, &path)?;
        schema::refuse_foreign(&copy, &path, version)?;
        staged.end_use(&copy)?;
        (
            staged.contents(&copy)?,
            staged.contradictions(&copy, &path)?,
        )
    };
    let bytes = staged.publish(file)?;
    Ok(Copied {
        contents,
        bytes,
        contradictions,
    })
}

/// Prevents the checkpoint at the end of the database's last connection, if the log is quarantined.
fn preserve_quarantined_log(source: &Connection, path: &Path) -> rusqlite::Result<()> {
    let is_quarantined = checkpoint::is_quarantined(path);
    source
        .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, is_quarantined)
        .map(drop)
}

/// Makes a copy of a file the database of a data folder that has none, and migrates the copy.
///
/// # Errors
/// No such file, damage, a file of a newer version, a folder that has data or a server. The folder
/// has no database then, unless the sentence says that the database is in place.
pub fn restore(
    file: &Path,
    folder: &Path,
    report: &mut dyn FnMut(Progress),
) -> Result<Copied, OpenError> {
    let source = open_source(file)?;
    if migrations::check(&source, file)? == 0 {
        return Err(no_data(file));
    }
    folder::create(folder)?;
    let _lock = lock_for_serving(folder)?;
    let path = folder.join(FILE);
    refuse_data(&path)?;
    let staged = StagedCopy::next_to(&path)?;
    let has_log = side_file(file, "-wal").exists();
    let version = staged.copy(&source, file, report)?;
    drop(source);
    report(Progress::Checking);
    let contradictions = {
        let mut copy = staged.open()?;
        staged.refuse_damage(&copy, file)?;
        schema::refuse_foreign(&copy, file, version)?;
        if version < migrations::newest() {
            migrations::run(&mut copy, file)?;
            staged.refuse_damage(&copy, file)?;
        }
        if has_log {
            staged.end_use(&copy)?;
        }
        staged.contradictions(&copy, file)?
    };
    let staged_contents = staged.open_as_server()?;
    refuse_data(&path)?;
    let bytes = staged.publish(&path)?;
    // The report is read from the database in place, as a server will read it.
    let unreadable = |error: &dyn std::fmt::Display| {
        OpenError(format!(
            "{} is in place, and was complete before it was moved there, but it cannot be read there: {error}; \
             fix the cause and run 'check', or move the file away",
            path.display()
        ))
    };
    let store = Store::open(folder, Clock::System).map_err(|error| unreadable(&error))?;
    let contents = store
        .read_now(contents::of)
        .map_err(|error| unreadable(&error))?;
    if contents != staged_contents {
        return Err(OpenError(format!(
            "{} is in place, but does not hold what was copied; move the file away, and check the disk",
            path.display()
        )));
    }
    Ok(Copied {
        contents,
        bytes,
        contradictions,
    })
}

/// Opens the file to restore, without changing the file or its folder.
fn open_source(file: &Path) -> Result<Connection, OpenError> {
    let failed = |error: &dyn std::fmt::Display| {
        OpenError(format!("cannot read {}: {error}", file.display()))
    };
    let length = fs::metadata(file).map_err(|error| failed(&error))?.len();
    if !file.is_file() || length == 0 {
        return Err(no_data(file));
    }
    // The side files are next to the file itself, not next to a symbolic link.
    let target = file.canonicalize().map_err(|error| failed(&error))?;
    let mut address = url::Url::from_file_path(&target)
        .map_err(|()| failed(&"SQLite cannot open a file of this name"))?;
    let is_missing = |suffix: &&str| side_file(&target, suffix).symlink_metadata().is_err();
    if ["-wal", "-journal"].iter().all(is_missing) {
        // Without a log nobody writes to the file. SQLite then creates no side files.
        address.set_query(Some("immutable=1"));
    }
    let source = Connection::open_with_flags(
        address.as_str(),
        OpenFlags::SQLITE_OPEN_READ_ONLY
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_URI,
    );
    let source = source.map_err(|error| OpenError(describe(file, &error)))?;
    match connection::data_version(&source) {
        Err(rusqlite::Error::SqliteFailure(error, _))
            if error.extended_code == ffi::SQLITE_READONLY_ROLLBACK =>
        {
            Err(OpenError(format!(
                "{} holds an incomplete transaction, and {} what is needed to roll it back; \
                 copy both files to a writable folder, read that copy once with 'sqlite3', and restore that copy",
                file.display(),
                side_file(&target, "-journal").display()
            )))
        }
        // The copy reports any other error.
        Ok(_) | Err(_) => Ok(source),
    }
}

fn no_data(file: &Path) -> OpenError {
    OpenError(format!(
        "{} holds no data; choose a file that 'backup' wrote",
        file.display()
    ))
}

/// Refuses a data folder that has a database, or a side file of one.
fn refuse_data(path: &Path) -> Result<(), OpenError> {
    let side_files = SIDE_FILES.map(|suffix| side_file(path, suffix));
    let mut paths = [path.to_owned()].into_iter().chain(side_files);
    match paths.find(|path| path.symlink_metadata().is_ok()) {
        None => Ok(()),
        Some(existing) => Err(OpenError(format!(
            "{} already exists; move it away, or choose another --data",
            existing.display()
        ))),
    }
}

fn refuse_existing(file: &Path) -> Result<(), OpenError> {
    if file.symlink_metadata().is_ok() {
        return Err(OpenError(format!(
            "{} already exists; choose another name",
            file.display()
        )));
    }
    Ok(())
}

/// Whether SQLite would take a file for a side file of the database.
fn is_reserved(database: &Path, file: &Path) -> bool {
    let is_in_data_folder = match (database.parent(), parent(file).canonicalize()) {
        (Some(folder), Ok(parent)) => folder.canonicalize().is_ok_and(|folder| folder == parent),
        _ => false,
    };
    let names = SIDE_FILES.map(|suffix| format!("{FILE}{suffix}"));
    is_in_data_folder && names.iter().any(|name| file.ends_with(name))
}

fn side_file(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn parent(file: &Path) -> &Path {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    }
}

/// A copy that does not have its name yet. It lies in a temporary folder next to its destination.
struct StagedCopy {
    folder: TempDir,
    path: PathBuf,
    /// The destination, for error messages.
    destination: PathBuf,
}

const KNOWS_USE: &str = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'folder')";

impl StagedCopy {
    /// Records that no server has the copy open: it is complete without a log.
    fn end_use(&self, copy: &Connection) -> Result<(), OpenError> {
        copy.query_row(KNOWS_USE, [], |row| row.get(0))
            .and_then(|is_known: bool| match is_known {
                true => copy.execute(connection::END_USE, []).map(drop),
                false => Ok(()),
            })
            .map_err(|error| cannot_write(&self.destination, &error))
    }

    fn next_to(destination: &Path) -> Result<Self, OpenError> {
        let failed = |error: io::Error| cannot_write(destination, &error);
        if !parent(destination).is_dir() {
            return Err(cannot_write(destination, &"its folder does not exist"));
        }
        let folder = Builder::new()
            .prefix(".switchboard-copy-")
            .tempdir_in(parent(destination))
            .map_err(failed)?;
        let path = folder.path().join(FILE);
        // Tries the rename of `publish` before the long copy: not every file system supports it.
        let unnamed = folder.path().join("unnamed");
        open_private_file(&unnamed).map_err(failed)?;
        rename_noclobber(&unnamed, &path).map_err(|error| {
            let cause = format!(
                "its file system cannot rename a file without the risk of overwriting another ({error}); \
                 choose a file on another file system"
            );
            cannot_write(destination, &cause)
        })?;
        Ok(Self {
            folder,
            path,
            destination: destination.to_owned(),
        })
    }

    /// Copies one snapshot of a source. Returns its schema version. A source without data has
    /// version 0 and is not copied.
    ///
    /// The copy runs in one read transaction. Otherwise each commit of another process would start
    /// the copy again, and under steady load it would never end.
    fn copy(
        &self,
        source: &Connection,
        of: &Path,
        report: &mut dyn FnMut(Progress),
    ) -> Result<i64, OpenError> {
        let mut copy = self.open()?;
        let mut schema = Ok(0);
        let outcome = connection::on_snapshot(source, |_| {
            // This first read begins the snapshot.
            schema = migrations::check(source, of);
            if matches!(schema, Err(_) | Ok(0)) {
                return Ok(());
            }
            let backup = Backup::new(source, &mut copy)?;
            loop {
                let step = backup.step(STEP_PAGES)?;
                let (left, total) = (backup.progress().remaining, backup.progress().pagecount);
                report(Progress::Copying {
                    pages: u64::try_from(total - left).unwrap_or(0),
                    total: u64::try_from(total).unwrap_or(0),
                });
                if step == StepResult::Done {
                    return Ok(());
                }
                if step != StepResult::More {
                    return Err(Code::Overloaded.into());
                }
            }
        });
        let schema = schema?;
        outcome.map_err(|error| self.failed(of, &error))?;
        drop(copy);
        // Without a log, the copy is complete in one file and can be read from read-only media.
        let copy = self.open()?;
        copy.pragma_update(None, "journal_mode", "DELETE")
            .map_err(|error| self.failed(of, &error.into()))?;
        Ok(schema)
    }

    /// Opens the copy without syncs: `publish` syncs the whole file.
    fn open(&self) -> Result<Connection, OpenError> {
        let prepare = || {
            let connection = connection::open_writer(&self.path)?;
            connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
            connection.pragma_update(None, "synchronous", "OFF")?;
            connection.pragma_update(None, "temp_store", "MEMORY")?;
            connection.pragma_update(None, "cache_size", -65_536)?;
            Ok(connection)
        };
        prepare().map_err(|error: rusqlite::Error| cannot_write(&self.destination, &error))
    }

    /// Refuses a copy in which SQLite finds faults.
    fn refuse_damage(&self, copy: &Connection, of: &Path) -> Result<(), OpenError> {
        let damage = check::damage(&Reader::on(Engine::Sqlite(Session::of(copy))));
        let damage = damage.map_err(|error| self.failed(of, &error))?;
        match damage.as_slice() {
            [] => Ok(()),
            [first, others @ ..] => {
                let more = match others.len() {
                    0 => String::new(),
                    more => format!(" (and {more} more)"),
                };
                Err(OpenError(format!(
                    "the copy of {} is damaged and was removed: {first}{more}",
                    of.display()
                )))
            }
        }
    }

    fn contradictions(&self, copy: &Connection, of: &Path) -> Result<Vec<String>, OpenError> {
        check::contradictions(&Reader::on(Engine::Sqlite(Session::of(copy))))
            .map_err(|error| self.failed(of, &error))
    }

    /// Opens the copy once as a server does, so that a copy that no server can open is not
    /// published. Returns what the copy holds.
    fn open_as_server(&self) -> Result<Contents, OpenError> {
        let failed = |error: &dyn std::fmt::Display| {
            OpenError(format!(
                "a server cannot open the copy for {}: {error}",
                self.destination.display()
            ))
        };
        let store =
            Store::open(self.folder.path(), Clock::System).map_err(|error| failed(&error))?;
        let contents = store
            .read_now(contents::of)
            .map_err(|error| failed(&error))?;
        let closed = store.closed();
        drop(store);
        let has_log = || {
            let log = fs::metadata(side_file(&self.path, "-wal"));
            log.is_ok_and(|log| log.len() > 0)
        };
        if !closed.wait(CLOSE_LIMIT) || has_log() {
            return Err(failed(&"its write-ahead log was not checkpointed in time"));
        }
        Ok(contents)
    }

    fn contents(&self, copy: &Connection) -> Result<Contents, OpenError> {
        contents::of(&Reader::on(Engine::Sqlite(Session::of(copy))))
            .map_err(|error| self.failed(&self.destination, &error))
    }

    /// Syncs the copy and moves it to its destination. Never overwrites a file. Returns the size.
    fn publish(self, destination: &Path) -> Result<u64, OpenError> {
        let failed = |error: io::Error| cannot_write(destination, &error);
        let file = File::open(&self.path).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        let bytes = file.metadata().map_err(failed)?.len();
        drop(file);
        rename_noclobber(&self.path, destination).map_err(|error| {
            if error.kind() == io::ErrorKind::AlreadyExists {
                OpenError(format!(
                    "another program has just created {}; check that file, then try again",
                    destination.display()
                ))
            } else {
                failed(error)
            }
        })?;
        drop(self.folder);
        File::open(parent(destination))
            .and_then(|folder| folder.sync_all())
            .map_err(|error| {
                OpenError(format!(
                    "{} is in place and complete, but its folder could not be synced ({error}): a power cut may lose the file",
                    destination.display()
                ))
            })?;
        Ok(bytes)
    }

    fn failed(&self, of: &Path, error: &Error) -> OpenError {
        if let Error::Internal(cause) = error
            && let Some(fault) = cause.downcast_ref().and_then(fault)
        {
            return OpenError(format!("{} {fault}", of.display()));
        }
        OpenError(format!(
            "cannot copy {} to {}: {error}",
            of.display(),
            self.destination.display()
        ))
    }
}

/// Renames a file. Fails if a file of the new name exists.
fn rename_noclobber(from: &Path, to: &Path) -> io::Result<()> {
    let path = TempPath::try_from_path(from)?;
    Ok(path.persist_noclobber(to)?)
}

fn cannot_write(destination: &Path, error: &dyn std::fmt::Display) -> OpenError {
    OpenError(format!("cannot write {}: {error}", destination.display()))
}
