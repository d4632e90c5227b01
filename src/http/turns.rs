//! Turns: where one stands, and waiting for its end (contract, section 4).

use std::time::Duration;

use actix_web::{HttpRequest, web};
use schemars::JsonSchema;
use serde::Serialize;

use super::edge::admission::Permit;
use super::edge::envelope::{Outcome, Reply};
use super::edge::extract::{FromQuery, Query, QueryString, path_id};
use super::sessions::{find, find_in};
use super::{App, Stage};
use crate::error::{Code, Error, Result};
use crate::model::caller::Reach;
use crate::model::ids::{SessionId, TurnId};
use crate::model::session::Turn;
use crate::store::{Extent, WriteTx, sessions, turns};

/// How long a cancel waits for what was said to be stored.
const SETTLING: Duration = Duration::from_secs(2);

/// How long a reply is held for the turn's end.
pub(super) struct Wait(Duration);

impl FromQuery for Wait {
    fn read(query: &QueryString) -> Result<Self> {
        let seconds = query.number("wait_seconds", 0..=60)?.unwrap_or(0);
        Ok(Self(Duration::from_secs(seconds.unsigned_abs())))
    }
}

pub(super) async fn get(
    app: web::Data<App>,
    caller: Permit,
    request: HttpRequest,
    Query(Wait(wait)): Query<Wait>,
) -> Outcome<Turn> {
    let session: SessionId = path_id(&request, "session_id")?;
    let turn: TurnId = path_id(&request, "chat_turn_id")?;
    let read = || {
        let caller = caller.shared();
        app.store.read(move |reader| {
            find_in(reader, &caller, session, Reach::Read)?;
            Ok(turns::by_id(reader, session, turn)?.ok_or(Code::NotFound)?)
        })
    };
    // Listening begins before the first look, so that an end in between is not missed.
    let mut listener = app.signals.listen(session);
    let over = tokio::time::sleep(wait);
    tokio::pin!(over);
    loop {
        let found = read().await?;
        if found.has_ended() || wait.is_zero() {
            return Ok(Reply::ok(found));
        }
        tokio::select! {
            () = listener.notified() => {}
            () = &mut over => return Ok(Reply::ok(read().await?)),
            () = app.comes_to(Stage::Draining) => return Ok(Reply::ok(found)),
        }
    }
}

/// How many turns were called off.
#[derive(Serialize, JsonSchema)]
pub(super) struct Cancelled {
    cancelled: usize,
}

pub(super) async fn cancel(
    app: web::Data<App>,
    caller: Permit,
    request: HttpRequest,
) -> Outcome<Cancelled> {
    let session: SessionId = path_id(&request, "session_id")?;
    find(&app, &caller, session, Reach::Write).await?;
    let cancelled = call_off(&app, session, turns::cancel).await?;
    Ok(Reply::ok(Cancelled { cancelled }))
}

/// Changes a session so that its turns are called off, and waits a little for their streams to end.
pub(super) async fn call_off<T: Send + 'static>(
    app: &App,
    session: SessionId,
    change: impl FnOnce(&mut WriteTx<'_>, SessionId) -> Result<T> + Send + 'static,
) -> Result<T> {
    let mut listener = app.signals.listen(session);
    let engine = app.engine.clone();
    let done = app
        .store
        .write(Extent::Session(session.tick()), move |tx| {
            let done = change(tx, session)?;
            let tenant = sessions::tenant_of(tx.reader(), session)?;
            tx.on_commit(move || engine.cancel(tenant, session));
            Ok(done)
        })
        .await?;
    app.signals.notify(session);
    let settled = async {
        // A turn that came behind them was not called off, and is not waited for.
        while app
            .store
            .read(move |reader| turns::oldest_unsettled(reader, session))
            .await?
            .is_some_and(|turn| turn.is_cancelled)
        {
            listener.notified().await;
        }
        Ok::<(), Error>(())
    };
    // Only a courtesy: what was called off stays so, whether or not its stream has ended already.
    tokio::time::timeout(SETTLING, settled)
        .await
        .unwrap_or(Ok(()))?;
    Ok(done)
}
