//! Copies of a whole file: one taken beside a running server, one put into a folder that has none; each is checked before it counts.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, ffi};
use tempfile::{Builder, TempDir, TempPath};

use super::errors::{describe, fault};
use super::folder::{self, FILE, lock_for_serving, make_private_file};
use super::session::Session;
use super::{check, checkpoint, connection, migrations};
use crate::error::{Code, Error};
use crate::model::clock::Clock;
use crate::store::contents::{self, Contents};
use crate::store::sql::Reader;
use crate::store::{OpenError, Store};

/// Pages that are copied between two words to whoever waits: some megabytes.
const STEP: i32 = 1_024;
/// What SQLite keeps beside a file, and would take for a part of any file that is put there.
const SIDE_FILES: [&str; 3] = ["-wal", "-shm", "-journal"];
/// How long a draft that was opened as a server does may take to be closed: its log is copied into it.
const CLOSING: Duration = Duration::from_secs(60);

/// How far a copy has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// So many pages are written.
    Copied {
        /// Pages that are written.
        pages: u64,
        /// Pages of the whole file.
        of: u64,
    },
    /// All are written, and are looked over.
    Checking,
}

/// A copy that was checked and is in its place.
#[derive(Debug)]
pub struct Copied {
    /// What it holds.
    pub contents: Contents,
    /// Its size.
    pub bytes: u64,
    /// Where its rows contradict each other, as those of its source do.
    pub contradictions: Vec<String>,
}

/// Writes a data folder as it is at this moment into one new file, also while a server works on it.
///
/// # Errors
/// A sentence for the operator: no data, a file of that name, no room, damage. Nothing is left of the copy then, unless the
/// sentence says that it is there.
pub fn back_up(
    folder: &Path,
    file: &Path,
    tell: &mut dyn FnMut(Progress),
) -> Result<Copied, OpenError> {
    let path = folder.join(FILE);
    if !path.is_file() {
        return Err(OpenError(format!(
            "there is no data in {}; give another --data",
            folder.display()
        )));
    }
    refuse_existing(file)?;
    if is_the_folder_s_own(&path, file) {
        return Err(OpenError(format!(
            "{} would lie among the data folder's own files; give another name",
            file.display()
        )));
    }
    let draft = Draft::beside(file)?;
    // Opened as a writer does, so that it can take up the log that a crash left; it changes nothing.
    let source = connection::open_writer(&path)
        .and_then(|source| {
            source.pragma_update(None, "query_only", "ON")?;
            leave_a_kept_log(&source, &path)?;
            Ok(source)
        })
        .map_err(|error| OpenError(describe(&path, &error)))?;
    if draft.copy(&source, &path, tell)? == 0 {
        return Err(OpenError(format!(
            "{} is empty: no command has worked on this data folder yet, so that there is nothing to back up",
            path.display()
        )));
    }
    // A server may have begun to keep it meanwhile.
    leave_a_kept_log(&source, &path).map_err(|error| OpenError(describe(&path, &error)))?;
    drop(source);
    tell(Progress::Checking);
    let (contents, contradictions) = {
        let copy = draft.open()?;
        draft.refuse_damage(&copy, &path)?;
        (draft.contents(&copy)?, draft.contradictions(&copy, &path)?)
    };
    let bytes = draft.place(file)?;
    Ok(Copied {
        contents,
        bytes,
        contradictions,
    })
}

/// Has a connection that ends, be it the last, not copy back a log that is kept.
fn leave_a_kept_log(source: &Connection, path: &Path) -> rusqlite::Result<()> {
    let is_kept = checkpoint::is_kept(path);
    source
        .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, is_kept)
        .map(drop)
}

/// Makes a copy the database of a data folder that has none, brought up to this version's schema.
///
/// # Errors
/// A sentence for the operator: no such file, damage, a newer version's file, a folder that has data or is served. The folder
/// has no database then, as before, unless the sentence says that it is there.
pub fn restore(
    file: &Path,
    folder: &Path,
    tell: &mut dyn FnMut(Progress),
) -> Result<Copied, OpenError> {
    let source = open_copy(file)?;
    if migrations::check(&source, file)? == 0 {
        return Err(no_data(file));
    }
    folder::make(folder)?;
    let _lock = lock_for_serving(folder)?;
    let path = folder.join(FILE);
    refuse_data(&path)?;
    let draft = Draft::beside(&path)?;
    let schema = draft.copy(&source, file, tell)?;
    drop(source);
    tell(Progress::Checking);
    let contradictions = {
        let mut copy = draft.open()?;
        draft.refuse_damage(&copy, file)?;
        if schema < migrations::newest() {
            migrations::run(&mut copy, file)?;
            draft.refuse_damage(&copy, file)?;
        }
        draft.contradictions(&copy, file)?
    };
    let before = draft.served()?;
    refuse_data(&path)?;
    let bytes = draft.place(&path)?;
    // Read where it will be served, so that what is told of it is what will be.
    let stands = |error: &dyn std::fmt::Display| {
        OpenError(format!(
            "{} is in its place, and was whole before it was put there, but it cannot be read there: {error}; \
             mend that and run 'check', or move the file away",
            path.display()
        ))
    };
    let store = Store::open(folder, Clock::System).map_err(|error| stands(&error))?;
    let contents = store
        .read_now(contents::of)
        .map_err(|error| stands(&error))?;
    if contents != before {
        return Err(OpenError(format!(
            "{} is in its place and does not hold what was copied into it; move it away, and look at the disk",
            path.display()
        )));
    }
    Ok(Copied {
        contents,
        bytes,
        contradictions,
    })
}

