//! Turns: where one stands, and waiting for its end (contract, section 4).

use std::time::Duration;

use actix_web::{HttpRequest, web};

use super::App;
use super::envelope::{Outcome, Reply};
use super::extract::{Query, path_id};
use super::permit::{Anyone, Permit};
use super::sessions::find;
use crate::error::Code;
use crate::model::caller::Reach;
use crate::model::ids::{SessionId, TurnId};
use crate::model::session::Turn;
use crate::store::turns;

pub(super) async fn get(
    app: web::Data<App>,
    caller: Permit<Anyone>,
    request: HttpRequest,
    query: Query,
) -> Outcome<Turn> {
    let wait = Duration::from_secs(query.number("wait_seconds", 0..=60)?.unwrap_or(0));
    let session: SessionId = path_id(&request, "session_id")?;
    let turn: TurnId = path_id(&request, "chat_turn_id")?;
    let read = || {
        app.store.read(|reader| {
            find(reader, &caller, session, Reach::Read)?;
            Ok(turns::by_id(reader, session, turn)?.ok_or(Code::NotFound)?)
        })
    };
    // Listening begins before the first look, so that an end in between is not missed.
    let mut listener = app.signals.listen(session);
    let over = tokio::time::sleep(wait);
    tokio::pin!(over);
    loop {
        let found = read()?;
        if found.has_ended() || wait.is_zero() {
            return Ok(Reply::ok(found));
        }
        tokio::select! {
            () = listener.rung() => {}
            () = &mut over => return Ok(Reply::ok(read()?)),
            () = app.begins_to_drain() => return Ok(Reply::ok(found)),
        }
    }
}
