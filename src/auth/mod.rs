//! Turns the one `Authorization` header into a caller, or says why it does not count (contract, section 2).

pub mod api_key;
pub mod attempts;
pub mod entra;
mod jwt;
pub mod rate_limit;
mod reason;
pub mod session_token;
pub mod sign_in;
pub mod signed_link;
pub mod signing;

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::digest;
use crate::error::{Error, Refusal, Result};
use crate::limits::{OncePerMinute, minute_of};
use crate::model::api_key as key_form;
use crate::model::caller::{Caller, Who};
use crate::model::clock::Millis;
use crate::model::ids::Tick;
use crate::model::names::TenantNo;
use crate::model::words::Role;
use crate::store::cache::SnapshotVersion;
use crate::store::users::{self, LastSeen};
use crate::store::{Extent, Store, keys, tokens};

use self::entra::{Entra, Identity};
use self::jwt::Token;
use self::reason::Reason;
use self::signed_link::LinkKey;
use self::signing::SigningSecret;

/// How often a credential is looked at again after something that it waited for: keys, other keys, a first sight.
const LOOKS: usize = 4;
/// How long a credential may wait in all: whoever shows one that is never believed is not kept longer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Checks credentials.
pub struct Authenticator {
    environment: String,
    signing: SigningSecret,
    links: LinkKey,
    entra: Option<Entra>,
    /// The minute in which each key's use was last recorded, so that a request costs no write.
    recorded: OncePerMinute<Tick>,
    /// The same of each person's last request.
    seen: OncePerMinute<(TenantNo, String)>,
}

/// What a credential's check waits for.
type Wait = Pin<Box<dyn Future<Output = ()>>>;

/// What came of a look at a credential.
enum Checked {
    /// Who calls, and what the rest of the request may go on from.
    Caller(Caller, Option<SnapshotVersion>),
    /// It cannot be told yet; it can be looked at again when this resolves, within seconds.
    Waits(Wait),
}

impl From<Caller> for Checked {
    fn from(caller: Caller) -> Self {
        Self::Caller(caller, None)
    }
}

impl Authenticator {
    /// An authenticator for one environment's keys and this server's own tokens.
    pub fn new(environment: String, signing: SigningSecret) -> Self {
        Self {
            environment,
            links: LinkKey::of(&signing),
            signing,
            entra: None,
            recorded: OncePerMinute::default(),
            seen: OncePerMinute::default(),
        }
    }

    /// Takes Entra's access tokens too.
    #[must_use]
    pub fn with_entra(mut self, entra: Option<Entra>) -> Self {
        self.entra = entra;
        self
    }

    /// Has what tokens are checked with loaded, so that the first one need not wait; from within a runtime.
    pub fn prepare(&self, now: Millis) {
        if let Some(entra) = &self.entra {
            entra.prepare(now);
        }
    }

    /// Whose keys count.
    pub fn environment(&self) -> &str {
        &self.environment
    }

    /// What signs this server's own tokens.
    pub fn signing(&self) -> &SigningSecret {
        &self.signing
    }

    /// What signs links to files.
    pub fn links(&self) -> &LinkKey {
        &self.links
    }

    /// Who sends this `Authorization` header, by what is known now.
    ///
    /// # Errors
    /// `unauthorized` with the contract's reason; `unknown_key` also where waiting could tell more.
    pub async fn caller(&self, store: &Store, header: Option<&[u8]>) -> Result<Caller> {
        match self.check(store, header, false).await? {
            Checked::Caller(caller, _) => Ok(caller),
            Checked::Waits(_) => Err(Reason::UnknownKey.into()),
        }
    }

    /// As [`Authenticator::caller`], with the version of the configuration that the credential was found under. Waits up
    /// to [`TIMEOUT`] for signing keys, and for the record of a user at first sight.
    ///
    /// # Errors
    /// `unauthorized` with the contract's reason.
    pub async fn authenticate(
        &self,
        store: &Store,
        header: Option<&[u8]>,
    ) -> Result<(Caller, Option<SnapshotVersion>)> {
        match self.check(store, header, true).await? {
            Checked::Caller(caller, version) => Ok((caller, version)),
            // Boxed, so that the future of every other request stays small.
            Checked::Waits(wait) => Box::pin(self.authenticate_after(store, header, wait)).await,
        }
    }