/// Opens a copy to put back, and leaves it and its folder as they are.
fn open_copy(file: &Path) -> Result<Connection, OpenError> {
    let failed = |error: &dyn std::fmt::Display| {
        OpenError(format!("cannot read {}: {error}", file.display()))
    };
    let length = fs::metadata(file).map_err(|error| failed(&error))?.len();
    if !file.is_file() || length == 0 {
        return Err(no_data(file));
    }
    // A link's own name has no log beside it: that is where the file is.
    let whole = file.canonicalize().map_err(|error| failed(&error))?;
    let mut address = url::Url::from_file_path(&whole)
        .map_err(|()| failed(&"its name cannot be given to SQLite"))?;
    let is_alone = |suffix: &&str| side_file(&whole, suffix).symlink_metadata().is_err();
    if ["-wal", "-journal"].iter().all(is_alone) {
        // Without a log nobody works on it, and SQLite need not put files of its own beside it.
        address.set_query(Some("immutable=1"));
    }
    let source = Connection::open_with_flags(
        address.as_str(),
        OpenFlags::SQLITE_OPEN_READ_ONLY
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_URI,
    );
    let source = source.map_err(|error| OpenError(describe(file, &error)))?;
    match connection::version_of_others(&source) {
        Err(rusqlite::Error::SqliteFailure(error, _))
            if error.extended_code == ffi::SQLITE_READONLY_ROLLBACK =>
        {
            Err(OpenError(format!(
                "{} holds half of a change, and {} what undoes it; copy both to where 'sqlite3' may write, read the copy with it once, and give that",
                file.display(),
                side_file(&whole, "-journal").display()
            )))
        }
        // Whatever else is wrong with it is found, and told, where it is read.
        Ok(_) | Err(_) => Ok(source),
    }
}

fn no_data(file: &Path) -> OpenError {
    OpenError(format!(
        "{} holds no data; give a file that 'backup' wrote",
        file.display()
    ))
}

/// A data folder with a database, or with what is left of one, is nobody's to overwrite.
fn refuse_data(path: &Path) -> Result<(), OpenError> {
    let side_files = SIDE_FILES.map(|suffix| side_file(path, suffix));
    let mut there = [path.to_owned()].into_iter().chain(side_files);
    match there.find(|path| path.symlink_metadata().is_ok()) {
        None => Ok(()),
        Some(found) => Err(OpenError(format!(
            "{} is there, and nothing is overwritten; move it away, or give another --data",
            found.display()
        ))),
    }
}

fn refuse_existing(file: &Path) -> Result<(), OpenError> {
    if file.symlink_metadata().is_ok() {
        return Err(OpenError(format!(
            "{} is there, and nothing is overwritten; give another name",
            file.display()
        )));
    }
    Ok(())
}

