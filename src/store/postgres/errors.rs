//! Converts PostgreSQL's errors into the program's.

use std::error::Error as _;

use tokio_postgres::error::SqlState;

use crate::error::{Code, Error};

/// Classes of SQLSTATE for a lost connection, and for a server that shuts down or starts.
const CONNECTION: &str = "08";
const OPERATOR: &str = "57P";

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        if is_connection_lost(&error) {
            log::debug!(
                "the connection to the database was lost: {}",
                describe(&error)
            );
            return Code::Overloaded.into();
        }
        match error.code() {
            Some(code) if *code == SqlState::DISK_FULL => Code::StorageFull.into(),
            Some(code) if is_busy(code) => Code::Overloaded.into(),
            _ => Self::internal(describe(&error)),
        }
    }
}

/// Whether the statement gave way to others: a lock, a limit of time, a deadlock, or a name that
/// another node took in the same moment. The caller can repeat its request.
fn is_busy(code: &SqlState) -> bool {
    [
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::T_R_DEADLOCK_DETECTED,
        SqlState::LOCK_NOT_AVAILABLE,
        SqlState::QUERY_CANCELED,
        SqlState::TOO_MANY_CONNECTIONS,
        SqlState::OUT_OF_MEMORY,
        SqlState::UNIQUE_VIOLATION,
        SqlState::READ_ONLY_SQL_TRANSACTION,
        SqlState::IN_FAILED_SQL_TRANSACTION,
    ]
    .contains(code)
}

/// Whether the connection is gone, or the server ends it.
pub(super) fn is_connection_lost(error: &tokio_postgres::Error) -> bool {
    error.is_closed()
        || match error.code() {
            Some(code) => {
                let code = code.code();
                code.starts_with(CONNECTION) || code.starts_with(OPERATOR)
            }
            // A failure of the socket or of TLS.
            None => error
                .source()
                .is_some_and(|source| source.is::<std::io::Error>()),
        }
}

/// The error as the server told it. The detail is left out: it can hold a person's text.
pub(super) fn describe(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(told) => format!("{} (SQLSTATE {})", told.message(), told.code().code()),
        None => match error.source() {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        },
    }
}
