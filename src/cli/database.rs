//! Where a command finds its data: a data folder, or a database on a PostgreSQL server (contract,
//! section 12).

use std::fmt;
use std::path::{Path, PathBuf};

use super::{Common, Failed};
use crate::model::clock::Clock;
use crate::store::postgres::Target;
use crate::store::{ServeLock, Store, database_file};

/// Where the data is.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// A folder with a SQLite file.
    Folder(PathBuf),
    /// A database on a PostgreSQL server, and the most connections to it.
    Server(Box<Target>, usize),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => folder.display().fmt(f),
            Self::Server(target, _) => target.fmt(f),
        }
    }
}

impl Place {
    /// Whether there is data, or a database that can hold it.
    pub(super) fn exists(&self) -> bool {
        match self {
            Self::Folder(folder) => database_file(folder).is_file(),
            Self::Server(..) => true,
        }
    }

    /// Opens the data for a command, and creates it if it is missing.
    pub(super) fn open(&self) -> Result<Store, Failed> {
        Ok(match self {
            Self::Folder(folder) => Store::open(folder, Clock::System)?,
            Self::Server(target, connections) => {
                Store::connect(target, Clock::System, *connections, false)?
            }
        })
    }

    /// Opens the data for a server. A folder has one server, which holds the lock.
    pub(super) fn open_to_serve(&self) -> Result<(Store, Option<ServeLock>), Failed> {
        Ok(match self {
            Self::Folder(folder) => {
                let (store, lock) = Store::open_to_serve(folder, Clock::System)?;
                (store, Some(lock))
            }
            Self::Server(target, connections) => {
                let store = Store::connect(target, Clock::System, *connections, true)?;
                (store, None)
            }
        })
    }

    /// The folder, for a command that works on files alone.
    ///
    /// # Errors
    /// `otherwise`, which says what does it on PostgreSQL.
    pub(super) fn folder(&self, otherwise: &str) -> Result<&Path, Failed> {
        match self {
            Self::Folder(folder) => Ok(folder),
            Self::Server(..) => Err(Failed::saying(otherwise)),
        }
    }
}

impl Common {
    /// Where the data is: the database of `--database`, else the folder of `--data`, else this one.
    pub(super) fn place_or(&self, default: &str) -> Result<Place, Failed> {
        if let Some(url) = self.database_url()? {
            return Ok(Place::Server(
                Box::new(Target::parse(&url)?),
                self.database_connections,
            ));
        }
        let folder = self.data.clone();
        Ok(Place::Folder(
            folder.unwrap_or_else(|| PathBuf::from(default)),
        ))
    }

    /// As [`Common::place_or`], with the default folder.
    pub(super) fn place(&self) -> Result<Place, Failed> {
        self.place_or("./switchboard-data")
    }

    /// The URL of the flag, its variable, or its file.
    fn database_url(&self) -> Result<Option<String>, Failed> {
        let file = self.database_file.as_ref();
        let Some(file) = file.filter(|file| !file.as_os_str().is_empty()) else {
            return Ok(self.database.clone());
        };
        if self.database.is_some() {
            return Err(Failed::saying(
                "--database and --database-file are both given: leave one of them out",
            ));
        }
        let text = std::fs::read_to_string(file).map_err(|error| {
            Failed::saying(format!(
                "--database-file: {} cannot be read: {error}; give the path of a file with the URL",
                file.display()
            ))
        })?;
        match text.trim() {
            "" => Err(Failed::saying(format!(
                "--database-file: {} is empty: write the URL into it",
                file.display()
            ))),
            url => Ok(Some(url.to_owned())),
        }
    }
}
