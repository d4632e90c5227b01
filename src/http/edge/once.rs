//! Calls that create something once for each `Idempotency-Key` (contract, section 3, Retries).

use std::sync::Arc;

use actix_web::HttpRequest;
use actix_web::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use super::admission::Permit;
use super::call::Call;
use super::envelope::{MaybeSerialized, Outcome, Reply};
use super::extract::Body;
use super::routing::path_of;
use crate::digest;
use crate::error::{Code, Error, Refusal, Result};
use crate::http::App;
use crate::model::caller::Caller;
use crate::model::clock::Millis;
use crate::model::ids::SessionId;
use crate::model::names::TenantNo;
use crate::store::idempotency::{self, Created, FirstReply, IdempotentRequest, Replay};
use crate::store::{Extent, Reader, WriteTx};

const HEADER: &str = "Idempotency-Key";
const IGNORED: &str =
    "Idempotency-Key was ignored: this reply holds a secret, which the server does not store.";

/// A call that creates something, with its idempotency key if it has one.
#[derive(Clone)]
pub(in crate::http) struct Once {
    call: Arc<Call>,
    request: Option<IdempotentRequest>,
}

/// What a call made, with the reply that shows it.
pub(in crate::http) struct Made<T> {
    /// The tenant that the call acts in.
    pub tenant: TenantNo,
    /// The session that was created or that got a message.
    pub session: Option<SessionId>,
    /// The status of the reply.
    pub status: StatusCode,
    /// The path of what was created.
    pub location: Option<String>,
    /// The warnings of the reply.
    pub warnings: Vec<&'static str>,
    /// The data of the reply.
    pub data: T,
}

impl<T> Made<T> {
    /// A new thing of a tenant, with its path.
    pub(in crate::http) fn thing(tenant: TenantNo, location: String, data: T) -> Self {
        Self {
            tenant,
            session: None,
            status: StatusCode::CREATED,
            location: Some(location),
            warnings: Vec::new(),
            data,
        }
    }
}

/// The account, unique across the server.
fn account(caller: &Caller) -> String {
    let (tenant, kind) = (caller.tenant.no.0, caller.kind().as_str());
    format!("{tenant}/{kind}/{}", caller.account())
}

impl Once {
    /// Reads the idempotency key of a request.
    ///
    /// # Errors
    /// `validation_error` for a malformed key.
    pub(in crate::http) fn of<T>(
        request: &HttpRequest,
        caller: &Permit,
        body: &Body<T>,
    ) -> Result<Self> {
        Self::of_bytes(request, caller, &body.bytes)
    }

    /// As [`Once::of`], of a request without a body.
    ///
    /// # Errors
    /// `validation_error` for a malformed key.
    pub(in crate::http) fn without_body(request: &HttpRequest, caller: &Permit) -> Result<Self> {
        Self::of_bytes(request, caller, &[])
    }

    fn of_bytes(request: &HttpRequest, caller: &Permit, body: &[u8]) -> Result<Self> {
        let request = match request.headers().get(HEADER) {
            None => None,
            Some(key) => {
                let key = key.as_bytes();
                if !(1..=128).contains(&key.len()) || !key.iter().all(u8::is_ascii_graphic) {
                    let reason = "must be 1 to 128 visible characters";
                    return Err(Refusal::invalid(HEADER, reason).into());
                }
                Some(IdempotentRequest {
                    scope: format!("{} {}", account(caller), path_of(request)),
                    key: String::from_utf8_lossy(key).into_owned(),
                    body_sha256: digest::sha256(body),
                })
            }
        };
        Ok(Self {
            call: caller.shared(),
            request,
        })
    }

    /// Whether the call has an idempotency key.
    pub(in crate::http) fn has_key(&self) -> bool {
        self.request.is_some()
    }

    /// The extent of a change that creates a session: with a key, no other change with the same key
    /// runs at the same time.
    pub(in crate::http) fn extent(&self) -> Extent {
        let Some(request) = &self.request else {
            return Extent::NewSession;
        };
        let hash = digest::sha256(format!("{} {}", request.scope, request.key));
        let (number, _) = hash.split_first_chunk().unwrap_or((&[0; 8], &[]));
        Extent::Key(i64::from_be_bytes(*number))
    }

