//! Limits the bytes of replies that are being built, or that the client has not taken yet.
//!
//! A reply of up to [`PIECE_BYTES`] needs no room. The serializer of a larger reply takes room if
//! there is any. Otherwise the server drops the reply, and the router waits for room and calls the
//! handler again ([`NeedsRoom`]). As a result, only replies with room are ever larger than a piece,
//! and a waiting reply takes no memory.

use std::fmt;
use std::sync::Arc;

use actix_web::dev::ServiceResponse;
use actix_web::{HttpMessage, HttpRequest, ResponseError, web};
use tokio::time::timeout;

use super::call::Call;
use super::context::Context;
use crate::error::{Code, Error, Result};
use crate::http::App;
use crate::limits::{FairPermit, FairSemaphore};
use crate::model::caller::AccountKey;

/// The pieces in which a reply is sent. One piece is about what a connection buffers.
pub(super) const PIECE_BYTES: usize = 64 * 1_024;
/// The most bytes of a reply, as sent (contract, section 1, Size).
pub(super) const REPLY_BYTES: usize = 8 * 1_024 * 1_024;

const KIB: usize = 1_024;
/// Room for the replies of one account, of one tenant and of all, in KiB.
const KIB_PER_ACCOUNT: usize = 32 * 1_024;
const KIB_PER_TENANT: usize = 64 * 1_024;
const KIB_IN_TOTAL: usize = 128 * 1_024;
/// The same for the replies of changes. They have room of their own, so that pages that nobody
/// takes hold up no change.
const CHANGES_KIB_PER_ACCOUNT: usize = 16 * 1_024;
const CHANGES_KIB_PER_TENANT: usize = 32 * 1_024;
const CHANGES_KIB_IN_TOTAL: usize = 64 * 1_024;
/// [`REPLY_BYTES`] in KiB.
pub(super) const KIB_PER_REPLY: u32 = 8 * 1_024;

/// Limits the bytes of replies in flight.
#[derive(Debug)]
pub(in crate::http) struct ReplyLimiter {
    reads: FairSemaphore<AccountKey>,
    changes: FairSemaphore<AccountKey>,
}

/// The room that a reply is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RoomOf {
    /// Requests that can be repeated.
    Reads,
    /// Requests that change something.
    Changes,
}

impl ReplyLimiter {
    pub(in crate::http) fn new() -> Self {
        Self {
            reads: FairSemaphore::new(KIB_IN_TOTAL, KIB_PER_TENANT, KIB_PER_ACCOUNT),
            changes: FairSemaphore::new(
                CHANGES_KIB_IN_TOTAL,
                CHANGES_KIB_PER_TENANT,
                CHANGES_KIB_PER_ACCOUNT,
            ),
        }
    }

    fn room(&self, of: RoomOf) -> &FairSemaphore<AccountKey> {
        match of {
            RoomOf::Reads => &self.reads,
            RoomOf::Changes => &self.changes,
        }
    }

    /// The bytes of replies in flight, including room for what is being built.
    pub(in crate::http) fn bytes(&self) -> usize {
        (self.reads.taken() + self.changes.taken()) * KIB
    }
}

/// Room for a reply, until it is dropped.
#[derive(Debug)]
pub(super) struct ReplyRoom {
    of: RoomOf,
    permit: FairPermit,
}

impl ReplyRoom {
    pub(super) fn bytes(&self) -> usize {
        self.permit.permits() * KIB
    }

    /// Releases the room beyond this number of bytes.
    pub(super) fn shrink_to(&mut self, bytes: usize) {
        self.permit.shrink_to(bytes.div_ceil(KIB));
    }

    /// Adds room for one more reply, if there is any.
    pub(super) fn try_grow(&mut self, request: &HttpRequest) -> Option<()> {
        let more = try_reserve(request, self.of)?;
        self.permit.merge(more.permit);
        Some(())
    }
}

/// The application and the caller, whom every route that can have a large reply knows.
fn parties(request: &HttpRequest) -> Option<(&web::Data<App>, Arc<Call>)> {
    let app = request.app_data::<web::Data<App>>()?;
    let extensions = request.extensions();
    let caller = extensions.get::<Context>()?.call.clone()?;
    Some((app, caller))
}

/// Waits for room for one reply of this size, and reserves it for the request.
///
/// # Errors
/// `overloaded` if there is no room in time.
pub(super) async fn reserve(request: &HttpRequest, of: RoomOf, kib: u32) -> Result<()> {
    let (app, caller) =
        parties(request).ok_or_else(|| Error::internal("a large reply has no caller"))?;
    let account = caller.account_key();
    let room = app.replies.room(of);
    let acquiring = room.acquire(caller.tenant.no, account, kib);
    let permit = match timeout(app.config.timeouts.reply_wait, acquiring).await {
        Ok(permit) => permit.map_err(|closed| Error::Internal(closed.into()))?,
        Err(_) => return Err(Code::Overloaded.into()),
    };
    request.extensions_mut().insert(ReplyRoom { of, permit });
    Ok(())
}

/// Whether room is reserved for the reply of this request.
pub(in crate::http) fn is_reserved(request: &HttpRequest) -> bool {
    request.extensions().contains::<ReplyRoom>()
}

/// The room that is reserved for the reply of this request.
pub(super) fn reserved(request: &HttpRequest) -> Option<ReplyRoom> {
    request.extensions_mut().remove::<ReplyRoom>()
}

/// Takes room for one reply, if there is any.
pub(super) fn try_reserve(request: &HttpRequest, of: RoomOf) -> Option<ReplyRoom> {
    let (app, caller) = parties(request)?;
    let account = caller.account_key();
    let room = app.replies.room(of);
    let permit = room.try_acquire(caller.tenant.no, account, KIB_PER_REPLY)?;
    Some(ReplyRoom { of, permit })
}

/// Stands for a reply that is too large to be built without room. The router waits for room, then
/// calls the handler again.
#[derive(Debug)]
pub(super) struct NeedsRoom;

impl NeedsRoom {
    pub(super) fn is_in<B>(response: &ServiceResponse<B>) -> bool {
        let error = response.response().error();
        error.is_some_and(|error| error.as_error::<Self>().is_some())
    }
}

impl fmt::Display for NeedsRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the reply needs room")
    }
}

impl ResponseError for NeedsRoom {}
