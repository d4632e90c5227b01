//! The bodies of replies: written in pieces within the room for replies, and sent piece by piece.

use std::convert::Infallible;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::ServiceResponse;
use actix_web::{HttpRequest, web};
use bytes::Bytes;
use serde::Serialize;

use super::reply_limiter::{PIECE_BYTES, REPLY_BYTES, ReplyRoom, RoomOf, try_reserve};
use crate::http::App;

/// Initial capacity of a reply's buffer: enough for most replies, so that the buffer does not grow.
const FIRST_CAPACITY: usize = 1_024;
/// The bytes that a connection takes at a time. The connection takes more while it holds less than
/// 32 KiB.
const HANDED_OVER: usize = 16 * 1_024;

/// Why a reply cannot be written.
#[derive(Debug)]
pub(super) enum Unwritten {
    /// There is no room for a reply of this size.
    NoRoom,
    /// The page is full.
    PageIsFull,
    /// The value cannot be serialized.
    Invalid(serde_json::Error),
}

/// Writes the body of one reply.
pub(super) struct BodyWriter<'a> {
    request: &'a HttpRequest,
    /// Whole pieces.
    pieces: Vec<Bytes>,
    piece: Vec<u8>,
    room: Option<ReplyRoom>,
    /// Whether what is written belongs to a row that may also come with the next page.
    may_end_page: bool,
}

impl<'a> BodyWriter<'a> {
    /// A writer of the reply to this request, within room that is reserved.
    pub(super) fn new(request: &'a HttpRequest, room: Option<ReplyRoom>) -> Self {
        Self {
            request,
            pieces: Vec::new(),
            piece: Vec::with_capacity(FIRST_CAPACITY),
            room,
            may_end_page: false,
        }
    }

    fn len(&self) -> usize {
        self.pieces.len() * PIECE_BYTES + self.piece.len()
    }

    /// Writes a text.
    pub(super) fn put(&mut self, text: &str) -> Result<(), Unwritten> {
        self.append(text.as_bytes())
    }

    /// Writes a value as JSON. The serializer writes straight into the piece, because that is
    /// fastest. From an overflow of the piece on, the reply needs room.
    pub(super) fn put_json<T: Serialize>(&mut self, value: &T) -> Result<(), Unwritten> {
        let start = self.piece.len();
        serde_json::to_writer(&mut self.piece, value).map_err(Unwritten::Invalid)?;
        if self.piece.len() <= PIECE_BYTES {
            return Ok(());
        }
        let json = self.piece.split_off(start);
        // The piece does not keep the room of what is moved to the next pieces.
        self.piece.shrink_to(PIECE_BYTES);
        self.append_across(&json)
    }

    /// Writes an array. Returns the number of rows that fit: at least one, if there is one.
    pub(super) fn put_rows<T: Serialize>(&mut self, rows: &[T]) -> Result<usize, Unwritten> {
        self.put("[")?;
        let mut written = rows.len();
        for (index, row) in rows.iter().enumerate() {
            let end = self.len();
            self.may_end_page = index > 0;
            let separator = if index > 0 { "," } else { "" };
            match self.put(separator).and_then(|()| self.put_json(row)) {
                Ok(()) => {}
                Err(Unwritten::PageIsFull) => {
                    self.truncate(end);
                    written = index;
                    break;
                }
                Err(failure) => return Err(failure),
            }
        }
        self.may_end_page = false;
        self.put("]")?;
        Ok(written)
    }

    #[inline]
    fn append(&mut self, bytes: &[u8]) -> Result<(), Unwritten> {
        if self.piece.len() + bytes.len() > PIECE_BYTES {
            return self.append_across(bytes);
        }
        self.piece.extend_from_slice(bytes);
        Ok(())
    }

    /// Appends bytes that do not fit into the current piece.
    #[cold]
    fn append_across(&mut self, mut bytes: &[u8]) -> Result<(), Unwritten> {
        let len = self.len() + bytes.len();
        // The last piece is left for the end of the envelope.
        if self.may_end_page && len > REPLY_BYTES - PIECE_BYTES {
            return Err(Unwritten::PageIsFull);
        }
        self.take_room(len)?;
        while !bytes.is_empty() {
            let space = PIECE_BYTES - self.piece.len();
            let (now, later) = bytes.split_at(space.min(bytes.len()));
            self.piece.extend_from_slice(now);
            bytes = later;
            if self.piece.len() == PIECE_BYTES {
                let whole = mem::replace(&mut self.piece, Vec::with_capacity(PIECE_BYTES));
                self.pieces.push(whole.into());
            }
        }
        Ok(())
    }