/// Whether a name is one that SQLite would take for a part of the database.
fn is_the_folder_s_own(database: &Path, file: &Path) -> bool {
    let is_beside = match (database.parent(), parent(file).canonicalize()) {
        (Some(folder), Ok(parent)) => folder.canonicalize().is_ok_and(|folder| folder == parent),
        _ => false,
    };
    let names = SIDE_FILES.map(|suffix| format!("{FILE}{suffix}"));
    is_beside && names.iter().any(|name| file.ends_with(name))
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

/// A copy that does not count yet: in a folder of its own beside its place, which goes with all that is in it.
struct Draft {
    folder: TempDir,
    path: PathBuf,
    /// What it will be, for sentences.
    place: PathBuf,
}

impl Draft {
    fn beside(place: &Path) -> Result<Self, OpenError> {
        let failed = |error: io::Error| cannot_write(place, &error);
        if !parent(place).is_dir() {
            return Err(cannot_write(place, &"its folder is not there"));
        }
        let folder = Builder::new()
            .prefix(".switchboard-copy-")
            .tempdir_in(parent(place))
            .map_err(failed)?;
        let path = folder.path().join(FILE);
        // Named as it will be named in its place: a file system that cannot do this says so before the long copy.
        let unnamed = folder.path().join("unnamed");
        make_private_file(&unnamed).map_err(failed)?;
        give_new_name(&unnamed, &path).map_err(|error| {
            let why = format!(
                "its file system gives no file a name without overwriting what may be there ({error}); \
                 name one on another file system"
            );
            cannot_write(place, &why)
        })?;
        Ok(Self {
            folder,
            path,
            place: place.to_owned(),
        })
    }

    /// Copies a source as it is at one moment; its schema, or 0 for one without data, which is not copied.
    ///
    /// All of it is one read transaction. Without one the copy would begin anew with each commit of another process, and
    /// under steady load never end; with one it ends, and holds the log only for as long as the disk takes.
    fn copy(
        &self,
        source: &Connection,
        of: &Path,
        tell: &mut dyn FnMut(Progress),
    ) -> Result<i64, OpenError> {
        let mut copy = self.open()?;
        let mut schema = Ok(0);
        let outcome = connection::on_a_snapshot(source, |_| {
            // The first read: from here on nothing that others write is seen.
            schema = migrations::check(source, of);
            if matches!(schema, Err(_) | Ok(0)) {
                return Ok(());
            }
            let backup = Backup::new(source, &mut copy)?;
            loop {
                let step = backup.step(STEP)?;
                let (left, of) = (backup.progress().remaining, backup.progress().pagecount);
                tell(Progress::Copied {
                    pages: u64::try_from(of - left).unwrap_or(0),
                    of: u64::try_from(of).unwrap_or(0),
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
        // As a file without a log: it is whole by itself, and can be read where nothing can be written.
        let copy = self.open()?;
        copy.pragma_update(None, "journal_mode", "DELETE")
            .map_err(|error| self.failed(of, &error.into()))?;
        Ok(schema)
    }

    /// Opens the draft, which nobody else knows; it is on the disk only once it is placed.
    fn open(&self) -> Result<Connection, OpenError> {
        let prepare = || {
            let connection = connection::open_writer(&self.path)?;
            connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
            connection.pragma_update(None, "synchronous", "OFF")?;
            connection.pragma_update(None, "temp_store", "MEMORY")?;
            connection.pragma_update(None, "cache_size", -65_536)?;
            Ok(connection)
        };
        prepare().map_err(|error: rusqlite::Error| cannot_write(&self.place, &error))
    }

    /// Refuses a copy that is not whole.
    fn refuse_damage(&self, copy: &Connection, of: &Path) -> Result<(), OpenError> {
        let damage = check::damage(&Reader::on(Session::of(copy)));
        let damage = damage.map_err(|error| self.failed(of, &error))?;
        match damage.as_slice() {
            [] => Ok(()),
            [first, others @ ..] => {
                let more = match others.len() {
                    0 => String::new(),
                    more => format!(" (and {more} more)"),
                };
                Err(OpenError(format!(
                    "the copy of {} is damaged and was not kept: {first}{more}",
                    of.display()
                )))
            }
        }
    }

    fn contradictions(&self, copy: &Connection, of: &Path) -> Result<Vec<String>, OpenError> {
        check::contradictions(&Reader::on(Session::of(copy)))
            .map_err(|error| self.failed(of, &error))
    }

    /// Opens the draft once as a server would, so that whatever keeps one off it keeps it from its place; what it holds.
    fn served(&self) -> Result<Contents, OpenError> {
        let failed = |error: &dyn std::fmt::Display| {
            OpenError(format!(
                "what was copied for {} could not be served: {error}",
                self.place.display()
            ))
        };
        let store =
            Store::open(self.folder.path(), Clock::System).map_err(|error| failed(&error))?;
        let contents = store
            .read_now(contents::of)
            .map_err(|error| failed(&error))?;
        let ended = store.ended();
        drop(store);
        let has_log = || {
            let log = fs::metadata(side_file(&self.path, "-wal"));
            log.is_ok_and(|log| log.len() > 0)
        };
        if !ended.wait(CLOSING) || has_log() {
            return Err(failed(&"it does not close"));
        }
        Ok(contents)
    }

    fn contents(&self, copy: &Connection) -> Result<Contents, OpenError> {
        contents::of(&Reader::on(Session::of(copy)))
            .map_err(|error| self.failed(&self.place, &error))
    }

    /// Puts the draft on the disk and in its place, unless something has come there meanwhile; its size.
    fn place(self, place: &Path) -> Result<u64, OpenError> {
        let failed = |error: io::Error| cannot_write(place, &error);
        let file = File::open(&self.path).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        let bytes = file.metadata().map_err(failed)?.len();
        drop(file);
        give_new_name(&self.path, place).map_err(|error| {
            if error.kind() == io::ErrorKind::AlreadyExists {
                OpenError(format!(
                    "{} has come there meanwhile, and nothing is overwritten",
                    place.display()
                ))
            } else {
                failed(error)
            }
        })?;
        drop(self.folder);
        File::open(parent(place))
            .and_then(|folder| folder.sync_all())
            .map_err(|error| {
                OpenError(format!(
                    "{} is in its place and whole, but the disk may forget its name: {error}",
                    place.display()
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
            self.place.display()
        ))
    }
}

/// Moves a file to a name that nothing has.
fn give_new_name(file: &Path, name: &Path) -> io::Result<()> {
    let path = TempPath::try_from_path(file)?;
    Ok(path.persist_noclobber(name)?)
}

fn cannot_write(place: &Path, error: &dyn std::fmt::Display) -> OpenError {
    OpenError(format!("cannot write {}: {error}", place.display()))
}
