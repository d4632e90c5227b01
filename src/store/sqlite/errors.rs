//! Converts SQLite's errors into the program's, and describes them to the operator.

use std::path::Path;

use rusqlite::{ErrorCode, ffi};

use crate::error::{Code, Error};

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        if is_full(&error) {
            return Code::StorageFull.into();
        }
        match error.sqlite_error_code() {
            Some(
                ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::OperationInterrupted,
            ) => Code::Overloaded.into(),
            _ => Self::Internal(error.into()),
        }
    }
}

/// Whether the disk is full. If the shared-memory file cannot grow, SQLite reports `SHMSIZE` and no
/// other reason.
pub(super) fn is_full(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_some_and(|failure| {
        failure.code == ErrorCode::DiskFull || failure.extended_code == ffi::SQLITE_IOERR_SHMSIZE
    })
}

/// Describes the error of a database file in a sentence for the operator.
pub(super) fn describe(path: &Path, error: &rusqlite::Error) -> String {
    match fault(error) {
        Some(fault) => format!("{} {fault}; restore it from a backup", path.display()),
        None if is_full(error) => format!(
            "cannot open {}: the disk is full; free some space",
            path.display()
        ),
        None => format!("cannot open {}: {error}", path.display()),
    }
}

/// The fault of the file itself, if the error reports one.
pub(super) fn fault(error: &rusqlite::Error) -> Option<&'static str> {
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => Some("is not a database, or is damaged"),
        Some(ErrorCode::DatabaseCorrupt) => Some("is damaged"),
        _ => None,
    }
}