    async fn authenticate_after(
        &self,
        store: &Store,
        header: Option<&[u8]>,
        mut wait: Wait,
    ) -> Result<(Caller, Option<SnapshotVersion>)> {
        let by = Instant::now() + TIMEOUT;
        for _ in 0..LOOKS {
            if timeout_at(by, wait).await.is_err() {
                break;
            }
            match self.check(store, header, true).await? {
                Checked::Caller(caller, version) => return Ok((caller, version)),
                Checked::Waits(next) => wait = next,
            }
        }
        Ok((self.caller(store, header).await?, None))
    }

    /// Looks at a credential once, without waiting; `may_wait` says whether the caller would.
    async fn check(&self, store: &Store, header: Option<&[u8]>, may_wait: bool) -> Result<Checked> {
        let Some(header) = header else {
            return Err(Refusal::unauthorized(
                "missing",
                "No credential was sent. Send one as 'Authorization: Bearer <token>'.",
            )
            .into());
        };
        let token = bearer(header).ok_or_else(malformed)?;
        if token.starts_with(key_form::PREFIX) {
            return self.service_account(store, token).await;
        }
        if !Token::is_like(token) {
            return Err(malformed());
        }
        let token = Token::read(token)?;
        // The issuer decides which verifier runs; verifiers are never tried in turn. Their futures
        // are boxed, so that the future of a request with an API key stays small.
        match token.issuer()? {
            issuer if issuer == session_token::KIND.issuer => {
                let caller = Box::pin(self.end_user_session(store, &token)).await?;
                Ok(Checked::from(caller))
            }
            issuer if issuer == sign_in::KIND.issuer => {
                let caller = Box::pin(self.local_user(store, &token)).await?;
                Ok(Checked::from(caller))
            }
            _ => match &self.entra {
                Some(entra) => Box::pin(self.entra_user(entra, store, &token, may_wait)).await,
                None => Err(Reason::WrongIssuer.into()),
            },
        }
    }

