//! Turns the one `Authorization` header into a caller, or says why it does not count (contract, section 2).

pub mod api_key;
pub mod rate_limit;
pub mod session_token;
pub mod signed_link;

use std::collections::HashMap;
use std::sync::Mutex;

use crate::error::{Error, Refusal, Result};
use crate::model::caller::{Caller, Who};
use crate::model::clock::Millis;
use crate::model::ids::Tick;
use crate::store::{Store, keys, tokens};

use self::session_token::SigningSecret;
use self::signed_link::LinkKey;

/// Milliseconds of a minute: keys record their last use to the minute.
const MINUTE: Millis = 60_000;

/// Checks credentials.
pub struct Authenticator {
    environment: String,
    signing: SigningSecret,
    links: LinkKey,
    /// The minute in which each key's use was last recorded, so that a request costs no write.
    recorded: Mutex<HashMap<Tick, Millis>>,
}

impl Authenticator {
    /// An authenticator for one environment's keys and this server's own tokens.
    pub fn new(environment: String, signing: SigningSecret) -> Self {
        Self {
            environment,
            links: LinkKey::of(&signing),
            signing,
            recorded: Mutex::default(),
        }
    }

    /// What signs this server's own tokens.
    pub fn signing(&self) -> &SigningSecret {
        &self.signing
    }

    /// What signs links to files.
    pub fn links(&self) -> &LinkKey {
        &self.links
    }

    /// Who sends this `Authorization` header.
    ///
    /// # Errors
    /// `unauthorized` with the contract's reason.
    pub fn caller(&self, store: &Store, header: Option<&[u8]>) -> Result<Caller> {
        let Some(header) = header else {
            return Err(Refusal::unauthorized(
                "missing",
                "No credential was sent. Send one as 'Authorization: Bearer <token>'.",
            )
            .into());
        };
        let token = bearer(header).ok_or_else(malformed)?;
        if token.starts_with(api_key::PREFIX) {
            self.service_account(store, token)
        } else if session_token::looks_like_jwt(token) {
            self.end_user_session(store, token)
        } else {
            Err(malformed())
        }
    }

    fn service_account(&self, store: &Store, token: &str) -> Result<Caller> {
        match api_key::environment_of(token) {
            None => return Err(malformed()),
            Some(environment) if environment != self.environment => {
                return Err(Refusal::unauthorized(
                    "wrong_environment",
                    "This key belongs to another environment. Use a key of this server.",
                )
                .into());
            }
            Some(_) => {}
        }
        let sha256 = api_key::sha256(token);
        let found = store.read(|reader| keys::by_sha256(reader, &sha256))?;
        let Some(found) = found else {
            return Err(Refusal::unauthorized("unknown", "This key is not known here.").into());
        };
        let (key, now) = (found.key, store.now());
        if key.revoked_at.is_some() {
            return Err(
                Refusal::unauthorized("revoked", "This key was revoked. Use another one.").into(),
            );
        }
        if key.expires_at.is_some_and(|expires| expires <= now) {
            return Err(
                Refusal::unauthorized("expired", "This key has expired. Use another one.").into(),
            );
        }
        self.record_use(store, key.id.tick(), key.last_used_at, now);
        Ok(Caller {
            tenant: found.tenant,
            rate_limit_per_minute: found.rate_limit_per_minute,
            who: Who::ServiceAccount {
                key: key.id,
                account: key.account,
                name: key.name,
                platform: key.platform,
            },
        })
    }

    /// Has the minute of use written with somebody else's commit, once a minute and key.
    fn record_use(&self, store: &Store, key: Tick, last_used_at: Option<Millis>, now: Millis) {
        let minute = now - now.rem_euclid(MINUTE);
        if last_used_at.is_some_and(|last| last >= minute) {
            return;
        }
        {
            let Ok(mut recorded) = self.recorded.lock() else {
                return;
            };
            if recorded.insert(key, minute) == Some(minute) {
                return;
            }
        }
        // Nobody waits for it: the request goes on, and a lost minute is not worth an error.
        drop(store.write(move |tx| keys::record_use(tx, key, minute)));
    }

    fn end_user_session(&self, store: &Store, token: &str) -> Result<Caller> {
        let claims = session_token::verify(&self.signing, token)?;
        if claims.exp.saturating_mul(1_000) <= store.now() {
            return Err(Refusal::unauthorized(
                "expired",
                "This token has expired. Mint another one.",
            )
            .into());
        }
        let found = store
            .read(|reader| tokens::by_jti(reader, claims.jti))?
            .filter(|token| !token.revoked)
            .ok_or_else(session_token::revoked)?;
        Ok(Caller {
            tenant: found.tenant,
            rate_limit_per_minute: found.rate_limit_per_minute,
            who: Who::EndUserSession {
                jti: claims.jti,
                session: found.session,
                end_user: found.end_user,
            },
        })
    }
}

fn bearer(header: &[u8]) -> Option<&str> {
    let header = std::str::from_utf8(header).ok()?;
    let (scheme, token) = header.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

fn malformed() -> Error {
    Refusal::unauthorized(
        "malformed",
        "The credential cannot be read. Send it as 'Authorization: Bearer <token>'.",
    )
    .into()
}