    /// The reply to replay; `None` if the call is the first with its key. A replay counts on the
    /// tenant of what the first call created.
    ///
    /// # Errors
    /// `idempotency_key_reused`; `not_found` if what was created is deleted; `session_archived`;
    /// `rate_limited`.
    pub(in crate::http) fn first_reply(
        &self,
        reader: &Reader<'_>,
        now: Millis,
    ) -> Result<Option<FirstReply>> {
        let Some(request) = &self.request else {
            return Ok(None);
        };
        let count = |(tenant, own_limit)| self.call.act_in(tenant, own_limit);
        match idempotency::find(reader, request, now)? {
            Replay::No => Ok(None),
            Replay::OtherBody => Err(Code::IdempotencyKeyReused.into()),
            Replay::Deleted => Err(Code::NotFound.into()),
            Replay::Archived(session, tenant) => {
                count(tenant)?;
                let refusal = Refusal::new(Code::SessionArchived);
                Err(refusal.with("session_id", session.to_string()).into())
            }
            Replay::Reply(first, tenant) => {
                count(tenant)?;
                Ok(Some(first))
            }
        }
    }

    /// Stores the reply of a call that has a key. Returns the data as it is sent.
    fn keep<T: Serialize>(
        &self,
        tx: &mut WriteTx<'_>,
        made: Made<T>,
    ) -> Result<Reply<MaybeSerialized<T>>> {
        let Some(request) = &self.request else {
            let data = MaybeSerialized::Value(made.data);
            return Ok(Reply::made(made.status, made.location, data).warning(made.warnings));
        };
        let json = to_raw_value(&made.data).map_err(|error| Error::Internal(error.into()))?;
        let created = Created {
            tenant: made.tenant,
            session: made.session,
        };
        let reply = FirstReply {
            status: made.status.as_u16(),
            // The location of a session follows from its id.
            location: made.location.clone().filter(|_| made.session.is_none()),
            json: json.get().to_owned(),
        };
        idempotency::insert(tx, request, created, &reply)?;
        let data = MaybeSerialized::Json(json);
        Ok(Reply::made(made.status, made.location, data).warning(made.warnings))
    }

    /// Makes a change once, and replies with what it made.
    ///
    /// # Errors
    /// Those of `change`, after which nothing is stored, and of [`Once::first_reply`].
    pub(in crate::http) async fn write<T, F>(
        self,
        app: &App,
        extent: Extent,
        change: F,
    ) -> Outcome<MaybeSerialized<T>>
    where
        T: Serialize + Send + 'static,
        F: FnOnce(&mut WriteTx<'_>) -> Result<Made<T>> + Send + 'static,
    {
        app.store
            .write(extent, move |tx| {
                if let Some(first) = self.first_reply(tx.reader(), tx.now())? {
                    return replay(first);
                }
                let made = change(tx)?;
                self.keep(tx, made)
            })
            .await
    }
}

/// The field of the stored reply of a session that the `Location` header needs.
#[derive(Deserialize)]
struct StoredSession<'a> {
    id: &'a str,
}

/// The path of a session.
pub(in crate::http) fn session_path(id: impl std::fmt::Display) -> String {
    format!("/chat/sessions/{id}")
}

/// The reply that was stored for a key.
pub(in crate::http) fn replay<T: Serialize>(first: FirstReply) -> Outcome<MaybeSerialized<T>> {
    let status =
        StatusCode::from_u16(first.status).map_err(|error| Error::Internal(error.into()))?;
    let location = match first.location {
        None if status == StatusCode::CREATED => {
            let session = serde_json::from_str::<StoredSession<'_>>(&first.json);
            Some(session_path(
                session.map_err(|error| Error::Internal(error.into()))?.id,
            ))
        }
        location => location,
    };
    let json = RawValue::from_string(first.json).map_err(|error| Error::Internal(error.into()))?;
    Ok(Reply::made(status, location, MaybeSerialized::Json(json)).replayed())
}

/// The warning of a call whose reply holds a secret, if the request has an idempotency key.
pub(in crate::http) fn ignored(request: &HttpRequest) -> Option<&'static str> {
    request.headers().contains_key(HEADER).then_some(IGNORED)
}