    async fn service_account(&self, store: &Store, token: &str) -> Result<Checked> {
        match key_form::environment_of(token) {
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
        let sha256 = digest::sha256(token);
        let (found, snapshot_version) = store
            .read_cached(move |known| Ok((known.key(&sha256)?, known.snapshot_version())))
            .await?;
        let Some(found) = found else {
            return Err(Refusal::unauthorized("unknown", "This key is not known here.").into());
        };
        let (key, now) = (&found.key, store.now());
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
        let caller = Caller {
            tenant: found.tenant.clone(),
            rate_limit_per_minute: found.rate_limit_per_minute,
            who: Who::ServiceAccount {
                key: key.id,
                account: key.account,
                name: key.name.clone(),
                platform: key.platform,
            },
        };
        Ok(Checked::Caller(caller, Some(snapshot_version)))
    }

    /// Has the minute of use written with somebody else's commit, once a minute and key.
    fn record_use(&self, store: &Store, key: Tick, last_used_at: Option<Millis>, now: Millis) {
        let minute = minute_of(now);
        let is_recorded = last_used_at.is_some_and(|last| last >= minute);
        if is_recorded || !self.recorded.admit(key, now) {
            return;
        }
        // Nobody waits for it: the request goes on, and a lost minute is not worth an error.
        drop(store.write(Extent::Statement, move |tx| {
            keys::record_use(tx, key, minute)
        }));
    }

    async fn entra_user(
        &self,
        entra: &Entra,
        store: &Store,
        token: &Token<'_>,
        may_wait: bool,
    ) -> Result<Checked> {
        let now = store.now();
        let identity = match entra.check(token, now)? {
            entra::Checked::Identity(identity) => identity,
            entra::Checked::Waits(wait) => return Ok(Checked::Waits(Box::pin(wait))),
        };
        let found = store
            .read_cached({
                let (directory, id) = (identity.directory.clone(), identity.id.clone());
                move |known| known.entra_user(&directory, &id)
            })
            .await?
            .ok_or(Reason::UnknownTenant)?;
        let tenant = found.tenant.no;
        if found.user.is_none() && may_wait {
            let recording = store.write(Extent::Statement, record_of(tenant, &identity, now));
            return Ok(Checked::Waits(Box::pin(async move {
                // A full disk keeps nobody from reading: the next look goes on without a record.
                if let Err(error) = recording.await {
                    log::warn!("a user could not be recorded at first sight: {error}");
                }
            })));
        }
        let last_seen_at = found.user.as_ref().and_then(|user| user.last_seen_at);
        self.record_sight(store, tenant, &identity, last_seen_at, now);
        let (recorded_name, recorded_role) = match &found.user {
            Some(user) => (user.name.clone(), user.role),
            None => (None, Role::User),
        };
        Ok(Checked::from(Caller {
            tenant: found.tenant.clone(),
            rate_limit_per_minute: found.rate_limit_per_minute,
            who: Who::DashboardUser {
                name: recorded_name.or(identity.name),
                id: identity.id,
                // The token's own role counts for its requests and is not recorded.
                role: identity.role.unwrap_or(recorded_role),
                sign_in: None,
            },
        }))
    }

    /// Has the minute of a person's request written, once a minute, as that of a key's use is.
    fn record_sight(
        &self,
        store: &Store,
        tenant: TenantNo,
        identity: &Identity,
        last_seen_at: Option<Millis>,
        now: Millis,
    ) {
        let is_recorded = last_seen_at.is_some_and(|last| last >= minute_of(now));
        let person = (tenant, identity.id.clone());
        if is_recorded || !self.seen.admit(person, now) {
            return;
        }
        drop(store.write(Extent::Statement, record_of(tenant, identity, now)));
    }

    /// What one of this server's own tokens says, before its end.
    fn unexpired(
        &self,
        store: &Store,
        kind: signing::Kind,
        token: &Token<'_>,
    ) -> Result<signing::Claims> {
        let claims = signing::verify(&self.signing, kind, token)?;
        if claims.exp.saturating_mul(1_000) <= store.now() {
            return Err(Reason::Expired.into());
        }
        Ok(claims)
    }

    async fn local_user(&self, store: &Store, token: &Token<'_>) -> Result<Caller> {
        let claims = self.unexpired(store, sign_in::KIND, token)?;
        let found = store
            .read_cached(move |known| known.sign_in(claims.jti))
            .await?
            .filter(|sign_in| !sign_in.has_ended)
            .ok_or(Reason::Revoked)?;
        Ok(Caller {
            tenant: found.tenant.clone(),
            rate_limit_per_minute: found.rate_limit_per_minute,
            who: Who::DashboardUser {
                id: sign_in::id_of(found.role),
                name: Some(sign_in::NAME.to_owned()),
                role: found.role,
                sign_in: Some(claims.jti),
            },
        })
    }

    async fn end_user_session(&self, store: &Store, token: &Token<'_>) -> Result<Caller> {
        let claims = self.unexpired(store, session_token::KIND, token)?;
        let found = store
            .read(move |reader| tokens::by_jti(reader, claims.jti))
            .await?
            .filter(|token| !token.revoked)
            .ok_or(Reason::Revoked)?;
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

/// Writes that a person was seen.
fn record_of(
    tenant: TenantNo,
    identity: &Identity,
    now: Millis,
) -> impl FnOnce(&mut crate::store::WriteTx<'_>) -> Result<()> + Send + use<> {
    let sight = LastSeen {
        tenant,
        id: identity.id.clone(),
        name: identity.name.clone(),
        email: identity.email.clone(),
        minute: minute_of(now),
    };
    move |tx| users::record_last_seen(tx, &sight)
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
