//! Turns: reading their state, waiting for their end, and cancellation (contract, section 4).

use std::time::Duration;

use actix_web::{HttpRequest, web};
use schemars::JsonSchema;
use serde::Serialize;

use super::edge::admission::Permit;
use super::edge::envelope::{Outcome, Reply};
use super::edge::extract::{FromQuery, Query, QueryString, path_id};
use super::edge::reply_limiter::is_reserved;
use super::sessions::{find, find_in, hide_reasoning};
use super::{App, Stage};
use crate::error::{Code, Error, Result};
use crate::model::caller::Reach;
use crate::model::ids::{SessionId, TurnId};
use crate::model::session::Turn;
use crate::store::{Extent, WriteTx, reasoning, sessions, turns};

/// How long a cancellation waits until the partial answers are stored.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(2);

/// The query parameter `wait_seconds`: how long the reply waits for the turn's end.
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
            let found_in = find_in(reader, &caller, session, Reach::Read)?;
            let mut found = turns::by_id(reader, session, turn)?.ok_or(Code::NotFound)?;
            if !reasoning::are_shown(reader, &caller, &found_in)? {
                hide_reasoning(&mut found.assistant_message)?;
            }
            Ok(found)
        })
    };
    // The listener is created before the first read, so that an end in between is not missed.
    let mut listener = app.signals.listen(session);
    let timeout = tokio::time::sleep(wait);
    tokio::pin!(timeout);
    loop {
        let found = read().await?;
        // A reply that has waited for room does not wait again.
        if found.has_ended() || wait.is_zero() || is_reserved(&request) {
            return Ok(Reply::ok(found));
        }
        tokio::select! {
            () = listener.notified() => {}
            () = &mut timeout => return Ok(Reply::ok(read().await?)),
            () = app.reaches(Stage::Draining) => return Ok(Reply::ok(found)),
        }
    }
}

/// The result of a cancellation.
#[derive(Serialize, JsonSchema)]
pub(super) struct Cancelled {
    /// The number of turns that were cancelled.
    cancelled: usize,
}

pub(super) async fn cancel(
    app: web::Data<App>,
    caller: Permit,
    request: HttpRequest,
) -> Outcome<Cancelled> {
    let session: SessionId = path_id(&request, "session_id")?;
    find(&app, &caller, session, Reach::Write).await?;
    let cancelled = change_and_cancel(&app, session, turns::cancel).await?;
    Ok(Reply::ok(Cancelled { cancelled }))
}

/// Applies a change that cancels the session's turns, and waits up to [`CANCEL_TIMEOUT`] until the
/// streams of these turns end.
pub(super) async fn change_and_cancel<T: Send + 'static>(
    app: &App,
    session: SessionId,
    change: impl FnOnce(&mut WriteTx<'_>, SessionId) -> Result<T> + Send + 'static,
) -> Result<T> {
    let mut listener = app.signals.listen(session);
    let engine = app.engine.clone();
    let result = app
        .store
        .write(Extent::Session(session.tick()), move |tx| {
            let result = change(tx, session)?;
            let tenant = sessions::tenant_of(tx.reader(), session)?;
            tx.on_commit(move || engine.cancel(tenant, session));
            Ok(result)
        })
        .await?;
    app.signals.announce(session);
    let settled = async {
        // A turn that was queued after the change is not cancelled. The loop does not wait for it.
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
    // The turns are cancelled even if their streams have not ended when the timeout expires.
    tokio::time::timeout(CANCEL_TIMEOUT, settled)
        .await
        .unwrap_or(Ok(()))?;
    Ok(result)
}