    /// Takes room for this number of bytes. A single row can need more than [`REPLY_BYTES`] if an
    /// earlier version stored it.
    fn take_room(&mut self, bytes: usize) -> Result<(), Unwritten> {
        while self.room.as_ref().map_or(0, ReplyRoom::bytes) < bytes {
            let grown = match &mut self.room {
                Some(room) => room.try_grow(self.request),
                None => try_reserve(self.request, RoomOf::Reads).map(|room| {
                    self.room = Some(room);
                }),
            };
            grown.ok_or(Unwritten::NoRoom)?;
        }
        Ok(())
    }

    fn truncate(&mut self, len: usize) {
        if let Some(cut) = self.pieces.get(len / PIECE_BYTES) {
            self.piece = cut[..len % PIECE_BYTES].to_vec();
            self.pieces.truncate(len / PIECE_BYTES);
        } else {
            self.piece.truncate(len % PIECE_BYTES);
        }
    }

    /// The body. Room that it does not need is released.
    pub(super) fn finish(mut self) -> BoxBody {
        let remaining = self.len();
        match self.room {
            Some(mut room) if !self.pieces.is_empty() => {
                self.pieces.push(self.piece.into());
                room.shrink_to(remaining);
                BoxBody::new(RoomyBody {
                    pieces: self.pieces.into_iter(),
                    remaining,
                    room,
                })
            }
            Some(_) | None => BoxBody::new(self.piece),
        }
    }
}

/// A body of several pieces. It releases the room of each piece that it hands over.
struct RoomyBody {
    pieces: std::vec::IntoIter<Bytes>,
    remaining: usize,
    room: ReplyRoom,
}

impl MessageBody for RoomyBody {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.remaining as u64)
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let piece = self.pieces.find(|piece| !piece.is_empty());
        if let Some(piece) = &piece {
            self.remaining -= piece.len();
            let remaining = self.remaining;
            self.room.shrink_to(remaining);
        }
        Poll::Ready(piece.map(Ok))
    }
}

/// Drops the body of the reply to a HEAD, so that a stream ends at once. The headers stay, with the
/// length of the body if it is known.
pub(super) fn without_content(response: ServiceResponse<BoxBody>) -> ServiceResponse {
    response.map_body(|_, body| BoxBody::new(OnlySize(body.size())))
}

/// A body of which only the size is sent.
struct OnlySize(BodySize);

impl MessageBody for OnlySize {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        self.0
    }

    fn poll_next(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Poll::Ready(None)
    }
}

/// Sends a body of more than a piece in small parts, so that the connection buffers little of it.
/// Counts the client as cut off if the connection ends because the client reads nothing for too
/// long.
pub(super) fn watch(response: ServiceResponse<BoxBody>, app: &web::Data<App>) -> ServiceResponse {
    match response.response().body().size() {
        BodySize::None => response,
        BodySize::Sized(bytes) if bytes <= PIECE_BYTES as u64 => response,
        BodySize::Sized(_) | BodySize::Stream => {
            let app = app.clone();
            response.map_body(|_, body| {
                BoxBody::new(WatchedBody {
                    body,
                    rest: Bytes::new(),
                    handed_over: None,
                    app,
                })
            })
        }
    }
}

struct WatchedBody {
    body: BoxBody,
    /// What is left of the bytes that the body gave last.
    rest: Bytes,
    /// When the connection took the last piece, if it has not asked for another one since.
    handed_over: Option<Instant>,
    app: web::Data<App>,
}

impl MessageBody for WatchedBody {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        self.handed_over = None;
        if self.rest.is_empty() {
            match Pin::new(&mut self.body).poll_next(context) {
                Poll::Ready(Some(Ok(bytes))) => self.rest = bytes,
                other @ (Poll::Ready(None | Some(Err(_))) | Poll::Pending) => return other,
            }
        }
        let length = self.rest.len().min(HANDED_OVER);
        let piece = self.rest.split_to(length);
        self.handed_over = Some(Instant::now());
        Poll::Ready(Some(Ok(piece)))
    }
}

impl Drop for WatchedBody {
    fn drop(&mut self) {
        // The kernel ends a connection shortly after its timeout, counted by a clock of its own.
        let patience = self.app.config.timeouts.stuck.mul_f64(0.9);
        if self
            .handed_over
            .is_some_and(|then| then.elapsed() >= patience)
        {
            self.app.metrics.clients_cut_off.add(1);
        }
    }
}
