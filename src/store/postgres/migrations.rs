//! Migrates the schema, or tells the operator why the database cannot be used.

use std::error::Error as _;

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::locks;
use super::target::Target;
use crate::store::OpenError;

mod embedded {
    refinery::embed_migrations!("migrations/postgres");
}

const IS_UNFINISHED: &str = "SELECT to_regclass('unfinished_copy') IS NOT NULL AS is_unfinished";
/// Another program can have its migrations applied by the same library.
/// How often a migration is tried that runs into the locks of running nodes.
const ATTEMPTS: usize = 5;

const HAS_HISTORY: &str = "
SELECT to_regclass('refinery_schema_history') IS NOT NULL AND to_regclass('configuration_version') IS NOT NULL AS has_history";
const HAS_TABLES: &str = "
SELECT EXISTS (SELECT 1 FROM pg_tables WHERE schemaname = current_schema()) AS has_tables";
const APPLIED: &str =
    "SELECT CAST(coalesce(max(version), 0) AS bigint) AS version FROM refinery_schema_history";
const HAS_MIN_READER: &str = "SELECT to_regclass('min_reader') IS NOT NULL AS has_min_reader";
const MIN_READER: &str = "SELECT version FROM min_reader WHERE one = 1";

/// The newest schema version that this program knows.
pub(super) fn newest() -> i64 {
    let runner = embedded::migrations::runner();
    let versions = runner.get_migrations().iter();
    versions
        .map(|migration| i64::from(migration.version()))
        .max()
        .unwrap_or(0)
}

/// Applies the missing migrations in one transaction, while no other program does.
///
/// A newer schema is no error as long as the database says that this program can run beside it: a
/// release first adds to the schema, and a later one takes away.
///
/// # Errors
/// A sentence for the operator.
pub(super) async fn run(client: &mut Client, target: &Target) -> Result<(), OpenError> {
    let failed = |error: &tokio_postgres::Error| {
        OpenError(format!("cannot use {target}: {}", target.explain(error)))
    };
    client
        .execute(locks::MIGRATION, &[])
        .await
        .map_err(|error| failed(&error))?;
    let outcome = run_locked(client, target).await;
    client
        .execute(locks::END_MIGRATION, &[])
        .await
        .map_err(|error| failed(&error))?;
    outcome
}

async fn run_locked(client: &mut Client, target: &Target) -> Result<(), OpenError> {
    let failed = |error: tokio_postgres::Error| {
        OpenError(format!("cannot use {target}: {}", target.explain(&error)))
    };
    let is = async |client: &Client, sql: &str| -> Result<bool, OpenError> {
        let row = client.query_one(sql, &[]).await.map_err(failed)?;
        row.try_get(0).map_err(failed)
    };
    let number = async |client: &Client, sql: &str| -> Result<i64, OpenError> {
        let row = client.query_one(sql, &[]).await.map_err(failed)?;
        row.try_get(0).map_err(failed)
    };
    if is(client, IS_UNFINISHED).await? {
        return Err(OpenError(format!(
            "{target} is a copy that was not finished, and nothing can use it: drop and create the database, then copy again"
        )));
    }
    if !is(client, HAS_HISTORY).await? {
        if is(client, HAS_TABLES).await? {
            return Err(OpenError(format!(
                "{target} holds the tables of another program; create a database for Switchboard alone"
            )));
        }
    } else {
        let (applied, supported) = (number(client, APPLIED).await?, newest());
        if applied > supported {
            let min_reader = match is(client, HAS_MIN_READER).await? {
                true => number(client, MIN_READER).await?,
                false => applied,
            };
            if supported < min_reader {
                return Err(OpenError(format!(
                    "{target} was written by a newer switchboard (its schema is {applied} and needs {min_reader}, this version supports {supported}); use the newer version"
                )));
            }
            log::warn!(
                "{target} has the newer schema {applied}; this version knows {supported} and runs beside it"
            );
            return Ok(());
        }
        if applied == supported {
            return Ok(());
        }
    }
    let mut attempt = 1;
    loop {
        let runner = embedded::migrations::runner().set_grouped(true);
        let Err(error) = runner.run_async(client).await else {
            return Ok(());
        };
        let cause = error.source();
        let told = cause.and_then(|cause| cause.downcast_ref::<tokio_postgres::Error>());
        let gave_way = told
            .and_then(tokio_postgres::Error::code)
            .is_some_and(gives_way);
        if gave_way && attempt < ATTEMPTS {
            attempt += 1;
            continue;
        }
        let reason = match (told, cause) {
            (Some(told), _) => target.explain(told),
            (None, Some(cause)) => cause.to_string(),
            (None, None) => error.to_string(),
        };
        return Err(OpenError(format!(
            "the schema of {target} could not be migrated: {reason}"
        )));
    }
}

/// Whether the migration gave way to the changes of a running node: nothing of it is stored.
fn gives_way(code: &SqlState) -> bool {
    [
        SqlState::T_R_DEADLOCK_DETECTED,
        SqlState::LOCK_NOT_AVAILABLE,
    ]
    .contains(code)
}
