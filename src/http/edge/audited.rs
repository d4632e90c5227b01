//! Changes of the configuration, each recorded as an audit event in its own transaction.

use serde::Serialize;

use super::envelope::{MaybeSerialized, Outcome, Reply};
use super::once::{Made, Once};
use crate::error::{Code, Result};
use crate::http::App;
use crate::store::audit::{self, Event};
use crate::store::{Extent, Reader, WriteTx};

/// Runs a change, then records its event. The change may complete the event.
///
/// # Errors
/// Those of `change`, after which nothing is recorded.
pub(in crate::http) async fn write<T, F>(app: &App, mut event: Event, change: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce(&mut WriteTx<'_>, &mut Event) -> Result<T> + Send + 'static,
{
    app.store
        .write(Extent::Configuration, move |tx| {
            let result = change(tx, &mut event)?;
            audit::record(tx, &event)?;
            Ok(result)
        })
        .await
}

/// Creates a record of the caller's tenant once, records its event, and replies with the record.
/// `path` is the path of the record. The change may complete the event.
///
/// # Errors
/// Those of `change`, after which nothing is recorded, and of [`Once::first_reply`].
pub(in crate::http) async fn create<T, F, P>(
    app: &App,
    once: Once,
    mut event: Event,
    path: P,
    change: F,
) -> Outcome<MaybeSerialized<T>>
where
    T: Serialize + Send + 'static,
    F: FnOnce(&mut WriteTx<'_>, &mut Event) -> Result<T> + Send + 'static,
    P: FnOnce(&T) -> String + Send + 'static,
{
    once.write(app, Extent::Configuration, move |tx| {
        let record = change(tx, &mut event)?;
        audit::record(tx, &event)?;
        Ok(Made::thing(event.tenant, path(&record), record))
    })
    .await
}

/// Changes a record, and records what differs afterwards. A change that changes nothing is no
/// event.
///
/// # Errors
/// `not_found` if `load` finds no record; those of `change`.
pub(in crate::http) async fn update<T, L, F>(
    app: &App,
    mut event: Event,
    load: L,
    change: F,
) -> Outcome<T>
where
    T: PartialEq + Serialize + Send + 'static,
    L: Fn(&Reader<'_>) -> Result<Option<T>> + Send + 'static,
    F: FnOnce(&mut WriteTx<'_>, &T) -> Result<()> + Send + 'static,
{
    let record = app
        .store
        .write(Extent::Configuration, move |tx| {
            let before = load(tx.reader())?.ok_or(Code::NotFound)?;
            change(tx, &before)?;
            let after = load(tx.reader())?.ok_or(Code::NotFound)?;
            if after != before {
                event.details = audit::difference(&before, &after)?;
                audit::record(tx, &event)?;
            }
            Ok(after)
        })
        .await?;
    Ok(Reply::ok(record))
}
